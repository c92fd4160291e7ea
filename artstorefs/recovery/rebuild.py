"""The index from the elements alone: every attr.json and node record becomes its row again.

What cannot be read is reported and left where it is; what has no parent any more goes to a
directory `lost+found` of the root; of two documents with one file_id the higher revision counts.
An attr.json without a `posix` section (ArtStore's own) is left alone.
"""

import json
import logging
import os
import stat
import time
from dataclasses import dataclass, field
from uuid import UUID

from artstorefs.core import naming
from artstorefs.core.attributes import FileAttributesV2
from artstorefs.core.errors import DocumentError, ObjectAbsent, one_line
from artstorefs.core.node_record import LinkRecord, NodeRecord, NodeType
from artstorefs.core.posix_section import PosixSection
from artstorefs.core.timestamps import timestamp_ns
from artstorefs.elements.interface import Element, ObjectStat
from artstorefs.recovery.places import Places
from artstorefs.state.bulk import fill
from artstorefs.state.database import Database
from artstorefs.state.index import FIRST_INO, ROOT_INO, Copy, Name
from artstorefs.state.node import ContentState, Node
from artstorefs.state.reader import Snapshot
from artstorefs.transfer.documents import Accounts, carried_by
from artstorefs.transfer.reading import (
    REPORTED_MAX,
    FoundDocument,
    check_root,
    is_document,
    read_document,
)

log = logging.getLogger(__name__)

_TYPES = {
    NodeType.DIRECTORY: stat.S_IFDIR,
    NodeType.SYMLINK: stat.S_IFLNK,
    NodeType.FILE: stat.S_IFREG,
    NodeType.FIFO: stat.S_IFIFO,
    NodeType.SOCKET: stat.S_IFSOCK,
    NodeType.CHAR: stat.S_IFCHR,
    NodeType.BLOCK: stat.S_IFBLK,
}


@dataclass(slots=True)
class _Found:
    """The newest document of a node."""

    element: str
    stat: ObjectStat
    document: FileAttributesV2 | NodeRecord
    posix: PosixSection

    @property
    def rank(self) -> tuple[int, str, str]:
        """The highest counts: by revision, and the same one each time where that is equal."""
        return self.posix.revision, self.stat.key, self.element


@dataclass(slots=True)
class _Rebuild:
    accounts: Accounts
    root_id: UUID
    nodes: dict[UUID, _Found] = field(default_factory=dict)
    links: dict[UUID, LinkRecord] = field(default_factory=dict)
    inos: dict[UUID, int] = field(default_factory=dict)
    rows: dict[int, Node] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    unreadable: int = 0


def rebuild(
    database: Database, elements: dict[str, Element], root_id: UUID, accounts: Accounts
) -> int:
    """Fill an empty index; returns the number of nodes, 0 where the elements have none.

    Raises ElementError when an element cannot be listed whole: half an index would look like
    files deleted.
    """
    work = _Rebuild(accounts, root_id)
    for element in elements.values():
        for found in element.list():
            _read(work, element, found)
    if not work.nodes:
        return 0
    for file_id in work.nodes:
        work.inos[file_id] = ROOT_INO if file_id == root_id else FIRST_INO + len(work.inos)
    for file_id, item in work.nodes.items():
        _add_node(work, work.inos[file_id], item)
    if ROOT_INO not in work.rows:
        _make_root(work)
    names = _add_names(work)
    _count_links(work.rows, names)
    fill(database, work.rows.values(), names, work.copies)
    log.info("%d nodes rebuilt, %d documents unreadable", len(work.rows), work.unreadable)
    return len(work.rows)


# ------------------------------------------------------------------------------------- reading


def _read(work: _Rebuild, element: Element, found: ObjectStat) -> None:
    if not is_document(found.key):
        return
    try:
        document = read_document(element, found.key)
        _take(work, element, found, document)
    except ObjectAbsent:
        log.warning("%s: %s was removed while it was looked at", element.id, found.key)
    except DocumentError as exc:
        work.unreadable += 1
        if work.unreadable <= REPORTED_MAX:
            log.error("left where it is: %s", exc)


def _take(work: _Rebuild, element: Element, found: ObjectStat, document: FoundDocument) -> None:
    where = f"{element.id}: {found.key}"
    if isinstance(document, LinkRecord):
        work.links[document.file_id] = document
        return
    if document.posix is None:
        log.warning("%s", one_line(f"{where} has no posix section and is left alone"))
        return
    check_root(document, work.root_id, where)
    known = work.nodes.get(document.file_id)
    this = _Found(element.id, found, document, document.posix)
    if known is None or known.rank < this.rank:
        work.nodes[document.file_id] = this


# ---------------------------------------------------------------------------------------- rows


