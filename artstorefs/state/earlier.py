"""An index as it was some time ago, read for a rebuild: a backup, or one that lost its log.

The elements know better what they hold. What only the index knew is taken from here: inode
numbers, and intents that were pending with the rows that they are about. And a document that is as
the index remembers it does not have to be read again.
"""

import json
import sqlite3
from typing import Any, NamedTuple

from artstorefs.state.index import ROOT_INO, Name
from artstorefs.state.node import COLUMNS, Node
from artstorefs.state.rows import COPY_COLUMNS, LEAVING

_DOCUMENTS = "SELECT element, key, is_record, seen_size, seen_modified_ns, ino FROM copies"
_COPIES = f"SELECT {', '.join(COPY_COLUMNS[1:LEAVING])} FROM copies WHERE ino = ?"
_NODE = f"SELECT {', '.join(COLUMNS)} FROM nodes WHERE ino = ?"


class Seen(NamedTuple):
    """A document as the index remembers it."""

    size_bytes: int
    mark: int
    ino: int


class EarlierNode(NamedTuple):
    node: Node
    parent: bytes
    """file_id of the directory of its first name."""
    name: bytes


class EarlierIndex:
    """Nothing is written; nobody else may write to the file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection = sqlite3.connect(
            f"file:{path}?mode=ro&immutable=1", uri=True, isolation_level=None
        )
        self._execute = self._connection.execute
        self.inos: dict[bytes, int] = dict(self._execute("SELECT file_id, ino FROM nodes"))

    def root_id(self) -> bytes | None:
        row = self._execute("SELECT file_id FROM nodes WHERE ino = ?", (ROOT_INO,)).fetchone()
        return row[0] if row else None

    def documents(self, sidecar_suffix: str) -> dict[tuple[str, str], Seen]:
        """By element and key of the document; an object's is its key and `sidecar_suffix`."""
        return {
            (element, key if is_record else key + sidecar_suffix): Seen(size, mark, ino)
            for element, key, is_record, size, mark, ino in self._execute(_DOCUMENTS)
        }

    def node(self, ino: int) -> EarlierNode | None:
        """None when the node has no name, or its directory is not there."""
        row = self._execute(_NODE, (ino,)).fetchone()
        if row is None:
            return None
        node = Node(*row)
        if ino == ROOT_INO:
            return EarlierNode(node, node.file_id, b"")
        place = self._execute(
            "SELECT p.file_id, e.name FROM names e JOIN nodes p ON p.ino = e.parent WHERE e.id = ?",
            (ino,),
        ).fetchone()
        return EarlierNode(node, *place) if place else None

    def copies(self, ino: int) -> list[tuple[Any, ...]]:
        """Rows of `copies`, without the inode number, and without when they were to be removed:
        nothing is on the word of an index that has been given up."""
        return self._execute(_COPIES, (ino,)).fetchall()

    def unstored_links(self, ino: int) -> list[tuple[Name, bytes]]:
        """Further names whose link records no element had, with their directory's file_id."""
        rows = self._execute(
            "SELECT e.id, e.parent, e.name, e.ino, e.link_id, p.file_id FROM names e"
            " JOIN nodes p ON p.ino = e.parent"
            " WHERE e.ino = ? AND e.link_id IS NOT NULL AND e.stored = 0",
            (ino,),
        )
        return [(Name(*row[:5]), row[5]) for row in rows]

    def intents(self) -> list[tuple[Any, ...]]:
        """Rows of `log` about nodes. Removals are left out: what was to go may be needed again."""
        return self._execute(
            "SELECT ino, operation, status, ino, file_id, data, error, created_ns, updated_ns, uid"
            " FROM log WHERE ino IS NOT NULL ORDER BY created_ns, id"
        ).fetchall()

    def changed_attributes(self, ino: int) -> list[tuple[int, str]]:
        """Rows of `changed_attributes` for a node that waits. A backup by an older release has no
        such table; then any attribute may be changed."""
        if not self._execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'changed_attributes'"
        ).fetchone():
            row = self._execute("SELECT custom FROM nodes WHERE ino = ?", (ino,)).fetchone()
            return [(ino, key) for key in json.loads(row[0] or "{}")] if row else []
        return self._execute("SELECT * FROM changed_attributes WHERE ino = ?", (ino,)).fetchall()

    def settings(self) -> list[tuple[str, str]]:
        return self._execute("SELECT key, value FROM settings").fetchall()

    def highest_numbers(self) -> tuple[int, int]:
        """The highest inode number and the highest id of a name."""
        ino = self._execute(
            "SELECT max(ino) FROM (SELECT ino FROM nodes UNION ALL"
            " SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'last_ino')"
        ).fetchone()[0]
        name = self._execute("SELECT max(id) FROM names").fetchone()[0]
        return int(ino or 0), int(name or 0)

    def close(self) -> None:
        self._connection.close()
