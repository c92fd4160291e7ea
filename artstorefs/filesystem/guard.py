"""What modes and retention forbid: the one place where a system call is held against them.

A file obeys the mode of the element that holds it, of several the strictest; for reading the most
lenient, since any will do. What no element holds yet obeys that of the element that new files go
to. So does a directory, whichever element has its record: a changed record can go to any; but it
cannot be removed where an element that has its record allows no removing.

A file is *sealed* when nobody has it open for writing and the moment has come that was marked when
it was closed (`core/marks.py`). What has no mark, because nothing was sealed when it was made, is
sealed if an element has it.

Content that is *retained* is not changed or removed in any mode: by the file's own time at once, by
that of an element which holds it once it is sealed. Who has it open for writing may finish.
"""

import errno
from collections.abc import Awaitable, Callable

from artstorefs.core.marks import RETAIN_UNTIL, SEALED, marked_ns, moment_text
from artstorefs.core.modes import Operation, refusal
from artstorefs.filesystem.errors import ContentArchived, ForbiddenByMode, Retained
from artstorefs.state.copies import CopiesPolicy
from artstorefs.state.element_modes import ElementModes
from artstorefs.state.index import Index
from artstorefs.state.node import ContentState, Node
from artstorefs.state.offline import Offline

_KEEPING = frozenset({Operation.CHANGE_CONTENT, Operation.DELETE})
"""What retention forbids."""


class Guard:
    """`seal_after_s` is asked each time. `is_written` says of an inode number whether somebody has
    the file open for writing; who opens files sets it. `state_of_archived` is that of a file whose
    content is archived, and `bring` waits for it; who sees to recalls sets them."""

    def __init__(
        self,
        index: Index,
        policy: CopiesPolicy,
        modes: ElementModes,
        offline: Offline,
        seal_after_s: Callable[[], float],
        now_ns: Callable[[], int],
        *,
        read_only: bool,
    ) -> None:
        self._index = index
        self._policy = policy
        self._modes = modes
        self._offline = offline
        self._seal_after_s = seal_after_s
        self.now_ns = now_ns
        self._read_only = read_only
        self.is_written: Callable[[int], bool] = lambda ino: False
        self.state_of_archived: Callable[[Node], str] = lambda node: "archived"
        self.bring: Callable[[Node], Awaitable[None]] = _bring_nothing

    def require(self, operation: Operation, node: Node) -> None:
        """Raise ForbiddenByMode or Retained unless `operation` is allowed."""
        if operation is Operation.READ:
            self._require_content(node)
            return
        if self._modes.forbids_nothing and not self._read_only and not _has(node, RETAIN_UNTIL):
            return
        holders = self._holders(node)
        if operation in _KEEPING and node.is_regular:
            self._require_unretained(node, holders)
        code = self._code(operation, node, holders)
        if code:
            raise ForbiddenByMode(node.ino, code)

    def _require_content(self, node: Node) -> None:
        if node.content_state != ContentState.ARCHIVED:
            return  # it is here, or there is nothing to be read
        if self.is_archived(node) and not self.is_online(node):
            raise ForbiddenByMode(node.ino, errno.EREMOTE)

    def is_archived(self, node: Node) -> bool:
        """Whether the content of an ARCHIVED node is to be read by way of a recall only: by the
        modes of all that hold it, or because it is nowhere else."""
        if self._offline.is_away(node):
            return True
        if self._modes.forbids_nothing:
            return False
        return self._code(Operation.READ, node, self._holders(node)) != 0

    def is_online(self, node: Node) -> bool:
        """Whether archived content was recalled, and is at hand."""
        return self.state_of_archived(node) == "online"

    def require_creation(self, subject: bytes | int) -> None:
        """Raise ForbiddenByMode when no element takes new files."""
        if self._read_only or not self._modes.takers:
            raise ForbiddenByMode(subject, errno.EROFS)

    # ------------------------------------------------------------------------------- sealing

    def is_sealed(self, node: Node) -> bool:
        """Whether nobody may complete the node any more, where its mode seals."""
        if node.content_state == ContentState.OPEN or self.is_written(node.ino):
            return False
        moment_ns = marked_ns(node.xattrs, SEALED)
        if moment_ns is None:
            return node.element is not None
        return self.now_ns() >= moment_ns

    def seal_ns(self) -> int | None:
        """When what is complete now is sealed; None: nothing is sealed in this archive."""
        if not self._modes.seals:
            return None
        return self.now_ns() + int(self._seal_after_s() * 1e9)

    def retained_until_ns(self, node: Node) -> int:
        """Before it nobody changes the content or removes it; 0 where there is no such time."""
        return self._retained_ns(node, self._holders(node))

    def seals(self, node: Node) -> bool:
        """Whether being sealed means anything for this node."""
        return any(self._modes.states[one].seals for one in self._holders(node))

    # ----------------------------------------------------------------------------- retention

    def retained_until(self, node: Node, element: str) -> str | None:
        """Until when what `element` has of the node may not be removed from it, for a person;
        None: it may."""
        until_ns = self._retained_ns(node, [element]) if node.is_regular else 0
        return moment_text(until_ns) if self.now_ns() < until_ns else None

    def lock_until_ns(self, node: Node, element: str) -> int:
        """Until when `element` is to keep the content from everybody by itself, as far as that is
        to come; 0: it need not."""
        until_ns = self._retained_ns(node, [element]) if node.is_regular else 0
        return until_ns if until_ns > self.now_ns() else 0

    # ------------------------------------------------------------------------------- helpers

    def _holders(self, node: Node) -> list[str]:
        """The elements whose modes the node obeys."""
        modes = self._modes.in_force
        if len(modes) > 1:
            copies = self._policy.counted(self._index.copies(node.ino))
            holders = [copy.element for copy in copies if copy.element in modes]
        else:
            holders = [node.element] if node.element in modes else []
        return holders or self._modes.takers[:1]

    def _code(self, operation: Operation, node: Node, holders: list[str]) -> int:
        """The errno that forbids it, else 0."""
        if self._read_only and operation is not Operation.READ:
            return errno.EROFS
        if node.is_directory and operation is Operation.CHANGE_METADATA:
            holders = self._modes.takers[:1]
        if not holders:
            return 0 if operation is Operation.READ else errno.EROFS
        is_sealed = self.is_sealed(node)
        modes = self._modes.in_force
        codes = {refusal(modes[element], operation, is_sealed) for element in holders}
        if operation is Operation.READ:
            return min(codes)
        return errno.EROFS if errno.EROFS in codes else max(codes)

    def _require_unretained(self, node: Node, holders: list[str]) -> None:
        until_ns = self._retained_ns(node, holders)
        if self.now_ns() < until_ns:
            raise Retained(node.ino, moment_text(until_ns))

    def _retained_ns(self, node: Node, holders: list[str]) -> int:
        until_ns = marked_ns(node.xattrs, RETAIN_UNTIL) or 0
        if not self.is_sealed(node):
            return until_ns
        of_elements = (self._modes.states[one].retain_until_ns for one in holders)
        return max([until_ns, *(one for one in of_elements if one is not None)])


async def _bring_nothing(node: Node) -> None:
    raise ContentArchived(node.ino)


def _has(node: Node, mark: str) -> bool:
    return node.xattrs is not None and mark in node.xattrs
