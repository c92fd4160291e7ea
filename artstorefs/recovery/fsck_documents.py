"""One document against the index: what each says of a node, member by member.

The index is what a document is made from, so the document is made once more and the two are
compared. Left out is what may differ although nothing is wrong: when the document was written, what
the user was called then, and the time of access (SEMANTICS: TIME-2).
"""

import json
from dataclasses import dataclass
from typing import Any

from artstorefs.core import naming
from artstorefs.core.attributes import TEXTS, FileAttributesV2, parse_attributes
from artstorefs.core.errors import DocumentError
from artstorefs.core.node_record import LinkRecord, NodeRecord, NodeType, parse_record
from artstorefs.elements.interface import ObjectStat
from artstorefs.state.image import Image
from artstorefs.state.index import Copy
from artstorefs.state.node import ContentState, Node
from artstorefs.state.reader import Link, Snapshot
from artstorefs.transfer.documents import (
    Accounts,
    Content,
    attributes_document,
    link_record,
    node_record,
)
from artstorefs.transfer.observe import is_changed

Document = FileAttributesV2 | NodeRecord | LinkRecord

_FOR_PEOPLE = frozenset(
    {"updated_at", "content_type", "created_by_username", "created_by_fullname"}
)
"""Not compared: they follow the time of writing, the machine, or the release of the program."""

_MAY_BE_ABSENT = frozenset({"created_at", "created_by_id", "description", "version", "metadata"})
"""Other writers leave them out; a rewrite of ours fills them in."""

