"""The index from the elements alone: every attr.json and node record becomes its row again.

What cannot be read is reported and left where it is; what has no parent any more goes to a
directory `lost+found` of the root; of two documents with one file_id the higher revision counts.
An attr.json without a `posix` section (ArtStore's own) is left alone.
"""

import json
import logging
import os
import stat
from dataclasses import dataclass, field
from uuid import UUID

from artstorefs.core import naming
from artstorefs.core.attributes import ATTR_JSON_LIMIT_BYTES, FileAttributesV2, parse_attributes
from artstorefs.core.errors import DocumentError
from artstorefs.core.node_record import (
    RECORD_LIMIT_BYTES,
    LinkRecord,
    NodeRecord,
    NodeType,
    parse_record,
)
from artstorefs.core.posix_section import PosixSection
from artstorefs.core.timestamps import timestamp_ns
from artstorefs.elements.interface import Element, ObjectStat
from artstorefs.state.bulk import fill
from artstorefs.state.database import Database
from artstorefs.state.index import FIRST_INO, FIRST_LINK_ID, ROOT_INO, Copy, Name
from artstorefs.state.node import ContentState, Node
from artstorefs.state.reader import Snapshot
from artstorefs.transfer.documents import Accounts, carried_by

log = logging.getLogger(__name__)

LOST_AND_FOUND = b"lost+found"

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


@dataclass(slots=True)
class _Rebuild:
    accounts: Accounts
    nodes: dict[UUID, _Found] = field(default_factory=dict)
    links: dict[UUID, LinkRecord] = field(default_factory=dict)
    inos: dict[UUID, int] = field(default_factory=dict)
    rows: dict[int, Node] = field(default_factory=dict)
    names: list[Name] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    taken: set[tuple[int, bytes]] = field(default_factory=set)
    unreadable: int = 0


def rebuild(
    database: Database, elements: dict[str, Element], root_id: UUID, accounts: Accounts
) -> int:
    """Fill an empty index; returns the number of nodes, 0 where the elements have none.

    Raises ElementError when an element cannot be listed whole: half an index would look like
    files deleted.
    """
    work = _Rebuild(accounts)
    for element in elements.values():
        for found in element.list():
            _read(work, element, found)
    if root_id not in work.nodes:
        return 0
    for file_id in work.nodes:
        work.inos[file_id] = ROOT_INO if file_id == root_id else FIRST_INO + len(work.inos)
    for file_id, item in work.nodes.items():
        _add_node(work, work.inos[file_id], item)
    _add_names(work, root_id)
    _count_links(work)
    fill(database, work.rows.values(), work.names, work.copies)
    log.info("%d nodes rebuilt, %d documents unreadable", len(work.rows), work.unreadable)
    return len(work.rows)


# ------------------------------------------------------------------------------------- reading


def _read(work: _Rebuild, element: Element, found: ObjectStat) -> None:
    where = f"{element.id}: {found.key}"
    document: FileAttributesV2 | NodeRecord | LinkRecord
    try:
        if naming.is_sidecar(found.key):
            data = element.read(found.key, 0, ATTR_JSON_LIMIT_BYTES + 1)
            document = parse_attributes(data, where)
        elif naming.is_record(found.key):
            document = parse_record(element.read(found.key, 0, RECORD_LIMIT_BYTES + 1), where)
        else:
            return
    except DocumentError as exc:
        work.unreadable += 1
        log.error("left where it is: %s", exc)
        return
    if isinstance(document, LinkRecord):
        work.links[document.file_id] = document
        return
    if document.posix is None:
        log.warning("%s has no posix section and is left alone", where)
        return
    known = work.nodes.get(document.file_id)
    if known is None or known.posix.revision < document.posix.revision:
        work.nodes[document.file_id] = _Found(element.id, found, document, document.posix)


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
    created_ns = timestamp_ns(document.created_at) if document.created_at else posix.ctime_ns
    node = Node(
        *(ino, document.file_id.bytes, kind | posix.mode_bits, posix.uid, posix.gid, 0),
        *(rdev, size, posix.atime_ns, posix.mtime_ns, posix.ctime_ns, created_ns),
        *(_creator(document), target),
        *(_text(document.custom_attributes), _text(posix.xattrs), None),
        *(posix.revision, 1 if is_file else 0),
        ContentState.ARCHIVED if is_file else ContentState.EMPTY,
        item.element,
    )
    if isinstance(document, FileAttributesV2):
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


