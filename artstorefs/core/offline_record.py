"""offline.json: that content of an element lies on a medium of its own, and which one that is.

A UTF-8 JSON object of at most 8,192 bytes, written before the first object leaves the element:

    element_id   name of the element
    medium_id    element_id in the archive.json of the medium
    place        where the medium was then, for people
    since        when this file was written

From then on an attr.json whose object is not beside it is nothing amiss: the object is on the
medium, under the same key.
"""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from artstorefs.core.document import Document, Timestamp, rendered, validated
from artstorefs.core.json_text import parse_object
from artstorefs.core.naming import OFFLINE_KEY

OFFLINE_LIMIT_BYTES: Final = 8192
"""As for attr.json, and a path of the longest kind."""


def medium_id(element_id: str) -> str:
    """What the medium of an element is called, in its archive.json too. No element can have such a
    name, so neither is ever taken for the other."""
    return f"{element_id}/offline"


class OfflineRecord(Document):
    """One offline.json."""

    always_written: ClassVar[frozenset[str]] = frozenset()

    element_id: Annotated[str, Field(strict=True, min_length=1, max_length=255)]
    medium_id: Annotated[str, Field(strict=True, min_length=1, max_length=255)]
    place: Annotated[str, Field(strict=True, max_length=4096)]
    since: Timestamp


def parse_offline_record(data: bytes, where: str) -> OfflineRecord:
    """The offline.json in `data`; `where` names it in errors.

    Raises DocumentInvalid and DocumentTooLarge, nothing else.
    """
    return validated(OfflineRecord, parse_object(data, where, OFFLINE_LIMIT_BYTES), where)


def render_offline_record(record: OfflineRecord) -> bytes:
    """The bytes of this offline.json. Raises DocumentTooLarge."""
    return rendered(record, OFFLINE_KEY, OFFLINE_LIMIT_BYTES)
