"""What waits in the log for each element, and since when; and how much there is of all.

An intent belongs to the element that it is assigned to, else to the one that has its node already
(the first by name, as everywhere); what is new to all of them belongs to None until it is assigned.
A removal belongs to each element that it names.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from artstorefs.state.database import connect_read_only
from artstorefs.state.log import summary_of

_QUEUES = """
    SELECT element, count(*), min(created_ns) FROM (
        SELECT id, created_ns, coalesce(
            CASE WHEN json_valid(data) THEN json_extract(data, '$.element') END,
            (SELECT min(element) FROM copies WHERE copies.ino = log.ino)
        ) AS element FROM log WHERE ino IS NOT NULL
        UNION ALL
        SELECT DISTINCT log.id, created_ns, json_extract(removed.value, '$[0]')
        FROM log, json_each(iif(json_valid(data), data, '{}'), '$.remove') AS removed
        WHERE operation = 'file_delete'
    ) GROUP BY element
"""

_CONCERNING = """
    SELECT (
        SELECT count(*) FROM log JOIN nodes ON nodes.ino = log.ino WHERE
            CASE WHEN json_valid(data) THEN json_extract(data, '$.element') END = :element
            OR EXISTS (
                SELECT 1 FROM copies WHERE copies.ino = log.ino AND element = :element
                AND (copies.revision != nodes.revision OR nodes.content_state IN (2, 3))
                AND (:takes_new OR nodes.mode & 61440 != 16384)
            )
            OR :takes_new AND NOT EXISTS (SELECT 1 FROM copies WHERE copies.ino = log.ino)
    ) + (
        SELECT count(DISTINCT log.id)
        FROM log, json_each(iif(json_valid(data), data, '{}'), '$.remove') AS removed
        WHERE operation = 'file_delete' AND json_extract(removed.value, '$[0]') = :element
    )
"""


@dataclass(frozen=True, slots=True)
class Queue:
    """What one element has still to be told."""

    intents: int = 0
    oldest_ns: int | None = None
    """When the oldest was logged, nanoseconds since the epoch."""

    def plus(self, other: "Queue") -> "Queue":
        """Both together."""
        times = [one for one in (self.oldest_ns, other.oldest_ns) if one is not None]
        return Queue(self.intents + other.intents, min(times, default=None))

    def oldest_age_s(self, now_ns: int) -> float | None:
        """Age of the oldest; None where there is none."""
        return None if self.oldest_ns is None else max(0.0, (now_ns - self.oldest_ns) / 1e9)


NO_QUEUE = Queue()


@dataclass(frozen=True, slots=True)
class Standing:
    """What an archive holds and has still to do, at one moment of the index."""

    queues: Mapping[str | None, Queue]
    """By element; of None is what is new to all of them."""
    pending: Mapping[str, Any]
    """See `log.summary_of`."""
    nodes: int


def read_standing(path: str) -> Standing:
    """From the index at `path`, with a connection of its own: for a thread, since it takes some
    tenths of a second when a hundred thousand intents wait. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        connection.execute("BEGIN")  # all of it of one moment
        rows: list[tuple[str | None, int, int]] = connection.execute(_QUEUES).fetchall()
        return Standing(
            queues={element: Queue(count, oldest_ns) for element, count, oldest_ns in rows},
            pending=summary_of(connection.execute),
            nodes=int(connection.execute("SELECT count(*) FROM nodes").fetchone()[0]),
        )


def count_concerning(connection: sqlite3.Connection, element: str, *, takes_new: bool) -> int:
    """How many intents an element has still to be told: what is on its way there, what it has an
    older revision of, what is to be removed there; with `takes_new`, because no other does, also
    what no element has. Otherwise newer records of directories go to others."""
    values = {"element": element, "takes_new": takes_new}
    return int(connection.execute(_CONCERNING, values).fetchone()[0])


def read_concerning(path: str, element: str, *, takes_new: bool) -> int:
    """The same with a connection of its own, for a thread. Raises sqlite3.Error."""
    with closing(connect_read_only(path)) as connection:
        return count_concerning(connection, element, takes_new=takes_new)
