"""The whole index as of one moment, for a check: a private copy that nobody else changes.

SQLite's online backup makes the copy, so that a mounted archive is held up for no longer than that
takes, and a check of hours keeps no transaction open, which would stop checkpoints. The copy lies
in a temporary file of SQLite's own, which is gone with the connection, however that ends.

Reads only. Every method may raise one of `DAMAGE` if the index is damaged.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from artstorefs.elements.adoption import Witness
from artstorefs.state.database import connect_read_only
from artstorefs.state.index import FIRST_LINK_ID, ROOT_INO, Copy, Name, copy_of_row
from artstorefs.state.log import UNRECORDED, Assignment, Removal
from artstorefs.state.node import COLUMNS, ContentState, Node
from artstorefs.state.reader import Snapshot
from artstorefs.state.row_sums import add_sum_column, wrong_row_sums
from artstorefs.state.schema import (
    INDEXES,
    LATER,
    SCHEMA_VERSION,
    add_later_columns,
    create_tables,
)
from artstorefs.state.spool_sums import SpoolSum, spool_sum
from artstorefs.state.witnesses import witnesses

DAMAGE = (sqlite3.Error, UnicodeError)
"""What comes out of a damaged database: SQLite's message about it may quote what is no text."""

_NODE_COLUMNS = ", ".join(COLUMNS)
_ATIME = COLUMNS.index("atime_ns")
_PROBLEMS_MAX = 100
_LATER = (
    *("changed_attributes", "spool_sums", "expiring", "expiring_by_time", "offline", *INDEXES),
    *("recalls", "recalls_asked", "recalls_online", "recalls_together", "recall_requests"),
)
"""What an index of schema 1 gets when a daemon of this release opens it."""
_EARLIER = ("log_of_node",)
"""What it then loses."""

_CHECKED_OTHERWISE = ("nodes", "names", "copies")
"""Tables whose rows have checksums, or are compared with the elements."""

_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
_OPERATIONS = frozenset({"file_create", "file_update"})
_STATUSES = frozenset({"pending", "failed"})

STRUCTURE: tuple[tuple[str, str], ...] = (
    (
        "name {0} of inode {1} is of no node",
        "SELECT n.id, n.ino FROM names n LEFT JOIN nodes d ON d.ino = n.ino WHERE d.ino IS NULL",
    ),
    (
        "name {0} stands in inode {1}, which is no directory",
        "SELECT n.id, n.parent FROM names n LEFT JOIN nodes d ON d.ino = n.parent"
        " WHERE d.ino IS NULL OR (d.mode & 61440) != 16384",
    ),
    (
        "inode {0} has no first name",
        f"SELECT ino FROM nodes WHERE ino != {ROOT_INO} AND nlink > 0"
        " AND NOT EXISTS (SELECT 1 FROM names WHERE id = nodes.ino AND names.ino = nodes.ino"
        " AND link_id IS NULL)",
    ),
    (
        "name {0} of inode {1} has the wrong id for what it is",
        "SELECT id, ino FROM names WHERE (link_id IS NULL AND id != ino)"
        f" OR (link_id IS NOT NULL AND (id < {FIRST_LINK_ID} OR length(link_id) != 16))"
        " OR stored NOT IN (0, 1)",
    ),
    (
        "inode {0} has {2} names and a link count of {1}",
        "SELECT ino, nlink, (SELECT count(*) FROM names WHERE names.ino = nodes.ino) AS many"
        " FROM nodes WHERE (mode & 61440) != 16384 AND nlink != many",
    ),
    (
        "directory {0} has {2} subdirectories and a link count of {1}",
        "SELECT ino, nlink, (SELECT count(*) FROM names JOIN nodes d ON d.ino = names.ino"
        " WHERE names.parent = nodes.ino AND (d.mode & 61440) = 16384) AS many"
        " FROM nodes WHERE (mode & 61440) = 16384 AND nlink > 0 AND nlink != many + 2",
    ),
    (
        "inode {0} has a file_id that another one has, or none",
        "SELECT ino FROM nodes WHERE length(file_id) != 16 OR file_id IN"
        " (SELECT file_id FROM nodes GROUP BY file_id HAVING count(*) > 1)",
    ),
    (
        "inode {0} is of no known type or state",
        "SELECT ino FROM nodes WHERE (mode & 61440) NOT IN"
        " (4096, 8192, 16384, 24576, 32768, 40960, 49152) OR content_state NOT IN (0, 1, 2, 3)"
        " OR ((mode & 61440) != 32768 AND content_state != 0)",
    ),
    (
        "element {1} has a copy of inode {0}, which is no node",
        "SELECT ino, element FROM copies WHERE ino NOT IN (SELECT ino FROM nodes)",
    ),
    (
        "the log has an intent for inode {0}, which is no node",
        "SELECT ino FROM log WHERE ino IS NOT NULL AND ino NOT IN (SELECT ino FROM nodes)",
    ),
    (
        "inode {0} is not on an element, and the log has no intent for it",
        "SELECT ino FROM nodes WHERE nlink > 0 AND ino NOT IN (SELECT ino FROM copies)"
        " AND ino NOT IN (SELECT ino FROM log WHERE ino IS NOT NULL) AND ino NOT IN"
        f" (SELECT e.value FROM settings s, json_each(s.value) e WHERE s.key = '{UNRECORDED}')",
    ),
    (
        "the content of inode {0} waits for an element, and the log has no intent for it",
        "SELECT ino FROM nodes WHERE nlink > 0 AND content_state IN (2, 3)"
        " AND ino NOT IN (SELECT ino FROM log WHERE ino IS NOT NULL)",
    ),
)
"""What must not be, and the query that finds it; values that the text names first to last."""


