"""The tables of the index, what they mean, and what an index of an earlier release lacks."""

import json
import sqlite3

from artstorefs.core.crash_points import crash_point
from artstorefs.state.row_sums import add_sum_column

SCHEMA_VERSION = 1

FIRST_REMOVAL_ID = 1 << 62
"""Intents that are of no node have ids from here up; inode numbers never get this far."""


def create_tables(connection: sqlite3.Connection) -> None:
    """Create every table of schema version 1, all or none; the functions below document them."""
    connection.execute("BEGIN IMMEDIATE")
    _create_tree_tables(connection)
    add_sum_column(connection)
    _create_transfer_tables(connection)
    add_later_columns(connection)
    create_attribute_table(connection)
    for later in LATER:
        connection.execute(later)
    crash_point("database.tables_written")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _execute_each(connection: sqlite3.Connection, statements: str) -> None:
    """`executescript` would commit what is open first."""
    for statement in statements.split(";"):
        connection.execute(statement)


def _create_tree_tables(connection: sqlite3.Connection) -> None:
    """The tree: what the filesystem shows.

    nodes: one row for each file, directory, symlink and special file.
        ino            inode number, never used twice; the root directory is 1
        file_id        UUID as 16 bytes, the identity on the elements
        mode           file type and permission bits as in `struct stat`
        nlink          number of names (directories: 2 + subdirectories)
        creator        user id of who created it
        target         what a symlink points to
        custom         custom_attributes as JSON text; NULL is {}
        xattrs         system, security and trusted attributes as JSON text; NULL is {}
        carried        JSON text of keys of attr.json that others wrote and we keep
        revision       grows by one with each change; goes into attr.json
        content        version of the content; grows when new content begins; names the spool file
        content_state  see `artstorefs.state.node.ContentState`
        element        element that holds the content, when archived
        sum            checksum of the row, see `row_sums.py`

    names: one row for each directory entry.
        id             a node's first name has its inode number as id, further hard links have ids
                       from 2^62 up; readdir uses it as the position that survives changes
        link_id        UUID of the link record of a further hard link, NULL for the first name
        stored         1 once the link record on the elements says what this row says
        sum            checksum of the row, see `row_sums.py`
    """
    _execute_each(
        connection,
        """
        CREATE TABLE nodes (
            ino INTEGER PRIMARY KEY,
            file_id BLOB NOT NULL,
            mode INTEGER NOT NULL,
            uid INTEGER NOT NULL,
            gid INTEGER NOT NULL,
            nlink INTEGER NOT NULL,
            rdev INTEGER NOT NULL,
            size INTEGER NOT NULL,
            atime_ns INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL,
            created_ns INTEGER NOT NULL,
            creator INTEGER NOT NULL,
            target BLOB,
            custom TEXT,
            xattrs TEXT,
            carried TEXT,
            revision INTEGER NOT NULL,
            content INTEGER NOT NULL,
            content_state INTEGER NOT NULL,
            element TEXT
        );
        CREATE TABLE names (
            id INTEGER PRIMARY KEY,
            parent INTEGER NOT NULL,
            name BLOB NOT NULL,
            ino INTEGER NOT NULL,
            link_id BLOB,
            stored INTEGER NOT NULL DEFAULT 0
        );
        CREATE UNIQUE INDEX names_by_name ON names (parent, name);
        CREATE INDEX names_by_parent ON names (parent);
        CREATE INDEX names_of_links ON names (ino) WHERE link_id IS NOT NULL;
        """,
    )


