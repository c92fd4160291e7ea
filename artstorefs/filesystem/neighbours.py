"""Which small files to fetch ahead: those that follow the ones that a program opens in order.

Copying a tree out of a bucket opens one small file after the other, and waits for an answer of the
server each time. A directory is read in its own order by `cp -r`, `tar`, `find` and a viewer of
pictures, and nearly so by what sorts names; so whoever has opened a file and soon its follower will
want the ones after that. How many grows while files that were fetched ahead are opened, and falls
to none when files are opened here and there, so that these cost what they are.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from artstorefs.state.cache import charged_bytes
from artstorefs.state.index import Index
from artstorefs.state.node import ContentState, Node

SMALL_BYTES: Final = 1 << 20
"""A larger file takes longer to arrive than to ask for; it is read ahead by itself."""

FIRST_WINDOW: Final = 4
LAST_WINDOW: Final = 32
"""Files ahead. At 20 ms for an answer, 32 of them bring 1,600 files a second."""

NEAR: Final = 8
"""A file that follows the last one by so many names at most is opened in order: what was not wanted
in between had not changed, perhaps, or is of another kind."""

DIRECTORIES: Final = 64
"""In which files are being opened in order at a time."""


@dataclass(slots=True)
class _Walk:
    """Through one directory; entries are known by the id of their name."""

    near: set[int]
    """Those that follow the one opened last."""
    window: int = 0
    ahead: dict[int, int] = field(default_factory=dict)
    """Those that were fetched ahead and not opened yet, with what each counts in the cache."""
    told: int = 0
    """The last of which somebody was told."""


class Neighbours:
    """Of one mount."""

    def __init__(
        self, index: Index, fetch_ahead: Callable[[Iterable[Node]], None], limit_bytes: int
    ) -> None:
        """`fetch_ahead` is told of files that will be wanted soon, each once. `limit_bytes`: as
        much of the cache as may be waiting to be opened; more would evict itself."""
        self._index = index
        self._fetch_ahead = fetch_ahead
        self._limit_bytes = limit_bytes
        self._ahead_bytes = 0
        self._walks: OrderedDict[int, _Walk] = OrderedDict()

    def opened(self, node: Node) -> None:
        """A file was opened that is on an element over a network."""
        name = self._index.first_name(node.ino)
        if name is None:
            return
        walk = self._walks.get(name.parent)
        if walk is None:
            self._walks[name.parent] = _Walk(self._following(name.parent, name.id))
            if len(self._walks) > DIRECTORIES:
                _, oldest = self._walks.popitem(last=False)
                self._forget(oldest)
            return
        self._walks.move_to_end(name.parent)
        if name.id in walk.ahead:
            self._ahead_bytes -= walk.ahead.pop(name.id)
            walk.window = min(2 * walk.window, LAST_WINDOW)
        elif name.id in walk.near:
            walk.window = max(walk.window, FIRST_WINDOW)
        else:
            walk.window, walk.told = 0, 0
            self._forget(walk)
        if walk.window == 0:
            walk.near = self._following(name.parent, name.id)
        elif len(walk.ahead) <= walk.window // 2:
            self._go_ahead(walk, name.parent, name.id)

    def _forget(self, walk: _Walk) -> None:
        self._ahead_bytes -= sum(walk.ahead.values())
        walk.ahead.clear()

    def _following(self, parent: int, name_id: int) -> set[int]:
        return {found[0] for found in self._index.children(parent, name_id, NEAR)}

    def _go_ahead(self, walk: _Walk, parent: int, name_id: int) -> None:
        nodes = []
        for entry_id, _, node in self._index.children(parent, max(name_id, walk.told), walk.window):
            if _is_wanted(node):
                size_bytes = charged_bytes(node.size)
                if self._ahead_bytes + size_bytes > self._limit_bytes:
                    break
                self._ahead_bytes += size_bytes
                walk.ahead[entry_id] = size_bytes
                nodes.append(node)
            walk.told = entry_id
        walk.near = self._following(parent, name_id)
        self._fetch_ahead(nodes)


def _is_wanted(node: Node) -> bool:
    return node.content_state == ContentState.ARCHIVED and node.size <= SMALL_BYTES
