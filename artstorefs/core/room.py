"""Whether extended attributes fit, asked when they are set and not when it is too late.

attr.json is written long after `setxattr` returned, with fields that nobody knows yet: checksum,
the object's name, times, the name after a later rename. So room is kept for the largest of each,
and what passes `check_room` can be written whatever happens to the file, also as a node record.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from artstorefs.core.attributes import ATTR_JSON_LIMIT_BYTES, FileAttributesV2
from artstorefs.core.content_types import CONTENT_TYPES
from artstorefs.core.errors import DocumentTooLarge
from artstorefs.core.json_text import NAME_LIMIT_BYTES, JsonObject, encoded_size
from artstorefs.core.marks import SEALED
from artstorefs.core.naming import OBJECT_NAME_LIMIT_BYTES, USERNAME_LIMIT_BYTES
from artstorefs.core.posix_section import REVISION_LIMIT, PosixSection
from artstorefs.core.timestamps import format_timestamp

FULLNAME_LIMIT_BYTES: Final = 64
"""How much of a user's full name we write, as JSON; longer ones are cut."""

_SHORTEST_ORIGINAL_FILENAME: Final = 32
"""What `render` may cut original_filename down to; its start is still a help to a person."""

LONGEST = FileAttributesV2(
    file_id=UUID(int=0),
    original_filename="x" * _SHORTEST_ORIGINAL_FILENAME,
    storage_filename="x" * OBJECT_NAME_LIMIT_BYTES,
    file_size=2**63 - 1,
    content_type="x" * max(map(len, CONTENT_TYPES.values())),
    created_at=format_timestamp(datetime.max.replace(tzinfo=UTC)),
    updated_at=format_timestamp(datetime.max.replace(tzinfo=UTC)),
    created_by_id="x" * USERNAME_LIMIT_BYTES,
    created_by_username="x" * USERNAME_LIMIT_BYTES,
    created_by_fullname="x" * FULLNAME_LIMIT_BYTES,
    description=None,  # null takes more than ""
    version=2**63 - 1,
    storage_path="YYYY/MM/DD/HH/",
    checksum="0" * 64,
    metadata=None,
    posix=PosixSection(
        revision=REVISION_LIMIT,
        parent=UUID(int=0),
        name='"' * NAME_LIMIT_BYTES,  # takes the most of all names: 512 bytes in JSON
        mode="0000",
        uid=2**32 - 2,
        gid=2**32 - 2,
        atime_ns=-(2**63),
        mtime_ns=-(2**63),
        ctime_ns=-(2**63),
        xattrs={SEALED: format_timestamp(datetime.max.replace(tzinfo=UTC))},
        blocks="0" * 64,
    ),
)
"""The longest document that we make ourselves, but for its attributes."""

ROOM_BYTES: Final = ATTR_JSON_LIMIT_BYTES - encoded_size(LONGEST.as_json()) - len(b",")
"""What custom attributes, system attributes and keys by others have together, as compact JSON."""


def check_room(custom: JsonObject, xattrs: JsonObject, carried: JsonObject, name: bytes) -> None:
    """Raise DocumentTooLarge (ENOSPC) unless these attributes fit whatever else becomes of a file.

    `custom` and `xattrs` are custom_attributes and posix.xattrs as they would become; for the mark
    of being sealed, which comes when the file is closed, room is kept. `carried` holds what others
    wrote and we keep: every top-level key of theirs with a value of its own (unknown ones,
    description, version, metadata, created_*, content_type), and under "posix" the unknown keys of
    the posix section. `name` is for the error; room for any name is kept.

    The limit in the error is the room that there is for attributes.
    """
    set_by_others = {key: value for key, value in xattrs.items() if key != SEALED}
    needed = encoded_size([custom, set_by_others, carried]) - len(b"[{},{},{}]")
    if needed + len(b",,") > ROOM_BYTES:
        where = f"attributes of {name.decode('utf-8', 'backslashreplace')!a}"
        raise DocumentTooLarge(where, needed, ROOM_BYTES - len(b",,"))
