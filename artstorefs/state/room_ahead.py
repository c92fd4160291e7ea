"""Room on the disk that is set aside for a spool file before it is written.

A large file that grows from its beginning to its end is written in two thirds of the time when its
next blocks are set aside in one step: ext4 else reserves room block by block (measured: 1 GiB into
the page cache in 240 ms instead of 345, Linux 6.18), and it lies on the disk in fewer pieces. The
room lies behind the end of the file (FALLOC_FL_KEEP_SIZE), so that nobody sees it. What is left of
it is given back when the content is sealed, or by the next start; ftruncate(2) to the size that a
file has does that on ext4, XFS and btrfs.

Only an aid: a disk that does not do it, or has little room, is written as any other.
"""

import errno
import logging
import os

from artstorefs.core.log_fields import about
from artstorefs.elements.durable import fallocate

log = logging.getLogger(__name__)

LEAST_BYTES = 2 << 20
"""Less is not worth the calls."""

SPARE_FACTOR = 16
"""The disk has so many times as much room, or what others write would soon find none."""

SLACK_BYTES = 1 << 20
"""What a file may take on the disk beyond its size without having room ahead: the list of its
pieces, or what the last write has added since."""

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE, linux/falloc.h
_NOT_NOW = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EINTR, errno.EOPNOTSUPP, errno.ENOSYS}
)


def set_aside(descriptor: int, size_bytes: int) -> bool:
    """Set room aside behind the end of a file without holes that has used up what it had; whether
    some was. Blocks. What others have to know, the next write tells them."""
    status = os.fstat(descriptor)
    spare_bytes = status.st_blocks * 512 - status.st_size
    if size_bytes < LEAST_BYTES or not -SLACK_BYTES <= spare_bytes <= SLACK_BYTES:
        return False
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize < SPARE_FACTOR * size_bytes:
        return False
    try:
        fallocate(descriptor, _KEEP_SIZE, status.st_size, size_bytes)
    except OSError as exc:
        if exc.errno not in _NOT_NOW:
            raise
        log.info("no room is set aside for what is written: %s", exc, extra=about(exc))
        return os.fstat(descriptor).st_blocks > status.st_blocks
    return True


def give_back(path: str) -> int:
    """Bytes that a file with room behind its end gives back to its disk: 0 if it has none, or, with
    a line in the log, if it cannot. Its time of change is then now."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            before = os.fstat(descriptor)
            if before.st_blocks * 512 - before.st_size <= SLACK_BYTES:
                return 0
            os.ftruncate(descriptor, before.st_size)
            return max(0, before.st_blocks - os.fstat(descriptor).st_blocks) * 512
        finally:
            os.close(descriptor)
    except OSError as exc:
        told = ("%s keeps the room that was set aside for it: %s", path, exc)
        log.warning(*told, extra=about(exc, path=path))
        return 0
