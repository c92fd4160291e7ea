"""One daemon for an archive: an flock on the state directory's lock file.

The kernel lets go of it when the last process that inherited the descriptor ends, however it ends.
"""

import errno
import fcntl
import os

from artstorefs.core.errors import ArchiveInUse


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
            holder = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise ArchiveInUse(self._archive, int(holder or b"0")) from None
        self.descriptor = descriptor
        self.write_holder()

    def write_holder(self) -> None:
        """Put this process's id into the file: after a fork, for whoever asks who it is.

        Written over in place, which takes no new room; on a disk that is full from the first, the
        lock holds without it.
        """
        text = f"{os.getpid()}\n".encode()
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
