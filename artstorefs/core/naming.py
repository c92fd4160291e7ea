"""Keys: where things lie on an element, and what may be a key at all.

    YYYY/MM/DD/HH/STEM_USER_YYYYMMDDTHHMMSS_UUID.EXT              the object
    YYYY/MM/DD/HH/STEM_USER_YYYYMMDDTHHMMSS_UUID.EXT.attr.json    its attr.json
    YYYY/MM/DD/HH/STEM_USER_YYYYMMDDTHHMMSS_UUID.EXT.blocks       its block list, of large objects
    .artstorefs/archive.json                                      which archive and element this is
    .artstorefs/mode.json                                         the mode that it was put into
    .artstorefs/offline.json                                      that content of it lies elsewhere
    .artstorefs/nodes/UU/UUID.node.json                           a node record

A key is relative, has "/" between its parts, and is text. An object's key is for people who look
at the element without us; nothing is read out of it, but whose it is, to make sure. It is unique
because of the UUID and the time in it: later content of the same file must come with a later
second.
"""

import os
import re
import unicodedata
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from artstorefs.core.content_types import CONTENT_TYPES, DEFAULT_CONTENT_TYPE
from artstorefs.core.errors import KeyInvalid
from artstorefs.core.json_text import cut_utf8

SIDECAR_SUFFIX: Final = ".attr.json"
BLOCKS_SUFFIX: Final = ".blocks"
RECORD_SUFFIX: Final = ".node.json"
OWN_FOLDER: Final = ".artstorefs/"
RECORDS_FOLDER: Final = f"{OWN_FOLDER}nodes/"
ARCHIVE_KEY: Final = f"{OWN_FOLDER}archive.json"
MODE_KEY: Final = f"{OWN_FOLDER}mode.json"
OFFLINE_KEY: Final = f"{OWN_FOLDER}offline.json"

SIDECAR_NAME_LIMIT_BYTES: Final = 200
"""The longest last part of a key that we make. Filesystems take 255; temporary names, versions
that backup tools append, and encrypting layers need the rest."""

OBJECT_NAME_LIMIT_BYTES: Final = SIDECAR_NAME_LIMIT_BYTES - len(SIDECAR_SUFFIX)
USERNAME_LIMIT_BYTES: Final = 32
"""What useradd(8) allows; longer names, of directory services, are cut in keys."""

EXTENSION_LIMIT_CHARACTERS: Final = 16
KEY_LIMIT_BYTES: Final = 1024
"""The limit of S3."""

_OBJECT: Final = re.compile(
    r"\d{4}/\d\d/\d\d/\d\d/[^/]*_\d{8}T\d{6}_"
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:\.[^/.]*)?"
)

_READABLE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")

PART_LIMIT_BYTES: Final = 255
"""NAME_MAX of Linux, for elements that are directories."""


# -------------------------------------------------------------------------- keys that we make


def new_file_id() -> bytes:
    """16 bytes of a new UUID, version 4 (RFC 9562, 5.4). uuid.uuid4 takes five times as long."""
    value = bytearray(os.urandom(16))
    value[6] = value[6] & 0x0F | 0x40
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)


def object_key(name: bytes, username: str, created: datetime, file_id: UUID) -> str:
    """The key for content of file `file_id`, called `name`, written by `username` at `created`.

    `created` knows its timezone and is used in UTC, in whole seconds; it must be a later second
    than that of any other object of this file. The stem is cut until everything fits.
    """
    if created.tzinfo is None:
        raise ValueError("created must know its timezone")
    hour, second = _texts_of(created.astimezone(UTC).replace(microsecond=0))
    stem, extension = _split(name)
    tail = f"_{_readable_user(username)}_{second}_{file_id}{extension}"
    stem = cut_utf8(stem, OBJECT_NAME_LIMIT_BYTES - len(tail.encode("utf-8")))
    return f"{hour}/{stem}{tail}"


@lru_cache(maxsize=64)
def _texts_of(moment: datetime) -> tuple[str, str]:
    """YYYY/MM/DD/HH and YYYYMMDDTHHMMSS; a crowd of new files has few of them."""
    year = f"{moment.year:04d}"
    return f"{year}/{moment:%m/%d/%H}", f"{year}{moment:%m%dT%H%M%S}"


@lru_cache(maxsize=64)
def _readable_user(username: str) -> str:
    return cut_utf8(_readable(username), USERNAME_LIMIT_BYTES)


