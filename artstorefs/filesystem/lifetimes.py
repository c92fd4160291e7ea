"""Which files expire, and when. `core/expiry.py` says what is done then.

A file expires only if every element that has a copy of it says so (`expire_after_days`), and is in
mode `edit`. One that does not, or that the configuration does not name now, may be where the file
is to be kept, and then it is kept everywhere. Of several lives the longest counts.

It is as old as its last change here, which is its ctime: nobody can set that. Its mtime is what a
program says, and of what a restore, `rsync -a` or `cp -p` has just brought it is years ago.
"""

from collections.abc import Callable

from artstorefs.core.expiry import DAY_NS, Mark, end_ns
from artstorefs.core.marks import LAST_NS
from artstorefs.core.modes import ElementMode
from artstorefs.filesystem.guard import Guard
from artstorefs.state.element_modes import ElementModes
from artstorefs.state.index import Index
from artstorefs.state.node import ContentState, Node

_STORED = frozenset({ContentState.EMPTY, ContentState.ARCHIVED})
"""Nothing of the content is in the spool alone."""


class Lifetimes:
    """`grace_days` is asked each time. `by_element`: how long a file lives there, in nanoseconds;
    of elements from which nothing expires there is none."""

    def __init__(
        self, index: Index, modes: ElementModes, guard: Guard, grace_days: Callable[[], int]
    ) -> None:
        self._index = index
        self._guard = guard
        self._grace_days = grace_days
        self.by_element = {
            one.id: one.expire_after_days * DAY_NS
            for one in modes.elements
            if one.expire_after_days and modes.in_force[one.id] is ElementMode.EDIT
        }
        self.changed_ns: Callable[[int], int] = lambda ctime_ns: ctime_ns
        """When a file of a ctime counts as changed; who knows of wrong clocks sets it."""

    @property
    def grace_ns(self) -> int:
        """For how long a file is shown before it is removed."""
        return self._grace_days() * DAY_NS

    def end_ns(self, node: Node) -> int | None:
        """When the file comes to its end, as far as is known now; None: it does not."""
        if not self.by_element or not node.is_regular or not node.nlink:
            return None
        if node.content_state not in _STORED:
            return None
        elements = [copy.element for copy in self._index.copies(node.ino)]
        lives = [self.by_element.get(element) for element in elements]
        known = [life for life in lives if life is not None]
        if not known or len(known) < len(lives):
            return None
        changed_ns = self.changed_ns(node.ctime_ns)
        return end_ns(changed_ns, max(known), self._guard.retained_until_ns(node))

    def removal_ns(self, node: Node, mark: Mark | None) -> int | None:
        """When it may be removed at the earliest, by the machine's clock. `mark`: since when it is
        shown, if it was."""
        ends_ns = self.end_ns(node)
        if ends_ns is None:
            return None
        if mark is not None and mark.ctime_ns == node.ctime_ns:
            ends_ns = max(ends_ns, mark.shown.wall_ns)
        return min(ends_ns + self.grace_ns, LAST_NS)
