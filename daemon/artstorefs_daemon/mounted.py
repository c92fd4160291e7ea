"""One mount as the kernel has it: whether its daemon lives, its device, how far is read ahead.

For the mount daemon and for its stub, so with the standard library alone.
"""

import errno
import os
from pathlib import Path
from typing import Final

READ_AHEAD_KIB: Final = 1024


def is_dead(mountpoint: str) -> bool:
    """Whether the daemon of a mount has died; statvfs(2), because the kernel may answer stat(2)
    from its cache long after the death."""
    try:
        os.statvfs(mountpoint)
    except OSError as exc:
        return exc.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def is_connected(device: int) -> bool:
    """Whether a descriptor of /dev/fuse serves a mount at all: a read that has no room for a
    request is EINVAL then, and takes none, else EPERM (fs/fuse/dev.c, fuse_dev_do_read)."""
    try:
        os.read(device, 1)
    except OSError as exc:
        return exc.errno == errno.EINVAL
    return False


def fuse_device(fdinfo: str) -> str | None:
    """The device of the mount that a descriptor of /dev/fuse serves, as mountinfo has it; None
    where the kernel does not tell (before Linux 6.17). `fdinfo`: its file in /proc/PID/fdinfo."""
    for line in Path(fdinfo).read_text().splitlines():
        if line.startswith("fuse_connection:"):
            return f"0:{line.split()[1]}"
    return None


def raise_read_ahead(device: str) -> None:
    """Let the kernel read ahead 1 MiB in a mount instead of 128 KiB: an eighth of the requests for
    a large file. FUSE itself can only lower it. Raises OSError: for others than root, and in a
    container whose /sys is read-only."""
    setting = os.open(f"/sys/class/bdi/{device}/read_ahead_kb", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(setting, b"%d" % READ_AHEAD_KIB)
    finally:
        os.close(setting)
