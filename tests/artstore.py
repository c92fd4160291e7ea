"""ArtStore as a neighbour: its rules for attr.json once more, strictly, and a writer as it writes.

Nothing of the program is imported here, and nothing of this file by it. The rules are those of
ArtStore's own schema:

    * an attr.json has at most 4,096 bytes; it is a JSON object in UTF-8
    * v2.0 says "schema_version": "2.0"; without that it is v1.0
    * `REQUIRED` fields are there, text where nothing else is said; `OPTIONAL` ones may be null
    * file_id is a UUID, file_size a whole number above 0, checksum 64 hexadecimal digits
    * created_at and updated_at are times in ISO 8601
    * metadata is an object, custom_attributes too, in v2.0 only
    * storage_path followed by storage_filename, with nothing between them, is where the object is,
      relative to the element; its attr.json is beside it
    * other keys are ignored

A strict reader takes no number for a text, no text for a number, and no key twice.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

LIMIT_BYTES = 4096
SUFFIX = ".attr.json"

TEXTS = (
    *("original_filename", "storage_filename", "content_type", "created_by_id"),
    *("created_by_username", "storage_path"),
)
TIMES = ("created_at", "updated_at")
REQUIRED = (*TEXTS, *TIMES, "file_id", "file_size", "checksum")
OPTIONAL = ("created_by_fullname", "description", "version")

_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?",
)


class NotArtStore(Exception):
    """A document breaks a rule; the message says which."""


@dataclass(frozen=True)
class Attributes:
    """One attr.json; `fields` are all of its keys, also those that mean nothing to ArtStore."""

    version: str
    file_id: UUID
    key: str
    fields: dict[str, Any]

    @property
    def custom(self) -> dict[str, Any]:
        custom: dict[str, Any] = self.fields.get("custom_attributes") or {}
        return custom


# -------------------------------------------------------------------------------------- reading


def read_attributes(data: bytes) -> Attributes:
    """The document in `data`. Raises NotArtStore."""
    _demand(len(data) <= LIMIT_BYTES, f"has {len(data)} bytes")
    try:
        fields = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except ValueError as exc:
        raise NotArtStore(f"is no JSON: {exc}") from None
    _demand(isinstance(fields, dict), "is no object")
    version = fields.get("schema_version", "1.0")
    _demand(version in ("1.0", "2.0"), f"schema_version is {version!r}")
    for name in REQUIRED:
        _demand(fields.get(name) is not None, f"{name} is missing")
    for name in (*TEXTS, *TIMES, "file_id", "checksum", *OPTIONAL):
        value = fields.get(name)
        is_missing = value is None and name in OPTIONAL
        _demand(is_missing or isinstance(value, str), f"{name} is {value!r}, and no text")
    _check_facts(fields)
    _check_sections(fields, version)
    key = fields["storage_path"] + fields["storage_filename"]
    return Attributes(version, UUID(fields["file_id"]), key, fields)


def read_element(root: Path, *, hashes: bool = True) -> dict[str, Attributes]:
    """Every attr.json below `root`, by the key of its object, which has to be there, as it says."""
    found = {}
    for path in sorted(root.rglob(f"*{SUFFIX}")):
        where = path.relative_to(root).as_posix()
        try:
            attributes = read_attributes(path.read_bytes())
            _check_object(root, where.removesuffix(SUFFIX), attributes, hashes)
        except NotArtStore as exc:
            raise NotArtStore(f"{where}: {exc}") from None
        found[attributes.key] = attributes
    return found


def _check_facts(fields: dict[str, Any]) -> None:
    try:
        UUID(fields["file_id"])
    except ValueError:
        raise NotArtStore(f"file_id is {fields['file_id']!r}") from None
    size = fields["file_size"]
    _demand(type(size) is int and size > 0, f"file_size is {size!r}")
    checksum = fields["checksum"]
    _demand(re.fullmatch("[0-9A-Fa-f]{64}", checksum), f"checksum is {checksum!r}")
    for name in TIMES:
        text = fields[name]
        _demand(_TIME.fullmatch(text), f"{name} is {text!r}")
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise NotArtStore(f"{name} is {text!r}") from None
    for name in ("original_filename", "storage_filename"):
        _demand(fields[name], f"{name} is empty")
    _demand("/" not in fields["storage_filename"], "storage_filename is a path")


def _check_sections(fields: dict[str, Any], version: str) -> None:
    for name in ("metadata", "custom_attributes"):
        value = fields.get(name)
        _demand(value is None or isinstance(value, dict), f"{name} is {value!r}")
    if version == "2.0":
        _demand("custom_attributes" in fields, "custom_attributes is missing")


def _check_object(root: Path, key: str, attributes: Attributes, hashes: bool) -> None:
    _demand(attributes.key == key, f"says that its object is {attributes.key!r}")
    path = root / key
    _demand(path.is_file(), "has no object")
    size = path.stat().st_size
    _demand(size == attributes.fields["file_size"], f"its object has {size} bytes")
    if hashes:
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        same = checksum == attributes.fields["checksum"].lower()
        _demand(same, f"its object has the checksum {checksum}")


def _demand(is_so: object, reason: str) -> None:
    if not is_so:
        raise NotArtStore(reason)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is there twice")
    return members


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


# -------------------------------------------------------------------------------------- writing


def write_file(
    root: Path,
    name: str,
    data: bytes,
    *,
    schema: str = "2.0",
    moment: datetime = datetime(2024, 3, 5, 14, 25, 36, 123456, UTC),
    file_id: UUID | None = None,
    **more: Any,
) -> Path:
    """An object with its attr.json as ArtStore writes them (the UUID in a name has no dashes);
    returns the path of the attr.json. `more` are fields to have otherwise, or besides."""
    identity = file_id or uuid4()
    stem, dot, extension = name.rpartition(".")
    tail = f"_ivanov_{moment:%Y%m%dT%H%M%S}_{identity.hex}{dot}{extension if dot else ''}"
    storage_filename = (stem if dot else name)[: 80 - len(extension)].replace("/", "_") + tail
    storage_path = f"{moment:%Y/%m/%d/%H}/"
    fields: dict[str, Any] = {
        **({"schema_version": "2.0"} if schema == "2.0" else {}),
        "file_id": str(identity),
        "original_filename": name,
        "storage_filename": storage_filename,
        "file_size": len(data),
        "content_type": "application/octet-stream",
        "created_at": moment.isoformat().replace("+00:00", "Z"),
        "updated_at": moment.isoformat().replace("+00:00", "Z"),
        "created_by_id": "8d0c3f5e",
        "created_by_username": "ivanov",
        "created_by_fullname": "Иван Иванов",
        "description": None,
        "version": None,
        "storage_path": storage_path,
        "checksum": hashlib.sha256(data).hexdigest(),
        "metadata": {},
        **({"custom_attributes": {}} if schema == "2.0" else {}),
        **more,
    }
    path = root / storage_path / storage_filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    sidecar = path.with_name(path.name + SUFFIX)
    sidecar.write_text(json.dumps(fields, ensure_ascii=False, indent=2))
    return sidecar
