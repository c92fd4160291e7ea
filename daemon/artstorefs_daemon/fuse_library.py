"""pyfuse3, bound to libfuse through the `fuse_*.c` beside this file. Each says what it is for.
Import pyfuse3 from here, never directly."""

import ctypes
import errno
import logging
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

_EXTENSION = Path(__file__).with_name("libartstorefs_fuse.so")

if "pyfuse3" in sys.modules:
    raise ImportError("pyfuse3 was imported before artstorefs_daemon.fuse_library")
_extension = ctypes.CDLL(str(_EXTENSION), mode=ctypes.RTLD_GLOBAL)

import pyfuse3  # noqa: E402

from artstorefs.state.node import Node  # noqa: E402
from artstorefs_daemon import fuse_loop, stub_system  # noqa: E402

_extension.artstorefs_poll.argtypes = [ctypes.c_int, ctypes.c_int64]
fuse_loop.lowlevel = fuse_loop.LowLevel(_extension.artstorefs_poll)
pyfuse3.trio = fuse_loop  # type: ignore[attr-defined]  # as pyfuse3.asyncio does it

_FALLOCATE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
)
_kept: list[object] = []

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_KEPT_BYTES = 64 << 20


_admit = _extension.artstorefs_admit
_admit.argtypes = [ctypes.c_uint64, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_dismiss = _extension.artstorefs_dismiss
_dismiss.argtypes = [ctypes.c_uint64]
_dismiss.restype = None
_reply_backing = ctypes.c_int32.in_dll(_extension, "artstorefs_reply_backing")
_has_passthrough = ctypes.c_int.in_dll(_extension, "artstorefs_has_passthrough")
_device = ctypes.c_int.in_dll(_extension, "artstorefs_device")
_init = (ctypes.c_ubyte * 256).in_dll(_extension, "artstorefs_init")
_init_size = ctypes.c_uint32.in_dll(_extension, "artstorefs_init_size")
_repeats_init = ctypes.c_int.in_dll(_extension, "artstorefs_repeats_init")

_ATTRIBUTES = struct.Struct("=Q8x 3Q 3q 3I 4I4x I4x")
"""fuse_attr_out of linux/fuse.h: seconds for which it is valid; inode, size, blocks; the times in
seconds, and what is over in nanoseconds; mode, nlink, uid, gid; block size."""
_directory = (ctypes.c_char * _ATTRIBUTES.size).in_dll(_extension, "artstorefs_directory")

_INIT_LEAST_BYTES = 40 + 16  # fuse_in_header and the oldest fuse_init_in

log = logging.getLogger(__name__)


class Backing(Protocol):
    """Who may give the kernel a backing file: root itself, or the stub of a daemon that is not."""

    def open_backing(self, descriptor: int) -> int: ...
    def make_backing(self, path: str) -> tuple[int, int] | None: ...
    def close_backing(self, backing: int) -> None: ...


class BackingByRoot:
    """The system calls; they are so quick that nothing is made ahead."""

    def make_backing(self, path: str) -> tuple[int, int] | None:
        return None

    def open_backing(self, descriptor: int) -> int:
        return stub_system.open_backing(_device.value, descriptor)

    def close_backing(self, backing: int) -> None:
        stub_system.close_backing(_device.value, backing)


_FOR_NOW = (errno.ENOMEM, errno.ENOSPC, errno.EINTR, errno.EAGAIN, errno.ECONNRESET, errno.EPIPE)
"""Another file may be bound: there is memory again, or another stub."""


class KernelPassthrough:
    """`artstorefs.filesystem.passthrough.Kernel` over /dev/fuse; only root may bind."""

    def __init__(self, stub: Backing | None = None) -> None:
        self._backing = stub or BackingByRoot()
        self._may_bind = stub is not None or os.geteuid() == 0
        self._told = False

    def bind(self, descriptor: int) -> int:
        if not (self._may_bind and _has_passthrough.value):
            return 0
        try:
            return self._backing.open_backing(descriptor)
        except OSError as exc:
            self._may_bind = exc.errno in _FOR_NOW
            if not self._told:
                log.info("the kernel does not write the spool by itself: %s", exc)
            self._told = True
            return 0

    def make_bound(self, path: str) -> tuple[int, int] | None:
        if not (self._may_bind and _has_passthrough.value):
            return None
        return self._backing.make_backing(path)

    def unbind(self, backing: int) -> None:
        self._backing.close_backing(backing)

    def admit(self, ino: int, descriptor: int, allowed_bytes: int, *, plain: bool) -> None:
        if _admit(ino, descriptor, plain, allowed_bytes):
            raise MemoryError

    def dismiss(self, ino: int) -> None:
        _dismiss(ino)


def reply_with_backing(backing: int) -> None:
    """Bind the file that the OPEN or CREATE replies with next to a backing file of `Kernel.bind`.
    The handler returns right after this, without suspending."""
    _reply_backing.value = backing


def device() -> int:
    """The descriptor of /dev/fuse that is served."""
    return _device.value


def init_request() -> bytes:
    """INIT as the kernel has sent it: to us, or to whom we have followed."""
    return bytes(_init[: _init_size.value])


def repeat_init(request: bytes) -> None:
    """The device that will be served has had its INIT. Raises ValueError for what is none."""
    if not _INIT_LEAST_BYTES <= len(request) <= len(_init):
        raise ValueError(f"an INIT request has not {len(request)} bytes")
    ctypes.memmove(_init, request, len(request))
    _init_size.value = len(request)
    _repeats_init.value = 1


def leave_attributes(
    directory: Node, size: int, blocks: int, block_bytes: int, valid_s: int
) -> None:
    """Of a directory that has just changed: the kernel is about to ask for them."""
    accessed_s, accessed_ns = divmod(directory.atime_ns, 10**9)
    modified_s, modified_ns = divmod(directory.mtime_ns, 10**9)
    changed_s, changed_ns = divmod(directory.ctime_ns, 10**9)
    _ATTRIBUTES.pack_into(
        *(_directory, 0, valid_s, directory.ino, size, blocks),
        *(accessed_s, modified_s, changed_s, accessed_ns, modified_ns, changed_ns),
        *(directory.mode, directory.nlink, directory.uid, directory.gid, block_bytes),
    )


def drop_attributes() -> None:
    """What was left last may not be so any more."""
    ctypes.memset(_directory, 0, _ATTRIBUTES.size)


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


__all__ = [
    "KernelPassthrough",
    "device",
    "drop_attributes",
    "init_request",
    "keep_buffers",
    "leave_attributes",
    "pyfuse3",
    "repeat_init",
    "reply_with_backing",
    "set_fallocate",
]
