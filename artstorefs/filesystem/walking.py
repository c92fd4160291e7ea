"""Files below a directory, as the index has them, for orders about whole trees."""

import stat
from collections.abc import AsyncGenerator

import trio

from artstorefs.state.index import Index
from artstorefs.state.node import Node

PAGE = 256
"""Directory entries that are looked at before others have their turn."""


async def files_below(index: Index, node: Node) -> AsyncGenerator[Node, None]:
    """Regular files: the node itself, or all below a directory. A file with several names comes as
    often. Suspends often."""
    if not stat.S_ISDIR(node.mode):
        if stat.S_ISREG(node.mode):
            yield node
        return
    directories = [node.ino]
    while directories:
        parent, after = directories.pop(), 0
        while entries := index.children(parent, after, PAGE):
            await trio.lowlevel.checkpoint()
            after = entries[-1][0]
            for _, _, child in entries:
                if stat.S_ISDIR(child.mode):
                    directories.append(child.ino)
                elif stat.S_ISREG(child.mode):
                    yield child