def sidecar_key(key: str) -> str:
    """The key of the attr.json of the object at `key`."""
    return key + SIDECAR_SUFFIX


def blocks_key(key: str) -> str:
    """The key of the block list of the object at `key`."""
    return key + BLOCKS_SUFFIX


def record_key(file_id: UUID) -> str:
    """The key of the node record of `file_id`, in one of 256 folders, which keeps them small."""
    text = str(file_id)
    return f"{RECORDS_FOLDER}{text[:2]}/{text}{RECORD_SUFFIX}"


def _split(name: bytes) -> tuple[str, str]:
    """The readable stem of `name`, and its extension with the dot, or "".

    Only 1 to 16 letters and digits count as an extension, and never "blocks": the object `x.blocks`
    would lie where the block list of an object `x` belongs.
    """
    text = unicodedata.normalize("NFC", name.decode("utf-8", "replace"))
    stem, dot, extension = text.rpartition(".")
    usable = extension.isalnum() and len(extension) <= EXTENSION_LIMIT_CHARACTERS
    if not (stem and dot and usable) or extension.lower() == BLOCKS_SUFFIX[1:]:
        return _readable(text), ""
    return _readable(stem), f".{extension}"


def _readable(text: str) -> str:
    """`text` with letters, marks and digits of any script, "-", "." and "_"; the rest becomes "_".

    That leaves out what shells, URLs, S3 and Windows treat specially, and invisible characters.
    NFC, because some filesystems store another normalization than they were given. No "." or "-"
    in front: hidden files and options.
    """
    if _READABLE.fullmatch(text):  # nothing to do, as most often
        return text
    kept = "".join(
        char if char in "-._" or unicodedata.category(char)[0] in "LMN" else "_"
        for char in unicodedata.normalize("NFC", text)
    )
    return "_" + kept[1:] if kept[:1] in ("", ".", "-") else kept


# ------------------------------------------------------------------------ keys that are found


def is_sidecar(key: str) -> bool:
    """Whether `key` is that of an attr.json."""
    return key.endswith(SIDECAR_SUFFIX) and not key.startswith(OWN_FOLDER)


def is_record(key: str) -> bool:
    """Whether `key` is that of a node record."""
    return key.endswith(RECORD_SUFFIX) and key.startswith(RECORDS_FOLDER)


def is_blocks(key: str) -> bool:
    """Whether `key` can be that of a block list; it is one if `listed_object` has an attr.json, and
    an object of somebody else if it has one itself."""
    return key.endswith(BLOCKS_SUFFIX) and not key.startswith(OWN_FOLDER)


def listed_object(blocks: str) -> str:
    """The key of the object that the block list at `blocks` belongs to."""
    return blocks.removesuffix(BLOCKS_SUFFIX)


def object_of(sidecar: str) -> str:
    """The key of the object that the attr.json at `sidecar` belongs to: it lies beside it."""
    return sidecar.removesuffix(SIDECAR_SUFFIX)


def object_file_id(key: str) -> UUID | None:
    """The file_id that an object's key has if it is one of our making, else None."""
    match = _OBJECT.fullmatch(key)
    return UUID(match[1]) if match else None


def check_key(key: str, element: str = "") -> None:
    """Raise KeyInvalid unless `key` stays inside an element and every element can hold it.

    `element` is the name to give in the error.
    """
    reason = _key_problem(key)
    if reason:
        raise KeyInvalid(element or "(any)", ascii(key), reason)


def _key_problem(key: str) -> str:
    try:
        parts = key.encode("utf-8").split(b"/")
    except UnicodeEncodeError:
        return "contains half of a surrogate pair"
    if not key or key.startswith("/"):
        return "must be a relative path" if key else "is empty"
    if any(part in (b"", b".", b"..") for part in parts):
        return "has an empty, . or .. part"
    if any(char == "\\" or char < " " or char == "\x7f" for char in key):
        return "contains a backslash or a control character"
    if len(key.encode("utf-8")) > KEY_LIMIT_BYTES or max(map(len, parts)) > PART_LIMIT_BYTES:
        return f"is longer than {KEY_LIMIT_BYTES} bytes, or a part than {PART_LIMIT_BYTES}"
    return ""


def content_type(name: bytes) -> str:
    """The content type for a file called `name`, by its extension."""
    _, dot, extension = name.rpartition(b".")
    known = extension.decode("ascii", "replace").lower() if dot else ""
    return CONTENT_TYPES.get(known, DEFAULT_CONTENT_TYPE)
