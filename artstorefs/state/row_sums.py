"""A checksum in each row of `nodes`: what tells of a bit that a disk has flipped in one.

Of what the elements have, their documents tell. Of a row that no element has yet nothing else does:
SQLite has no checksums in its database file, and the columns are in no index of it. A row without
one (NULL: written by an earlier release, or by a rebuild, from documents) is not judged.

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


def row_sum(values: tuple[Any, ...]) -> int:
    """CRC-32 of a row, its values in the order of COLUMNS."""
    state = int(values[_STATE])  # in memory it has a name
    summed = (*values[:_ATIME], *values[_ATIME + 1 : _STATE], state, *values[_STATE + 1 :])
    return zlib.crc32(repr(summed).encode())


def put_row_sum(execute: Execute, ino: int) -> None:
    """Of a row in which single columns were changed. Inside a transaction of the caller."""
    values = execute(_SELECT, (ino,)).fetchone()
    if values is not None:
        execute("UPDATE nodes SET sum = ? WHERE ino = ?", (row_sum(values), ino))


def give_revision(execute: Execute, ino: int) -> None:
    """What others have written has revision 0 here, which no document of ours can have: before it
    is written without a change of its own it gets the first. Inside a transaction of the caller,
    and while nobody holds the node."""
    if execute("UPDATE nodes SET revision = 1 WHERE ino = ? AND revision = 0", (ino,)).rowcount:
        put_row_sum(execute, ino)


def wrong_row_sums(execute: Execute) -> Iterator[int]:
    """Inode numbers of rows that are not as they were written. Reads the whole table."""
    for *values, known in execute(_SELECT_SUMMED):
        if row_sum(tuple(values)) != known:
            yield values[0]


def add_sum_column(connection: sqlite3.Connection) -> None:
    """To a new table, and to that of an earlier release when it is opened."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(nodes)")]
    if "sum" not in columns:
        connection.execute("ALTER TABLE nodes ADD COLUMN sum INTEGER")