def _add_node(work: _Rebuild, ino: int, item: _Found) -> None:
    document, posix = item.document, item.posix
    is_file = isinstance(document, FileAttributesV2)
    kind = stat.S_IFREG if isinstance(document, FileAttributesV2) else _TYPES[document.type]
    target = None
    rdev = 0
    size = document.file_size if isinstance(document, FileAttributesV2) else 0
    if isinstance(document, NodeRecord):
        if document.target is not None:
            target = document.target_bytes
            size = len(target)
        if document.rdev is not None:
            rdev = os.makedev(document.rdev.major, document.rdev.minor)
    created_ns = _created_ns(document)
    node = Node(
        *(ino, document.file_id.bytes, kind | posix.mode_bits, posix.uid, posix.gid, 0),
        *(rdev, size, posix.atime_ns, posix.mtime_ns, posix.ctime_ns, created_ns),
        *(_creator(document), target),
        *(_text(document.custom_attributes), _text(posix.xattrs), None),
        *(posix.revision, 1 if is_file else 0),
        ContentState.ARCHIVED if is_file else ContentState.EMPTY,
        item.element,
    )
    snapshot = Snapshot(node, posix.name_bytes, posix.parent.bytes, [], [])
    node.carried = _text(carried_by(document, snapshot, work.accounts))
    work.rows[ino] = node
    work.copies.append(_copy(ino, item))


def _copy(ino: int, item: _Found) -> Copy:
    document, found = item.document, item.stat
    if isinstance(document, FileAttributesV2):
        blocks = item.posix.blocks
        return Copy(
            *(ino, item.element, naming.object_of(found.key), False, item.posix.revision, 1),
            *(document.file_size, bytes.fromhex(document.checksum)),
            bytes.fromhex(blocks) if blocks else None,
            *(found.size_bytes, found.modified_ns),
        )
    return Copy(
        *(ino, item.element, found.key, True, item.posix.revision, 0, 0, None, None),
        *(found.size_bytes, found.modified_ns),
    )


def _created_ns(document: FileAttributesV2 | NodeRecord) -> int:
    """When the node was created; a moment that 64 bits of nanoseconds cannot hold is its ctime,
    and the document keeps what it says."""
    assert document.posix is not None
    if document.created_at is not None:
        created_ns = timestamp_ns(document.created_at)
        if -(2**63) <= created_ns < 2**63:
            return created_ns
    return document.posix.ctime_ns


def _creator(document: FileAttributesV2 | NodeRecord) -> int:
    """The user id of who created the node; others may have written something else there."""
    try:
        creator = int(document.created_by_id or 0)
    except (ValueError, OverflowError):
        return 0
    return creator if 0 <= creator < 2**32 - 1 else 0


def _text(members: dict[str, object] | object) -> str | None:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")) if members else None


# --------------------------------------------------------------------------------------- names


def _add_names(work: _Rebuild) -> list[Name]:
    """Every name of the tree, from documents that may say anything about where they belong."""
    places = Places(work.rows, lambda: _add_lost_and_found(work))
    for file_id, item in work.nodes.items():
        if file_id != work.root_id:
            parent = work.inos.get(item.posix.parent)
            places.add_node(work.inos[file_id], parent, item.posix.name_bytes)
    for link_id, link in work.links.items():
        target = work.inos.get(link.target_id)
        if target is None:
            log.error("link record %s: its file is not there", link_id)
        elif work.rows[target].is_directory or link_id in work.nodes:
            log.error("link record %s: no further name of a file", link_id)
        else:
            parent = work.inos.get(link.posix.parent)
            places.add_link(link_id.bytes, target, parent, link.posix.name_bytes)
    return places.settle()


def _make_root(work: _Rebuild) -> None:
    """A root directory in place of one whose record is lost or cannot be read."""
    log.error("the record of the root directory cannot be used; another one takes its place")
    now_ns = time.time_ns()
    work.inos[work.root_id] = ROOT_INO
    work.rows[ROOT_INO] = Node(
        *(ROOT_INO, work.root_id.bytes, stat.S_IFDIR | 0o755, os.geteuid(), os.getegid(), 2, 0, 0),
        *(now_ns,) * 4,
        *(os.geteuid(), None, None, None, None, 1, 0, ContentState.EMPTY, None),
    )


def _add_lost_and_found(work: _Rebuild) -> int:
    """Make a directory for what has lost its place; its inode number."""
    root = work.rows[ROOT_INO]
    ino = FIRST_INO + len(work.inos)
    file_id = UUID(bytes=os.urandom(16), version=4)
    work.inos[file_id] = ino
    work.rows[ino] = Node(
        *(ino, file_id.bytes, stat.S_IFDIR | 0o700, root.uid, root.gid, 2, 0, 0),
        *(root.ctime_ns,) * 4,
        *(root.uid, None, None, None, None, 1, 0, ContentState.EMPTY, None),
    )
    return ino


def _count_links(rows: dict[int, Node], names: list[Name]) -> None:
    for node in rows.values():
        node.nlink = 2 if node.ino == ROOT_INO else 0
    for entry in names:
        node = rows[entry.ino]
        if node.is_directory:
            node.nlink += 2
            rows[entry.parent].nlink += 1
        else:
            node.nlink += 1
