"""System calls that the `os` module does not have, through the C library."""

import ctypes
import os
from pathlib import Path

AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
FALLOC_FL_ZERO_RANGE = 16

_library = ctypes.CDLL(None, use_errno=True)
_library.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def renameat2(source: Path | str, target: Path | str, flags: int) -> None:
    """renameat2(2)."""
    _check(_library.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2) itself: os.posix_fallocate writes zeros where the filesystem has none."""
    _check(_library.fallocate(descriptor, mode, offset, length))


def syncfs(descriptor: int) -> None:
    """syncfs(2)."""
    _check(_library.syncfs(descriptor))


def ioctl(descriptor: int, request: int) -> None:
    """ioctl(2) with a buffer of 4 KiB for whatever it wants to say."""
    buffer = ctypes.create_string_buffer(4096)
    _check(_library.ioctl(descriptor, ctypes.c_ulong(request), buffer))


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
