"""Moments that a file carries with it: when it is sealed, and until when it is retained. Pure.

They are extended attributes of ours that last, so they live where those of the system do, in
`posix.xattrs`, as ISO 8601 text. What is handled here is that object as JSON text, `Node.xattrs`;
None is an empty one.
"""

import json
from datetime import timedelta
from typing import Final

from artstorefs.core.timestamps import EPOCH, format_timestamp, timestamp_ns

SEALED: Final = "user.artstore.sealed"
"""From then on the content of the file is complete, and mode `rw` does not let it be changed."""

RETAIN_UNTIL: Final = "user.artstore.retain_until"
"""Before it nobody changes the content of the file, or removes it."""

_FIRST_NS: Final = timestamp_ns("0001-01-01T00:00:00Z")
LAST_NS: Final = timestamp_ns("9999-12-31T23:59:59.999999Z")
"""What `moment_text` can show at the latest."""

MARKS: Final = (SEALED, RETAIN_UNTIL)


def marked_ns(xattrs: str | None, name: str) -> int | None:
    """The moment, in nanoseconds since the epoch; None where there is none, or where somebody else
    has written what is no time."""
    if xattrs is None or name not in xattrs:
        return None
    text = json.loads(xattrs).get(name)
    try:
        return moment_ns(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def mark(xattrs: str | None, name: str, at_ns: int | None) -> str | None:
    """`xattrs` with this moment, to the microsecond; without it where that is None."""
    if at_ns is None and (xattrs is None or name not in xattrs):
        return xattrs
    document = json.loads(xattrs) if xattrs else {}
    document.pop(name, None)
    if at_ns is not None:
        document[name] = moment_text(at_ns)
    if not document:
        return None
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def moment_ns(text: str) -> int:
    """Nanoseconds since the epoch, within what `moment_text` can show: an offset may lead out of
    it. Raises ValueError."""
    return max(_FIRST_NS, min(LAST_NS, timestamp_ns(text)))


def moment_text(at_ns: int) -> str:
    """As it is written and shown. Raises OverflowError outside of the years 1 to 9999."""
    return format_timestamp(EPOCH + timedelta(microseconds=at_ns // 1000))
