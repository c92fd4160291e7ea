"""Files on their way from one element to another: what the index keeps of each.

crash after                 index                    source, target        the next start
1 `begin` committed         the log has `move`       as before             carries it
2 object there, verified    as 1                     both, one attr.json   finds it
3 attr.json there           as 1                     both                  writes it again
4 `stored` committed        the copy *leaves*        both                  nothing
5 `remove` committed        no copy, its removal     both                  carries it out
                            is logged
6 removed                   removal logged           target                removes nothing
7 `removed` committed       nothing pending          target                nothing

Steps 1 to 4 are those of any other intent (`outcomes.py`), whatever else becomes of the file
meanwhile: what is on the target counts only if it is all of the file as it is in step 4. What
undoes a step is `stay` up to 4, which logs the removal of what the target may have got; and after 4
a move back, which finds what has not left the source yet.

A copy that leaves does not count any more (`copies.py`), and is no longer kept current. It serves
as the content of the file where nothing else answers, as long as it is that.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

from artstorefs.core.crash_points import crash_point
from artstorefs.core.naming import record_key
from artstorefs.state.database import Database, connect_read_only
from artstorefs.state.index import Copy, Index, copy_of_row
from artstorefs.state.log import Log, Move, Removal
from artstorefs.state.node import Node
from artstorefs.state.reserve import makes_room


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A node whose move is in the log. `error`: why it has not come to the target yet, once that
    was tried."""

    ino: int
    size: int
    error: str | None