def _create_transfer_tables(connection: sqlite3.Connection) -> None:
    """What the elements hold, and what they still have to be told.

    copies: what the elements hold of a node, as far as we have been told.
        key            key of the object, or of the node record when `is_record`
        revision       revision that the attr.json or node record there carries
        content        version of the content that the object holds
        seen_size, seen_modified_ns
                       size and mark (`ObjectStat.mark`: the time, where an element has nothing
                       better) of the attr.json when we wrote or last read it; other values mean
                       that somebody else has written it since
        leaves_ns      when it is to be removed, because the node was moved to another element;
                       NULL: it stays
        moved_by       number of the migration that did that
        locked_ns      until when the element has been told to keep the object from everybody, see
                       `locks.py`; NULL: it has not

    copies_by_key finds the copy that a listing of an element shows, one at a time: what an element
    holds may be more than fits into memory.

    log: intents toward elements that are accepted and not yet carried out (DESIGN: "WAL"). At most
    one pending file_create or file_update for each node; rows leave when they are carried out.
        id             the node's inode number; of a file_delete, a number from 2^62 up
        operation      file_create, file_update, file_delete, mode_change, migrate, cache_rebuild
        status         pending, failed (refused by an element, still retried), rolled_back
        data           JSON text; what it holds depends on the operation, see `log.py`
        move           JSON text of the element that the node is to be moved from, and of the one
                       that it is to be moved to; NULL: it stays where it is
    """
    _execute_each(
        connection,
        """
        CREATE TABLE copies (
            ino INTEGER NOT NULL,
            element TEXT NOT NULL,
            key TEXT NOT NULL,
            is_record INTEGER NOT NULL,
            revision INTEGER NOT NULL,
            content INTEGER NOT NULL,
            size INTEGER NOT NULL,
            sha256 BLOB,
            blocks BLOB,
            seen_size INTEGER NOT NULL,
            seen_modified_ns INTEGER NOT NULL,
            PRIMARY KEY (ino, element)
        ) WITHOUT ROWID;
        CREATE TABLE log (
            id INTEGER PRIMARY KEY,
            operation TEXT NOT NULL,
            status TEXT NOT NULL,
            ino INTEGER,
            file_id BLOB,
            data TEXT,
            error TEXT,
            created_ns INTEGER NOT NULL,
            updated_ns INTEGER NOT NULL,
            uid INTEGER NOT NULL
        );
        CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        """,
    )


def create_attribute_table(connection: sqlite3.Connection) -> None:
    """changed_attributes: custom attributes that programs have set or removed since an element had
    the node's newest revision. Of these ours count, of all others what is on the element."""
    connection.execute(
        "CREATE TABLE changed_attributes"
        " (ino INTEGER, key TEXT, PRIMARY KEY (ino, key)) WITHOUT ROWID"
    )


SPOOL_SUMS = (
    "CREATE TABLE IF NOT EXISTS spool_sums (ino INTEGER PRIMARY KEY, content INTEGER NOT NULL,"
    " size INTEGER NOT NULL, sha256 BLOB NOT NULL, blocks BLOB)"
)
"""Checksums of content that has waited in the spool for a while, see `spool_sums.py`.
    content        version of the content that was hashed; of another one the row says nothing
    size           bytes of it
    sha256         of all of it, 32 bytes
    blocks         SHA-256 of each of its blocks of 4 MiB; NULL if it has one block
An index of an earlier release gets the table, empty, when it is opened."""


EXPIRING = (
    "CREATE TABLE IF NOT EXISTS expiring (ino INTEGER PRIMARY KEY, ctime_ns INTEGER NOT NULL,"
    " shown_ns INTEGER NOT NULL, shown_lived_ns INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS expiring_by_time ON expiring (shown_lived_ns, ino)",
)
"""Files that have come to their end, see `expiring.py`.
    ctime_ns       of the file as it is shown; of another one the row means nothing
    shown_ns, shown_lived_ns
                   since when it is shown, by the machine's clock and by the lived time
An index of an earlier release gets the table, empty, when it is opened."""

OFFLINE = (
    "CREATE TABLE IF NOT EXISTS offline (element TEXT NOT NULL, ino INTEGER NOT NULL,"
    " content INTEGER NOT NULL, PRIMARY KEY (element, ino)) WITHOUT ROWID"
)
"""Content that lies where its element keeps what is archived, see `offline.py`.
    content        version of the content that lies there; of another one the row says nothing
An index of an earlier release gets the table, empty, when it is opened."""

RECALLS = (
    "CREATE TABLE IF NOT EXISTS recalls (ino INTEGER PRIMARY KEY, content INTEGER NOT NULL,"
    " element TEXT NOT NULL, days REAL NOT NULL, asked_ns INTEGER NOT NULL,"
    " due_ns INTEGER NOT NULL, tries INTEGER NOT NULL, until_ns INTEGER, error TEXT,"
    " request TEXT)",
    "CREATE INDEX IF NOT EXISTS recalls_asked ON recalls (element, due_ns)"
    " WHERE until_ns IS NULL AND error IS NULL",
    "CREATE INDEX IF NOT EXISTS recalls_online ON recalls (until_ns) WHERE until_ns IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS recalls_together ON recalls (request) WHERE request IS NOT NULL",
)
"""Archived content that was asked for, see `recalls.py`.
    content        version of the content that is meant
    element        from where it comes
    days           how long it is to stay, from the moment on when it is there
    due_ns, tries  when it is tried again, and how often it was not there yet
    until_ns       until when it stays; NULL while it is not there
    error          why it cannot be had; it is not tried any more then
    request        the row of `recall_requests` that it was asked for with, if it has one
An index of an earlier release gets the table, empty, when it is opened."""

