"""Nodes that were found on an element while the tree is in use: one transaction for some of them.

The elements have nothing to be told of that, unless more copies are wanted: a file is as its
attr.json says, and a directory that was made up for it is told of once something in it is changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from artstorefs.core.crash_points import crash_point
from artstorefs.state.database import Database
from artstorefs.state.index import Copy
from artstorefs.state.log import Log
from artstorefs.state.node import Node
from artstorefs.state.node_transaction import NodeTransaction
from artstorefs.state.row_sums import row_sum
from artstorefs.state.rows import insert_name, insert_node, put_copy

_UPDATE_DIRECTORY = "UPDATE nodes SET mtime_ns = ?, ctime_ns = ?, nlink = ?, sum = ? WHERE ino = ?"


@dataclass(frozen=True, slots=True)
class Entry:
    """A node for a name that is free. `copy` None: a directory that no element knows."""

    node: Node
    parent: Node
    name: bytes
    copy: Copy | None


def take_in(
    database: Database, log: Log, entries: Sequence[Entry], now_ns: int, *, wants_copies: bool
) -> None:
    """Record them, directories before what is in them. Raises StateError, and nothing has changed.

    A made-up directory changes with what comes into it. One that the elements know keeps its times,
    which they have too: this is no change that anybody on the mount has made.
    """
    database.require_room()
    execute = database.execute
    parents = {entry.parent.ino: entry.parent for entry in entries}
    with NodeTransaction(database.transaction(), log, tuple(parents.values())):
        made_up = [entry.node.ino for entry in entries if entry.copy is None]
        if made_up:
            log.made_up(made_up)
        for entry in entries:
            ino = entry.node.ino
            insert_node(execute, entry.node)
            insert_name(execute, ino, entry.parent.ino, entry.name, ino, None)
            entry.parent.nlink += entry.node.is_directory
            if entry.copy is not None:
                put_copy(execute, entry.copy)
                if wants_copies:
                    log.node_changed(ino, entry.node.file_id, created=False, uid=entry.node.uid)
        for parent in parents.values():
            if log.is_made_up(parent.ino):
                parent.mtime_ns = parent.ctime_ns = now_ns
            times = (parent.mtime_ns, parent.ctime_ns, parent.nlink)
            execute(_UPDATE_DIRECTORY, (*times, row_sum(parent.values()), parent.ino))
    crash_point("taken_in.committed")
