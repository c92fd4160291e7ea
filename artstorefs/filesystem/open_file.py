"""What is known of an open inode and of each of its descriptors."""

import errno
import os
from dataclasses import dataclass

import trio

from artstorefs.filesystem.verified import VerifiedContent
from artstorefs.state.node import Node

ACCESS_MODE = os.O_RDONLY | os.O_WRONLY | os.O_RDWR

BLOCKING_BYTES = 256 << 10
"""From this size on a write goes to a thread: copying takes longer than the change of threads."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that mean: no room on the disk."""

FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE = 1, 2, 16  # linux/falloc.h

ALLOCATE_MODES = frozenset(
    {
        *(0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE),
        *(FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE),
    }
)

FILE_LIMIT_BYTES = (1 << 44) - 4096
"""Largest file: what ext4 holds with blocks of 4 KiB, so that a spool and an element can."""


@dataclass(slots=True)
class OpenFile:
    """An inode that somebody has open."""

    node: Node
    descriptor: int = -1
    version: int = -1
    """Version of the content that `descriptor` or `archived` gives."""
    archived: VerifiedContent | None = None
    writable: bool = False
    """`descriptor` is of the OPEN spool file."""
    handles: int = 0
    writers: int = 0
    cached_handles: int = 0
    """Handles whose reads the kernel's page cache answers: they exclude a binding."""
    charged_bytes: int = 0
    """What the spool's budget has been charged for the OPEN spool file."""
    unsynced_name: bool = True
    """Nobody knows that the spool file's name is durable: it is synced along with the content."""
    _lock: trio.Lock | None = None
    backing: int = 0
    """The kernel's id of the spool file that it reads and writes by itself; see passthrough.py."""
    has_room_ahead: bool = False
    """Room was set aside on the disk behind the end of the spool file, see room_ahead.py."""
    seen_times_ns: tuple[int, int] = (0, 0)
    """Times of access and change of the bound spool file that the node takes into account."""
    is_watched: bool = False
    """The kernel has been told how far writers may go without a question."""
    may_be_mapped: bool = False
    """Bound, and there was a descriptor by which it can have been mapped for writing."""
    is_mapped: bool = False
    """All descriptors are closed, and yet somebody may be writing: what a mapping, or a program
    that has outlived a killed daemon, still does."""

    @property
    def lock(self) -> trio.Lock:
        """Held across a suspension by the task that changes this object. Most never need it."""
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    @property
    def is_locked(self) -> bool:
        return self._lock is not None and self._lock.locked()

    def drop_descriptor(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.archived is not None:
            self.archived.close()
            self.archived = None
        self.writable = False

    @property
    def is_busy(self) -> bool:
        """Somebody writes it, or may."""
        return self.writers > 0 or self.backing > 0 or self.is_mapped


@dataclass(slots=True)
class Handle:
    """One open file description: what open(2) returns a descriptor of."""

    file: OpenFile
    flags: int
    uid: int
    is_cached: bool = False
    """The kernel's page cache answers its reads."""

    @property
    def may_write(self) -> bool:
        return self.flags & ACCESS_MODE != os.O_RDONLY

    @property
    def may_map_writable(self) -> bool:
        return self.flags & ACCESS_MODE == os.O_RDWR

    @property
    def is_synchronous(self) -> bool:
        """Whether each write has to be followed by fsync: O_SYNC, O_DSYNC. The kernel does that
        itself only for what goes through its page cache."""
        return bool(self.flags & os.O_DSYNC)  # O_SYNC contains it

    @property
    def needs_us(self) -> bool:
        """Of each write something is left to us: an fsync, or, for O_DIRECT, that any offset and
        length will do, whatever the spool's disk asks for."""
        return self.is_synchronous or bool(self.flags & os.O_DIRECT)

    @property
    def passes_cache_by(self) -> bool:
        """What is only written goes past the kernel's page cache, where it would take a second copy
        and twice the memory; such a descriptor cannot be mapped either. So does, of a bound file,
        what must not go to the spool without us."""
        only_writes = self.flags & ACCESS_MODE == os.O_WRONLY
        return self.needs_us if self.file.backing else only_writes


def allocated_bytes(descriptor: int) -> int:
    """Disk space of a file: its holes take none."""
    return os.fstat(descriptor).st_blocks * 512


def write_all(descriptor: int, data: bytes, offset: int) -> int:
    """Bytes written: all, or fewer if the disk is full after some; OSError if after none."""
    written = os.pwrite(descriptor, data, offset)
    view = memoryview(data)
    while written < len(data):
        try:
            written += os.pwrite(descriptor, view[written:], offset + written)
        except OSError:
            break
    return written


async def store(descriptor: int, data: bytes, offset: int) -> int | None:
    """Bytes written, as `write_all` has it; None where the disk has no room."""
    try:
        if len(data) < BLOCKING_BYTES:
            return write_all(descriptor, data, offset)
        return await trio.to_thread.run_sync(write_all, descriptor, data, offset)
    except OSError as exc:
        if exc.errno not in FULL:
            raise
    return None
