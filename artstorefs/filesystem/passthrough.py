"""Files that the kernel writes into the spool by itself (FUSE passthrough, Linux 6.9).

An open file that is written can be bound to its spool file: its reads, writes and mappings then go
from the page cache to the spool's disk without a request to us, at the speed of that disk. Names,
attributes, fsync, truncate and close still come here. What follows from it, and is kept here:

- Size and times of the spool file are the truth while the file is bound (`refresh`), as they are
  for every OPEN file after a kill.
- The spool's limit is kept by *allowances*: room that a bound file has been given in advance. The
  kernel asks before each write; beyond the allowance the question comes to `admit`.
- Every descriptor of a bound file is bound to the same spool file, so the content stays OPEN until
  the last of them is closed, also when only readers are left.
- A mapping outlives its descriptor, and we are not told of its end. What is mapped for writing, by
  a program of now or by one that has outlived a killed daemon, has the spool file open for writing;
  a read lease (fcntl(2), F_SETLEASE) is refused as long as anybody has. Until it is granted the
  content stays OPEN (`OpenFile.is_mapped`), and is carried to no element.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Callable
from typing import Protocol

import trio

from artstorefs.core.log_fields import about
from artstorefs.filesystem.errors import SpoolFull
from artstorefs.filesystem.open_file import OpenFile, allocated_bytes
from artstorefs.filesystem.spool_budget import SpoolBudget
from artstorefs.filesystem.xattr import CAPABILITY
from artstorefs.state.room_ahead import SLACK_BYTES, set_aside

log = logging.getLogger(__name__)

FIRST_ALLOWANCE_BYTES = 1 << 20
"""Given to every file that is opened for writing, taken back when it is closed: small, because
hundreds may be open at a time."""

ALLOWANCE_STEP_BYTES = 256 << 20
"""An allowance is doubled up to this step, so that a question costs nothing."""

LEAST_STEP_BYTES = 128 << 10
"""What a writer waits for when the spool is full."""


class Kernel(Protocol):
    """What the kernel can be told; the mount process has it, tests may do without."""

    def bind(self, descriptor: int) -> int:
        """An id of this file for replies to OPEN; 0 if the kernel does not do that here."""

    def make_bound(self, path: str) -> tuple[int, int] | None:
        """A new file at `path`, which is not there, with a descriptor and an id of it, where both
        are ready already; its times are older. Binding what others have made may take longer."""

    def unbind(self, backing: int) -> None:
        """The id will not be used any more."""

    def admit(self, ino: int, descriptor: int, allowed_bytes: int, *, plain: bool) -> None:
        """Let writes to `ino` go on without a question as long as the file of `descriptor` has no
        more than `allowed_bytes` of disk space (-1: any). `plain`: it has no capabilities."""

    def dismiss(self, ino: int) -> None:
        """Ask us about this inode again."""


class NoPassthrough:
    """Every write comes to us."""

    def bind(self, descriptor: int) -> int:
        return 0

    def make_bound(self, path: str) -> tuple[int, int] | None:
        return None

    def unbind(self, backing: int) -> None:
        return

    def admit(self, ino: int, descriptor: int, allowed_bytes: int, *, plain: bool) -> None:
        return

    def dismiss(self, ino: int) -> None:
        return


class Passthrough:
    """Binding of open files. Nothing suspends but `admit`."""

    def __init__(self, kernel: Kernel, budget: SpoolBudget) -> None:
        self._kernel = kernel
        self._budget = budget

    def bind(self, file: OpenFile) -> None:
        """Bind a file whose descriptor is of its OPEN spool file, if kernel and spool allow it."""
        grant = FIRST_ALLOWANCE_BYTES
        if not self._budget.take(grant):
            return
        backing = self._kernel.bind(file.descriptor)
        if not backing:
            self._budget.release(grant)
            return
        self._bound(file, backing, grant)

    def make_bound(self, file: OpenFile, path: str, take: Callable[[OpenFile, int], None]) -> None:
        """The same for a file that is new, if one is at hand, of which `take` gets the
        descriptor."""
        grant = FIRST_ALLOWANCE_BYTES
        if not self._budget.take(grant):
            return
        made = self._kernel.make_bound(path)
        if made is None:
            self._budget.release(grant)
            return
        descriptor, backing = made
        # A start after a kill takes the times of the spool file.
        os.utime(descriptor, ns=(file.node.atime_ns, file.node.mtime_ns))
        take(file, descriptor)
        file.unsynced_name = True
        self._bound(file, backing, grant)

    def _bound(self, file: OpenFile, backing: int, grant: int) -> None:
        file.backing = backing
        file.charged_bytes += grant
        self.remember_times(file)
        self.watch(file)

    def watch(self, file: OpenFile) -> None:
        """Tell the kernel what writers of a file may do; again after its capabilities changed."""
        descriptor = file.descriptor if file.backing else -1
        plain = CAPABILITY.decode() not in (file.node.xattrs or "")
        self._kernel.admit(file.node.ino, descriptor, file.charged_bytes, plain=plain)
        file.is_watched = True

    def unwatch(self, file: OpenFile) -> None:
        self._kernel.dismiss(file.node.ino)
        file.is_watched = False

    def refresh(self, file: OpenFile) -> None:
        """Bring the node of a bound file up to date with what the kernel has written."""
        if file.descriptor < 0:
            return  # there are too many open; a later look has one again
        status = os.fstat(file.descriptor)
        node = file.node
        node.size = status.st_size
        accessed_ns, changed_ns = file.seen_times_ns
        if status.st_atime_ns != accessed_ns:
            node.atime_ns = status.st_atime_ns
        if status.st_mtime_ns != changed_ns:
            node.mtime_ns = status.st_mtime_ns
            node.ctime_ns = max(node.ctime_ns, status.st_ctime_ns)
        file.seen_times_ns = status.st_atime_ns, status.st_mtime_ns

    def remember_times(self, file: OpenFile) -> None:
        """The node's times are right although they are not those of the spool file."""
        status = os.fstat(file.descriptor)
        file.seen_times_ns = status.st_atime_ns, status.st_mtime_ns

    async def admit(self, file: OpenFile) -> bool:
        """Whether a bound file that has used up its allowance may be written further: at once, or
        when the elements have taken something."""
        allocated = allocated_bytes(file.descriptor)
        self._budget.charge(max(0, allocated - file.charged_bytes))
        file.charged_bytes = max(allocated, file.charged_bytes)
        step = min(max(allocated, FIRST_ALLOWANCE_BYTES), ALLOWANCE_STEP_BYTES)
        grant = min(step, self._budget.room_bytes)
        if grant < LEAST_STEP_BYTES or not self._budget.take(grant):
            grant = LEAST_STEP_BYTES
            try:
                await self._budget.wait(grant, file.node.ino)
            except SpoolFull as exc:
                told = about(exc, file_id=file.node.file_id)
                log.error("%s", exc, extra=told)
                return False
        if not file.backing:  # closed while we waited
            self._budget.release(grant)
            return True
        file.charged_bytes += grant
        self.watch(file)
        # A little less than was granted: the list of its pieces takes room on the disk as well, and
        # a file that has used up its allowance by being given room asks again at once.
        await _set_room_aside(file, grant - SLACK_BYTES)
        return True

    def unbind(self, file: OpenFile) -> None:
        """The last descriptor of a bound file is closed."""
        self.refresh(file)
        self._kernel.unbind(file.backing)
        file.backing = 0


async def _set_room_aside(file: OpenFile, size_bytes: int) -> None:
    """For what may now be written; in a thread, because ext4 may wait for its journal."""
    file.has_room_ahead = True  # before anybody can seal it
    descriptor = os.dup(file.descriptor)
    try:
        await trio.to_thread.run_sync(set_aside, descriptor, size_bytes)
    except OSError as exc:
        log.warning(
            *("inode %d is written without room set aside: %s", file.node.ino, exc),
            extra=about(exc, file_id=file.node.file_id),
        )
    finally:
        os.close(descriptor)


def is_written(descriptor: int) -> bool:
    """Whether anybody has the file of this read-only descriptor open for writing, mappings
    included (fcntl(2): a read lease is granted only if not). On a filesystem without leases
    nothing is ever bound, see `supports_leases`."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        if exc.errno == errno.EAGAIN:
            return True
        if exc.errno == errno.EINVAL:
            return False
        raise
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def supports_leases(directory: str) -> bool:
    """Whether `is_written` tells the truth about files in this directory."""
    descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        reading = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return is_written(reading)
        finally:
            os.close(reading)
    except OSError:
        return False
    finally:
        os.close(descriptor)
