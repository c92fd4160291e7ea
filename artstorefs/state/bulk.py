"""Filling an empty index: rows as they come, in large transactions, nothing logged.

For a rebuild only, before anything else has opened the archive.
"""

from collections.abc import Iterable

from artstorefs.core.crash_points import crash_point
from artstorefs.state.database import Database
from artstorefs.state.index import Copy, Name
from artstorefs.state.node import COLUMNS, Node

_INSERT_NODE = f"INSERT INTO nodes VALUES ({', '.join('?' * len(COLUMNS))})"
_INSERT_NAME = (
    "INSERT INTO names (id, parent, name, ino, link_id, stored) VALUES (?, ?, ?, ?, ?, 1)"
)
_INSERT_COPY = "INSERT INTO copies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def fill(
    database: Database, nodes: Iterable[Node], names: Iterable[Name], copies: Iterable[Copy]
) -> None:
    """All or nothing: an index that was filled half is an empty one at the next start."""
    with database.transaction():
        database.connection.executemany(_INSERT_NODE, (node.values() for node in nodes))
        database.connection.executemany(
            _INSERT_NAME, ((n.id, n.parent, n.name, n.ino, n.link_id) for n in names)
        )
        database.connection.executemany(_INSERT_COPY, (_row(copy) for copy in copies))
        crash_point("rebuild.filled")
    crash_point("rebuild.committed")


def _row(copy: Copy) -> tuple[object, ...]:
    return (
        *(copy.ino, copy.element, copy.key, copy.is_record, copy.revision, copy.content),
        *(copy.size, copy.sha256, copy.blocks, copy.seen_size, copy.seen_modified_ns),
    )
