"""attr.json: ArtStore Template Schema v2.0 with our `posix` section, and v1.0 as it is found.

An attr.json is a UTF-8 JSON object of at most 4,096 bytes beside the object that it describes.

    schema_version       "2.0"; absent in v1.0
    file_id              UUID of the file, the same through all its contents and names
    original_filename    the file's name for people; the exact one is posix.name
    storage_filename     the object's name, the last part of its key
    file_size            bytes of the object, more than 0 (an empty file is a node record)
    checksum             SHA-256 of the object, 64 hexadecimal digits
    content_type, created_at, updated_at, created_by_id, created_by_username,
    created_by_fullname, description, version, storage_path      optional, for people
    metadata             object, of ArtStore before v2.0
    custom_attributes    object, v2.0; the extended attributes user.*
    posix                ours, see `posix_section`; absent in ArtStore's own documents

v1.0 is the same without `schema_version` and `custom_attributes`. It becomes v2.0 in memory when
it is read. Keys that neither schema knows are kept through every rewrite.
"""

from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StrictStr

from artstorefs.core.document import (
    Document,
    Identity,
    Int64,
    Sha256Hex,
    Timestamp,
    object_for_null,
    rendered,
    validated,
)
from artstorefs.core.errors import DocumentInvalid, DocumentTooLarge
from artstorefs.core.json_text import JsonObject, cut_utf8, dump, encoded_size, parse_object
from artstorefs.core.posix_section import Attributes, PosixSection

ATTR_JSON_LIMIT_BYTES: Final = 4096
"""Of the schema: an attr.json is one block of a disk, replaced in one write."""

SchemaVersion = Literal["1.0", "2.0"]

TEXTS: Final = frozenset({"created_by_id", "version"})
"""Fields that are text in v2.0, and numbers in what some programs write."""

NEVER_NULL: Final = frozenset(
    {"content_type", "created_at", "created_by_id", "created_by_username"}
)
"""Fields that v2.0 wants to have a value, beside those that we cannot do without, and those that
follow the object (`updated_at`, `storage_path`)."""


def _plain_name(text: str) -> str:
    if "/" in text or "\0" in text or text in (".", ".."):
        raise ValueError("must be the name of a file, without a path")
    return text


def _not_the_root(section: PosixSection) -> PosixSection:
    if not section.name_bytes:
        raise ValueError("name: is empty")
    return section


_NonEmpty = Annotated[str, Field(strict=True, min_length=1)]


class FileAttributesV2(Document):
    """One attr.json. Optional fields may also be null, as some writers of ArtStore have them."""

    always_written: ClassVar[frozenset[str]] = frozenset({"schema_version", "custom_attributes"})

    schema_version: Literal["2.0"] = "2.0"
    file_id: UUID
    original_filename: _NonEmpty
    storage_filename: Annotated[_NonEmpty, AfterValidator(_plain_name)]
    file_size: Annotated[Int64, Field(gt=0)]
    content_type: StrictStr | None = None
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    created_by_id: Identity | None = None
    created_by_username: StrictStr | None = None
    created_by_fullname: StrictStr | None = None
    description: StrictStr | None = None
    version: Identity | None = None
    storage_path: StrictStr | None = None
    checksum: Sha256Hex
    metadata: dict[str, JsonValue] | None = None
    custom_attributes: Annotated[Attributes, BeforeValidator(object_for_null)] = Field(
        default_factory=dict
    )
    posix: Annotated[PosixSection, AfterValidator(_not_the_root)] | None = None


def detect_schema(document: JsonObject, where: str = "attr.json") -> SchemaVersion:
    """The schema that `document` says it follows. Raises DocumentInvalid for one unknown to us."""
    version = document.get("schema_version", "1.0")
    if version == "2.0":
        return "2.0"
    if version == "1.0":
        return "1.0"
    found = ascii(version)[:40]
    raise DocumentInvalid(where, f"schema_version: {found} is not known here, only 1.0 and 2.0 are")


def migrate_v1(document: JsonObject) -> JsonObject:
    """A v1.0 document as v2.0: everything in it as it was, and what v2.0 adds."""
    added: JsonObject = {"schema_version": "2.0", "custom_attributes": {}}
    return added | document | {"schema_version": "2.0"}


def parse_attributes(data: bytes, where: str) -> FileAttributesV2:
    """The attr.json in `data`, of either schema; `where` is its key, for errors.

    Raises DocumentInvalid and DocumentTooLarge, nothing else.
    """
    document = parse_object(data, where, ATTR_JSON_LIMIT_BYTES)
    if detect_schema(document, where) == "1.0":
        document = migrate_v1(document)
    return validated(FileAttributesV2, document, where)


def missing_fields(attributes: FileAttributesV2) -> list[str]:
    """What a strict reader of v2.0 would miss in this document, by name."""
    needed = sorted({*NEVER_NULL, "updated_at", "storage_path"})
    return [name for name in needed if getattr(attributes, name) is None]


def with_text_fields(attributes: FileAttributesV2) -> FileAttributesV2:
    """The document with text where v2.0 has text, and some programs numbers."""
    numbers = {name: getattr(attributes, name) for name in TEXTS}
    texts = {name: str(value) for name, value in numbers.items() if isinstance(value, int | float)}
    return attributes.with_changes(**texts) if texts else attributes


def to_v1_compatible(attributes: FileAttributesV2) -> tuple[JsonObject, list[str]]:
    """The document as v1.0, and the fields that v1.0 has no place for, as "section.field"."""
    document = attributes.as_json()
    lost: list[str] = []
    for section in ("custom_attributes", "posix"):
        members = document.pop(section, None)
        if isinstance(members, dict):
            lost += [f"{section}.{key}" for key in members]
    del document["schema_version"]
    return document, lost


def render(attributes: FileAttributesV2) -> bytes:
    """The bytes of this attr.json: indented where that fits 4,096 bytes, else compact.

    If only that makes it fit, `original_filename` is shortened: with a `posix` section it is
    there for people, and posix.name has the name. Raises DocumentTooLarge, DocumentInvalid.
    """
    where = f"attr.json of {attributes.file_id}"
    try:
        return rendered(attributes, where, ATTR_JSON_LIMIT_BYTES)
    except DocumentTooLarge as exc:
        if attributes.posix is None:
            raise
        excess = exc.size_bytes - exc.limit_bytes
    document = attributes.as_json() | {
        "original_filename": _shortened(attributes.original_filename, excess)
    }
    return dump(document, where, ATTR_JSON_LIMIT_BYTES)


def _shortened(text: str, excess: int) -> str:
    """A start of `text` that takes `excess` bytes less in JSON, or its first character."""
    limit = encoded_size(text) - excess
    short = cut_utf8(text, max(limit, 0))
    while len(short) > 1 and encoded_size(short) > limit:
        short = short[:-1]
    return short or text[0]
