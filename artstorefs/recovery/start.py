"""What the start does with the state directory, whatever ended the daemon before.

Each node that a crash may have left in the middle of something, and then each spool file, is looked
up in the tables of `decisions.py`; here it is done. Every decision is one transaction, or one
system call, and can be taken again: a start that is cut off is continued by the next. What is left
in the log is carried out by the transfer process. `RECOVERY.md` has the steps of every change.
"""

import logging
import os
import time
from collections.abc import Set

from artstorefs.core.crash_points import crash_point
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.passthrough import is_written
from artstorefs.recovery.boots import note_use, power_was_cut
from artstorefs.recovery.decisions import (
    FoundNode,
    FoundSpoolFile,
    NodeAction,
    SpoolAction,
    SpoolFile,
    decide_node,
    decide_spool_file,
)
from artstorefs.state.earlier_content import forget_deleted, keep_earlier
from artstorefs.state.index import Copy
from artstorefs.state.node import ContentState, Node
from artstorefs.state.room_ahead import give_back
from artstorefs.state.spool import PASSING, SYNCED, parse_spool_name, spool_name
from artstorefs.state.spool_sums import spool_sum

log = logging.getLogger(__name__)

_IN_SPOOL = (ContentState.OPEN, ContentState.SEALED)

_WITHOUT_NEW_CONTENT = (NodeAction.PURGE, NodeAction.REVERT)

_MAY_BE_A_PART = "a power cut may have taken a part of the content that took its place"


def recover(archive: Archive, handed: Set[int] = frozenset()) -> dict[tuple[int, int], int]:
    """Bring index and spool in step; returns the bytes of each spool file that is kept, by inode
    number and version. `handed`: the inodes that the daemon before has handed us open."""
    index = archive.index
    unsynced_may_be_lost = power_was_cut(archive)
    for ino, changed_ns in archive.changes.touches.untold():
        directory = index.node(ino)
        if directory is not None:
            archive.changes.entry_came(directory, changed_ns)
    unfinished = index.nodes_without_names()
    for state in _IN_SPOOL:
        unfinished += index.inos_in_state(state)
    for ino in unfinished:
        node = index.node(ino)
        if node is not None:
            _recover_node(archive, node, unsynced_may_be_lost, ino in handed)
    if unsynced_may_be_lost:
        forget_deleted(archive.database)
    crash_point("start.nodes_recovered")
    used = _recover_spool(archive)
    if not archive.read_only:
        archive.outcomes.want_copies()
        archive.outcomes.tell_outdated()
    note_use(archive)
    return used


def _recover_node(archive: Archive, node: Node, unsynced_may_be_lost: bool, handed: bool) -> None:
    stat = archive.spool.stat(node.ino, node.content)
    size = stat.st_size if stat else 0
    copies = [copy for copy in archive.index.copies(node.ino) if not copy.is_record]
    earlier = copies
    if stat is not None and (size or stat.st_mode & SYNCED):
        copies = []  # it was on the disk, by sync(2) perhaps, of which nobody tells us
    spool_file = SpoolFile.ABSENT
    if stat is not None:
        spool_file = SpoolFile.WHOLE if size == node.size else SpoolFile.OTHER
        if node.content_state == ContentState.OPEN and _is_written(archive, node):
            spool_file = SpoolFile.WRITTEN
    state = ContentState(node.content_state)
    action = decide_node(FoundNode(node.nlink > 0, state, spool_file, bool(copies), handed))
    is_synced = stat is not None and stat.st_mode & SYNCED
    if unsynced_may_be_lost and not is_synced and action not in _WITHOUT_NEW_CONTENT:
        _keep_earlier(archive, node, earlier)
    stored = [copy for copy in earlier if copy.content == node.content]
    if stored and action in (NodeAction.REVERT, NodeAction.SHORTEN):
        told = archive.about(node, element=stored[0].element)
        name = _path(archive, node)
        log.info("%s: element %s has its content", name, stored[0].element, extra=told)
        archive.changes.content_found(node, stored[0])
    elif action is NodeAction.PURGE:
        archive.changes.purge(node, node.uid)
    elif action is NodeAction.REVERT:
        reason = "its last content did not survive; the one before it is back"
        log.error("%s: %s", _path(archive, node), reason, extra=archive.about(node))
        newest = max(copies, key=lambda copy: copy.content)
        archive.changes.content_reverted(node, newest, time.time_ns())
    elif action is not NodeAction.KEEP:
        if action is NodeAction.SHORTEN:
            path = _path(archive, node)
            line = ("%s: %d bytes survived, %d were recorded", path, size, node.size)
            log.error(*line, extra=archive.about(node))
        elif stat is not None:
            node.mtime_ns = stat.st_mtime_ns
            node.ctime_ns = max(node.ctime_ns, stat.st_ctime_ns)
        node.size = size
        archive.changes.content_sealed(node, node.uid, archive.guard.seal_ns())
    crash_point("start.node_recovered")


def _keep_earlier(archive: Archive, node: Node, copies: list[Copy]) -> None:
    earlier = [copy for copy in copies if copy.content != node.content]
    is_summed = spool_sum(archive.database.execute, node.ino, node.content) is not None
    if not earlier or is_summed:  # what is summed was brought to the disk before
        return
    names = ", ".join(copy.element for copy in earlier)
    log.warning(
        "%s: a power cut may have taken a part of its last content; the one before it will be in"
        " the quarantine of element %s",
        *(_path(archive, node), names),
        extra=archive.about(node),
    )
    keep_earlier(archive.database, node.ino, earlier, _MAY_BE_A_PART, time.time_ns())


def _is_written(archive: Archive, node: Node) -> bool:
    descriptor = archive.spool.open(node.ino, node.content, write=False)
    try:
        return is_written(descriptor)
    finally:
        os.close(descriptor)


def _path(archive: Archive, node: Node) -> str:
    return archive.index.path(node.ino).decode(errors="replace")


def _recover_spool(archive: Archive) -> dict[tuple[int, int], int]:
    to_be_removed = {name for _, removal in archive.log.removals() for name in removal.spool}
    used: dict[tuple[int, int], int] = {}
    for name in archive.spool.names():
        if name.startswith(PASSING):
            archive.spool.remove_temporary(name)
            continue
        try:
            ino, version = parse_spool_name(name)
        except ValueError:
            continue
        node = archive.index.node(ino)
        stat = archive.spool.stat(ino, version)
        if stat is None:
            continue
        is_content = (
            node is not None
            and node.content_state in _IN_SPOOL
            and spool_name(node.ino, node.content) == name
        )
        is_ahead = node is not None and version > node.content
        action = decide_spool_file(FoundSpoolFile(is_content, name in to_be_removed, is_ahead))
        if action is SpoolAction.KEEP:
            used[ino, version] = stat.st_blocks * 512
            if node is not None and node.content_state == ContentState.SEALED:
                used[ino, version] -= give_back(archive.spool.path(ino, version))
        elif action is SpoolAction.REMOVE:
            archive.spool.remove(name)
        else:
            kept = archive.spool.put_aside(name)
            log.warning("spool file %s belongs to no file; kept as %s", name, kept)
        crash_point("start.spool_file_recovered")
    return used
