"""Content on elements that is to be kept when newer content takes its place.

After a power cut nobody knows whether content that was not synced is whole. It stays the content,
for it may have been synced by sync(2), of which nobody tells us. But what an element has from
before, and only that is known to be whole, is not removed once the newer content is there: it goes
into the quarantine of the element.

Kept in the settings, as `earlier INO` → {"time": ns, "why": text, "copies": [[element, key], …]}.
"""

import json
from collections.abc import Sequence

from artstorefs.core.crash_points import crash_point
from artstorefs.state.database import Database
from artstorefs.state.index import Copy

_PREFIX = "earlier "


def keep_earlier(
    database: Database, ino: int, copies: Sequence[Copy], why: str, time_ns: int
) -> None:
    """Have these copies kept when they are superseded. One transaction; may be said again."""
    named = [[copy.element, copy.key] for copy in copies]
    mark = json.dumps({"time": time_ns, "why": why, "copies": named})
    with database.transaction():
        database.set_setting(f"{_PREFIX}{ino}", mark)
    crash_point("earlier_content.marked")


def take_reason(database: Database, ino: int, superseded: list[list[str]]) -> list[object] | None:
    """`keep` of the removal of these copies. Inside a transaction of the caller; the mark goes."""
    text = database.setting(f"{_PREFIX}{ino}")
    if text is None:
        return None
    mark = json.loads(text)
    if not any(copy in mark["copies"] for copy in superseded):
        return None
    database.execute("DELETE FROM settings WHERE key = ?", (f"{_PREFIX}{ino}",))
    return [mark["time"], mark["why"]]


def forget_deleted(database: Database) -> None:
    """Drop the marks of files that are gone, and what they had with them."""
    with database.transaction():
        database.execute(
            "DELETE FROM settings WHERE key GLOB ? AND NOT EXISTS"
            " (SELECT 1 FROM nodes WHERE ino = CAST(substr(key, ?) AS INTEGER))",
            (f"{_PREFIX}*", len(_PREFIX) + 1),
        )