class Moves:
    """Not thread-safe; nothing here suspends."""

    def __init__(self, database: Database, index: Index, log: Log) -> None:
        self._database = database
        self._execute = database.execute
        self._index = index
        self._log = log

    def begin(self, nodes: Sequence[Node], move: Move, uid: int) -> None:
        """Step 1 of each, which the source has, and which have revisions of ours."""
        self._database.require_room()
        try:
            with self._database.transaction():
                for node in nodes:
                    self._log.move(node.ino, node.file_id, move, uid)
        except BaseException:
            self._log.discard()
            raise
        crash_point("moves.begun")
        self._log.announce()

    @makes_room
    def stay(self, inos: Sequence[int]) -> None:
        """They are not moved after all; nothing of them is being carried. What the target may have
        got of them is removed with their next assignment."""
        with self._database.transaction():
            for ino in inos:
                self._log.moved(ino)
        crash_point("moves.given_up")

    @makes_room
    def remove(self, copies: Sequence[Copy]) -> None:
        """Step 5: the elements are not to have these any more."""
        try:
            with self._database.transaction():
                for copy in copies:
                    self._remove(copy)
        except BaseException:
            self._log.discard()
            raise
        crash_point("moves.removals_logged")
        self._log.announce()

    def _remove(self, copy: Copy) -> None:
        links = [name.link_id for name in self._index.link_names(copy.ino) if name.link_id]
        keys = [copy.key, *(record_key(UUID(bytes=link_id)) for link_id in links)]
        node = self._index.node(copy.ino)
        file_id, uid = (node.file_id, node.uid) if node is not None else (b"", 0)
        removal = Removal(ino=copy.ino, remove=[[copy.element, key] for key in keys])
        self._log.removal(file_id, removal, uid)
        self._execute("DELETE FROM copies WHERE ino = ? AND element = ?", (copy.ino, copy.element))

    @makes_room
    def keep_until(self, copy: Copy, moment_ns: int) -> None:
        """Something forbids the removal of a copy that leaves: it is looked at again then."""
        with self._database.transaction():
            self._execute(
                "UPDATE copies SET leaves_ns = ? WHERE ino = ? AND element = ?",
                (moment_ns, copy.ino, copy.element),
            )

    # ------------------------------------------------------------------------------- questions

    def under_way(self) -> list[UnderWay]:
        """Every node whose move is in the log."""
        rows = self._execute(
            "SELECT log.id, ifnull(nodes.size, 0), log.error"
            " FROM log LEFT JOIN nodes ON nodes.ino = log.id WHERE log.move IS NOT NULL"
        )
        return [UnderWay(*row) for row in rows]

    def due(self, now_ns: int, limit: int) -> list[Copy]:
        """Copies whose moment to leave has come."""
        rows = self._execute(
            "SELECT * FROM copies WHERE leaves_ns <= ? ORDER BY leaves_ns LIMIT ?", (now_ns, limit)
        ).fetchall()
        return [copy_of_row(row) for row in rows]

    def next_due_ns(self) -> int | None:
        """When the next copy is to leave; None where none is."""
        row = self._execute(
            "SELECT min(leaves_ns) FROM copies WHERE leaves_ns IS NOT NULL"
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def leaving(self, number: int) -> int:
        """How many copies of what a migration has moved are still to leave."""
        row = self._execute(
            "SELECT count(*) FROM copies WHERE leaves_ns IS NOT NULL AND moved_by = ?", (number,)
        ).fetchone()
        return int(row[0])


# -------------------------------------------------------------------- for a thread of its own


@dataclass(frozen=True, slots=True)
class Found:
    """A part of what an element has that is to be moved. `last`: the inode number to go on after,
    None at the end."""

    inos: list[int]
    last: int | None


_SCANNED = 20_000
"""Rows that are looked at for one part, when little of what an element has is wanted."""

_COPIES_THERE = (
    "SELECT ino, size FROM copies WHERE element = ? AND leaves_ns IS NULL AND ino > ?"
    " ORDER BY ino LIMIT ?"
)


def find_part(path: str, element: str, root: int | None, after: int, limit: int) -> Found:
    """Inode numbers above `after` of what an element has, below the directory `root` if there is
    one, as the index at `path` knows it. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        below = _Below(connection, root)
        inos: list[int] = []
        rows = connection.execute(_COPIES_THERE, (element, after, _SCANNED))
        count = 0
        for ino, _ in rows:
            count, after = count + 1, ino
            if below.has(ino):
                inos.append(ino)
                if len(inos) == limit:
                    return Found(inos, after)
        return Found(inos, after if count == _SCANNED else None)


def count_part(path: str, element: str, root: int | None) -> tuple[int, int]:
    """Number and bytes of all of that. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        connection.execute("BEGIN")  # all of it of one moment
        if root is None:
            count, size = connection.execute(
                "SELECT count(*), total(size) FROM copies WHERE element = ? AND leaves_ns IS NULL",
                (element,),
            ).fetchone()
            return int(count), int(size)
        below = _Below(connection, root)
        sizes = [size for ino, size in _each(connection, element) if below.has(ino)]
        return len(sizes), sum(sizes)


def removals_on(path: str, element: str) -> int:
    """How many removals are logged that an element has still to carry out. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        row = connection.execute(
            "SELECT count(DISTINCT log.id)"
            " FROM log, json_each(iif(json_valid(data), data, '{}'), '$.remove') AS removed"
            " WHERE operation = 'file_delete' AND json_extract(removed.value, '$[0]') = ?",
            (element,),
        ).fetchone()
        return int(row[0])


def _each(connection: sqlite3.Connection, element: str) -> Iterator[tuple[int, int]]:
    yield from connection.execute(_COPIES_THERE, (element, 0, -1))


_PARENTS = (
    "SELECT parent FROM names WHERE id = ?"
    " UNION ALL SELECT parent FROM names WHERE ino = ? AND link_id IS NOT NULL"
)


class _Below:
    """Which nodes are in the tree below a directory, by any of their names, or are it itself."""

    def __init__(self, connection: sqlite3.Connection, root: int | None) -> None:
        self._execute = connection.execute
        self._root = root
        self._known: dict[int, bool] = {}

    def has(self, ino: int) -> bool:
        if self._root is None or ino == self._root:
            return True
        parents = self._execute(_PARENTS, (ino, ino)).fetchall()
        return any(self._directory(parent) for (parent,) in parents)

    def _directory(self, ino: int) -> bool:
        """The same of a directory, remembered: many files are in one."""
        above: list[int] = []
        answer = False
        at: int | None = ino
        while at is not None and len(above) <= 4096:
            known = True if at == self._root else self._known.get(at)
            if known is not None:
                answer = known
                break
            above.append(at)
            row = self._execute("SELECT parent FROM names WHERE id = ?", (at,)).fetchone()
            at = row[0] if row else None
        self._known.update((one, answer) for one in above)
        return answer
