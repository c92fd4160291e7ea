"""A checksum in each row of `nodes` and of `names`, to tell of a bit that a disk has flipped in it.

Of what the elements have, their documents tell. Of a row that no element has yet nothing else does:
SQLite has no checksums in its database file, and the columns are in no index of it. A row without
one (NULL: written by an earlier release) is not judged.

The time of access is left out: it is written alone, and often, and nobody is told it for certain.
So is `stored` of a name, of which only work follows.

Rows of `copies` need none: what they say is checked against the node, the key, and the object.
"""

import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from artstorefs.state.node import COLUMNS

_ATIME = COLUMNS.index("atime_ns")
_STATE = COLUMNS.index("content_state")
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM nodes WHERE ino = ?"
_NUMBERS = struct.Struct("<qqq").pack
NAME_COLUMNS = "id, parent, name, ino, link_id, sum"
_SELECT_SUMMED = f"SELECT {', '.join(COLUMNS)}, sum FROM nodes WHERE sum IS NOT NULL"

Execute = Callable[..., sqlite3.Cursor]


class RowDamaged(sqlite3.DatabaseError):
    """As SQLite says it of its own structure, of which it has checks."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    sqlite_errorname = "SQLITE_CORRUPT"

    def __init__(self, ino: int) -> None:
        super().__init__(f"a row of inode {ino} is not as it was written")


def row_sum(values: tuple[Any, ...]) -> int:
    """CRC-32 of a row, its values in the order of COLUMNS."""
    state = int(values[_STATE])  # in memory it has a name
    summed = (*values[:_ATIME], *values[_ATIME + 1 : _STATE], state, *values[_STATE + 1 :])
    return zlib.crc32(repr(summed).encode())


def name_sum(identifier: int, parent: int, name: bytes, ino: int, link_id: bytes | None) -> int:
    """CRC-32 of a row of `names`."""
    return zlib.crc32(
        name, zlib.crc32(link_id or b"", zlib.crc32(_NUMBERS(identifier, parent, ino)))
    )


def check_name(row: tuple[Any, ...]) -> None:
    """Raise RowDamaged unless a row, the columns of NAME_COLUMNS, has its sum."""
    *values, known = row
    try:
        is_right = known is None or name_sum(*values) == known
    except (TypeError, struct.error):  # a column is of another type now
        is_right = False
    if not is_right:
        raise RowDamaged(row[3])


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


def give_revision(execute: Execute, ino: int) -> None:
    """What others have written has revision 0 here, which no document of ours can have: before it
    is written without a change of its own it gets the first. Inside a transaction of the caller,
    and while nobody holds the node."""
    if execute("UPDATE nodes SET revision = 1 WHERE ino = ? AND revision = 0", (ino,)).rowcount:
        put_row_sum(execute, ino)


def wrong_row_sums(execute: Execute) -> Iterator[int]:
    """Inode numbers of rows that are not as they were written. Reads both tables whole."""
    for *values, known in execute(_SELECT_SUMMED):
        try:
            check_row(tuple(values), known)
        except RowDamaged:
            yield values[0]
    for row in execute(f"SELECT {NAME_COLUMNS} FROM names"):
        try:
            check_name(row)
        except RowDamaged:
            yield row[3]


def add_sum_column(connection: sqlite3.Connection) -> None:
    """To new tables, and to those of an earlier release when it is opened."""
    for table in ("nodes", "names"):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        if "sum" not in columns:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN sum INTEGER")
