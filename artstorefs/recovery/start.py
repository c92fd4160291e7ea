"""What the start does with the state directory, whatever ended the daemon before.

content OPEN, spool file there (killed while a file was open)
    sealed, with the size and time of the spool file
content OPEN, spool file open for writing (by a program that has outlived the daemon)
    stays OPEN until that program lets go of it; see filesystem/passthrough.py
content OPEN, no spool file (created or cut to 0, and not written)
    empty
content SEALED, spool file of another size (power cut before an fsync)
    what an element has is the content again; without that, what the spool has
node without a name (killed while a deleted file was open)
    deleted
spool file of content that was never begun (killed before the record of it)
    removed: nobody was told of anything in it
spool file that no node means
    kept aside in `spool/lost` and reported, unless a removal in the log names it

Every step can be repeated; what is left in the log is carried out by the transfer process.
"""

import logging
import os
import time

from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.passthrough import is_written
from artstorefs.state.node import ContentState, Node
from artstorefs.state.spool import parse_spool_name, spool_name

log = logging.getLogger(__name__)


def recover(archive: Archive) -> int:
    """Bring index and spool in step; returns the bytes that the spool holds."""
    for ino in archive.index.nodes_without_names():
        node = archive.index.node(ino)
        if node is not None:
            archive.changes.purge(node, node.uid)
    for ino in archive.index.inos_in_state(ContentState.OPEN):
        node = archive.index.node(ino)
        if node is not None and not _is_written(archive, node):
            _seal(archive, node)
    for ino in archive.index.inos_in_state(ContentState.SEALED):
        node = archive.index.node(ino)
        if node is not None:
            _check_sealed(archive, node)
    return _sort_spool(archive)


def _is_written(archive: Archive, node: Node) -> bool:
    try:
        descriptor = archive.spool.open(node.ino, node.content, write=False)
    except FileNotFoundError:
        return False
    try:
        return is_written(descriptor)
    finally:
        os.close(descriptor)


def _seal(archive: Archive, node: Node) -> None:
    found = archive.spool.stat(node.ino, node.content)
    node.size = found.st_size if found else 0
    if found is not None:
        node.mtime_ns = found.st_mtime_ns
        node.ctime_ns = max(node.ctime_ns, found.st_ctime_ns)
    archive.changes.content_sealed(node, node.uid)


def _check_sealed(archive: Archive, node: Node) -> None:
    found = archive.spool.stat(node.ino, node.content)
    size = found.st_size if found else 0
    if found is not None and size == node.size:
        return
    copies = [copy for copy in archive.index.copies(node.ino) if not copy.is_record]
    path = archive.index.path(node.ino).decode(errors="replace")
    if copies:
        newest = max(copies, key=lambda copy: copy.content)
        log.error("%s: its last content did not survive; the one before it is back", path)
        archive.changes.content_reverted(node, newest, time.time_ns())
        return
    log.error("%s: %d of %d bytes survived", path, size, node.size)
    node.size = size
    archive.changes.content_sealed(node, node.uid)


def _sort_spool(archive: Archive) -> int:
    named = {name for _, removal in archive.log.removals() for name in removal.spool}
    used = 0
    for name in archive.spool.names():
        try:
            ino, version = parse_spool_name(name)
        except ValueError:
            continue
        node = archive.index.node(ino)
        found = archive.spool.stat(ino, version)
        is_content = node is not None and (
            node.content_state in (ContentState.OPEN, ContentState.SEALED)
            and spool_name(node.ino, node.content) == name
        )
        if is_content or name in named:
            used += found.st_blocks * 512 if found else 0
        elif node is not None and version > node.content:
            archive.spool.remove(name)  # made for content that was never begun
        elif found is not None:
            kept = archive.spool.put_aside(name)
            log.warning("spool file %s belongs to no file; kept as %s", name, kept)
    return used
