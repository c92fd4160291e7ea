"""Reading one document of an element, whoever has written it: attr.json, node and link records.

The one way in for rebuild, survey, observation and rewrites, so that all of them refuse the same.
What is wrong with a document itself is a `DocumentError` that names it, also where something else
than an ordinary file lies under its key (a symlink, a FIFO, a device: nothing of it is opened), or
where it may not be read. Whoever asked reports it, leaves it where it is, and goes on with the
rest. That the element cannot be asked at all is an `ElementError`, and says nothing about it.
"""

from typing import Final
from uuid import UUID

from artstorefs.core import naming
from artstorefs.core.attributes import ATTR_JSON_LIMIT_BYTES, FileAttributesV2, parse_attributes
from artstorefs.core.errors import DocumentInvalid, ElementDenied, KeyInvalid, ObjectAbsent
from artstorefs.core.node_record import RECORD_LIMIT_BYTES, LinkRecord, NodeRecord, parse_record
from artstorefs.elements.interface import Element

FoundDocument = FileAttributesV2 | NodeRecord | LinkRecord

REPORTED_MAX: Final = 1000
"""How many bad documents are named one by one; a hostile element could fill the log with them."""


def is_document(key: str) -> bool:
    """Whether `key` is that of an attr.json or of a node or link record."""
    return naming.is_sidecar(key) or naming.is_record(key)


def read_document(element: Element, key: str) -> FoundDocument:
    """The document under `key`. Raises DocumentError, and ElementError as described above."""
    where = f"{element.id}: {key}"
    limit = RECORD_LIMIT_BYTES if naming.is_record(key) else ATTR_JSON_LIMIT_BYTES
    try:
        data = element.read(key, 0, limit + 1)
    except (ElementDenied, KeyInvalid) as exc:
        raise DocumentInvalid(where, exc.reason) from exc
    if naming.is_record(key):
        record = parse_record(data, where)
        if naming.record_key(record.file_id) != key:
            raise DocumentInvalid(where, f"file_id is {record.file_id}, which has another key")
        return record
    if naming.object_of(key).rpartition("/")[2] == "":
        raise DocumentInvalid(where, "belongs to no object")
    return parse_attributes(data, where)


def read_link_record(element: Element, key: str) -> LinkRecord | None:
    """The link record under `key`, if there is one. Raises as above, also for another document."""
    try:
        found = read_document(element, key)
    except ObjectAbsent:
        return None
    if not isinstance(found, LinkRecord):
        raise DocumentInvalid(f"{element.id}: {key}", "is no link record")
    return found


def check_root(document: FileAttributesV2 | NodeRecord, root_id: UUID, where: str) -> None:
    """Raise DocumentInvalid if this takes the place of the root directory, or is a second one."""
    is_root = isinstance(document, NodeRecord) and document.is_root
    if is_root and document.file_id != root_id:
        raise DocumentInvalid(where, "is the root directory of another archive")
    if not is_root and document.file_id == root_id:
        raise DocumentInvalid(where, "file_id is that of the root directory")
