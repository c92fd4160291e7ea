"""An adopted element: one that ArtStore has written, and that has no archive.json as yet.

Adopting writes nothing, so there is nothing of ours there that would say whose it is. What the
index remembers of it does: *witnesses* are documents that were there, each with the file_id in it.
The element is the one it should be as long as one of them is there. An empty mount point has none,
and neither has another disk.

The first change writes archive.json before all else, and from then on the element is known by that
alone, as any other (`identified.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from artstorefs.core.archive_record import parse_archive_record
from artstorefs.core.attributes import ATTR_JSON_LIMIT_BYTES, parse_attributes
from artstorefs.core.errors import DocumentError
from artstorefs.core.naming import ARCHIVE_KEY

Read = Callable[[str], bytes | None]
"""The document under a key, one byte more than it may have at most; None if there is none."""


@dataclass(frozen=True, slots=True)
class Witness:
    """An attr.json, by its key, and the file_id that it has."""

    key: str
    file_id: UUID


Witnesses = Callable[[], Sequence[Witness] | None]
"""Those of an element. None: archive.json was written there, and has to be there. Empty: nothing is
known of it yet."""


def nothing_known() -> Sequence[Witness]:
    """The witnesses of an element that is being looked at for the first time."""
    return ()


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is known of one adopted element. `archive_id` None: whatever is there is taken."""

    witnesses: Witnesses = nothing_known
    archive_id: UUID | None = None

    def problem_of_place(self, read: Read) -> str | None:
        """Why what has no archive.json cannot be this element; None if it can."""
        witnesses = self.witnesses()
        if witnesses is None:
            return f"no {ARCHIVE_KEY} is there; is its disk mounted, is it the right place?"
        if not witnesses or any(_is_there(witness, read) for witness in witnesses):
            return None
        count = len(witnesses)
        return f"none of {count} files that were there is there; is its disk mounted?"

    def problem_of_record(self, data: bytes) -> str | None:
        """Why an archive.json that has come to be there is none of ours; None if it is."""
        if self.archive_id is None:
            return None
        try:
            record = parse_archive_record(data, ARCHIVE_KEY)
        except DocumentError as exc:
            return str(exc)
        if record.archive_id == self.archive_id:
            return None
        return f"has become an element of another archive, {record.archive_name}"


def _is_there(witness: Witness, read: Read) -> bool:
    data = read(witness.key)
    if data is None or len(data) > ATTR_JSON_LIMIT_BYTES:
        return False
    with suppress(DocumentError):
        return parse_attributes(data, witness.key).file_id == witness.file_id
    return False
