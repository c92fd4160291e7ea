"""mode.json: the mode that an element was put into while it was mounted, and its retention.

A UTF-8 JSON object of at most 4,096 bytes, written when the mode changes:

    element_id      name of the element
    configured      the mode that the configuration said when it was changed
    mode            what it is in since then
    changed_at      when
    changed_by_id   user id of who has asked for it, or null
    why             what for, in their words
    retain_until    before this moment nothing that is sealed there is changed or removed; or null

The mode counts for a program whose configuration says `configured` of this element; a configuration
that says anything else is newer, and counts itself. Retention counts always.
"""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from artstorefs.core.document import Document, Timestamp, rendered, validated
from artstorefs.core.json_text import parse_object
from artstorefs.core.marks import moment_ns, moment_text
from artstorefs.core.mode_changes import ModeState
from artstorefs.core.modes import ElementMode
from artstorefs.core.naming import MODE_KEY

MODE_LIMIT_BYTES: Final = 4096
WHY_LIMIT_CHARACTERS: Final = 500
"""A sentence or two; each of them is 6 bytes in JSON at most."""


class ModeRecord(Document):
    """One mode.json."""

    always_written: ClassVar[frozenset[str]] = frozenset()

    element_id: Annotated[str, Field(strict=True, min_length=1, max_length=255)]
    configured: ElementMode
    mode: ElementMode
    changed_at: Timestamp
    changed_by_id: Annotated[str, Field(strict=True, max_length=32)] | None = None
    why: Annotated[str, Field(strict=True, max_length=WHY_LIMIT_CHARACTERS)] = ""
    retain_until: Timestamp | None = None

    @property
    def state(self) -> ModeState:
        """What the index has of an element that says this."""
        by = self.changed_by_id
        return ModeState(
            configured=self.configured,
            mode=self.mode,
            since_ns=moment_ns(self.changed_at),
            uid=int(by) if by is not None and by.isascii() and by.isdecimal() else None,
            why=self.why,
            retain_until_ns=_optional_ns(self.retain_until),
        )


def parse_mode_record(data: bytes, where: str) -> ModeRecord:
    """The mode.json in `data`; `where` names it in errors.

    Raises DocumentInvalid and DocumentTooLarge, nothing else.
    """
    return validated(ModeRecord, parse_object(data, where, MODE_LIMIT_BYTES), where)


def render_mode_record(element: str, state: ModeState) -> bytes:
    """What an element is told of the mode that it is in, or comes into."""
    record = ModeRecord(
        element_id=element,
        configured=state.configured,
        mode=state.in_force,
        changed_at=moment_text(state.since_ns or 0),
        changed_by_id=None if state.uid is None else str(state.uid),
        why=state.why,
        retain_until=None if state.retain_until_ns is None else moment_text(state.retain_until_ns),
    )
    return rendered(record, MODE_KEY, MODE_LIMIT_BYTES)


def _optional_ns(moment: str | None) -> int | None:
    return None if moment is None else moment_ns(moment)
