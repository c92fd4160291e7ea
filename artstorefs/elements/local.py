"""A directory on a mounted filesystem as an element.

Owns the meaning of keys on disk: a key is the path of a regular file (mode 0640) below the root,
directories (0750) come and go with their files. How directories are reached is in
`directories.py`, how content is staged and flushed in `staging.py`, how it gets to its key in
`publication.py`. One process writes to an element; others may read it, and people may look at it
with any tool.

The steps of a barrier, and what a crash after each leaves:

    step  what                                            a crash after it leaves
    0     changes are staged                              temporaries, shown by `leftovers`
    1     the element is checked to be still there        the same
    2     contents are made durable                       the same
    3     each change is carried out, in order            the first n of them, each whole, which may
                                                          or may not survive a power cut
    4     the directories touched are made durable        everything
    5     the element is checked again                    everything

Whoever staged repeats it all after a crash before step 4 is over: `put` recognises its object by
SHA-256 and flushes it once more, `replace` and `remove` can be repeated anyway.
"""

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import BinaryIO

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ElementDenied, ElementError, ElementUnavailable, ObjectExists
from artstorefs.elements import durable
from artstorefs.elements.adoption import Adoption
from artstorefs.elements.directories import (
    DIRECTORY_MODE,
    Directories,
    parent_of,
)
from artstorefs.elements.interface import (
    ARCHIVE_KEY,
    IN_PLACE,
    OWN_DIRECTORY,
    TEMPORARY_PREFIX,
    Capacity,
    ObjectStat,
    check_key,
    check_prefix,
    check_writable_key,
)
from artstorefs.elements.listing import LOST_AND_FOUND, object_stat, walk
from artstorefs.elements.os_errors import translated
from artstorefs.elements.publication import Publication
from artstorefs.elements.regular import open_regular
from artstorefs.elements.staging import (
    TEMPORARY_DIRECTORY,
    Action,
    Staging,
    sha256_of,
)

NODES_DIRECTORY = f"{OWN_DIRECTORY}/nodes"


