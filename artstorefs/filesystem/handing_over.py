"""Open files that one daemon hands to the next, along with the kernel's connection.

A program that has a file open over an upgrade goes on with it: the kernel names the file by the
number that the daemon before has given it, so the next one has to know what is open under which
number, and, of a file that the kernel writes by itself (`passthrough.py`), its id of the spool
file. That is all there is to hand over: content and names are in the spool and the index, where
every start finds them. `daemon/UPGRADE.md` says when this is done.

What was handed over stays OPEN, where a start would seal it (`recovery/decisions.py`).
"""

import logging
from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict

from artstorefs.filesystem.open_file import Handle, OpenFile
from artstorefs.filesystem.passthrough import Passthrough
from artstorefs.state.database import Database
from artstorefs.state.index import Index
from artstorefs.state.node import ContentState, Node

log = logging.getLogger(__name__)

_SETTING = "handover"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HandedHandle(_Record):
    """An open file description."""

    number: int
    """By which the kernel names it."""
    ino: int
    flags: int
    """Those of open(2)."""
    uid: int
    is_cached: bool


class HandedFile(_Record):
    """An inode with such descriptions. The rest of its node is what the index says."""

    ino: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    backing: int
    """The kernel's id of the spool file, 0 for a file that is not bound."""
    seen_atime_ns: int
    seen_mtime_ns: int
    """Times of the bound spool file that are taken into account above."""
    may_be_mapped: bool
    is_mapped: bool


class OpenFiles(_Record):
    """Whatever programs have open."""

    handles: list[HandedHandle] = []
    files: list[HandedFile] = []

    @property
    def inos(self) -> frozenset[int]:
        return frozenset(file.ino for file in self.files)


class HandingOver:
    """Describes open files, and takes those that were described."""

    def __init__(
        self,
        index: Index,
        files: dict[int, OpenFile],
        passthrough: Passthrough,
        make_writable: Callable[[OpenFile, bool], object],
    ) -> None:
        """`files`: the open ones by inode number. `make_writable(file, False)` gives a file its
        OPEN spool file."""
        self._index = index
        self._files = files
        self._passthrough = passthrough
        self._make_writable = make_writable

    def describe(self, handles: Mapping[int, Handle]) -> OpenFiles:
        """What is open under which number. Nobody asks for anything any more."""
        files = {handle.file.node.ino: handle.file for handle in handles.values()}
        for file in files.values():
            if file.backing:
                self._passthrough.refresh(file)
        return OpenFiles(
            handles=[
                HandedHandle(
                    number=number,
                    ino=handle.file.node.ino,
                    flags=handle.flags,
                    uid=handle.uid,
                    is_cached=handle.is_cached,
                )
                for number, handle in handles.items()
            ],
            files=[_described(file) for file in files.values()],
        )

    def take(self, handed: OpenFiles) -> dict[int, Handle]:
        """At the start, after the recovery: the open descriptions by number. What else is OPEN a
        program writes that has outlived a daemon."""
        described = {file.ino: file for file in handed.files}
        handles: dict[int, Handle] = {}
        for one in handed.handles:
            node = self._index.node(one.ino)
            if node is None:
                log.error("inode %d was handed over, and is not in the index", one.ino)
                continue
            file = self._files.setdefault(one.ino, OpenFile(node))
            handle = handles[one.number] = Handle(file, one.flags, one.uid, one.is_cached)
            file.handles += 1
            file.writers += handle.may_write
            file.cached_handles += one.is_cached
        for file in self._files.values():
            self._take(file, described[file.node.ino])
        for ino in self._index.inos_in_state(ContentState.OPEN):
            node = self._index.node(ino)
            if node is not None and ino not in self._files:
                self._hold_written(node)
        return handles

    def _take(self, file: OpenFile, described: HandedFile) -> None:
        node = file.node
        if node.content_state == ContentState.OPEN:
            node.size = described.size
            node.atime_ns, node.mtime_ns = described.atime_ns, described.mtime_ns
            node.ctime_ns = described.ctime_ns
            self._make_writable(file, False)
            file.has_room_ahead = True  # or not; it is looked at when it is sealed
        file.may_be_mapped, file.is_mapped = described.may_be_mapped, described.is_mapped
        if described.backing:
            file.backing = described.backing
            file.seen_times_ns = described.seen_atime_ns, described.seen_mtime_ns
            self._passthrough.refresh(file)  # the kernel has gone on writing
        if file.writers or file.backing:
            self._passthrough.watch(file)

    def _hold_written(self, node: Node) -> None:
        file = self._files[node.ino] = OpenFile(node)
        file.is_mapped = True
        self._make_writable(file, False)
        file.has_room_ahead = True


def note_left(database: Database, number: int) -> None:
    """The index is as the handover of this number describes it. Raises StateError."""
    with database.transaction():
        database.set_setting(_SETTING, str(number))


def forget_left(database: Database) -> int | None:
    """Whose number that was, if nobody has changed the index since; from here on somebody may.
    Raises StateError."""
    number = database.setting(_SETTING)
    if number is None:
        return None
    with database.transaction():
        database.execute("DELETE FROM settings WHERE key = ?", (_SETTING,))
    return int(number) if number.isdecimal() else None


def _described(file: OpenFile) -> HandedFile:
    node = file.node
    seen_atime_ns, seen_mtime_ns = file.seen_times_ns
    return HandedFile(
        ino=node.ino,
        size=node.size,
        atime_ns=node.atime_ns,
        mtime_ns=node.mtime_ns,
        ctime_ns=node.ctime_ns,
        backing=file.backing,
        seen_atime_ns=seen_atime_ns,
        seen_mtime_ns=seen_mtime_ns,
        may_be_mapped=file.may_be_mapped,
        is_mapped=file.is_mapped,
    )
