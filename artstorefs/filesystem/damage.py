"""What reading has found damaged: a mark on each file, until its content or the mount ends.

The marks are in memory only. What they say is on the elements, where the next read or a check finds
it again, and the log of the daemon has a line for each.
"""

import logging
import time
from dataclasses import dataclass

from artstorefs.core.log_fields import about
from artstorefs.state.node import Node

log = logging.getLogger(__name__)

MARKS_MAX = 10_000
"""Files that are remembered; a disk that loses more than that is told about by the log."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A damaged file: the first thing that was found on the content of version `content`."""

    file_id: bytes
    content: int
    error: str
    since_ns: int
    place: tuple[str, str]
    """Element and key of the copy; of content in the spool, its path."""


class Damage:
    """The marks by inode number."""

    def __init__(self) -> None:
        self._marks: dict[int, Mark] = {}

    def found(self, node: Node, error: str, place: tuple[str, str]) -> None:
        """Log what is wrong (element, key and part) with the content of `node`, and mark it."""
        element, key = place
        if element:
            told = about(file_id=node.file_id, element=element, key=key)
        else:
            told = about(file_id=node.file_id, path=key)
        log.error("damaged: %s", error, extra=told)
        if self.error(node) is None:
            self._marks.pop(node.ino, None)
            if len(self._marks) >= MARKS_MAX:
                del self._marks[next(iter(self._marks))]
            now_ns = time.time_ns()
            self._marks[node.ino] = Mark(node.file_id, node.content, error, now_ns, place)

    def stored_again(self, ino: int, element: str, key: str) -> None:
        """An element has the content, verified, under this key: it may be in place of a bad one."""
        mark = self._marks.get(ino)
        if mark is not None and mark.place[0] == element and mark.place[1] != key:
            del self._marks[ino]

    def error(self, node: Node) -> str | None:
        """What is wrong with the current content of `node`, if anything is known."""
        mark = self._marks.get(node.ino)
        return mark.error if mark is not None and mark.content == node.content else None

    def marks(self) -> dict[int, Mark]:
        """All marks, the oldest first; of files with other content by now as well."""
        return self._marks
