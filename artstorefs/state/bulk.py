"""A new index in a file of its own, filled from what the elements say; nothing is logged.

It becomes the archive's index by a rename once it is whole and durable (`state_files.install`), so
nothing about the writing has to survive anything: no journal, no flush before the end.
"""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple
from typing import Any

from artstorefs.state.database import PAGE_BYTES
from artstorefs.state.index import Name
from artstorefs.state.node import COLUMNS
from artstorefs.state.reader import is_text
from artstorefs.state.row_sums import NAME_COLUMNS, name_sum, row_sum
from artstorefs.state.rows import COPY_COLUMNS, LEAVING
from artstorefs.state.schema import create_tables

_COLUMNS = ", ".join(COLUMNS)
_INSERT_NODE = f"INSERT OR REPLACE INTO nodes ({_COLUMNS}) VALUES ({', '.join('?' * len(COLUMNS))})"
_COPY_COLUMNS = COPY_COLUMNS[:LEAVING]
_INSERT_COPY = (
    f"INSERT OR REPLACE INTO copies ({', '.join(_COPY_COLUMNS)})"
    f" VALUES ({', '.join('?' * len(_COPY_COLUMNS))})"
)
_CONTENT = tuple(COPY_COLUMNS.index(name) - 1 for name in ("is_record", "content", "sha256"))
_REVISION = COPY_COLUMNS.index("revision") - 1
_INSERT_NAME = f"INSERT INTO names ({NAME_COLUMNS}, stored) VALUES ({', '.join('?' * 7)})"
_INTENT_COLUMNS = "id, operation, status, ino, file_id, data, error, created_ns, updated_ns, uid"
_INSERT_INTENT = f"INSERT INTO log ({_INTENT_COLUMNS}) VALUES ({', '.join('?' * 10)})"


class NewIndex:
    """All or nothing: without `finish`, `discard` leaves no file."""

    def __init__(self, path: str) -> None:
        """An empty one; what an earlier attempt has left under `path` is removed."""
        self.path = path
        self.discard_file()
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._execute = self._connection.execute
        self._execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self._execute("PRAGMA journal_mode = OFF").fetchone()
        self._execute("PRAGMA synchronous = OFF")
        self._execute("PRAGMA cache_size = -131072")
        create_tables(self._connection)
        self._execute("BEGIN")

    def put_nodes(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Rows of `nodes`; one with the same inode number is replaced."""
        self._connection.executemany(_INSERT_NODE, rows)

    def put_copies(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Rows of `copies`; one of the same node and element is replaced."""
        self._connection.executemany(_INSERT_COPY, rows)

    def outdate_copies(self, ino: int, newest: tuple[Any, ...]) -> None:
        """`newest` is the copy of a newer revision, without the inode number: what is there of the
        node is older content, unless it is the same."""
        is_record, content, sha256 = (newest[place] for place in _CONTENT)
        self._execute(
            "UPDATE copies SET content = iif(is_record = ? AND sha256 IS ?, ?, 0) WHERE ino = ?",
            (is_record, sha256, content, ino),
        )

    def put_older_copy(self, ino: int, element: str, copy: tuple[Any, ...]) -> None:
        """`copy` is of an older revision than what `element` has, and so is its content, unless it
        is the same. Of two of one element the newer is kept."""
        newest = self._execute(
            "SELECT is_record, content, sha256 FROM copies WHERE ino = ? AND element = ?",
            (ino, element),
        ).fetchone()
        known = self._execute(
            "SELECT revision FROM copies WHERE ino = ? AND element = ?", (ino, copy[0])
        ).fetchone()
        if known is not None and known[0] >= copy[_REVISION]:
            return
        is_record, _, sha256 = (copy[place] for place in _CONTENT)
        is_same = newest is not None and (newest[0], newest[2]) == (is_record, sha256)
        older = list(copy)
        older[_CONTENT[1]] = newest[1] if is_same else 0
        self.put_copies([(ino, *older)])

    def drop_copies(self, ino: int) -> None:
        self._execute("DELETE FROM copies WHERE ino = ?", (ino,))

    def set_copy_content(self, ino: int, content: int) -> None:
        self._execute("UPDATE copies SET content = ? WHERE ino = ?", (content, ino))

    def put_names(self, names: Iterable[tuple[Name, bool]]) -> None:
        """Directory entries, each with whether the elements know it."""
        self._connection.executemany(
            _INSERT_NAME,
            (
                (*values, name_sum(*values), is_stored)
                for values, is_stored in ((astuple(name), stored) for name, stored in names)
            ),
        )

    def put_intents(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Rows of `log`."""
        self._connection.executemany(_INSERT_INTENT, rows)

    def put_changed_attributes(self, rows: Iterable[tuple[int, str]]) -> None:
        """Rows of `changed_attributes`."""
        self._connection.executemany("INSERT INTO changed_attributes VALUES (?, ?)", rows)

    def note_offline(self, element: str, present: Iterable[str]) -> None:
        """Objects of an element that are not among those that are `present` there lie offline."""
        self._execute("CREATE TEMP TABLE present (key TEXT PRIMARY KEY) WITHOUT ROWID")
        self._connection.executemany(
            "INSERT OR IGNORE INTO present VALUES (?)",
            ((key,) for key in present if is_text(key)),
        )
        self._execute(
            "INSERT INTO offline SELECT element, ino, content FROM copies WHERE element = ?"
            " AND NOT is_record AND key NOT IN (SELECT key FROM present)",
            (element,),
        )
        self._execute("DROP TABLE present")

    def put_settings(self, settings: Iterable[tuple[str, str]]) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", settings)

    def set_links(self, links: Iterable[tuple[int, int]]) -> None:
        """`nlink` and inode number of nodes."""
        self._connection.executemany("UPDATE nodes SET nlink = ? WHERE ino = ?", links)

    def set_owner_of_revision_0(self, uid: int, gid: int) -> None:
        self._execute("UPDATE nodes SET uid = ?, gid = ? WHERE revision = 0", (uid, gid))

    def row(self, ino: int) -> tuple[Any, ...] | None:
        """The row of a node."""
        found: tuple[Any, ...] | None = self._execute(
            f"SELECT {_COLUMNS} FROM nodes WHERE ino = ?", (ino,)
        ).fetchone()
        return found

    def copy_rank(self, ino: int, element: str) -> tuple[bool, str] | None:
        """Whether the element has an object of this node, and its key."""
        found: tuple[bool, str] | None = self._execute(
            "SELECT NOT is_record, key FROM copies WHERE ino = ? AND element = ?", (ino, element)
        ).fetchone()
        return found

    def content_names(self) -> list[tuple[int, int]]:
        """Inode number and version of all content that is in the spool only."""
        return self._execute(
            "SELECT ino, content FROM nodes WHERE content_state IN (2, 3)"
        ).fetchall()

    def finish(self) -> None:
        """Whole, with a checksum in each row of `nodes`, and on the disk when this returns."""
        self._connection.create_function("row_sum", len(COLUMNS), lambda *row: row_sum(row))
        self._execute(f"UPDATE nodes SET sum = row_sum({_COLUMNS})")
        self._execute("COMMIT")
        self._connection.close()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Give up. Idempotent, also after `finish`."""
        self._connection.close()
        self.discard_file()

    def discard_file(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(self.path + suffix)
