"""Reading what the kernel has of a file in memory, without ever waiting for a disk."""

import errno
import os

REQUEST_BYTES = 1 << 20
"""The largest READ request (FUSE_MAX_MAX_PAGES of libfuse 3)."""

SHARED_BYTES = 64 << 10
"""From this size on a fresh buffer for each read, filled with zeros first, would cost a third of
the time of reading."""


class PageReader:
    """Reads into one buffer, which all share that run between the same suspensions."""

    def __init__(self) -> None:
        self._buffer = bytearray(REQUEST_BYTES)

    def read(self, descriptor: int, offset: int, length: int) -> bytes | memoryview | None:
        """`length` bytes, at most `REQUEST_BYTES`; None if the disk would have to be asked.

        A memoryview is of the one buffer that all reads share: it is good until the next
        suspension of the caller, or its next read, which is long enough to reply.
        """
        view = memoryview(self._buffer)[:length]
        try:
            if os.preadv(descriptor, [view], offset, os.RWF_NOWAIT) == length:
                return view if length >= SHARED_BYTES else bytes(view)
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
        return None
