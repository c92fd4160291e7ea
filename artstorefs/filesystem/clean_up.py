"""Files that come to their end: from when on they are shown, and their removal.

Everything is decided anew at the moment at which it is done, between two suspensions of the loop,
so nobody can open or change a file in between. What `state/expiring.py` finds only says where to
look.
"""

import logging
from collections.abc import Callable, Iterable

from artstorefs.core.errors import one_line
from artstorefs.core.expiry import Facts, Mark, Moment, Verdict, decide, left_ns
from artstorefs.core.marks import moment_text
from artstorefs.core.modes import Operation
from artstorefs.filesystem.archive import Archive
from artstorefs.state.expiring import Row, drop_rows, mark_of, put_rows
from artstorefs.state.index import Name
from artstorefs.state.node import Node
from artstorefs.state.row_sums import RowDamaged

log = logging.getLogger(__name__)

NameWent = Callable[[int, bytes, int], None]


class CleanUp:
    """Short calls, for the loop. Not thread-safe; nothing here suspends."""

    def __init__(
        self, archive: Archive, is_held: Callable[[int], bool], name_went: NameWent
    ) -> None:
        """`is_held` says of an inode number whether somebody has the file open; `name_went` is told
        directory, name and inode number of each name that has gone."""
        self._archive = archive
        self._is_held = is_held
        self._name_went = name_went

    def show(self, inos: Iterable[int], now: Moment) -> int:
        """Show those that are at their end, from `now` on; how many. Raises StateError."""
        rows = []
        for ino in inos:
            node = self._node(ino)
            if node is None:
                continue
            mark = mark_of(self._archive.database.execute, ino)
            if decide(self._facts(node, mark, now)) is Verdict.SHOW:
                rows.append(Row(ino, Mark(node.ctime_ns, now)))
        if rows:
            put_rows(self._archive.database, rows)
        return len(rows)

    def hide(self, inos: Iterable[int], now: Moment) -> None:
        """Those that are not at their end any more are not shown. Raises StateError."""
        gone = [ino for ino in inos if not self._is_to_be_shown(ino, now)]
        if gone:
            drop_rows(self._archive.database, gone)

    def settle(self, row: Row, now: Moment) -> Verdict:
        """What has become of a file that is shown. Raises StateError."""
        node = self._node(row.ino)
        mark = mark_of(self._archive.database.execute, row.ino)
        if node is None or mark is None:
            return Verdict.KEEP
        verdict = decide(self._facts(node, mark, now))
        if verdict is Verdict.REMOVE:
            try:
                self._remove(node, now)
            except RowDamaged as exc:
                log.debug("not removed: %s", exc)
                return Verdict.WAIT
        elif verdict is Verdict.KEEP:
            drop_rows(self._archive.database, [row.ino])
        return verdict

    # ------------------------------------------------------------------------------- helpers

    def _node(self, ino: int) -> Node | None:
        """None too for one whose row is damaged: whoever needs it is told."""
        try:
            return self._archive.index.node(ino)
        except RowDamaged as exc:
            log.debug("not looked at for its age: %s", exc)
            return None

    def _is_to_be_shown(self, ino: int, now: Moment) -> bool:
        node = self._node(ino)
        mark = mark_of(self._archive.database.execute, ino)
        if node is None or mark is None:
            return False
        return decide(self._facts(node, mark, now)) in (Verdict.WAIT, Verdict.REMOVE)

    def _facts(self, node: Node, mark: Mark | None, now: Moment) -> Facts:
        ends_ns = self._archive.lifetimes.end_ns(node)
        is_shown = mark is not None and mark.ctime_ns == node.ctime_ns
        grace_ns = self._archive.lifetimes.grace_ns
        return Facts(
            is_at_end=ends_ns is not None and ends_ns <= now.wall_ns,
            is_shown=is_shown,
            is_grace_over=mark is not None and left_ns(mark.shown, now, grace_ns) <= 0,
            is_busy=self._is_held(node.ino) or self._archive.log.is_waiting(node.ino),
        )

    def _remove(self, node: Node, now: Moment) -> None:
        """As unlink(2) of all its names at once would."""
        archive = self._archive
        archive.require(Operation.DELETE, node)
        places = self._places(node)
        path = archive.index.path(node.ino).decode(errors="backslashreplace")
        changed = moment_text(node.ctime_ns)
        told = archive.about(node)
        archive.changes.expire(node, places, now.wall_ns)
        for parent, entry in places:
            self._name_went(parent.ino, entry.name, node.ino)
        line = "%s: removed by expire_after_days, it was last changed at %s"
        log.info(line, one_line(path), changed, extra=told)

    def _places(self, node: Node) -> list[tuple[Node, Name]]:
        """All names with their directories, the first name last."""
        first = self._archive.index.first_name(node.ino)
        names = [*self._archive.index.link_names(node.ino), *([first] if first else [])]
        places = [(self._archive.index.node(name.parent), name) for name in names]
        found = [(parent, name) for parent, name in places if parent is not None]
        if len(found) != node.nlink:
            raise RowDamaged(node.ino)
        return found
