"""One daemon for an archive: an flock on the state directory's lock file.

The kernel lets go of it when the last process that inherited the descriptor ends, however it ends.
"""

import errno
import fcntl
import os

from artstorefs.core.errors import ArchiveInUse

DRAINS = b"drains"


class StateLock:
    """Held from `acquire` until `release` or the end of the process."""

    def __init__(self, state_directory: str, archive: str) -> None:
        self._path = os.path.join(state_directory, "lock")
        self._archive = archive
        self.descriptor = -1

    def acquire(self) -> None:
        """Raises ArchiveInUse, naming the holder, when another process has it. Never waits."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder, _, rest = os.pread(descriptor, 32, 0).strip().partition(b" ")
            os.close(descriptor)
            raise ArchiveInUse(self._archive, int(holder or b"0"), drains=rest == DRAINS) from None
        self.descriptor = descriptor
        self.write_holder()

    def write_holder(self) -> None:
        """Put this process's id into the file: after a fork, for whoever asks who it is."""
        self._write(b"%d\n" % os.getpid())

    def note_drain(self) -> None:
        """The holder is unmounted, finishes what it has begun, and lets go of the lock by itself:
        whoever wants to have it next waits."""
        self._write(b"%d %b\n" % (os.getpid(), DRAINS))

    def _write(self, text: bytes) -> None:
        """Written over in place, which takes no new room; on a disk that is full from the first,
        the lock holds without it."""
        try:
            os.pwrite(self.descriptor, text, 0)
            os.ftruncate(self.descriptor, len(text))
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
