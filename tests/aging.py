"""Makes files of an archive that is not mounted older than they are, and shown for a while."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from artstorefs.core.expiry import DAY_NS
from artstorefs.state.lived_time import LIVED
from artstorefs.state.row_sums import put_row_sum

LIVED_DAYS = 100
"""For how long the archive has been mounted, as it believes."""


@contextmanager
def index_of(state: Path) -> Iterator[sqlite3.Connection]:
    """Changes of the index, committed at the end."""
    with closing(sqlite3.connect(state / "state.db")) as connection, connection:
        yield connection


def age(state: Path, name: str, days: float) -> int:
    """The file was last changed so long ago; its inode number."""
    with index_of(state) as index:
        ino: int = index.execute(
            "SELECT ino FROM names WHERE name = ?", (os.fsencode(name),)
        ).fetchone()[0]
        changed_ns = time.time_ns() - int(days * DAY_NS)
        index.execute("UPDATE nodes SET ctime_ns = ? WHERE ino = ?", (changed_ns, ino))
        put_row_sum(index.execute, ino)
    return ino


def show(state: Path, ino: int, days: float, *, is_changed: bool = False) -> None:
    """It is shown for so long; `is_changed`: and was changed since."""
    with index_of(state) as index:
        query = "SELECT ctime_ns FROM nodes WHERE ino = ?"
        changed_ns = index.execute(query, (ino,)).fetchone()[0] - is_changed
        now_ns, shown_ns = time.time_ns(), int(days * DAY_NS)
        row = (ino, changed_ns, now_ns - shown_ns, LIVED_DAYS * DAY_NS - shown_ns)
        index.execute("INSERT OR REPLACE INTO expiring VALUES (?, ?, ?, ?)", row)
        lived = json.dumps({"wall_ns": now_ns, "lived_ns": LIVED_DAYS * DAY_NS})
        index.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (LIVED, lived))
