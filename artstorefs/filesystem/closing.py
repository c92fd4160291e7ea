"""What becomes of open files that nobody writes any more: they are sealed, and let go of.

close(2) promises nothing of that, and recording it takes as long as creating a file. So what was
closed waits a moment for more of it, and is sealed with it in one transaction; until then it is an
open file that nobody has open, and a start after a kill finds it OPEN and seals it.

What the state directory cannot record, on a full disk for example, stays OPEN in the index, or
without a name in it; nothing is lost, and every second it is tried again. A file that somebody
opens again meanwhile is left to the next close.
"""

import logging
from collections.abc import Callable, Sequence

from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.open_file import OpenFile
from artstorefs.filesystem.spool_budget import SpoolBudget
from artstorefs.state.node import ContentState, Node
from artstorefs.state.room_ahead import give_back

log = logging.getLogger(__name__)

CLOSED_AT_ONCE = 128
"""Closed files that wait to be sealed, each with a descriptor: a transaction of a millisecond."""

ClosedFile = tuple[OpenFile, int]
"""With the user id of who has closed it."""


class Closing:
    """Takes files out of `files`, the open ones by inode number."""

    def __init__(
        self,
        archive: Archive,
        budget: SpoolBudget,
        files: dict[int, OpenFile],
        closed_one: Callable[[], None] | None,
        sealed: Callable[[Node], None],
    ) -> None:
        """`closed_one` has somebody call `seal_closed` soon; without it `close` seals. `sealed` is
        told of every node whose content nobody writes any more."""
        self._archive = archive
        self._budget = budget
        self._tell_sealed = sealed
        self._files = files
        self._closed_one = closed_one
        self._closed: dict[int, int] = {}
        self._unrecorded: dict[int, tuple[Node, int]] = {}
        """Nodes whose size and times the index does not know yet."""

    def close(self, file: OpenFile, uid: int) -> None:
        """Nobody writes `file` any more, nor may."""
        node = file.node
        if self._closed_one is None or node.content_state != ContentState.OPEN or not node.nlink:
            self._close([(file, uid)])
            return
        self._closed[node.ino] = uid
        if len(self._closed) >= CLOSED_AT_ONCE:
            self.seal_closed()
        else:
            self._closed_one()

    def seal_closed(self) -> None:
        """Seal what was closed lately, unless it has been opened again."""
        closed, self._closed = self._closed, {}
        files = [(self._files[ino], uid) for ino, uid in closed.items() if ino in self._files]
        self._close([(file, uid) for file, uid in files if not file.is_busy])

    def _close(self, files: Sequence[ClosedFile]) -> None:
        try:
            self.seal(files)
            for file, uid in files:
                if file.handles == 0 and file.node.nlink == 0 and self._is_indexed(file.node):
                    self._archive.changes.purge(file.node, uid)
        except StateError as exc:
            told = ("what is closed is recorded later, %d files: %s", len(files), exc)
            log.warning(*told, extra=about(exc))
            for file, uid in files:
                self._unrecorded[file.node.ino] = (file.node, uid)
        finally:
            for file, _ in files:
                if file.handles == 0:
                    file.drop_descriptor()
                    self._files.pop(file.node.ino, None)

    def seal(self, files: Sequence[ClosedFile]) -> None:
        """What is OPEN and has a name becomes SEALED. Raises StateError, and nothing is."""
        sealed = [
            (file, uid)
            for file, uid in files
            if file.node.content_state == ContentState.OPEN and file.node.nlink
        ]
        if sealed:
            closed = [(file.node, uid) for file, uid in sealed]
            self._archive.changes.contents_sealed(closed, self._archive.guard.seal_ns())
        for file, _ in sealed:
            file.writable = False
            self._sealed(file.node)

    def _sealed(self, node: Node) -> None:
        """Nobody writes the content of `node` any more. The room that was set aside is given back
        only now, because that changes the times of the spool file, which are those of OPEN
        content; a kill before it leaves it to the next start."""
        file = self._files.get(node.ino)
        if node.content_state == ContentState.SEALED and (file is None or file.has_room_ahead):
            given_bytes = give_back(self._archive.spool.path(node.ino, node.content))
            self._budget.give_back(node.ino, node.content, given_bytes)
            if file is not None:
                file.has_room_ahead = False
        self._tell_sealed(node)

    def record(self) -> None:
        """Try again what could not be recorded. Raises StateError when it still cannot."""
        for ino, (node, uid) in list(self._unrecorded.items()):
            file = self._files.get(ino)
            if not self._is_indexed(node):
                pass  # removed meanwhile
            elif file is None and node.nlink == 0:
                self._archive.changes.purge(node, uid)
            elif node.content_state == ContentState.OPEN and (file is None or not file.is_busy):
                self._archive.changes.content_sealed(node, uid, self._archive.guard.seal_ns())
                self._sealed(node)
                if file is not None:
                    file.writable = False
            del self._unrecorded[ino]

    def _is_indexed(self, node: Node) -> bool:
        return self._archive.index.node(node.ino) is node