class LocalElement:
    """The `Element` on a directory of a mounted filesystem. See `interface.py` for the contract."""

    kind = "local"
    capabilities = IN_PLACE

    def __init__(
        self,
        id: str,
        path: str,
        *,
        capacity_bytes: int | None = None,
        adoption: Adoption | None = None,
    ) -> None:
        """Open an element that `initialize` has made, or one of ArtStore's (`adoption`); reads
        only, so that read-only media work.

        `ElementUnavailable` if there is no element under `path`, a disk that is not mounted for
        example. `capacity_bytes` is the part of the filesystem that the archive may use.
        """
        self.id = id
        self._capacity_bytes = capacity_bytes
        self._directories = Directories(id, path, adoption)
        self._barrier_lock = threading.Lock()
        self._publication = Publication(self._directories)
        try:
            with translated(id, path):
                self._staging = Staging(self._directories)
                self._check_one_device()
        except ElementError:
            self._publication.close()
            self._directories.close()
            raise

    @staticmethod
    def initialize(path: str) -> None:
        """Make an element of a new or empty directory, durably. Idempotent.

        `ElementDenied` if the directory holds other things. What says which archive it belongs to
        (archive.json) is put there by the caller, through the element.
        """
        with translated(path, ""):
            durable.make_directories_durably(path, DIRECTORY_MODE)
            others = set(os.listdir(path)) - {LOST_AND_FOUND}
            if others and OWN_DIRECTORY not in others:
                raise ElementDenied(path, "", "is not empty; give an empty or a new directory")
            own = os.path.join(path, OWN_DIRECTORY)
            if os.path.islink(own):
                raise ElementDenied(path, "", f"{OWN_DIRECTORY} is a symbolic link")
            for directory in (TEMPORARY_DIRECTORY, NODES_DIRECTORY):
                made = os.path.join(path, directory)
                durable.make_directories_durably(made, DIRECTORY_MODE)

    def put(
        self,
        key: str,
        source_path: str,
        *,
        size_bytes: int,
        sha256: str | None = None,
        is_first: bool = False,
    ) -> None:
        """Stage a new object: by hard link from the same filesystem, else by a verified copy."""
        check_writable_key(self.id, key)
        self._check_before_the_first()
        staged = self._staging.latest(key)
        if staged is None:
            occupied = self._look_up(key) is not None
        else:
            occupied = staged.action is not Action.REMOVE
        if not occupied:
            self._staging.stage_file(key, source_path, size_bytes, sha256)
        elif sha256 is None or (staged is not None and not staged.stores(size_bytes, sha256)):
            raise ObjectExists(self.id, key)
        elif staged is None:
            self._confirm(key, size_bytes, sha256)

    def replace(self, key: str, data: bytes) -> None:
        """Stage a document; the barrier renames it over the old one."""
        check_writable_key(self.id, key)
        self._check_before_the_first()
        self._staging.stage_document(key, data, self._look_up(key))

    def remove(self, key: str) -> None:
        """Stage a removal; the barrier removes hours, days, … that become empty as well."""
        check_key(self.id, key)
        self._look_up(key)
        self._staging.stage_removal(key)

    def barrier(self) -> Mapping[str, int]:
        """Carry out and flush what is staged, by the steps in the header of this file."""
        with self._barrier_lock:
            batch = self._staging.take()
            if not batch:
                return {}
            try:
                self._directories.check_present()
                self._staging.flush_contents(batch)
                crash_point("barrier.contents_flushed")
                if any(change.key == ARCHIVE_KEY for change in batch):
                    self._directories.forget_archive_document()
                touched = self._publication.carry_out(batch)
                crash_point("barrier.published")
                self._staging.flush_directories(touched)
                crash_point("barrier.directories_flushed")
                self._publication.flushed(touched)
                self._directories.check_present()
            except BaseException:
                self._publication.failed()
                raise
            finally:
                self._staging.drop(batch)
        return {}

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Positioned read of a regular file; loops, since one pread may give less."""
        fd = self._open(key)
        try:
            with translated(self.id, key):
                data = os.pread(fd, length, offset)
                while len(data) < length and (
                    more := os.pread(fd, length - len(data), offset + len(data))
                ):
                    data += more
                return data
        finally:
            os.close(fd)

    def open_read(self, key: str) -> BinaryIO:
        """The file itself; its `fileno()` may be handed to the kernel."""
        return open(self._open(key), "rb")

    def stat(self, key: str) -> ObjectStat:
        """stat(2) of a regular file."""
        check_key(self.id, key)
        found = self._look_up(key)
        if found is None:
            raise self._directories.absent(key)
        return object_stat(key, found)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Walk the tree below the prefix's directory."""
        check_prefix(self.id, prefix)
        skip = frozenset({TEMPORARY_DIRECTORY, LOST_AND_FOUND})
        for found in walk(self._directories, parent_of(prefix), skip):
            if found.key.startswith(prefix) and not found.key.startswith(TEMPORARY_PREFIX):
                yield found

    def leftovers(self) -> Iterator[ObjectStat]:
        """What lies in the temporary directory and was not staged by this process."""
        for found in walk(self._directories, TEMPORARY_DIRECTORY, frozenset()):
            if not self._staging.is_own(found.key.removeprefix(TEMPORARY_PREFIX)):
                yield found

    def capacity(self) -> Capacity:
        """statvfs(3) of the filesystem, with the configured limit as the size if that is less.

        How much of a configured limit is used only the index knows; `free_bytes` is what the
        filesystem would still take from us, and never more than the limit.
        """
        self._directories.check_present()
        with translated(self.id, ""):
            room = os.fstatvfs(self._directories.root_fd)
        total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        if self._capacity_bytes is not None:
            total, free = min(total, self._capacity_bytes), min(free, self._capacity_bytes)
        if not room.f_files:  # btrfs: inodes are made as they are needed
            return Capacity(total, free, None, None)
        return Capacity(total, free, room.f_files, room.f_favail)

    def can_lock(self) -> bool:
        """A directory does not keep anything from its owner."""
        return False

    def lock(self, key: str, until_ns: int) -> None:
        """Refused."""
        raise ElementDenied(self.id, key, "a directory locks nothing")

    def close(self) -> None:
        """Remove what is staged, close all descriptors."""
        self._staging.drop(self._staging.take())
        self._publication.close()
        self._directories.close()

    def _check_before_the_first(self) -> None:
        """That not even a temporary gets into what is in the element's place by now."""
        if self._staging.is_empty:
            self._directories.check_present()

    # ------------------------------------------------------------------- what lies under a key

    def _look_up(self, key: str) -> os.stat_result | None:
        """What lies under a key, None if there is nothing; refuses all but regular files.

        Asked before each staging too, so that what can never work is told to the one who asks for
        it, instead of failing everybody's barrier.
        """
        directory, _, name = key.rpartition("/")
        with translated(self.id, key):
            try:
                with self._directories.opened(directory) as fd:
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(found.st_mode):
            raise ElementDenied(self.id, key, "is not a regular file")
        return found

    def _open(self, key: str) -> int:
        check_key(self.id, key)
        directory, _, name = key.rpartition("/")
        with translated(self.id, key):
            try:
                with self._directories.opened(directory) as fd:
                    return open_regular(name, fd)
            except FileNotFoundError:
                raise self._directories.absent(key) from None

    def _confirm(self, key: str, size_bytes: int, sha256: str) -> None:
        """Stage what the key holds as it is if it is this object, else `ObjectExists`.

        The clean pages are dropped first, so that the disk answers: after a failed flush the cache
        may still show what the disk never got.
        """
        fd = self._open(key)
        try:
            with translated(self.id, key):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                same = os.fstat(fd).st_size == size_bytes and sha256_of(fd) == sha256
            if not same:
                raise ObjectExists(self.id, key)
        except BaseException:
            os.close(fd)
            raise
        self._staging.stage_confirmation(key, fd, size_bytes, sha256)

    def _check_one_device(self) -> None:
        """What is staged has to be renamed into place, which no other filesystem allows."""
        with suppress(FileNotFoundError), self._directories.opened(TEMPORARY_DIRECTORY) as fd:
            if os.fstat(fd).st_dev != os.fstat(self._directories.root_fd).st_dev:
                reason = "lies on another filesystem than the element"
                raise ElementUnavailable(self.id, TEMPORARY_DIRECTORY, reason)
