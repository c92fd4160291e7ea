"""A daemon with a bug in it, for tests: `lookup` of one name fails with what nobody foresaw.

Run in the place of the command line: `daemon_with_a_bug.py mount -f CONFIGURATION MOUNTPOINT`.
"""

import sys

from artstorefs.filesystem.tree import Tree
from artstorefs.state.node import Node
from artstorefs_tools.command_line import main

PLANTED = b"the bug is here"

_lookup = Tree.lookup


def _lookup_with_a_bug(self: Tree, parent: int, name: bytes) -> Node | None:
    if name == PLANTED:
        raise ZeroDivisionError("planted")
    return _lookup(self, parent, name)


if __name__ == "__main__":
    Tree.lookup = _lookup_with_a_bug  # type: ignore[method-assign]
    sys.exit(main())
