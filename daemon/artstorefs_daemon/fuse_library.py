"""pyfuse3, bound to libfuse through `fuse_session.c`. Import pyfuse3 from here, never directly."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

_EXTENSION = Path(__file__).with_name("libartstorefs_fuse.so")

if "pyfuse3" in sys.modules:
    raise ImportError("pyfuse3 was imported before artstorefs_daemon.fuse_library")
_extension = ctypes.CDLL(str(_EXTENSION), mode=ctypes.RTLD_GLOBAL)

import pyfuse3  # noqa: E402

from artstorefs_daemon import fuse_loop  # noqa: E402

pyfuse3.trio = fuse_loop  # type: ignore[attr-defined]  # as pyfuse3.asyncio does it

_FALLOCATE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
)
_kept: list[object] = []

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_KEPT_BYTES = 64 << 20


def set_fallocate(handler: Callable[[int, int, int, int], int]) -> None:
    """Have FALLOCATE requests answered by `handler(handle, mode, offset, length)`: an errno or 0.
    It must not raise and cannot suspend."""
    callback = _FALLOCATE(handler)
    _kept.append(callback)  # libfuse calls it as long as the process lives
    address = ctypes.cast(callback, ctypes.c_void_p).value
    ctypes.c_void_p.in_dll(_extension, "artstorefs_fallocate").value = address


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


__all__ = ["keep_buffers", "pyfuse3", "set_fallocate"]
