"""Whether what a node has fits an attr.json, asked before a change of it is recorded."""

import json

from artstorefs.core.room import check_room
from artstorefs.state.index import Index
from artstorefs.state.node import Node


def require_room(index: Index, node: Node, custom: str | None, xattrs: str | None) -> None:
    """Raise DocumentTooLarge (ENOSPC) unless `custom` and `xattrs`, as they would become, fit, with
    what others wrote, whatever else becomes of the node."""
    entry = index.first_name(node.ino)
    members = [json.loads(text or "{}") for text in (custom, xattrs, node.carried)]
    check_room(members[0], members[1], members[2], entry.name if entry else b"")
