"""Names for a rebuilt tree: whatever the documents say, each directory has one place below the
root, and no name stands twice in a directory.

What has no parent, or one that is not a directory, and one directory of each circle, goes to
`lost+found`; the second of two equal names becomes `NAME (first 8 of file_id).EXT`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol
from uuid import UUID

from artstorefs.core.json_text import NAME_LIMIT_BYTES
from artstorefs.state.index import FIRST_LINK_ID, ROOT_INO, Name

LOST_AND_FOUND = b"lost+found"


class Placed(Protocol):
    """What has to be known of a node."""

    @property
    def file_id(self) -> bytes: ...
    @property
    def is_directory(self) -> bool: ...


class Places:
    """Gathers the names of one rebuild.

    `lost_and_found` gives the inode number of a directory for `lost+found`, one that it makes or
    one that is below the root already. `problem` is told what a person has to know. The ids of
    further names begin behind `last_link_id`. Every node but the root is added once, further links
    after that; `settle` ends it.
    """

    def __init__(
        self,
        nodes: Mapping[int, Placed],
        lost_and_found: Callable[[], int],
        problem: Callable[[str], None],
        last_link_id: int = FIRST_LINK_ID,
    ) -> None:
        self.lost = 0
        self.renamed = 0
        self._nodes = nodes
        self._make_lost_and_found = lost_and_found
        self._problem = problem
        self._names: dict[int, Name] = {}
        self._taken: dict[tuple[int, bytes], int] = {}
        self._waiting: list[Name] = []
        self._last_link_id = last_link_id

    def add_node(self, ino: int, parent: int | None, name: bytes) -> None:
        """The first name of a node."""
        self._add(Name(ino, parent or 0, name, ino, None))

    def add_link(self, link_id: bytes, ino: int, parent: int | None, name: bytes) -> int:
        """A further name; its id."""
        self._last_link_id += 1
        self._add(Name(self._last_link_id, parent or 0, name, ino, link_id))
        return self._last_link_id

    def directory(self, parent: int, name: bytes) -> int | None:
        """Inode number of the directory that has this name so far."""
        number = self._taken.get((parent, name))
        ino = None if number is None else self._names[number].ino
        return ino if ino is not None and self._nodes[ino].is_directory else None

    def settle(self) -> list[Name]:
        """All names, after what had no place has got one."""
        for number in self._circles():
            entry = self._names.pop(number)
            del self._taken[entry.parent, entry.name]
            self._wait(entry)
        if self._waiting:
            lost = self._lost_and_found()
            for entry in self._waiting:
                self._put(entry, lost)
        return list(self._names.values())

    def _add(self, entry: Name) -> None:
        if entry.parent in self._nodes and self._nodes[entry.parent].is_directory:
            self._put(entry, entry.parent)
        else:
            self._wait(entry)

    def _wait(self, entry: Name) -> None:
        self.lost += 1
        shown = entry.name.decode(errors="backslashreplace")
        self._problem(f"{shown}: its directory is not there, or lies within it; in lost+found")
        self._waiting.append(entry)

    def _put(self, entry: Name, parent: int) -> None:
        """Give `entry` its name in `parent`, or the nearest one that is free."""
        name = entry.name
        candidates = other_names(name, self._nodes[entry.ino].file_id, entry.link_id)
        self.renamed += (parent, name) in self._taken
        while (parent, name) in self._taken:
            name = next(candidates)
        self._taken[parent, name] = entry.id
        self._names[entry.id] = Name(entry.id, parent, name, entry.ino, entry.link_id)

    def _lost_and_found(self) -> int:
        """Inode number of the directory, which is made if there is none."""
        ino = self.directory(ROOT_INO, LOST_AND_FOUND)
        if ino is None:
            ino = self._make_lost_and_found()
            if ino not in self._names:
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


def other_names(name: bytes, file_id: bytes, link_id: bytes | None = None) -> Iterator[bytes]:
    """`NAME (first 8 of file_id).EXT`, then with more of what tells the node, or link, apart."""
    identity = UUID(bytes=link_id or file_id).hex
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
