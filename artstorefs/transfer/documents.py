"""attr.json, node records and link records of a node, made from its row in the index.

Keys that others wrote (`Node.carried`) come back where they were; of the ArtStore fields only those
that state a fact about the object follow the node: names, size, type, checksum, time of change.
"""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from pydantic import ValidationError

from artstorefs.core import naming
from artstorefs.core.attributes import NEVER_NULL, TEXTS, FileAttributesV2, render
from artstorefs.core.document import Document, validated
from artstorefs.core.json_text import name_to_json
from artstorefs.core.node_record import LinkRecord, NodeRecord, render_record
from artstorefs.core.posix_section import format_mode
from artstorefs.core.timestamps import format_timestamp
from artstorefs.state.node import Node
from artstorefs.state.reader import Link, Snapshot

_FACTS = frozenset(
    {
        *("schema_version", "file_id", "original_filename", "storage_filename", "file_size"),
        *("storage_path", "checksum", "updated_at", "custom_attributes", "posix"),
    }
)
"""Fields of attr.json that state how the file and its object are: they follow the node."""

_RECORD_FACTS = frozenset(
    {
        *("record_version", "file_id", "type", "target", "rdev", "target_id"),
        *("custom_attributes", "posix"),
    }
)
"""The same of a node record."""

_FIRST_SECOND = -62_135_596_800  # 0001-01-01
_LAST_SECOND = 253_402_300_799  # 9999-12-31