@dataclass(slots=True)
class Intents:
    """What the log says that the elements still have to be told."""

    busy: set[int] = field(default_factory=set)
    """Inode numbers of which something is to be carried, or removed."""
    keys: set[tuple[str, str]] = field(default_factory=set)
    """Element and key of what is to be written or removed."""
    spool: set[str] = field(default_factory=set)
    count: int = 0
    problems: list[str] = field(default_factory=list)


def _schema_of_release() -> list[Any]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        create_tables(connection)
        for statement in INDEXES.values():
            connection.execute(statement)
        return _schema(connection)
    finally:
        connection.close()


def _schema(connection: sqlite3.Connection) -> list[Any]:
    """Every table and index, whatever white space it was declared with. A damaged one may have
    anything for text, which then is text that no release has."""
    rows = connection.execute(_SCHEMA).fetchall()
    return [(*names, " ".join(str(sql or "").split())) for *names, sql in rows]


def _text(data: bytes) -> str:
    """Text of the index, also what is none: then it differs from everything that it should be."""
    return data.decode("utf-8", "surrogateescape")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Image:
    """Used by one thread."""

    def __init__(self, path: str) -> None:
        """Copy the index of `path`. Raises one of DAMAGE if there is none that can be read."""
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.text_factory = _text
        self._execute = self._connection.execute
        try:
            source = connect_read_only(path)
            try:
                source.backup(self._connection)
            finally:
                source.close()
            version = self._execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"schema version {version}, not {SCHEMA_VERSION}")
            add_sum_column(self._connection)
            add_later_columns(self._connection)
            self.storage_problems = self._check_storage()
            if not self.storage_problems:
                for later in LATER:
                    self._execute(later)
                self._execute("CREATE INDEX by_file_id ON nodes (file_id)")
                self._execute("CREATE INDEX by_ino ON names (ino)")
                self._execute("CREATE INDEX by_key ON copies (element, key)")
                self.intents = self._read_intents()
        except BaseException:
            self._connection.close()
            raise

    def _check_storage(self) -> list[str]:
        """What SQLite itself finds, tables that are not ours, and values of another type."""
        rows = self._execute(f"PRAGMA integrity_check({_PROBLEMS_MAX})").fetchall()
        problems = [row[0] for row in rows if row[0] != "ok"]
        if problems:
            return problems
        expected = _schema_of_release()
        later = [entry for entry in expected if entry[1] in _LATER]
        here = [entry for entry in _schema(self._connection) if entry[1] not in _EARLIER]
        found = [entry for entry in here if entry not in later]
        if found != [entry for entry in expected if entry not in later]:
            return ["its tables are not those of this release"]
        for table in [name for kind, name, *_ in _schema(self._connection) if kind == "table"]:
            problems += self._wrong_types(table)
            if table not in _CHECKED_OTHERWISE:
                problems += self._no_text(table)
        return problems

    def _wrong_types(self, table: str) -> Iterator[str]:
        for _, column, kind, is_required, *_ in self._execute(f"PRAGMA table_info({table})"):
            allowed = f"'{kind.lower()}'" if is_required else f"'{kind.lower()}', 'null'"
            query = f"SELECT count(*) FROM {table} WHERE typeof({column}) NOT IN ({allowed})"
            count = self._execute(query).fetchone()[0]
            if count:
                yield f"{count} rows of {table} have no {kind} as {column}"

    def _no_text(self, table: str) -> Iterator[str]:
        """Text that is none, and that a start would stumble over."""
        columns = self._execute(f"PRAGMA table_info({table})").fetchall()
        for column in [name for _, name, kind, *_ in columns if kind == "TEXT"]:
            query = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"
            count = sum(not _is_utf8(text) for (text,) in self._execute(query))
            if count:
                yield f"{count} rows of {table} have no text as {column}"

    def close(self) -> None:
        self._connection.close()

    # --------------------------------------------------------------------------- the log

    def _read_intents(self) -> Intents:
        found = Intents()
        rows = self._execute("SELECT id, operation, status, ino, data FROM log")
        for log_id, operation, status, ino, data in rows:
            found.count += 1
            try:
                self._read_intent(found, operation, status, ino, data)
            except (ValueError, TypeError, KeyError, IndexError):
                found.problems.append(f"intent {log_id} of the log cannot be understood")
        return found

    def _read_intent(
        self, found: Intents, operation: str, status: str, ino: int | None, data: str | None
    ) -> None:
        if status not in _STATUSES:
            raise ValueError(status)
        if operation == "file_delete" and data is not None:
            removal = Removal.from_json(data)
            found.busy.add(removal.ino)
            found.keys.update((element, key) for element, key in removal.remove)
            found.spool.update(removal.spool)
            return
        if operation not in _OPERATIONS or ino is None:
            raise ValueError(operation)
        found.busy.add(ino)
        if data is not None:
            assignment = Assignment.from_json(data)
            found.keys.add((assignment.element, assignment.key))

    def witnesses(self, element: str) -> list[Witness] | None:
        """What an adopted element is known by; None once it has an archive.json."""
        return witnesses(self._execute, element)

    def is_busy(self, file_id: bytes) -> bool:
        """Whether the elements are still to be told something of this node or link."""
        row = self._execute("SELECT ino FROM nodes WHERE file_id = ?", (file_id,)).fetchone()
        if row is None:
            row = self._execute("SELECT ino FROM names WHERE link_id = ?", (file_id,)).fetchone()
        return row is not None and row[0] in self.intents.busy

    # ----------------------------------------------------------------------------- rows

    def structure_problems(self) -> Iterator[tuple[str, list[bytes]]]:
        """What contradicts itself in the index, and the file_ids that it concerns."""
        for text, query in STRUCTURE:
            for row in self._execute(query).fetchmany(_PROBLEMS_MAX):
                yield text.format(*row), self._file_ids(row[:2])
        for text in self.intents.problems:
            yield text, []
        for text, ino in self._detached():
            yield text, self._file_ids([ino])

    def wrong_rows(self) -> Iterator[tuple[int, bytes | None]]:
        """Inode number and file_id of rows that are not as they were written."""
        for ino in islice(wrong_row_sums(self._execute), _PROBLEMS_MAX):
            yield ino, self.file_id(ino)

    def _file_ids(self, inos: Any) -> list[bytes]:
        found = (self._execute("SELECT file_id FROM nodes WHERE ino = ?", (i,)) for i in inos)
        return [bytes(row[0]) for rows in found for row in rows if isinstance(row[0], bytes)]

    def _detached(self) -> Iterator[tuple[str, int]]:
        """Directories from which no chain of parents leads to the root."""
        reached = "WITH RECURSIVE below(ino) AS (VALUES (1) UNION SELECT names.ino FROM below"
        reached += " JOIN names ON names.parent = below.ino JOIN nodes ON nodes.ino = names.ino"
        reached += " WHERE (nodes.mode & 61440) = 16384) SELECT ino FROM nodes"
        reached += " WHERE nlink > 0 AND (mode & 61440) = 16384 AND ino NOT IN below"
        for (ino,) in self._execute(reached).fetchmany(_PROBLEMS_MAX):
            yield f"directory {ino} cannot be reached from the root", ino

    def node(self, file_id: bytes) -> Node | None:
        row = self._execute(
            f"SELECT {_NODE_COLUMNS} FROM nodes WHERE file_id = ?", (file_id,)
        ).fetchone()
        return Node(*row) if row else None

    def file_id(self, ino: int) -> bytes | None:
        return next(iter(self._file_ids([ino])), None)

    def link(self, link_id: bytes) -> tuple[Name, bytes, bytes] | None:
        """A further name, the file_id of its file, and of the directory that it stands in."""
        row = self._execute(
            "SELECT e.id, e.parent, e.name, e.ino, e.link_id, n.file_id, p.file_id FROM names e"
            " JOIN nodes n ON n.ino = e.ino JOIN nodes p ON p.ino = e.parent WHERE e.link_id = ?",
            (link_id,),
        ).fetchone()
        return (Name(*row[:5]), row[5], row[6]) if row else None

    def links(self) -> Iterator[tuple[bytes, bytes]]:
        """Of every further name: its link_id, and the file_id of its file."""
        return self._execute(
            "SELECT e.link_id, n.file_id FROM names e JOIN nodes n ON n.ino = e.ino"
            " WHERE e.link_id IS NOT NULL"
        )

    def snapshot(self, node: Node) -> Snapshot | None:
        """The node with its first name; None if it has none."""
        if node.ino == ROOT_INO:
            return Snapshot(node, b"", node.file_id, [], self.copies(node.ino))
        row = self._execute(
            "SELECT e.name, p.file_id FROM names e JOIN nodes p ON p.ino = e.parent WHERE e.id = ?",
            (node.ino,),
        ).fetchone()
        return Snapshot(node, row[0], row[1], [], self.copies(node.ino)) if row else None

    def copies(self, ino: int) -> list[Copy]:
        rows = self._execute("SELECT * FROM copies WHERE ino = ?", (ino,))
        return [copy_of_row(row) for row in rows]

    def copy_at(self, element: str, key: str) -> Copy | None:
        row = self._execute(
            "SELECT * FROM copies WHERE element = ? AND key = ?", (element, key)
        ).fetchone()
        return copy_of_row(row) if row else None

    def is_offline(self, element: str, key: str) -> bool:
        """Whether the object of a key lies on the medium of its element."""
        return (
            self._execute(
                "SELECT 1 FROM copies c JOIN offline o USING (element, ino, content)"
                " WHERE c.element = ? AND c.key = ?",
                (element, key),
            ).fetchone()
            is not None
        )

    def all_copies(self) -> Iterator[tuple[Copy, bytes]]:
        """Every copy of a node that there is, with the node's file_id."""
        rows = self._execute(
            "SELECT c.*, n.file_id FROM copies c JOIN nodes n ON n.ino = c.ino ORDER BY c.key"
        )
        for *row, file_id in rows:
            yield copy_of_row(tuple(row)), file_id

    def spooled(self) -> Iterator[Node]:
        """Nodes whose content is in the spool."""
        rows = self._execute(f"SELECT {_NODE_COLUMNS} FROM nodes WHERE content_state IN (2, 3)")
        return (Node(*row) for row in rows)

    def spool_sum(self, node: Node) -> SpoolSum | None:
        """What the content of `node` must be, if it waits in the spool and has been summed."""
        if node.content_state != ContentState.SEALED:
            return None
        return spool_sum(self._execute, node.ino, node.content)

    def summed(self) -> Iterator[tuple[Node, SpoolSum]]:
        """Nodes whose content waits in the spool and has been summed."""
        rows = self._execute(
            f"SELECT {', '.join(f'n.{column}' for column in COLUMNS)} FROM spool_sums s"
            " JOIN nodes n ON n.ino = s.ino AND n.content = s.content WHERE n.content_state = ?",
            (ContentState.SEALED,),
        )
        for row in rows:
            node = Node(*row)
            known = self.spool_sum(node)
            assert known is not None
            yield node, known

    def path(self, file_id: bytes) -> str | None:
        """Where a node stands in the tree, for messages; None if it does not."""
        node = self.node(file_id)
        if node is None:
            return None
        parts: list[bytes] = []
        ino = node.ino
        while ino != ROOT_INO:
            row = self._execute("SELECT parent, name FROM names WHERE id = ?", (ino,)).fetchone()
            if row is None or len(parts) > 4096:
                return None
            ino = row[0]
            parts.append(row[1])
        return "/" + b"/".join(reversed(parts)).decode(errors="backslashreplace")

    def fingerprint(self, file_id: bytes) -> bytes:
        """Equal for two images if nothing of the node, or link, has changed between them. Every
        change of a node increases its revision, so nothing has changed and changed back either."""
        rows = self._execute(
            f"SELECT {_NODE_COLUMNS} FROM nodes WHERE file_id = ?", (file_id,)
        ).fetchall()
        seen: list[Any] = [row[:_ATIME] + row[_ATIME + 1 :] for row in rows]
        inos = {row[0] for row in rows}
        names = self._execute("SELECT * FROM names WHERE link_id = ?", (file_id,)).fetchall()
        inos.update(name[3] for name in names)
        for ino in sorted(inos):
            names += self._execute("SELECT * FROM names WHERE ino = ? ORDER BY id", (ino,))
            seen += self._execute("SELECT * FROM copies WHERE ino = ? ORDER BY element", (ino,))
            seen += self._execute("SELECT revision FROM nodes WHERE ino = ?", (ino,))
        return hashlib.sha256(repr((seen, names)).encode()).digest()