_BY_OTHERS = frozenset({*_MAY_BE_ABSENT, "custom_attributes"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What the tree of documents is checked by; `target` of a link is the file_id of its file."""

    element: str
    key: str
    file_id: bytes
    revision: int
    parent: bytes
    name: bytes
    is_directory: bool
    target: bytes | None

    @classmethod
    def of(cls, element: str, key: str, document: Document) -> "Facts":
        posix = document.posix
        assert posix is not None
        return cls(
            *(element, key, document.file_id.bytes, posix.revision),
            *(posix.parent.bytes, posix.name_bytes),
            isinstance(document, NodeRecord) and document.type is NodeType.DIRECTORY,
            document.target_id.bytes if isinstance(document, LinkRecord) else None,
        )


def parse_document(data: bytes, key: str) -> Document:
    """The document at `key`. Raises DocumentError if it is none, or one of another key."""
    if naming.is_sidecar(key):
        return parse_attributes(data, key)
    record = parse_record(data, key)
    if naming.record_key(record.file_id) != key:
        raise DocumentError(key, f"is the record of {record.file_id}")
    return record


def differences(
    document: Document, element: str, stat: ObjectStat, image: Image, accounts: Accounts
) -> list[str]:
    """What the index says otherwise, one text each; nothing for a node that is being carried."""
    if image.is_busy(document.file_id.bytes):
        return []
    if isinstance(document, LinkRecord):
        return _link_differences(document, image)
    node = image.node(document.file_id.bytes)
    if node is None:
        return ["the index does not know it"]
    if node.nlink == 0:
        return []  # removed while somebody has it open
    snapshot = image.snapshot(node)
    copies = image.copies(node.ino)
    copy = next((c for c in copies if c.element == element), None)
    if snapshot is None or copy is None:
        return ["the index has no name for it" if copy else "the index knows no copy of it here"]
    if copy.leaves_ns is not None and copy.revision < node.revision:
        return []  # of before the node was moved to another element
    if node.is_directory and copy.revision < node.revision == max(c.revision for c in copies):
        return []  # kept by an element that nothing is changed on; another has the newest
    try:
        found = _copy_differences(document, stat, node, copy)
        if not copy.is_record and node.element not in {c.element for c in copies}:
            found.append(f"element: {node.element!a}, not {element!a}")
        expected = _expected(document, snapshot, copy, accounts)
    except (DocumentError, ValueError, TypeError, KeyError, OverflowError) as exc:
        return [f"the index has what cannot be in a document: {type(exc).__name__}"]
    left_out = _BY_OTHERS if is_changed(stat, copy) else frozenset()
    found += _member_differences(expected, document.as_json(), left_out)
    return found


def is_by_others(document: Document, element: str, stat: ObjectStat, image: Image) -> bool:
    """Whether somebody else has written it since we last looked."""
    node = image.node(document.file_id.bytes)
    if node is None or image.is_busy(node.file_id):
        return False
    return any(c.element == element and is_changed(stat, c) for c in image.copies(node.ino))


def _link_differences(document: LinkRecord, image: Image) -> list[str]:
    found = image.link(document.file_id.bytes)
    if found is None:
        return ["the index does not know this link"]
    name, target, parent = found
    node = image.node(target)
    assert node is not None
    expected: dict[str, Any] = json.loads(link_record(node, Link(name, parent)))
    actual: dict[str, Any] = document.as_json()
    for members in (expected, actual):
        members["posix"].pop("revision")  # that of the file when the link was last moved
    return _member_differences(expected, actual, frozenset())


def _copy_differences(
    document: FileAttributesV2 | NodeRecord, stat: ObjectStat, node: Node, copy: Copy
) -> list[str]:
    is_record = isinstance(document, NodeRecord)
    key = stat.key if is_record else naming.object_of(stat.key)
    state = ContentState.EMPTY if is_record else ContentState.ARCHIVED
    pairs = [
        ("key", copy.key, key),
        ("kind of copy", copy.is_record, is_record),
        ("revision of the copy", copy.revision, document.posix and document.posix.revision),
        ("state of the content", node.content_state, state),
    ]
    if isinstance(document, FileAttributesV2):
        pairs += [
            ("size", node.size, document.file_size),
            ("version of the content", copy.content, node.content),
        ]
    return [f"{what}: {a!a}, not {b!a}" for what, a, b in pairs if a != b]


def _expected(
    document: FileAttributesV2 | NodeRecord, snapshot: Snapshot, copy: Copy, accounts: Accounts
) -> dict[str, Any]:
    """The members of the document as the index would have it written."""
    if isinstance(document, NodeRecord):
        made: Document = parse_record(node_record(snapshot, accounts), copy.key)
    else:
        sha256 = copy.sha256.hex() if copy.sha256 else ""
        blocks = copy.blocks.hex() if copy.blocks else None
        content = Content(copy.key, copy.size, sha256, blocks)
        made = parse_attributes(attributes_document(snapshot, content, accounts, 0), copy.key)
    return made.as_json()


def _member_differences(
    expected: dict[str, Any], actual: dict[str, Any], left_out: frozenset[str]
) -> list[str]:
    expected, actual = _flat(expected), _flat(actual)
    found = []
    for name in sorted(expected.keys() | actual.keys()):
        top = name.partition(".")[0]
        if top in _FOR_PEOPLE or top in left_out or name == "posix.atime_ns":
            continue
        ours, theirs = expected.get(name), actual.get(name)
        if theirs is None and (top in _MAY_BE_ABSENT or (name not in actual and ours is None)):
            continue
        if name == "original_filename" and str(ours).startswith(str(theirs)):
            continue  # cut short to fit
        if left_out and name not in expected:
            continue  # a key by others, which a rescan takes in
        if not _same(name, ours, theirs):
            found.append(f"{name}: {_short(ours)}, not {_short(theirs)}")
    return found


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    posix = document.get("posix") or {}
    flat = {key: value for key, value in document.items() if key != "posix"}
    return flat | {f"posix.{key}": value for key, value in posix.items()}


def _same(name: str, ours: Any, theirs: Any) -> bool:
    """As JSON: 1, 1.0 and true are three values. But for what a rewrite of ours spells otherwise
    than other writers, and earlier releases."""
    if name == "storage_path":
        return str(ours).rstrip("/") == str(theirs).rstrip("/")
    if name in TEXTS:
        ours, theirs = str(ours), str(theirs)
    return _canonical(ours) == _canonical(theirs)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
