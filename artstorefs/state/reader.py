"""Reading the index from the transfer process: a connection that cannot write.

Each call sees the newest committed transaction. What it returns belongs together only within one
call, so `snapshot` gathers all that an attr.json or node record needs in one read transaction.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from artstorefs.core.naming import record_key
from artstorefs.state.database import connect_read_only
from artstorefs.state.index import ROOT_INO, Copy, Name, copy_of_row
from artstorefs.state.node import COLUMNS, ContentState, Node
from artstorefs.state.row_sums import NAME_COLUMNS, check_name, check_row
from artstorefs.state.spool_sums import SpoolSum, spool_sum

_NODE = f"SELECT {', '.join(COLUMNS)}, sum FROM nodes WHERE ino = ?"
_NAME = f"SELECT {NAME_COLUMNS} FROM names WHERE id = ?"
_LINKS = f"SELECT {NAME_COLUMNS} FROM names WHERE ino = ? AND link_id IS NOT NULL AND stored <= ?"


COPIES_AT_ONCE = 10_000


def is_text(key: str) -> bool:
    """Whether a key is Unicode, which what a listing shows need not be."""
    return key.isascii() or key == key.encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Link:
    """A further hard link whose record the element does not have, or not as it is now."""

    name: Name
    parent_file_id: bytes

    @property
    def record_key(self) -> str:
        assert self.name.link_id is not None
        return record_key(UUID(bytes=self.name.link_id))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A node with its place in the tree, as of one moment."""

    node: Node
    name: bytes
    parent_file_id: bytes
    links: list[Link]
    copies: list[Copy]
    spool_sum: SpoolSum | None = None
    """Of content that waits in the spool and has been summed."""

    def copy_on(self, element: str) -> Copy | None:
        return next((copy for copy in self.copies if copy.element == element), None)


class Reader:
    """Used by one thread at a time."""

    def __init__(self, path: str) -> None:
        self._connection = connect_read_only(path)
        self._execute = self._connection.execute

    def snapshot(self, ino: int, element: str) -> Snapshot | None:
        """As `element` is to be told of it; None when the node, or its name, is gone. RowDamaged:
        no element may be told what the row says."""
        self._execute("BEGIN")
        try:
            return self._snapshot(ino, element)
        finally:
            self._execute("COMMIT")

    def _snapshot(self, ino: int, element: str) -> Snapshot | None:
        row = self._execute(_NODE, (ino,)).fetchone()
        if row is None:
            return None
        check_row(row[:-1], row[-1])
        node = Node(*row[:-1])
        if ino == ROOT_INO:
            name, parent_file_id = b"", node.file_id
        else:
            first = self._execute(_NAME, (ino,)).fetchone()
            if first is None:
                return None
            check_name(first)
            name, parent_file_id = first[2], self._file_id(first[1])
        copies = self._copies(ino)
        links = []
        if node.nlink > 1 and not node.is_directory:
            is_new = all(copy.element != element for copy in copies)
            for row in self._execute(_LINKS, (ino, is_new)).fetchall():
                check_name(row)
                links.append(Link(Name(*row[:-1]), self._file_id(row[1])))
        known = None
        if node.content_state == ContentState.SEALED:
            known = spool_sum(self._execute, ino, node.content)
        return Snapshot(node, name, parent_file_id, links, copies, known)

    def _file_id(self, ino: int) -> bytes:
        row = self._execute("SELECT file_id FROM nodes WHERE ino = ?", (ino,)).fetchone()
        if row is None:
            raise sqlite3.DatabaseError(f"inode {ino} has children and no row")
        return bytes(row[0])

    def _copies(self, ino: int) -> list[Copy]:
        rows = self._execute("SELECT * FROM copies WHERE ino = ?", (ino,))
        return [copy_of_row(row) for row in rows]

    def copy_under(self, element: str, key: str) -> Copy | None:
        """What the index believes that an element has under a key, if anything; a key that is no
        text, as a listing may show, is none that it knows."""
        if not is_text(key):
            return None
        row = self._execute(
            "SELECT * FROM copies WHERE element = ? AND key = ?", (element, key)
        ).fetchone()
        return copy_of_row(row) if row else None

    def ino_under(self, element: str, key: str) -> int | None:
        """The inode number of what an element has under the key of an object, if it is known."""
        query = "SELECT ino FROM copies WHERE element = ? AND key = ?"
        row = self._execute(query, (element, key)).fetchone() if is_text(key) else None
        return None if row is None else int(row[0])

    def copies_on(self, element: str) -> Iterator[tuple[int, str, bool, bool]]:
        """Inode number, key, whether it is a record, and whether its object lies offline, of all
        that the index believes to be on an element; read piece by piece, so that nothing waits for
        whoever is slow with it."""
        last = -1
        query = (
            "SELECT c.ino, c.key, c.is_record, o.ino IS NOT NULL FROM copies c"
            " LEFT JOIN offline o USING (element, ino, content)"
            f" WHERE c.element = ? AND c.ino > ? ORDER BY c.ino LIMIT {COPIES_AT_ONCE}"
        )
        while rows := self._execute(query, (element, last)).fetchall():
            for ino, key, is_record, is_offline in rows:
                yield ino, key, bool(is_record), bool(is_offline)
            last = rows[-1][0]

    def is_being_removed(self, ino: int) -> bool:
        """Whether something of a node is to be removed from an element."""
        query = (
            "SELECT 1 FROM log WHERE operation = 'file_delete'"
            " AND CASE WHEN json_valid(data) THEN json_extract(data, '$.ino') END = ?"
        )
        return self._execute(query, (ino,)).fetchone() is not None

    def remember_ids(self) -> None:
        """Have `node_of_id` answer for every node of this moment, from a table of our own: an index
        of file ids would cost every change, and is asked now and then."""
        self._execute("DROP TABLE IF EXISTS temp.known_ids")
        self._execute("CREATE TEMP TABLE known_ids AS SELECT file_id, ino, mode FROM nodes")
        self._execute("CREATE INDEX temp.known_ids_by_id ON known_ids (file_id)")

    def node_of_id(self, file_id: bytes) -> tuple[int, int] | None:
        """Inode number and mode of a node that was there at `remember_ids`."""
        query = "SELECT ino, mode FROM temp.known_ids WHERE file_id = ?"
        found: tuple[int, int] | None = self._execute(query, (file_id,)).fetchone()
        return found

    def root_id(self) -> bytes:
        """The file_id of the root directory."""
        return self._file_id(ROOT_INO)

    def stored_bytes(self, element: str) -> int:
        """Content of all objects on an element, whatever sizes others have written there."""
        # sum() fails beyond 64 bits; what total() loses matters to nobody at 2^53 bytes
        row = self._execute(
            "SELECT total(size) FROM copies WHERE element = ?", (element,)
        ).fetchone()
        return int(row[0])

    def close(self) -> None:
        self._connection.close()
