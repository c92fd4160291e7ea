"""Opening what lies on an element, or in the spool: ordinary files and nothing else."""

import errno
import os
import stat


def open_regular(path: str, directory: int | None = None) -> int:
    """Open a regular file for reading; a symlink is ELOOP, and anything else is EACCES.

    What it is is asked before it is opened, by a descriptor that only names it: opening a pipe may
    wait, and opening a device may do something (rewind a tape, start a watchdog).
    """
    named = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mode = os.fstat(named).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if not stat.S_ISREG(mode):
            raise PermissionError(errno.EACCES, "is not a regular file", path)
        # O_NONBLOCK: a lease that somebody holds must not hold up the thread that opens it
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(f"/proc/self/fd/{named}", flags)
    finally:
        os.close(named)
