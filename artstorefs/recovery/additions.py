"""Files that others have put on an element while the archive is mounted: found by a look at the
elements (`survey`, in the transfer process), taken into the tree here, in the mount process.

The look takes its time, and the tree changes meanwhile. What it has found is taken in only if

    * the index has no copy under that key, and no node of that file_id, also none made meanwhile
    * its removal is not, and was not during the look, something that an element is told
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from artstorefs.core.naming import new_file_id, record_key
from artstorefs.filesystem.archive import Archive, now_ns
from artstorefs.recovery.places import other_names
from artstorefs.state.index import ROOT_INO, Copy
from artstorefs.state.log import Removal
from artstorefs.state.node import COLUMNS, ContentState, Node
from artstorefs.state.rows import COPY_COLUMNS
from artstorefs.state.taken_in import Entry, take_in

_FILE_ID = COLUMNS.index("file_id")
_SHA256 = COPY_COLUMNS.index("sha256") - 1  # behind ino

_DIRECTORY = 0o040755


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory on the way to a file. `ino` 0: the index does not know its `file_id`."""

    name: bytes
    ino: int
    file_id: bytes


@dataclass(frozen=True, slots=True)
class FoundFile:
    """An attr.json without a posix section. `node` and `copy` are as `gather.FoundNode` has them:
    rows, the first with inode number 0, the second without."""

    folders: list[Folder]
    name: bytes
    node: tuple[Any, ...]
    copy: tuple[Any, ...]

    @property
    def place(self) -> tuple[str, str]:
        """Element and key of the object."""
        return self.copy[0], self.copy[1]

    def to_message(self) -> dict[str, Any]:
        node, copy = list(self.node), list(self.copy)
        node[_FILE_ID], copy[_SHA256] = node[_FILE_ID].hex(), copy[_SHA256].hex()
        folders = [[one.name.hex(), one.ino, one.file_id.hex()] for one in self.folders]
        return {"folders": folders, "name": self.name.hex(), "node": node, "copy": copy}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "FoundFile":
        """Raises KeyError, TypeError and ValueError for what is none."""
        node, copy = list(message["node"]), list(message["copy"])
        node[_FILE_ID] = bytes.fromhex(node[_FILE_ID])
        copy[_SHA256] = bytes.fromhex(copy[_SHA256])
        folders = [
            Folder(bytes.fromhex(name), ino, bytes.fromhex(file_id))
            for name, ino, file_id in message["folders"]
        ]
        return cls(folders, bytes.fromhex(message["name"]), tuple(node), tuple(copy))


class Additions:
    """Those of one look, made when it is begun."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._index = archive.index
        self._removed: set[tuple[str, str]] = set()
        self._removed_keys: set[str] = set()
        self._made_up: dict[bytes, int] = {}
        """Inode numbers of directories, by the file_id that a rebuild would give them."""
        self._newer_than = archive.index.highest_ino()
        self._new_ids: set[bytes] = set()
        for _, removal in archive.log.removals():
            self.note_removal(removal)

    def note_removal(self, removal: Removal) -> None:
        """What elements are told to remove from now on may be found by the look all the same."""
        self._removed.update((element, key) for element, key in removal.remove)
        self._removed_keys.update(key for _, key in removal.remove)

    def add(self, found: Iterable[FoundFile]) -> list[Entry]:
        """Take in what is new; what was made for it, directories included. Raises StateError, and
        nothing has changed then."""
        self._note_new_nodes()
        now = now_ns()
        entries: list[Entry] = []
        for item in found:
            if self._is_new(item, entries):
                parent = self._directory(item.folders, entries, now)
                entries.append(self._file(item, parent, entries))
        if entries:
            archive = self._archive
            wants_copies = archive.policy.wanted > 1
            take_in(archive.database, archive.log, entries, now, wants_copies=wants_copies)
        for entry in entries:
            self._index.remember(entry.node)
        return entries

    def _note_new_nodes(self) -> None:
        for ino, file_id in self._index.nodes_after(self._newer_than):
            self._new_ids.add(file_id)
            self._newer_than = ino

    def _is_new(self, item: FoundFile, entries: Sequence[Entry]) -> bool:
        file_id = item.node[_FILE_ID]
        return (
            item.place not in self._removed
            and file_id not in self._new_ids
            and all(entry.node.file_id != file_id for entry in entries)
            and not self._index.has_copy(*item.place)
        )

    def _file(self, item: FoundFile, parent: Node, entries: Sequence[Entry]) -> Entry:
        root = self._index.node(ROOT_INO)
        assert root is not None
        node = Node(*item.node)
        node.ino = self._archive.changes.new_ino()
        node.uid, node.gid, node.nlink = root.uid, root.gid, 1
        if self._archive.policy.wanted > 1:
            node.revision = 1  # a document of ours will be written for the further copies
        copy = Copy(node.ino, *item.copy)
        return Entry(node, parent, self._free_name(parent, item.name, node, entries), copy)

    def _directory(self, folders: Sequence[Folder], entries: list[Entry], now: int) -> Node:
        """The directory of a file: as a rebuild would have it, by its file_id or else its name."""
        parent = self._index.node(ROOT_INO)
        assert parent is not None
        for folder in folders:
            node = self._existing(folder, parent, entries)
            if node is None:
                node = self._make_up(folder, parent, now)
                name = self._free_name(parent, folder.name, node, entries)
                entries.append(Entry(node, parent, name, None))
            parent = node
        return parent

    def _existing(self, folder: Folder, parent: Node, entries: Sequence[Entry]) -> Node | None:
        ino = self._made_up.get(folder.file_id, folder.ino)
        for entry in entries:
            if entry.node.ino == ino:
                return entry.node
        node = self._index.node(ino) if ino else None
        if node is None or not node.is_directory or node.nlink == 0:
            node = self._index.child(parent.ino, folder.name)
        return node if node is not None and node.is_directory and node.nlink else None

    def _make_up(self, folder: Folder, parent: Node, now: int) -> Node:
        """A directory with the file_id that a rebuild would give it, so that it is found again; but
        not with that of one that was removed, whose record may have to go yet."""
        file_id = folder.file_id
        is_used = folder.ino or file_id in self._made_up
        if is_used or record_key(UUID(bytes=file_id)) in self._removed_keys:
            file_id = new_file_id()
        ino = self._archive.changes.new_ino()
        self._made_up[folder.file_id] = ino
        return Node(
            *(ino, file_id, _DIRECTORY, parent.uid, parent.gid, 2, 0, 0, now, now, now, now),
            *(parent.uid, None, None, None, None, 1, 0, ContentState.EMPTY, None),
        )

    def _free_name(self, parent: Node, name: bytes, node: Node, entries: Sequence[Entry]) -> bytes:
        taken = {entry.name for entry in entries if entry.parent is parent}
        candidates: Iterator[bytes] = other_names(name, node.file_id)
        while name in taken or self._index.name(parent.ino, name) is not None:
            name = next(candidates)
        return name
