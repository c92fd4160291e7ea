"""Reading the index: nodes, names, copies. All lookups of the mount process go through here.

Owns the cache of `Node` objects and its one invariant: there is at most one `Node` for an inode
number at a time. Weak references keep that true for nodes that somebody holds; a bounded number of
recently used ones is held here.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from artstorefs.state.database import Database
from artstorefs.state.node import COLUMNS, ContentState, Node
from artstorefs.state.row_sums import NAME_COLUMNS, RowDamaged, check_name, check_row
from artstorefs.state.spool_sums import SpoolSum, spool_sum

ROOT_INO = 1

DOT_POSITION, DOT_DOT_POSITION = 2, 3
"""Positions of `.` and `..` in a directory; names have higher ones."""

FIRST_INO = 16
"""Of what is created in the tree: the numbers below are kept for the root and for positions."""

FIRST_LINK_ID = 1 << 62
"""Names of further hard links have ids from here up; inode numbers never get this far."""

CACHED_NODES = 20_000
"""Recently used nodes held in memory: about 20 MiB."""

_NODE_COLUMNS = ", ".join(COLUMNS)
_NAME_OF = f"SELECT {NAME_COLUMNS} FROM names WHERE parent = ? AND name = ?"
_LINKS_OF = f"SELECT {NAME_COLUMNS} FROM names WHERE ino = ? AND link_id IS NOT NULL"
_NAME_END = len(NAME_COLUMNS.split(", "))
_CHILDREN = (
    f"SELECT {', '.join(f'e.{column}' for column in NAME_COLUMNS.split(', '))},"
    f" {', '.join(f'n.{column}' for column in COLUMNS)}, n.sum"
    " FROM names e INDEXED BY names_by_parent JOIN nodes n ON n.ino = e.ino"
    " WHERE e.parent = ? AND e.id > ? ORDER BY e.id LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Name:
    """A directory entry. `link_id` is None for a node's first name."""

    id: int
    parent: int
    name: bytes
    ino: int
    link_id: bytes | None


@dataclass(frozen=True, slots=True)
class Copy:
    """What one element holds of a node, see table `copies`."""

    ino: int
    element: str
    key: str
    is_record: bool
    revision: int
    content: int
    size: int
    sha256: bytes | None
    blocks: bytes | None
    seen_size: int
    seen_modified_ns: int
    leaves_ns: int | None = None
    moved_by: int | None = None
    locked_ns: int | None = None


