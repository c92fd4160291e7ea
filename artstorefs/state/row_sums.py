"""A checksum in each row of `nodes`: what tells of a bit that a disk has flipped in one.

Of what the elements have, their documents tell. Of a row that no element has yet nothing else does:
SQLite has no checksums in its database file, and the columns are in no index of it. A row without
one (NULL: written by an earlier release) is not judged.

The time of access is left out: it is written alone, and often, and nobody is told it for certain.
"""

import sqlite3
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from artstorefs.state.node import COLUMNS

_ATIME = COLUMNS.index("atime_ns")
_STATE = COLUMNS.index("content_state")
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM nodes WHERE ino = ?"
_SELECT_SUMMED = f"SELECT {', '.join(COLUMNS)}, sum FROM nodes WHERE sum IS NOT NULL"

Execute = Callable[..., sqlite3.Cursor]


class RowDamaged(sqlite3.DatabaseError):
    """As SQLite says it of its own structure, of which it has checks."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    sqlite_errorname = "SQLITE_CORRUPT"

    def __init__(self, ino: int) -> None:
        super().__init__(f"the row of inode {ino} is not as it was written")


def row_sum(values: tuple[Any, ...]) -> int:
    """CRC-32 of a row, its values in the order of COLUMNS."""
    state = int(values[_STATE])  # in memory it has a name
    summed = (*values[:_ATIME], *values[_ATIME + 1 : _STATE], state, *values[_STATE + 1 :])
    return zlib.crc32(repr(summed).encode())


def check_row(values: tuple[Any, ...], known: int | None) -> None:
    """Raise RowDamaged unless a row, its values in the order of COLUMNS, has this sum."""
    try:
        is_right = known is None or row_sum(values) == known
    except (TypeError, ValueError):  # a column is of another type now
        is_right = False
    if not is_right:
        raise RowDamaged(values[0])


def put_row_sum(execute: Execute, ino: int) -> None:
    """Of a row in which single columns were changed. Inside a transaction of the caller."""
    values = execute(_SELECT, (ino,)).fetchone()
    if values is not None:
        execute("UPDATE nodes SET sum = ? WHERE ino = ?", (row_sum(values), ino))


def wrong_row_sums(execute: Execute) -> Iterator[int]:
    """Inode numbers of rows that are not as they were written. Reads the whole table."""
    for *values, known in execute(_SELECT_SUMMED):
        try:
            check_row(tuple(values), known)
        except RowDamaged:
            yield values[0]


def add_sum_column(connection: sqlite3.Connection) -> None:
    """To a new table, and to that of an earlier release when it is opened."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(nodes)")]
    if "sum" not in columns:
        connection.execute("ALTER TABLE nodes ADD COLUMN sum INTEGER")