RECALL_REQUESTS = (
    "CREATE TABLE IF NOT EXISTS recall_requests (id TEXT NOT NULL PRIMARY KEY,"
    " asked_ns INTEGER NOT NULL, uid INTEGER NOT NULL, path BLOB NOT NULL, files INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL, failed INTEGER NOT NULL, done_ns INTEGER, due_ns INTEGER NOT NULL,"
    " tries INTEGER NOT NULL, is_whole INTEGER NOT NULL) WITHOUT ROWID"
)
"""What was asked for together, where somebody is to be told when it is there, see
`recall_requests.py`. An index of an earlier release gets the table, empty, when it is opened."""

LATER = (SPOOL_SUMS, *EXPIRING, OFFLINE, *RECALLS, RECALL_REQUESTS)
"""What an index of schema 1 of an earlier release lacks, and can be given at any time."""

INDEXES = {
    "copies_by_key": "CREATE INDEX IF NOT EXISTS copies_by_key ON copies (element, key)",
    "copies_that_leave": "CREATE INDEX IF NOT EXISTS copies_that_leave ON copies (leaves_ns)"
    " WHERE leaves_ns IS NOT NULL",
    "moves_in_log": "CREATE INDEX IF NOT EXISTS moves_in_log ON log (id) WHERE move IS NOT NULL",
}
"""By name what an index of an earlier release lacks. copies_by_key finds the copy that a document
on an element belongs to, without a table of all in memory; copies_that_leave what is to be removed
next, and moves_in_log the few moves among the many intents of a burst, at no cost without moves."""


_LATER_COLUMNS = (
    ("copies", "leaves_ns", "INTEGER"),
    ("copies", "moved_by", "INTEGER"),
    ("log", "move", "TEXT"),
    ("copies", "locked_ns", "INTEGER"),
)


def add_later_columns(connection: sqlite3.Connection) -> None:
    """To new tables, and to those of an earlier release, which moved and locked nothing, when it is
    opened."""
    for table, column, kind in _LATER_COLUMNS:
        present = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        if column not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _add_attribute_table(connection: sqlite3.Connection) -> None:
    """Give an index of before it the table: of a node that waits, any attribute may be changed."""
    if connection.execute(
        "SELECT 1 FROM sqlite_master WHERE name = 'changed_attributes'"
    ).fetchone():
        return
    connection.execute("BEGIN IMMEDIATE")
    create_attribute_table(connection)
    waiting = connection.execute(
        "SELECT ino, custom FROM nodes JOIN log USING (ino) WHERE custom IS NOT NULL"
    ).fetchall()
    connection.executemany(
        "INSERT INTO changed_attributes VALUES (?, ?)",
        ((ino, key) for ino, custom in waiting for key in json.loads(custom)),
    )
    connection.execute("COMMIT")


def _number_intents_by_node(connection: sqlite3.Connection) -> None:
    """To the log of an earlier release, which numbered intents one after the other and had an index
    to find them by their node."""
    if not connection.execute(
        "SELECT 1 FROM log WHERE ifnull(id != ino, id < ?) LIMIT 1", (FIRST_REMOVAL_ID,)
    ).fetchone():
        connection.execute("DROP INDEX IF EXISTS log_of_node")
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DROP INDEX IF EXISTS log_of_node")
    connection.execute("UPDATE log SET id = -ino WHERE ino IS NOT NULL")  # free of all others
    connection.execute(
        "UPDATE log SET id = id + ? WHERE ino IS NULL AND id < ?",
        (FIRST_REMOVAL_ID, FIRST_REMOVAL_ID),
    )
    connection.execute("UPDATE log SET id = ino WHERE ino IS NOT NULL")
    connection.execute("COMMIT")


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Give the index of an earlier release what it lacks."""
    _add_attribute_table(connection)
    add_sum_column(connection)
    _number_intents_by_node(connection)
    add_later_columns(connection)
    for statement in INDEXES.values():
        connection.execute(statement)
    for later in LATER:
        connection.execute(later)
