"""System calls that Python has no function for, for mounts and for giving up rights.

All raise OSError. Nothing here decides anything.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterable, Mapping
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
"""The numbers of system calls are the same everywhere since those of 2019 (alpha apart)."""

READ_ONLY, NO_SUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8
"""MOUNT_ATTR_*, linux/mount.h, as all below."""

_CLOSE_ON_EXEC: Final = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_AT_FDCWD: Final = -100
_OPEN_TREE_CLONE: Final = 1
_BOTH_BY_DESCRIPTOR, _BENEATH = 0x44, 0x200

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
    Needs CAP_SYS_ADMIN; what the kernel does there it does with the rights of the caller of now.

    The kernel keeps what it is given as long as the mount is anywhere, and that of a daemon that
    was killed may live on in a container; so it gets the place of the file only (open(2), O_PATH),
    or the file would count as open for writing (fcntl(2), F_SETLEASE) as long."""
    place = os.open(f"/proc/self/fd/{descriptor}", os.O_PATH | os.O_CLOEXEC)
    try:
        argument = bytearray(_BACKING_MAP.pack(place, 0, 0))
        return int(fcntl.ioctl(device, _BACKING_OPEN, argument))
    finally:
        os.close(place)


def close_backing(device: int, backing: int) -> None:
    """Files that are open by it stay so. Needs CAP_SYS_ADMIN."""
    fcntl.ioctl(device, _BACKING_CLOSE, struct.pack("=I", backing))


def new_mount(
    kind: str, settings: Mapping[str, str], switches: Iterable[str], attributes: int
) -> int:
    """A descriptor of a new mount that is nowhere yet, and ends with it unless `attach` is called:
    fsopen(2), fsconfig(2), fsmount(2)."""
    context = _call(_FSOPEN, kind.encode(), _CLOSE_ON_EXEC)
    try:
        for key, value in settings.items():
            _call(_FSCONFIG, context, _SET_STRING, key.encode(), os.fsencode(value), 0)
        for key in switches:
            _call(_FSCONFIG, context, _SET_FLAG, key.encode(), None, 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOSE_ON_EXEC, attributes)
    finally:
        os.close(context)


def copied_mount(path: str) -> int:
    """A descriptor of another mount of what is mounted there, as of `new_mount`: open_tree(2)."""
    return _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC)


def attach(mount: int, point: int, *, beneath: bool) -> None:
    """On the directory of a descriptor; `beneath`: below the mount whose root that is, and EINVAL
    where the kernel cannot (before Linux 6.5). move_mount(2)."""
    how = _BOTH_BY_DESCRIPTOR | (_BENEATH if beneath else 0)
    _call(_MOVE_MOUNT, mount, b"", point, b"", how)


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


def _call(number: int, *arguments: int | bytes | None) -> int:
    """One that the C library may not have yet. Its word for a failure is -1."""
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _check(result: int, subject: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), subject)
