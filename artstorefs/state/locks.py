"""What elements that lock objects have still to be told: until when content is retained.

An element that locks (a bucket with Object Lock) keeps by itself what is retained here: until the
file's own time, or that of the element once the file is sealed there (`filesystem/guard.py`). What
it has been told is in the row of the copy, `locked_ns`, committed once it has answered. What is
still to be told is what the two differ by, of what is durable: so a kill, an element that does not
answer, and a rebuilt index, which knows of no lock, forget none.

A copy that lacks a lock is not complete (`copies.py`), so its node has an intent in the log, as any
other that an element has to be told of. Where nothing else makes one, because a file got sealed, a
configuration says a later time, or an index was rebuilt, `artstorefs_daemon/locking.py` does.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from artstorefs.core.marks import RETAIN_UNTIL
from artstorefs.state.database import connect_read_only
from artstorefs.state.index import Copy
from artstorefs.state.node import Node


def _never(node: Node, element: str) -> int:
    return 0


@dataclass(slots=True)
class Locks:
    """Not thread-safe."""

    able: set[str] = field(default_factory=set)
    """Elements that lock objects, or have not said yet whether they do."""
    certain: set[str] = field(default_factory=set)
    """Those that have said that they do."""
    until_ns: Callable[[Node, str], int] = _never
    """Until when an element has to be told now that it keeps content of a node; 0: it has not."""
    stored: Callable[[Node, Copy], None] = lambda node, copy: None
    """Told of what these elements have got."""
    changed: Callable[[], None] = lambda: None
    """Told when an element has said what it does."""

    def wanted_ns(self, node: Node, element: str, told_ns: int | None) -> int:
        """Until when an element is to lock the object of a node, where it was told of `told_ns`;
        0: it has been told."""
        if element not in self.able:
            return 0
        until_ns = self.until_ns(node, element)
        return until_ns if until_ns > (told_ns or 0) else 0

    def learn(self, element: str, locks: bool) -> None:
        """What an element has said of itself."""
        if locks == (element in self.certain) == (element in self.able):
            return
        for known in (self.able, self.certain):
            if locks:
                known.add(element)
            else:
                known.discard(element)
        self.changed()


@dataclass(frozen=True, slots=True)
class Found:
    """A part of what may have to be told. `last`: the inode number to go on after, None at the
    end."""

    inos: list[int]
    last: int | None


_SCANNED = 20_000
"""Copies that are looked at for one part, when few of them are to be told of."""

_UNLOCKED = (
    "SELECT ino FROM (SELECT ino, is_record, leaves_ns, locked_ns FROM copies"
    " WHERE element = :element AND ino > :after ORDER BY ino LIMIT :scanned)"
    " JOIN nodes USING (ino) WHERE NOT is_record AND leaves_ns IS NULL AND nlink > 0"
    " AND (ifnull(locked_ns, 0) < :until OR instr(ifnull(xattrs, ''), :mark))"
    " AND ino NOT IN (SELECT ino FROM log WHERE ino IS NOT NULL) ORDER BY ino"
)
_LAST = (
    "SELECT max(ino), count(*) FROM (SELECT ino FROM copies"
    " WHERE element = :element AND ino > :after ORDER BY ino LIMIT :scanned)"
)


def read_unlocked(path: str, element: str, until_ns: int, after: int) -> Found:
    """Inode numbers above `after` of files that an element may have to lock: all that it was not
    told to keep until `until_ns`, its own time, and those with a time of their own. What waits in
    the log comes to it anyway. From the index at `path`, with a connection of its own, for a
    thread. Raises sqlite3.Error."""
    values = {"element": element, "after": after, "scanned": _SCANNED}
    with closing(connect_read_only(path)) as connection:
        connection.execute("BEGIN")  # all of it of one moment
        wanted = {**values, "until": until_ns, "mark": RETAIN_UNTIL}
        inos = [row[0] for row in connection.execute(_UNLOCKED, wanted)]
        last, count = connection.execute(_LAST, values).fetchone()
    return Found(inos, last if count == _SCANNED else None)
