"""System calls that Python has no function for, as the stub and who starts it need them.

All raise OSError. Nothing here decides anything.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterable
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [*[ctypes.c_char_p] * 3, ctypes.c_ulong, ctypes.c_char_p]
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
"""mount(2), sys/mount.h."""

_MNT_DETACH: Final = 2
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION_3: Final = 0x20080522

CAP_CHOWN, CAP_DAC_READ_SEARCH, CAP_SETUID, CAP_SYS_ADMIN = 0, 2, 7, 21
"""capabilities(7), linux/capability.h."""

FUSE_DEVICE: Final = os.makedev(10, 229)
"""Linux allocated devices: the character device of /dev/fuse."""

_BACKING_MAP: Final = struct.Struct("=iIQ")  # fuse_backing_map: descriptor, flags, padding
_BACKING_OPEN: Final = 0x4010E501  # FUSE_DEV_IOC_BACKING_OPEN, linux/fuse.h of 6.9
_BACKING_CLOSE: Final = 0x4004E502  # FUSE_DEV_IOC_BACKING_CLOSE


def open_backing(device: int, descriptor: int) -> int:
    """The id under which a FUSE filesystem can have the kernel read and write this file by itself.
    Needs CAP_SYS_ADMIN; what the kernel does there it does with the rights of the caller of now."""
    argument = bytearray(_BACKING_MAP.pack(descriptor, 0, 0))
    return int(fcntl.ioctl(device, _BACKING_OPEN, argument))


def close_backing(device: int, backing: int) -> None:
    """Files that are open by it stay so. Needs CAP_SYS_ADMIN."""
    fcntl.ioctl(device, _BACKING_CLOSE, struct.pack("=I", backing))


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    """mount(2)."""
    words = (os.fsencode(source), os.fsencode(target), kind.encode())
    _check(_libc.mount(*words, flags, data.encode()), target)


def detach(target: str) -> None:
    """umount2(2), lazily: what is open stays so."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), target)


def set_filesystem_user(uid: int) -> int:
    """setfsuid(2), which does not say whether it did: the user of before."""
    return int(_libc.setfsuid(uid))


def keep_capabilities(capabilities: Iterable[int]) -> None:
    """Give up all others for good, those of programs that are started included."""
    kept = sum(1 << number for number in capabilities)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    _check(_libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)), "capset")
    forbid_new_privileges()


def forbid_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS: no program that is started has more rights than this process."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def allow_own_descriptors() -> None:
    """PR_SET_DUMPABLE, which a change of the user takes away: without it /proc/self/fd is root's,
    by which files without a name are opened."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def _check(result: int, subject: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), subject)
