"""Which content of elements lies offline: the rows of the table `offline`.

A row says that the object of this copy is where its element keeps what is archived (the medium of a
local element, a cold storage class), verified there; what the element itself still has of it is
being removed. It counts as long as the copy is of this version of the content.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from artstorefs.core.crash_points import crash_point
from artstorefs.state.database import Database, connect_read_only
from artstorefs.state.index import Copy, Index, copy_of_row
from artstorefs.state.log import Log, Removal
from artstorefs.state.node import Node
from artstorefs.state.reserve import makes_room

CURRENT = "c.ino = o.ino AND c.element = o.element AND c.content = o.content AND NOT c.is_record"
_STALE = f"NOT EXISTS (SELECT 1 FROM copies c WHERE {CURRENT})"
_CANDIDATES = (
    "SELECT * FROM copies WHERE element = ? AND ino > ? AND NOT is_record AND sha256 IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM offline o WHERE o.element = copies.element"
    " AND o.ino = copies.ino AND o.content = copies.content)"
    " AND ino NOT IN (SELECT ino FROM recalls WHERE error IS NULL) ORDER BY ino LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Content of an element that is offline, and that is not: files and bytes of each."""

    offline_files: int
    offline_bytes: int
    files: int
    bytes: int


class Offline:
    """Not thread-safe; nothing here suspends."""

    def __init__(self, database: Database, index: Index, log: Log) -> None:
        self._database = database
        self._execute = database.execute
        self._index = index
        self._log = log
        self._elements = {row[0] for row in self._execute("SELECT DISTINCT element FROM offline")}

    def has(self, copy: Copy) -> bool:
        """Whether the object of a copy is offline."""
        if copy.element not in self._elements:
            return False
        row = self._execute(
            "SELECT content FROM offline WHERE element = ? AND ino = ?", (copy.element, copy.ino)
        ).fetchone()
        return row is not None and row[0] == copy.content

    def is_away(self, node: Node) -> bool:
        """Whether every copy of the content that the node has now is offline."""
        if not self._elements:
            return False
        copies = [c for c in self._index.copies(node.ino) if c.content == node.content]
        return bool(copies) and all(self.has(copy) for copy in copies)

    @makes_room
    def taken(self, copies: Sequence[Copy], *, removes: bool) -> None:
        """Objects are there, verified. `removes`: the element gets rid of its own by a logged
        removal. Nothing is recorded of what has changed since, or was recalled."""
        try:
            with self._database.transaction():
                for copy in copies:
                    if copy in self._index.copies(copy.ino) and not self._is_recalled(copy):
                        self._put(copy, removes)
        except BaseException:
            self._log.discard()
            raise
        crash_point("offline.committed")
        self._elements.update(copy.element for copy in copies)
        self._log.announce()

    def _is_recalled(self, copy: Copy) -> bool:
        query = "SELECT 1 FROM recalls WHERE ino = ? AND error IS NULL"
        return self._execute(query, (copy.ino,)).fetchone() is not None

    def _put(self, copy: Copy, removes: bool) -> None:
        self._execute(
            "INSERT OR REPLACE INTO offline VALUES (?, ?, ?)",
            (copy.element, copy.ino, copy.content),
        )
        if removes:
            place = [[copy.element, copy.key]]
            self._log.removal(b"", Removal(copy.ino, place, content_only=True), 0)

    def forget(self, places: Sequence[tuple[str, int]]) -> None:
        """Rows that say nothing any more, or of objects that others have put back on their element:
        they are as any other again."""
        if places:
            with self._database.transaction():
                for place in places:
                    self._execute("DELETE FROM offline WHERE element = ? AND ino = ?", place)


def read_stale(path: str) -> list[tuple[str, int]]:
    """Rows of files that are gone, or have other content by now. From the index at `path`, with a
    connection of its own, for a thread. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        return connection.execute(
            f"SELECT o.element, o.ino FROM offline o WHERE {_STALE}"
        ).fetchall()


def read_candidates(path: str, element: str, after: int, limit: int) -> list[Copy]:
    """Objects that are to go, of inode numbers above `after`; not what is recalled. From the index
    at `path`, with a connection of its own, for a thread: a search through a million that have gone
    takes a second. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        rows = connection.execute(_CANDIDATES, (element, after, limit)).fetchall()
        return [copy_of_row(row) for row in rows]


def read_standing(path: str, element: str) -> Standing:
    """From the index at `path`, by a connection of its own, for a thread. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        away = _totals(
            connection, f"copies c JOIN offline o ON {CURRENT} WHERE c.element = ?", element
        )
        every = _totals(connection, "copies c WHERE c.element = ? AND NOT c.is_record", element)
    return Standing(*away, every[0] - away[0], every[1] - away[1])


def _totals(connection: sqlite3.Connection, what: str, element: str) -> tuple[int, int]:
    row = connection.execute(f"SELECT count(*), total(c.size) FROM {what}", (element,)).fetchone()
    return int(row[0]), int(row[1])
