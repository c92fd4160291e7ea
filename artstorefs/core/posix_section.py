"""The `posix` section of attr.json and node records: the truth about a node of the tree.

    revision   grows by one with each change; of two documents with one file_id, the higher counts
    parent     file_id of the directory (of the root directory: its own)
    name       the name in that directory, as text or {"$b64": ...} (of the root directory: "")
    mode       permission bits with setuid, setgid and sticky, four octal digits: "0644"
    uid, gid   owner and group, numbers
    atime_ns, mtime_ns, ctime_ns   nanoseconds since 1970-01-01T00:00:00Z, may be negative
    xattrs     security.*, trusted.*, system.*: name to value, in the form of `xattr_values`; and
               the moments of `marks`
    blocks     SHA-256 of the object's block list, if it has one

The tree hangs together by `parent`, not by paths: renaming a directory changes one document.
"""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue

from artstorefs.core.document import Document, Int64, NameJson, Sha256Hex
from artstorefs.core.errors import DocumentInvalid
from artstorefs.core.json_text import check_name, key_from_json, name_from_json
from artstorefs.core.xattr_values import check_values

MODE_BITS = 0o7777

REVISION_LIMIT = 2**62
"""A document of the highest revision can still be followed by as many of ours, in 64 bits."""


def format_mode(mode: int) -> str:
    """The permission bits of a stat mode (its file type is ignored) as four octal digits."""
    return f"{mode & MODE_BITS:04o}"


def checked_attributes(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """`values`, if each can be given back as an extended attribute. Raises ValueError."""
    try:
        check_values(values)
    except DocumentInvalid as exc:
        raise ValueError(f"{exc.where!a}: {exc.reason}") from None
    return values


def _node_name(value: JsonValue) -> JsonValue:
    name = name_from_json(value)
    try:
        if name:  # the root directory's is empty; the documents check that it is nobody else's
            check_name(name)
    except DocumentInvalid as exc:
        raise ValueError(exc.reason) from None
    return value


def _system_attributes(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for key in values:
        try:
            key_from_json(key)
        except DocumentInvalid as exc:
            raise ValueError(f"{key!a}: {exc.reason}") from None
    return checked_attributes(values)


NodeName = Annotated[NameJson, AfterValidator(_node_name)]
Attributes = Annotated[dict[str, JsonValue], AfterValidator(checked_attributes)]
SystemAttributes = Annotated[dict[str, JsonValue], AfterValidator(_system_attributes)]
OwnerId = Annotated[int, Field(strict=True, ge=0, le=2**32 - 2)]
"""A uid or gid; the highest number means "none" to chown(2)."""


class PosixLink(Document):
    """Where a name stands in the tree: the whole `posix` section of a further hard link."""

    revision: Annotated[Int64, Field(ge=1, le=REVISION_LIMIT)]
    parent: UUID
    name: NodeName

    @property
    def name_bytes(self) -> bytes:
        """The name in its directory; empty for the root directory."""
        return name_from_json(self.name)


class PosixSection(PosixLink):
    """Place, permissions, owner and times of a node; see the module for each field."""

    always_written: ClassVar[frozenset[str]] = frozenset({"xattrs"})

    mode: Annotated[str, Field(strict=True, pattern=r"\A[0-7]{4}\z")]
    uid: OwnerId
    gid: OwnerId
    atime_ns: Int64
    mtime_ns: Int64
    ctime_ns: Int64
    xattrs: SystemAttributes = Field(default_factory=dict)
    blocks: Sha256Hex | None = None

    @property
    def mode_bits(self) -> int:
        """The permission bits, without a file type."""
        return int(self.mode, 8)
