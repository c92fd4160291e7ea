"""Node records, UUID.node.json: the nodes of the tree that have no object.

A directory, a symlink, an empty regular file, a fifo, a socket, a device is a `NodeRecord`. Every
hard link of a file but its first name is a `LinkRecord`: its own id, the id of the file, and where
the name stands, so that the number of links has no limit in the file's attr.json.

A node record is a UTF-8 JSON object of at most 16,384 bytes:

    record_version     "1.0"
    file_id            UUID of the node (of the link, in a link record)
    type               directory, symlink, file (empty), fifo, socket, char, block, or link
    created_at, created_by_id, created_by_username      optional, for people
    custom_attributes  object, as in attr.json
    posix              as in attr.json; in a link record only revision, parent, name
    target             of a symlink: where it points, text or {"$b64": ...}, up to 4,095 bytes
    rdev               of a device: {"major": ..., "minor": ...}
    target_id          of a link: file_id of the file

The root directory is the directory whose `posix.parent` is its own `file_id`; its name is "".
"""

from enum import StrEnum, unique
from typing import Annotated, ClassVar, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StrictStr, model_validator

from artstorefs.core.document import (
    Document,
    Identity,
    NameJson,
    Timestamp,
    object_for_null,
    rendered,
    validated,
)
from artstorefs.core.json_text import name_from_json, parse_object
from artstorefs.core.posix_section import Attributes, PosixLink, PosixSection

RECORD_LIMIT_BYTES: Final = 16384
"""Holds the longest symlink target at its longest in JSON (8 KiB), and a full attr.json's load."""

TARGET_LIMIT_BYTES: Final = 4095
"""PATH_MAX of Linux without its NUL."""


@unique
class NodeType(StrEnum):
    """What a node without an object is."""

    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FILE = "file"
    """An empty regular file; one with content has an object and an attr.json instead."""
    FIFO = "fifo"
    SOCKET = "socket"
    CHAR = "char"
    BLOCK = "block"


_DEVICES: Final = (NodeType.CHAR, NodeType.BLOCK)


def _symlink_target(value: JsonValue) -> JsonValue:
    target = name_from_json(value)
    if not target or b"\0" in target or len(target) > TARGET_LIMIT_BYTES:
        raise ValueError(f"must be 1 to {TARGET_LIMIT_BYTES} bytes, without NUL")
    return value


class DeviceNumber(Document):
    """A device special file's number, as stat(1) and mknod(1) take it apart; Linux has 12 and 20
    bits for the two."""

    major: Annotated[int, Field(strict=True, ge=0, lt=2**12)]
    minor: Annotated[int, Field(strict=True, ge=0, lt=2**20)]


class _Record(Document):
    """What node records and link records have in common."""

    record_version: Literal["1.0"] = "1.0"
    file_id: UUID


class LinkRecord(_Record):
    """A further name of the file `target_id`; file_id is the link's own id."""

    always_written: ClassVar[frozenset[str]] = frozenset({"record_version", "type"})

    type: Literal["link"] = "link"
    target_id: UUID
    created_at: Timestamp | None = None
    posix: PosixLink

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if not self.posix.name_bytes:
            raise ValueError("posix.name: is empty")
        return self


class NodeRecord(_Record):
    """A node of the tree that has no object."""

    always_written: ClassVar[frozenset[str]] = frozenset({"record_version", "custom_attributes"})

    type: NodeType
    created_at: Timestamp | None = None
    created_by_id: Identity | None = None
    created_by_username: StrictStr | None = None
    custom_attributes: Annotated[Attributes, BeforeValidator(object_for_null)] = Field(
        default_factory=dict
    )
    posix: PosixSection
    target: Annotated[NameJson, AfterValidator(_symlink_target)] | None = None
    rdev: DeviceNumber | None = None

    @property
    def is_root(self) -> bool:
        """Whether this is the root directory: the one that is its own parent."""
        return self.posix.parent == self.file_id

    @property
    def target_bytes(self) -> bytes:
        """Where a symlink points; empty for every other type."""
        return b"" if self.target is None else name_from_json(self.target)

    @model_validator(mode="after")
    def _type_has_its_fields(self) -> Self:
        if (self.target is not None) != (self.type is NodeType.SYMLINK):
            raise ValueError("target: belongs to every symlink, and to nothing else")
        if (self.rdev is not None) != (self.type in _DEVICES):
            raise ValueError("rdev: belongs to every char and block device, and to nothing else")
        if self.is_root and self.type is not NodeType.DIRECTORY:
            raise ValueError("posix.parent: only a directory can be its own parent")
        if self.is_root != (not self.posix.name_bytes):
            raise ValueError('posix.name: is "" for the root directory, and for nothing else')
        return self


Record = NodeRecord | LinkRecord


def parse_record(data: bytes, where: str) -> Record:
    """The node record or link record in `data`; `where` is its key, for errors.

    Raises DocumentInvalid and DocumentTooLarge, nothing else.
    """
    document = parse_object(data, where, RECORD_LIMIT_BYTES)
    if document.get("type") == "link":
        return validated(LinkRecord, document, where)
    return validated(NodeRecord, document, where)


def render_record(record: Record) -> bytes:
    """The bytes of this record. Raises DocumentTooLarge, DocumentInvalid."""
    return rendered(record, f"node record {record.file_id}", RECORD_LIMIT_BYTES)
