"""Files that are shown as expiring: the table `expiring`, and what may belong into it.

A row is of a file as it was when it was last changed: `ctime_ns` is that of its node then. Where
the node has another one by now the row means nothing, so whoever changes a file need not know of
this. A look (`read_new`, `read_stale`) brings the table up to date some rows at a time, from the
copies on those elements alone from which files expire; which these are is told by `lives`,
nanoseconds by element. A file has a life if all elements that have it are in there, and then the
longest of theirs.

A new index has no rows: then all of it is shown anew, and has all of its grace period.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from artstorefs.core.crash_points import crash_point
from artstorefs.core.expiry import Mark, Moment
from artstorefs.state.database import Database, connect_read_only
from artstorefs.state.node import ContentState
from artstorefs.state.row_sums import Execute

SLICE_COPIES: Final = 5000
"""Copies, or rows, that one question looks at: some hundredths of a second, and a transaction that
reads for no longer holds up no checkpoint."""

_LIFE = (
    "(SELECT CASE WHEN count(*) = count(life.value) THEN max(life.value) END FROM copies AS held"
    " LEFT JOIN json_each(:lives) AS life ON life.key = held.element WHERE held.ino = node.ino)"
)
_STORED = f"({int(ContentState.EMPTY)}, {int(ContentState.ARCHIVED)})"
_IS_AT_END = (
    "node.ctime_ns <= :wall_ns - :shortest AND node.mode & 61440 = 32768 AND node.nlink > 0"
    f" AND node.content_state IN {_STORED} AND node.ctime_ns + {_LIFE} <= :wall_ns"
)
_KEYS = (
    "SELECT ino, key FROM copies INDEXED BY copies_by_key"
    " WHERE element = :element AND key > :after ORDER BY key LIMIT :many"
)
_NEW = (
    f"SELECT node.ino FROM ({_KEYS}) AS copy JOIN nodes AS node ON node.ino = copy.ino"
    " LEFT JOIN expiring AS mark ON mark.ino = node.ino AND mark.ctime_ns = node.ctime_ns"
    f" WHERE mark.ino IS NULL AND {_IS_AT_END}"
)
_ROWS = "SELECT ino, ctime_ns FROM expiring WHERE ino > :after ORDER BY ino LIMIT :many"
_STALE = (
    f"SELECT mark.ino FROM ({_ROWS}) AS mark LEFT JOIN nodes AS node ON node.ino = mark.ino"
    f" AND node.ctime_ns = mark.ctime_ns WHERE NOT ifnull({_IS_AT_END}, 0)"
)
_PAGE = (
    "SELECT ino, ctime_ns, shown_ns, shown_lived_ns FROM expiring"
    " WHERE (shown_lived_ns, ino) > (:lived_ns, :ino) AND shown_lived_ns <= :until_lived_ns"
    " ORDER BY shown_lived_ns, ino LIMIT :many"
)
_ANY: Final = (1 << 63) - 1

Cursor = tuple[int, int]
"""A place in the order in which files were shown: lived time, and inode number."""

FIRST: Final[Cursor] = (-1, -1)


@dataclass(frozen=True, slots=True)
class Row:
    """A file that is shown, or was before somebody changed it."""

    ino: int
    mark: Mark

    @property
    def cursor(self) -> Cursor:
        return self.mark.shown.lived_ns, self.ino


@dataclass(frozen=True, slots=True)
class Extent:
    """All that is shown. `first` is the row that has been shown for longest."""

    files: int = 0
    size_bytes: int = 0
    first: Row | None = None


class ExpiringReader:
    """The table as the last transaction has left it, with a connection of its own: for a thread.
    Every method may raise sqlite3.Error."""

    def __init__(self, path: str, lives: Mapping[str, int], wall_ns: int) -> None:
        self._path = path
        self._values = {
            "lives": json.dumps(dict(lives)),
            "shortest": min(lives.values(), default=0),
            "wall_ns": wall_ns,
            "many": SLICE_COPIES,
        }

    def read_new(self, element: str, after: str) -> tuple[list[int], str | None]:
        """Inode numbers of files that are at their end and not shown, among the copies on an
        element whose keys follow `after`; and the key that the next question is to follow."""
        values = {**self._values, "element": element, "after": after}
        with closing(connect_read_only(self._path)) as connection:
            last = connection.execute(f"SELECT count(*), max(key) FROM ({_KEYS})", values)
            count, key = last.fetchone()
            found = [row[0] for row in connection.execute(_NEW, values)]
        return found, key if count == self._values["many"] else None

    def read_stale(self, after: int) -> tuple[list[int], int | None]:
        """The same of rows that mean nothing any more, because the file has changed, is gone, or
        has a life no more; by inode number."""
        values = {**self._values, "after": after}
        with closing(connect_read_only(self._path)) as connection:
            last = connection.execute(f"SELECT count(*), max(ino) FROM ({_ROWS})", values)
            count, ino = last.fetchone()
            found = [row[0] for row in connection.execute(_STALE, values)]
        return found, ino if count == self._values["many"] else None

    def read_extent(self) -> Extent:
        """How much is shown."""
        with closing(connect_read_only(self._path)) as connection:
            count, size = connection.execute(
                "SELECT count(*), total(size) FROM expiring JOIN nodes USING (ino)"
            ).fetchone()
            rows = page(connection.execute, FIRST, 1)
        return Extent(int(count), int(size), rows[0] if rows else None)


def page(
    execute: Execute, after: Cursor, many: int, until_lived_ns: int | None = None
) -> list[Row]:
    """Up to `many` rows in the order in which they were shown, of those until a lived time."""
    until = _ANY if until_lived_ns is None else until_lived_ns
    values = {"lived_ns": after[0], "ino": after[1], "until_lived_ns": until, "many": many}
    return [_row(row) for row in execute(_PAGE, values).fetchall()]


def mark_of(execute: Execute, ino: int) -> Mark | None:
    """The row of a file; its caller knows whether that is still of the file as it is."""
    query = "SELECT ino, ctime_ns, shown_ns, shown_lived_ns FROM expiring WHERE ino = ?"
    row = execute(query, (ino,)).fetchone()
    return None if row is None else _row(row).mark


def _row(row: Sequence[Any]) -> Row:
    ino, ctime_ns, shown_ns, shown_lived_ns = row
    return Row(ino, Mark(ctime_ns, Moment(shown_ns, shown_lived_ns)))


def put_rows(database: Database, rows: Iterable[Row]) -> None:
    """These are shown from now on. One transaction; raises StateError."""
    database.require_room()
    with database.transaction():
        for row in rows:
            shown = row.mark.shown
            database.execute(
                "INSERT OR REPLACE INTO expiring VALUES (?, ?, ?, ?)",
                (row.ino, row.mark.ctime_ns, shown.wall_ns, shown.lived_ns),
            )
    crash_point("expiring.shown")


def drop_rows(database: Database, inos: Iterable[int]) -> None:
    """These are not shown any more. One transaction; raises StateError."""
    with database.transaction():
        for ino in inos:
            drop_row(database.execute, ino)
    crash_point("expiring.dropped")


def drop_row(execute: Execute, ino: int) -> None:
    """Inside a transaction of the caller. Idempotent."""
    execute("DELETE FROM expiring WHERE ino = ?", (ino,))


def forget_all(database: Database) -> None:
    """Nothing expires any more. Raises StateError."""
    if database.execute("SELECT 1 FROM expiring LIMIT 1").fetchone():
        with database.transaction():
            database.execute("DELETE FROM expiring")