def _creator(document: FileAttributesV2 | NodeRecord) -> int:
    """The user id of who created the node; others may have written something else there."""
    try:
        return int(document.created_by_id or 0)
    except ValueError:
        return 0


def _text(members: dict[str, object] | object) -> str | None:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")) if members else None


# --------------------------------------------------------------------------------------- names


def _add_names(work: _Rebuild, root_id: UUID) -> None:
    for file_id, item in work.nodes.items():
        if file_id != root_id:
            ino = work.inos[file_id]
            parent = work.inos.get(item.posix.parent)
            _add_name(work, ino, ino, parent, item.posix.name_bytes, None)
    number = FIRST_LINK_ID
    for link_id, link in work.links.items():
        target = work.inos.get(link.target_id)
        if target is None:
            log.error("link record %s: its file is not there", link_id)
            continue
        number += 1
        parent = work.inos.get(link.posix.parent)
        _add_name(work, number, target, parent, link.posix.name_bytes, link_id.bytes)
    _detach_cycles(work)


def _add_name(
    work: _Rebuild,
    identifier: int,
    ino: int,
    parent: int | None,
    name: bytes,
    link_id: bytes | None,
) -> None:
    if parent is None or not work.rows[parent].is_directory:
        parent = _lost_and_found(work)
        log.error("inode %d has no parent any more; it is in lost+found", ino)
    if (parent, name) in work.taken:
        name = _distinct(name, work.rows[ino].file_id)
    work.taken.add((parent, name))
    work.names.append(Name(identifier, parent, name, ino, link_id))


def _distinct(name: bytes, file_id: bytes) -> bytes:
    """`NAME (first 8 of file_id).EXT`, for the second of two files of one name."""
    stem, extension = os.path.splitext(name)
    mark = f" ({UUID(bytes=file_id).hex[:8]})".encode()
    return stem[: 255 - len(mark) - len(extension)] + mark + extension


def _lost_and_found(work: _Rebuild) -> int:
    """Inode number of the directory, which is made when it is needed first."""
    for entry in work.names:
        if entry.parent == ROOT_INO and entry.name == LOST_AND_FOUND:
            return entry.ino
    root = work.rows[ROOT_INO]
    ino = FIRST_INO + len(work.inos)
    file_id = UUID(bytes=os.urandom(16), version=4)
    work.inos[file_id] = ino
    work.rows[ino] = Node(
        *(ino, file_id.bytes, stat.S_IFDIR | 0o700, root.uid, root.gid, 2, 0, 0),
        *(root.ctime_ns,) * 4,
        *(root.uid, None, None, None, None, 1, 0, ContentState.EMPTY, None),
    )
    work.taken.add((ROOT_INO, LOST_AND_FOUND))
    work.names.append(Name(ino, ROOT_INO, LOST_AND_FOUND, ino, None))
    return ino


def _detach_cycles(work: _Rebuild) -> None:
    """A directory that is its own ancestor (documents of a hostile hand) goes to lost+found."""
    parents = {entry.ino: entry.parent for entry in work.names if entry.link_id is None}
    good = {ROOT_INO}
    for ino in list(parents):
        chain: set[int] = set()
        at = ino
        while at not in good and at not in chain:
            chain.add(at)
            at = parents[at]
        if at not in good:
            lost = _lost_and_found(work)
            parents[at] = lost
            parents.setdefault(lost, ROOT_INO)
            work.names = [
                Name(n.id, lost, n.name, n.ino, None) if n.id == at else n for n in work.names
            ]
            log.error("inode %d was its own ancestor; it is in lost+found", at)
        good.update(chain)


def _count_links(work: _Rebuild) -> None:
    for node in work.rows.values():
        node.nlink = 2 if node.ino == ROOT_INO else 0
    for entry in work.names:
        node = work.rows[entry.ino]
        if node.is_directory:
            node.nlink += 2
            work.rows[entry.parent].nlink += 1
        else:
            node.nlink += 1
