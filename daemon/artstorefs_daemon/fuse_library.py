"""pyfuse3, bound to libfuse through `fuse_session.c`. Import pyfuse3 from here, never directly."""

import ctypes
import sys
from pathlib import Path

_EXTENSION = Path(__file__).with_name("libartstorefs_fuse.so")

if "pyfuse3" in sys.modules:
    raise ImportError("pyfuse3 was imported before artstorefs_daemon.fuse_library")
ctypes.CDLL(str(_EXTENSION), mode=ctypes.RTLD_GLOBAL)

import pyfuse3  # noqa: E402

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_KEPT_BYTES = 64 << 20


def keep_buffers() -> None:
    """Let malloc keep the memory of request buffers: a buffer of 1 MiB from fresh pages costs three
    times what copying into it does (mallopt(3))."""
    libc = ctypes.CDLL(None)
    for parameter, value in (
        (_M_MMAP_THRESHOLD, 32 << 20),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
        (_M_TOP_PAD, 4 << 20),
    ):
        if not libc.mallopt(parameter, value):
            raise OSError("mallopt refused a parameter")


__all__ = ["keep_buffers", "pyfuse3"]
