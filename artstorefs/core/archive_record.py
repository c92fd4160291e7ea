"""archive.json: which archive an element belongs to, which of its elements it is, which format.

A UTF-8 JSON object of at most 4,096 bytes, written once, when an element joins an archive:

    format        "artstorefs/1"; a program that knows another one must not write here
    archive_id    UUID of the archive, the same on all its elements
    archive_name  its name, for people
    element_id    UUID of this element
    created_at    when this file was written
"""

from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field

from artstorefs.core.document import Document, Timestamp, rendered, validated
from artstorefs.core.errors import DocumentInvalid
from artstorefs.core.json_text import parse_object
from artstorefs.core.naming import ARCHIVE_KEY

ARCHIVE_FORMAT: Final = "artstorefs/1"
ARCHIVE_LIMIT_BYTES: Final = 4096
"""As for attr.json; five short fields and what later versions add."""


class ArchiveRecord(Document):
    """One archive.json."""

    always_written: ClassVar[frozenset[str]] = frozenset({"format"})

    format: Literal["artstorefs/1"] = "artstorefs/1"
    archive_id: UUID
    archive_name: Annotated[str, Field(strict=True, min_length=1, max_length=255)]
    element_id: UUID
    created_at: Timestamp


def parse_archive_record(data: bytes, where: str) -> ArchiveRecord:
    """The archive.json in `data`; `where` names it in errors.

    Raises DocumentInvalid and DocumentTooLarge, nothing else.
    """
    document = parse_object(data, where, ARCHIVE_LIMIT_BYTES)
    found = document.get("format")
    if found != ARCHIVE_FORMAT:
        reason = f"format: is {ascii(found)[:40]}, this program knows {ARCHIVE_FORMAT!r} only"
        raise DocumentInvalid(where, reason)
    return validated(ArchiveRecord, document, where)


def render_archive_record(record: ArchiveRecord) -> bytes:
    """The bytes of this archive.json. Raises DocumentTooLarge, DocumentInvalid."""
    return rendered(record, ARCHIVE_KEY, ARCHIVE_LIMIT_BYTES)
