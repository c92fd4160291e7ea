"""The copies policy: how many elements have to have a node, and whether they do. Pure.

`copies = N` of the configuration: a node is told to N elements, the object with its attr.json, or
the node record. Its intent stays in the log, and its content in the spool, until N of them have it.

A copy is *current* if it says all of the node as it is now. All copies that an element of the
configuration has are kept current, also more than N. Copies on elements that are not in it any more
do not count, as long as there are others, nor do those that leave, because the node was moved from
their element and what is left there is removed in a while. Nor does the record of a directory on a
*frozen* element, one whose mode allows no change there, once the directory has changed: what is
newer goes to others, where it counts for all because its revision is higher.

An element that locks objects has besides to have locked what is retained (`locks.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from artstorefs.state.index import Copy
from artstorefs.state.locks import Locks
from artstorefs.state.node import ContentState, Node


def is_in_record(node: Node) -> bool:
    """Whether all of a node is in its node record: there is no object."""
    return node.content_state == ContentState.EMPTY


def has_content(copy: Copy, node: Node) -> bool:
    """Whether a copy is of the content that the node has now, whatever its names and attributes."""
    return copy.is_record == is_in_record(node) and copy.content == node.content


@dataclass(frozen=True, slots=True)
class CopiesPolicy:
    """`elements`: the ids of those in the configuration."""

    wanted: int
    elements: frozenset[str]
    lost: set[tuple[str, str]] = field(default_factory=set)
    """Element and key of copies that a reader has found damaged, or gone, while others have the
    content: they are made again. In memory only: the next reader would find them again."""
    frozen: set[str] = field(default_factory=set)
    """Elements whose modes allow no change; kept by `ElementModes`."""
    locks: Locks = field(default_factory=Locks)
    """What elements that lock objects have been told."""

    def has_content(self, copy: Copy, node: Node) -> bool:
        """Whether a copy is of the content that the node has now, for all that is known."""
        return has_content(copy, node) and (copy.element, copy.key) not in self.lost

    def counted(self, copies: Iterable[Copy]) -> list[Copy]:
        """The copies that count."""
        every = list(copies)
        staying = [copy for copy in every if copy.leaves_ns is None] or every
        return [copy for copy in staying if copy.element in self.elements] or staying

    def counting(self, node: Node, copies: Iterable[Copy]) -> list[Copy]:
        """Those that count for this node, which may be none."""
        counted = self.counted(copies)
        if not node.is_directory or not self.frozen:
            return counted
        return [c for c in counted if c.element not in self.frozen or self.is_current(node, c)]

    def is_current(self, node: Node, copy: Copy) -> bool:
        """Whether a copy says all of the node as it is now."""
        return copy.revision == node.revision and self.has_content(copy, node)

    def lacks_lock(self, node: Node, copy: Copy) -> bool:
        """Whether its element has still to be told until when the content is retained."""
        if not self.locks.able or copy.is_record or not self.has_content(copy, node):
            return False
        return self.locks.wanted_ns(node, copy.element, copy.locked_ns) > 0

    def is_told(self, node: Node, copy: Copy) -> bool:
        """Whether nothing is left to be told its element of the node as it is now."""
        return self.is_current(node, copy) and not self.lacks_lock(node, copy)

    def is_safe(self, node: Node, copies: Iterable[Copy]) -> bool:
        """Whether enough elements have the content, so that the spool need not keep it."""
        return sum(self.has_content(copy, node) for copy in self.counted(copies)) >= self.wanted

    def is_complete(self, node: Node, copies: Iterable[Copy]) -> bool:
        """Whether nothing is left to be told of the node as it is now."""
        counting = self.counting(node, copies)
        are_told = all(self.is_told(node, copy) for copy in counting)
        return len(counting) >= self.wanted and are_told
