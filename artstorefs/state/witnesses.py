"""What the index remembers of an adopted element: by which it is known until something of ours is
there (`elements/adoption.py`).

Once an element has archive.json that is remembered too, in a setting, and from then on the element
is not believed without it: node records lie there that nothing else would miss.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from uuid import UUID

from artstorefs.core.errors import ElementUnavailable
from artstorefs.core.naming import sidecar_key
from artstorefs.elements.adoption import Witness
from artstorefs.state.database import Database, connect_read_only
from artstorefs.state.row_sums import Execute

WITNESSES = 64
"""From each end of the order of keys, in which old files come first. One that is there will do, so
others may remove as many files as they like, but for the oldest and the newest all at once."""

_JOINED = "joined"
_QUERY = (
    "SELECT c.key, n.file_id FROM copies c JOIN nodes n USING (ino)"
    " WHERE c.element = ? AND NOT c.is_record ORDER BY c.key {} LIMIT ?"
)


def witnesses_of(path: str, element: str) -> list[Witness] | None:
    """Those of an element, by the index at `path`; None once archive.json was written there. Raises
    ElementUnavailable where the index cannot say."""
    try:
        return read_witnesses(path, element)
    except sqlite3.Error as exc:
        reason = f"the index cannot say what was there: {exc}"
        raise ElementUnavailable(element, path, reason) from exc


def read_witnesses(path: str, element: str) -> list[Witness] | None:
    """The same. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        execute = connection.execute
        if not execute("SELECT 1 FROM sqlite_master WHERE name = 'settings'").fetchone():
            return []  # a start was killed before it had made the tables
        return witnesses(execute, element)


def witnesses(execute: Execute, element: str) -> list[Witness] | None:
    """The same, of an index that is open."""
    if execute("SELECT 1 FROM settings WHERE key = ?", (_setting(element),)).fetchone():
        return None
    ends = [execute(_QUERY.format(order), (element, WITNESSES)) for order in ("", "DESC")]
    rows = [row for end in ends for row in end.fetchall()]
    found = {sidecar_key(key): UUID(bytes=file_id) for key, file_id in rows}
    return [Witness(key, file_id) for key, file_id in found.items()]


def note_joined(database: Database, element: str) -> None:
    """Inside a transaction of the caller: the element has its archive.json."""
    database.set_setting(_setting(element), "1")


def remember_joined(database: Database, elements: Iterable[str]) -> None:
    """Elements that have their archive.json, whether or not that was noted before."""
    news = [element for element in elements if not has_joined(database, element)]
    if news:
        with database.transaction():
            for element in news:
                note_joined(database, element)


def has_joined(database: Database, element: str) -> bool:
    """Whether that was noted."""
    return database.setting(_setting(element)) is not None


def _setting(element: str) -> str:
    return f"{_JOINED}:{element}"
