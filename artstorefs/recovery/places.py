"""Names for a rebuilt tree: whatever the documents say, each directory has one place below the
root, and no name stands twice in a directory.

What has no parent, or one that is not a directory, and one directory of each circle, goes to
`lost+found`; the second of two equal names becomes `NAME (first 8 of file_id).EXT`.
"""

import logging
import os
from collections.abc import Callable, Iterator
from uuid import UUID

from artstorefs.core.json_text import NAME_LIMIT_BYTES
from artstorefs.state.index import FIRST_LINK_ID, ROOT_INO, Name
from artstorefs.state.node import Node

log = logging.getLogger(__name__)

LOST_AND_FOUND = b"lost+found"


class Places:
    """Gathers the names of one rebuild; `make_directory` makes a directory node for `lost+found`.

    Every node but the root is added once, further links after that; `settle` ends it.
    """

    def __init__(self, rows: dict[int, Node], make_directory: Callable[[], int]) -> None:
        self._rows = rows
        self._make_directory = make_directory
        self._names: dict[int, Name] = {}
        self._taken: dict[tuple[int, bytes], int] = {}
        self._waiting: list[Name] = []
        self._links = FIRST_LINK_ID

    def add_node(self, ino: int, parent: int | None, name: bytes) -> None:
        """The first name of a node."""
        self._add(Name(ino, parent or 0, name, ino, None))

    def add_link(self, link_id: bytes, ino: int, parent: int | None, name: bytes) -> None:
        """A further name."""
        self._links += 1
        self._add(Name(self._links, parent or 0, name, ino, link_id))

    def settle(self) -> list[Name]:
        """All names, after what had no place has got one."""
        for number in self._circles():
            entry = self._names.pop(number)
            del self._taken[entry.parent, entry.name]
            log.error("inode %d was its own ancestor; it is in lost+found", entry.ino)
            self._waiting.append(entry)
        if self._waiting:
            lost = self._lost_and_found()
            for entry in self._waiting:
                self._put(entry, lost)
        return list(self._names.values())

    def _add(self, entry: Name) -> None:
        if entry.parent in self._rows and self._rows[entry.parent].is_directory:
            self._put(entry, entry.parent)
        else:
            log.error("inode %d has no parent any more; it is in lost+found", entry.ino)
            self._waiting.append(entry)

    def _put(self, entry: Name, parent: int) -> None:
        """Give `entry` its name in `parent`, or the nearest one that is free."""
        name = entry.name
        candidates = _others(name, entry, self._rows[entry.ino].file_id)
        while (parent, name) in self._taken:
            name = next(candidates)
        self._taken[parent, name] = entry.id
        self._names[entry.id] = Name(entry.id, parent, name, entry.ino, entry.link_id)

    def _lost_and_found(self) -> int:
        """Inode number of the directory, which is made if there is none."""
        number = self._taken.get((ROOT_INO, LOST_AND_FOUND))
        if number is not None and self._rows[self._names[number].ino].is_directory:
            return self._names[number].ino
        ino = self._make_directory()
        self._put(Name(ino, ROOT_INO, LOST_AND_FOUND, ino, None), ROOT_INO)
        return ino

    def _circles(self) -> Iterator[int]:
        """One node of each circle of directories (documents of a hostile hand)."""
        good = {ROOT_INO, *(entry.ino for entry in self._waiting)}
        for ino in [number for number in self._names if number < FIRST_LINK_ID]:
            chain: dict[int, None] = {}
            at = ino
            while at not in good and at not in chain:
                chain[at] = None
                at = self._names[at].parent
            good.update(chain)
            if at in chain:
                yield at


def _others(name: bytes, entry: Name, file_id: bytes) -> Iterator[bytes]:
    """`NAME (first 8 of file_id).EXT`, then with more of what tells the node, or link, apart."""
    identity = UUID(bytes=entry.link_id or file_id).hex
    yield _marked(name, UUID(bytes=file_id).hex[:8])
    yield _marked(name, identity)
    number = 2
    while True:
        yield _marked(name, f"{identity} {number}")
        number += 1


def _marked(name: bytes, text: str) -> bytes:
    mark = f" ({text})".encode()
    stem, extension = os.path.splitext(name)
    room = NAME_LIMIT_BYTES - len(mark)
    if len(extension) > room // 2:
        stem, extension = name, b""
    return _cut(stem, room - len(extension)) + mark + extension


def _cut(name: bytes, limit_bytes: int) -> bytes:
    """A start of `name`, which does not end in the middle of a UTF-8 sequence where it is one."""
    if len(name) <= limit_bytes:
        return name
    short = name[:limit_bytes]
    try:
        name.decode()
    except UnicodeDecodeError:
        return short
    return short.decode(errors="ignore").encode()
