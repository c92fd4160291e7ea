"""Archived content that was asked for: the rows of the table `recalls`.

    asked    not there yet; tried again from `due_ns` on       until_ns NULL, error NULL
    online   all of it is in the read cache, verified, pinned  until_ns
    failed   it cannot be had; kept so that it can be told     error

One row for each file, so that asking twice costs nothing. A row is of one version of the content
and counts for no other. They last as long as the index; a rebuilt one has none.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from artstorefs.state.database import Database, connect_read_only
from artstorefs.state.node import Node

DAY_NS = 86_400 * 10**9

_COLUMNS = "ino, content, element, days, asked_ns, due_ns, tries, until_ns, error"
_ASKED = "until_ns IS NULL AND error IS NULL"


@dataclass(frozen=True, slots=True)
class Recall:
    """One row. `element`: from where it comes; `days`: how long it stays once it is there; `tries`:
    how often it was not there yet."""

    ino: int
    content: int
    element: str
    days: float
    asked_ns: int
    due_ns: int
    tries: int
    until_ns: int | None
    error: str | None

    @property
    def state(self) -> str:
        """As `user.artstore.state` has it."""
        if self.error is not None:
            return "archived"
        return "recalling" if self.until_ns is None else "online"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What was asked for of an element, and is not there yet."""

    element: str
    files: int
    bytes: int


class RecallRows:
    """Not thread-safe; nothing here suspends. Every change is one transaction, or raises
    StateError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._execute = database.execute

    def get(self, node: Node) -> Recall | None:
        """What was asked for of the content that a node has now."""
        row = self._execute(
            f"SELECT {_COLUMNS} FROM recalls WHERE ino = ? AND content = ?",
            (node.ino, node.content),
        ).fetchone()
        return None if row is None else Recall(*row)

    def ask(
        self,
        wanted: Sequence[tuple[Node, str]],
        days: float,
        now_ns: int,
        request: str | None = None,
    ) -> None:
        """Have content brought from these elements, and kept for so many days; what is there, or
        asked for, stays for as long as is longer. `request`: with which it is asked for, of which
        somebody is to be told."""
        with self._database.transaction():
            for node, element in wanted:
                known = self.get(node)
                if known is None or known.error is not None:
                    row = (node.ino, node.content, element, days, now_ns, now_ns, 0, None, None)
                    self._execute(
                        f"INSERT OR REPLACE INTO recalls ({_COLUMNS}, request) VALUES"
                        " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (*row, request),
                    )
                elif known.until_ns is None:
                    days_of_both = max(days, known.days)
                    self._set(node.ino, "days = ?", days_of_both)
                else:
                    until_ns = max(known.until_ns, now_ns + int(days * DAY_NS))
                    self._set(node.ino, "until_ns = ?", until_ns)

    def due(self, element: str, now_ns: int, limit: int) -> list[Recall]:
        """What is to be tried now, the oldest first."""
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM recalls WHERE {_ASKED} AND element = ? AND due_ns <= ?"
            " ORDER BY due_ns LIMIT ?",
            (element, now_ns, limit),
        )
        return [Recall(*row) for row in rows]

    def next_due_ns(self, element: str) -> int | None:
        row = self._execute(
            f"SELECT min(due_ns) FROM recalls WHERE {_ASKED} AND element = ?", (element,)
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def came(self, recalls: Iterable[Recall], now_ns: int) -> None:
        """They are there, from now on for their time."""
        with self._database.transaction():
            for one in recalls:
                self._set(one.ino, "until_ns = ?", now_ns + int(one.days * DAY_NS))

    def postpone(self, recalls: Iterable[Recall], due_ns: int) -> None:
        """They are not there yet."""
        with self._database.transaction():
            for one in recalls:
                self._set(one.ino, "tries = tries + 1, due_ns = ?", due_ns)

    def fail(self, one: Recall, error: str) -> None:
        """It cannot be had."""
        with self._database.transaction():
            self._set(one.ino, "error = ?", error)

    def lost(self, ino: int, now_ns: int) -> None:
        """It was there, and is not any more: it is asked for again."""
        with self._database.transaction():
            self._set(ino, "until_ns = NULL, tries = 0, due_ns = ?", now_ns)

    def drop(self, inos: Iterable[int]) -> None:
        """Nobody wants them any more."""
        with self._database.transaction():
            for ino in inos:
                self._execute("DELETE FROM recalls WHERE ino = ?", (ino,))

    def _set(self, ino: int, change: str, *values: float | str) -> None:
        self._execute(f"UPDATE recalls SET {change} WHERE ino = ?", (*values, ino))

    def online(self, after: int, limit: int) -> list[int]:
        """Inode numbers, above `after`, of what is there."""
        rows = self._execute(
            "SELECT ino FROM recalls WHERE until_ns IS NOT NULL AND ino > ? ORDER BY ino LIMIT ?",
            (after, limit),
        )
        return [row[0] for row in rows]

    def expired(self, now_ns: int) -> list[int]:
        """Inode numbers of what has been there for its time."""
        rows = self._execute("SELECT ino FROM recalls WHERE until_ns <= ?", (now_ns,))
        return [row[0] for row in rows]

    def next_expiry_ns(self) -> int | None:
        row = self._execute("SELECT min(until_ns) FROM recalls").fetchone()
        return None if row[0] is None else int(row[0])

    @property
    def is_empty(self) -> bool:
        return self._execute("SELECT 1 FROM recalls LIMIT 1").fetchone() is None


def read_waiting(path: str) -> list[Waiting]:
    """What is asked for, by element, from the index at `path`, by a connection of its own, for a
    thread. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        rows = connection.execute(
            "SELECT recalls.element, count(*), total(nodes.size) FROM recalls"
            f" JOIN nodes USING (ino) WHERE {_ASKED} GROUP BY recalls.element"
        )
        return [Waiting(element, files, int(size)) for element, files, size in rows]
