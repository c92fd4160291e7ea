"""What was closed while the state directory could not record it, on a full disk for example.

Such a file stays OPEN in the index, or without a name in it; nothing is lost, and every second it
is tried again. A file that somebody opens again meanwhile is left to the next close.
"""

from collections.abc import Mapping

from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.open_file import OpenFile
from artstorefs.state.node import ContentState, Node


class Unfinished:
    """Holds the nodes, whose size and times the index does not know yet."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._nodes: dict[int, tuple[Node, int]] = {}

    def add(self, node: Node, uid: int) -> None:
        self._nodes[node.ino] = (node, uid)

    def finish(self, files: Mapping[int, OpenFile]) -> None:
        """Seal, and let go of, all that is not open. Raises StateError when it still cannot."""
        for ino, (node, uid) in list(self._nodes.items()):
            file = files.get(ino)
            if self._archive.index.node(ino) is not node:
                pass  # removed meanwhile
            elif file is None and node.nlink == 0:
                self._archive.changes.purge(node, uid)
            elif node.content_state == ContentState.OPEN and (file is None or not file.is_busy):
                self._archive.changes.content_sealed(node, uid)
                if file is not None:
                    file.writable = False
            del self._nodes[ino]
