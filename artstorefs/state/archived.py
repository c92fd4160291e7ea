"""How much of an archive is archived, asked for, and back for a time: for `status` and monitors.

It is counted some thousand rows at a time, each by a transaction of its own: one that reads for
long would hold up a checkpoint, and every writer with it. So the sums are of no one moment.
"""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from artstorefs.state.database import connect_read_only
from artstorefs.state.offline import CURRENT

SLICE_ROWS: Final = 5000
"""That one question looks at: some hundredths of a second."""

_COPIES: Final = (
    "SELECT count(*), max(c.key), total(NOT c.is_record), total(iif(c.is_record, 0, c.size)),"
    " count(o.ino), total(iif(o.ino IS NULL, 0, c.size))"
    " FROM (SELECT * FROM copies INDEXED BY copies_by_key WHERE element = ? AND key > ?"
    " ORDER BY key LIMIT ?) AS c"
    f" LEFT JOIN offline o ON {CURRENT}"
)
_RECALLS: Final = (
    "SELECT max(r.ino), r.element, iif(r.error IS NOT NULL, 'failed',"
    " iif(r.until_ns IS NULL, 'recalling', 'recalled')) AS state,"
    " count(nodes.ino), total(nodes.size), min(r.asked_ns)"
    " FROM (SELECT * FROM recalls WHERE ino > ? ORDER BY ino LIMIT ?) AS r"
    " LEFT JOIN nodes ON nodes.ino = r.ino AND nodes.content = r.content"
    " GROUP BY r.element, state, nodes.ino IS NULL"
)


@dataclass(slots=True)
class Archived:
    """Of one element: content that takes a recall to be read, what of it lies offline, and what
    was recalled. `oldest_ns`: since when the first waits, since the epoch."""

    element: str
    files: int = 0
    bytes: int = 0
    offline_files: int = 0
    offline_bytes: int = 0
    recalling_files: int = 0
    recalling_bytes: int = 0
    recalled_files: int = 0
    recalled_bytes: int = 0
    failed_files: int = 0
    oldest_ns: int | None = None


def read_archived(path: str, closed: Collection[str]) -> list[Archived]:
    """Of each element that has something of that, from the index at `path`, with a connection of
    its own: for a thread, since it takes a second or two for each million files. `closed`: elements
    of which nothing is read without a recall, wherever it lies. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        found = {element: Archived(element) for element in (*closed, *_with_offline(connection))}
        for one in found.values():
            _count_copies(connection, one)
            if one.element not in closed:
                one.files, one.bytes = one.offline_files, one.offline_bytes
        _count_recalls(connection, found)
    return [found[element] for element in sorted(found)]


def _with_offline(connection: sqlite3.Connection) -> Iterator[str]:
    element = ""
    while element is not None:
        query = "SELECT min(element) FROM offline WHERE element > ?"
        (element,) = connection.execute(query, (element,)).fetchone()
        if element is not None:
            yield element


def _count_copies(connection: sqlite3.Connection, one: Archived) -> None:
    rows, key = SLICE_ROWS, ""
    while rows == SLICE_ROWS:
        values = (one.element, key, SLICE_ROWS)
        rows, key, *sums = connection.execute(_COPIES, values).fetchone()
        files, size, offline_files, offline_size = map(int, sums)
        one.files += files
        one.bytes += size
        one.offline_files += offline_files
        one.offline_bytes += offline_size


def _count_recalls(connection: sqlite3.Connection, found: dict[str, Archived]) -> None:
    last = 0
    while groups := connection.execute(_RECALLS, (last, SLICE_ROWS)).fetchall():
        for ino, element, state, files, size, asked_ns in groups:
            last = max(last, ino)
            if not files:  # of files that are gone, or have other content by now
                continue
            one = found.setdefault(element, Archived(element))
            _add(one, f"{state}_files", files)
            if state != "failed":
                _add(one, f"{state}_bytes", int(size))
            if state == "recalling":
                one.oldest_ns = min(asked_ns, asked_ns if one.oldest_ns is None else one.oldest_ns)


def _add(one: Archived, name: str, number: int) -> None:
    setattr(one, name, getattr(one, name) + number)