class Index:
    """Reads for the mount process. Not thread-safe; nothing here suspends or writes."""

    def __init__(self, database: Database) -> None:
        self._execute = database.execute
        self._nodes: WeakValueDictionary[int, Node] = WeakValueDictionary()
        self._recent: dict[int, Node] = {}

    # -------------------------------------------------------------------------------- nodes

    def node(self, ino: int) -> Node | None:
        """The node with this inode number, or None. RowDamaged: nothing in it can be trusted."""
        node = self._nodes.get(ino)
        if node is None:
            row = self._execute(
                f"SELECT {_NODE_COLUMNS}, sum FROM nodes WHERE ino = ?", (ino,)
            ).fetchone()
            if row is None:
                return None
            check_row(row[:-1], row[-1])
            node = Node(*row[:-1])
            self.remember(node)
        return node

    def remember(self, node: Node) -> None:
        """Make `node` the one object for its inode number."""
        self._nodes[node.ino] = node
        recent = self._recent
        recent[node.ino] = node
        if len(recent) > CACHED_NODES:
            for ino in list(recent)[: CACHED_NODES // 4]:
                del recent[ino]

    def forget(self, ino: int) -> None:
        """The node is gone from the tree; whoever still holds the object keeps it."""
        self._nodes.pop(ino, None)
        self._recent.pop(ino, None)

    def count_nodes(self) -> int:
        return int(self._execute("SELECT count(*) FROM nodes").fetchone()[0])

    def highest_ino(self) -> int:
        row = self._execute("SELECT max(ino) FROM nodes").fetchone()
        return int(row[0] or 0)

    def highest_name_id(self) -> int:
        row = self._execute("SELECT max(id) FROM names").fetchone()
        return int(row[0] or 0)

    def nodes_after(self, ino: int) -> list[tuple[int, bytes]]:
        """Inode number and file_id of all nodes with higher numbers, in their order."""
        return self._execute(
            "SELECT ino, file_id FROM nodes WHERE ino > ? ORDER BY ino", (ino,)
        ).fetchall()

    def inos_in_state(self, state: int) -> list[int]:
        """Inode numbers whose content is in this state. Reads the whole table: for the start."""
        rows = self._execute("SELECT ino FROM nodes WHERE content_state = ?", (state,))
        return [row[0] for row in rows]

    def nodes_without_names(self) -> list[int]:
        rows = self._execute("SELECT ino FROM nodes WHERE nlink = 0")
        return [row[0] for row in rows]

    def ino_of(self, file_id: bytes) -> int | None:
        """The inode number of a file id. Reads the whole table: for what is rarely asked."""
        row = self._execute("SELECT ino FROM nodes WHERE file_id = ?", (file_id,)).fetchone()
        return None if row is None else int(row[0])

    # -------------------------------------------------------------------------------- names

    def child(self, parent: int, name: bytes) -> Node | None:
        """The node that a directory entry names, or None."""
        entry = self.name(parent, name)
        return None if entry is None else self.node(entry.ino)

    def name(self, parent: int, name: bytes) -> Name | None:
        row = self._execute(_NAME_OF, (parent, name)).fetchone()
        if row is None:
            return None
        check_name(row)
        if (row[1], row[2]) != (parent, name):  # it was found by SQLite's index
            raise RowDamaged(row[3])
        return Name(*row[:-1])

    def first_name(self, ino: int) -> Name | None:
        """The name that attr.json or the node record carries; directories have no other."""
        row = self._execute(f"SELECT {NAME_COLUMNS} FROM names WHERE id = ?", (ino,)).fetchone()
        if row is None:
            return None
        check_name(row)
        return Name(*row[:-1])

    def link_names(self, ino: int) -> list[Name]:
        """Names of further hard links."""
        rows = self._execute(_LINKS_OF, (ino,)).fetchall()
        for row in rows:
            check_name(row)
        return [Name(*row[:-1]) for row in rows]

    def children(self, parent: int, after: int, limit: int) -> list[tuple[int, bytes, Node]]:
        """Directory entries in order of their id from `after` (exclusive) on. One whose node is
        damaged is among them, as its row has it: it is there, and `node` says the rest."""
        rows = self._execute(_CHILDREN, (parent, after, limit)).fetchall()
        entries = []
        known = self._nodes.get
        for row in rows:
            check_name(row[:_NAME_END])
            ino = row[_NAME_END]
            node = known(ino)
            if node is None:
                values = row[_NAME_END:-1]
                node = Node(*values)
                with suppress(RowDamaged):
                    check_row(values, row[-1])
                    self.remember(node)
            entries.append((row[0], row[2], node))
        return entries

    def has_children(self, parent: int) -> bool:
        row = self._execute("SELECT 1 FROM names WHERE parent = ? LIMIT 1", (parent,)).fetchone()
        return row is not None

    def path(self, ino: int) -> bytes:
        """The path of a node from the root, for messages; `?` where a parent is missing."""
        parts: list[bytes] = []
        while ino != ROOT_INO:
            entry = self.first_name(ino)
            if entry is None or len(parts) > 4096:
                parts.append(b"?")
                break
            parts.append(entry.name)
            ino = entry.parent
        return b"/" + b"/".join(reversed(parts))

    # -------------------------------------------------------------------------------- copies

    def copies(self, ino: int) -> list[Copy]:
        return [
            copy_of_row(row) for row in self._execute("SELECT * FROM copies WHERE ino = ?", (ino,))
        ]

    def has_copy(self, element: str, key: str) -> bool:
        """Whether an element has something of a node under this key, by what is known."""
        query = "SELECT 1 FROM copies WHERE element = ? AND key = ?"
        return self._execute(query, (element, key)).fetchone() is not None

    def all_copies(self, element: str) -> Iterator[Copy]:
        for row in self._execute("SELECT * FROM copies WHERE element = ?", (element,)):
            yield copy_of_row(row)

    # ------------------------------------------------------------------------------ the spool

    def sealed_sizes(self) -> list[tuple[int, int]]:
        """Inode number and size of all content that is SEALED. Reads the whole table: for the
        start."""
        return self._execute(
            "SELECT ino, size FROM nodes WHERE content_state = ?", (ContentState.SEALED,)
        ).fetchall()

    def spool_sum(self, node: Node) -> SpoolSum | None:
        """What the content of `node` must be, if it waits in the spool and has been summed."""
        if node.content_state != ContentState.SEALED:
            return None
        return spool_sum(self._execute, node.ino, node.content)


def copy_of_row(row: tuple[Any, ...]) -> Copy:
    """A row of `copies`, as `SELECT *` gives it."""
    ino, element, key, is_record, *rest = row
    return Copy(ino, element, key, bool(is_record), *rest)