RECORD_TYPES = {
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFREG: "file",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the password database of this machine knows them."""

    username: str
    fullname: str


Accounts = Callable[[int], Account]

M = TypeVar("M", bound=Document)


@dataclass(frozen=True, slots=True)
class Content:
    """Facts about an object, established when it was stored."""

    key: str
    size: int
    sha256: str
    blocks: str | None


def attributes_document(
    snapshot: Snapshot, content: Content, accounts: Accounts, updated_ns: int
) -> bytes:
    """attr.json of a file whose object is `content`. Raises DocumentError if it cannot be."""
    node = snapshot.node
    carried: dict[str, Any] = json.loads(node.carried) if node.carried else {}
    carried_posix = carried.pop("posix", {})
    directory, slash, storage_filename = content.key.rpartition("/")
    fields: dict[str, Any] = {
        "schema_version": "2.0",
        "file_id": UUID(bytes=node.file_id),
        "original_filename": snapshot.name.decode(errors="replace"),
        "storage_filename": storage_filename,
        "file_size": content.size,
        **_for_people(snapshot, accounts),
        "updated_at": _timestamp(updated_ns),
        "storage_path": directory + slash,
        "checksum": content.sha256,
        "custom_attributes": json.loads(node.custom) if node.custom else {},
        **{key: value for key, value in _as_v2(carried).items() if key not in _FACTS},
        "posix": _posix_section(snapshot, carried_posix, content.blocks),
    }
    return render(_model(FileAttributesV2, fields, carried, f"attr.json of {content.key}"))


def _as_v2(carried: dict[str, Any]) -> dict[str, Any]:
    """What others wrote, as v2.0 has it for whoever reads strictly: text where they have numbers,
    and of what nobody may leave out as null ours instead."""
    texts = {key: str(carried[key]) for key in TEXTS if type(carried.get(key)) in (int, float)}
    return {
        key: texts.get(key, value)
        for key, value in carried.items()
        if value is not None or key not in NEVER_NULL
    }


def carried_by(
    document: FileAttributesV2 | NodeRecord, snapshot: Snapshot, accounts: Accounts
) -> dict[str, Any]:
    """What in a document others have written and a rewrite of ours has to keep."""
    is_record = isinstance(document, NodeRecord)
    facts = _RECORD_FACTS if is_record else _FACTS
    ours = (_creation if is_record else _for_people)(snapshot, accounts)
    carried = {
        key: value
        for key, value in document.as_json().items()
        if key not in facts and (key not in ours or ours[key] != value)
    }
    unknown = document.posix.unknown() if document.posix else {}
    if unknown:
        carried["posix"] = unknown
    if isinstance(document, NodeRecord) and document.rdev and document.rdev.unknown():
        carried["rdev"] = document.rdev.unknown()
    return carried


def _model(model: type[M], fields: dict[str, Any], carried: dict[str, Any], where: str) -> M:
    """`fields` as a document. A key that others wrote into the other kind of document, where it
    means nothing, and that means something else in this one, is left out of this one."""
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        strange = {str(error["loc"][0]) for error in exc.errors() if error["loc"]} & carried.keys()
    kept = {key: value for key, value in fields.items() if key not in strange or key == "posix"}
    return validated(model, kept, where)


def _for_people(snapshot: Snapshot, accounts: Accounts) -> dict[str, Any]:
    """Fields of attr.json that anybody may fill in otherwise, as we do at first."""
    return {
        "content_type": naming.content_type(snapshot.name),
        **_creation(snapshot, accounts),
        "created_by_fullname": accounts(snapshot.node.creator).fullname,
        "description": "",
        "version": "1.0",
        "metadata": {},
    }


def _creation(snapshot: Snapshot, accounts: Accounts) -> dict[str, Any]:
    """The same of a node record."""
    node = snapshot.node
    return {
        "created_at": _timestamp(node.created_ns),
        "created_by_id": str(node.creator),
        "created_by_username": accounts(node.creator).username,
    }


def node_record(snapshot: Snapshot, accounts: Accounts) -> bytes:
    """Node record of a node that has no object. Raises DocumentError if it cannot be."""
    node = snapshot.node
    carried: dict[str, Any] = json.loads(node.carried) if node.carried else {}
    carried_posix = carried.pop("posix", {})
    kind = RECORD_TYPES[stat.S_IFMT(node.mode)]
    fields: dict[str, Any] = {
        "record_version": "1.0",
        "file_id": UUID(bytes=node.file_id),
        "type": kind,
        **_creation(snapshot, accounts),
        "custom_attributes": json.loads(node.custom) if node.custom else {},
        **{key: value for key, value in carried.items() if key not in _RECORD_FACTS},
        "posix": _posix_section(snapshot, carried_posix),
    }
    if node.target is not None:
        fields["target"] = name_to_json(node.target)
    if kind in ("char", "block"):
        device = {"major": os.major(node.rdev), "minor": os.minor(node.rdev)}
        more = carried.get("rdev")
        fields["rdev"] = {**more, **device} if isinstance(more, dict) else device
    where = f"node record {UUID(bytes=node.file_id)}"
    return render_record(_model(NodeRecord, fields, carried, where))


def link_record(node: Node, link: Link, before: LinkRecord | None = None) -> bytes:
    """Record of a further hard link; what `before`, the record there is, has besides is kept."""
    assert link.name.link_id is not None
    fields = {
        **({} if before is None else before.as_json()),
        "record_version": "1.0",
        "file_id": UUID(bytes=link.name.link_id),
        "type": "link",
        "target_id": UUID(bytes=node.file_id),
        "posix": {
            **({} if before is None else before.posix.unknown()),
            "revision": node.revision,
            "parent": UUID(bytes=link.parent_file_id),
            "name": name_to_json(link.name.name),
        },
    }
    return render_record(LinkRecord.model_validate(fields))


def _timestamp(time_ns: int) -> str:
    """As ArtStore writes times: ISO 8601, UTC, microseconds. A time outside of what a calendar
    of four-digit years can say becomes the nearest one; posix has the exact times."""
    seconds = min(max(time_ns // 10**9, _FIRST_SECOND), _LAST_SECOND)
    moment = datetime.fromtimestamp(seconds, UTC)
    return format_timestamp(moment.replace(microsecond=time_ns % 10**9 // 1000))


def _posix_section(
    snapshot: Snapshot, more: dict[str, Any], blocks: str | None = None
) -> dict[str, Any]:
    node = snapshot.node
    return {
        "revision": node.revision,
        "parent": UUID(bytes=snapshot.parent_file_id),
        "name": name_to_json(snapshot.name),
        "mode": format_mode(stat.S_IMODE(node.mode)),
        "uid": node.uid,
        "gid": node.gid,
        "atime_ns": node.atime_ns,
        "mtime_ns": node.mtime_ns,
        "ctime_ns": node.ctime_ns,
        "xattrs": json.loads(node.xattrs) if node.xattrs else {},
        **more,
        **({} if blocks is None else {"blocks": blocks}),
    }
