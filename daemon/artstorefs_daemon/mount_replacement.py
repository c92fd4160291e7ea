"""A new mount in the place of a dead one, with no moment in between at which nothing is mounted.

Whoever looks at such a moment sees an empty directory: rsync --delete empties a copy of it, and
what is written there lies under the mount ever after. So the new one is mounted aside, attached
below the dead one (MOVE_MOUNT_BENEATH, Linux 6.5), and the dead one taken away, which shows it.
On older kernels the two steps are the other way round, some microseconds apart.

Only root may do this. mount(8) has no option for it, and would look at the dead mount first, which
fails; so these are the system calls: open_tree(2), move_mount(2), umount2(2).
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

_OPEN_TREE, _MOVE_MOUNT = 428, 429
"""The numbers of system calls are the same everywhere since those of 2019 (alpha apart)."""

_AT_FDCWD = -100
_OPEN_TREE_CLONE = 1
_MOVE_FROM_EMPTY_PATH, _MOVE_BENEATH = 0x4, 0x200
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def replaced_mount(mountpoint: str, aside: str) -> Iterator[str]:
    """Yields where to mount: `aside`, a directory that is made for it. What is mounted there by the
    end has then taken the place of what was on `mountpoint`. Raises OSError."""
    remove_aside(aside)
    os.mkdir(aside, 0o700)
    try:
        yield aside
        _take_place(aside, mountpoint)
    finally:
        remove_aside(aside)


def remove_aside(aside: str) -> None:
    """The place, and what an attempt that was killed may have left mounted there."""
    if not _umount(aside):
        return
    os.rmdir(aside)


def _take_place(aside: str, mountpoint: str) -> None:
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _system_call(_OPEN_TREE, _AT_FDCWD, os.fsencode(aside), flags)
    try:
        try:
            _move(tree, mountpoint, _MOVE_BENEATH)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            _umount(mountpoint)
            _move(tree, mountpoint, 0)
        else:
            _umount(mountpoint)
    finally:
        os.close(tree)


def _move(tree: int, mountpoint: str, how: int) -> None:
    target = (_AT_FDCWD, os.fsencode(mountpoint))
    _system_call(_MOVE_MOUNT, tree, b"", *target, _MOVE_FROM_EMPTY_PATH | how)


def _umount(path: str) -> bool:
    """Detach what is mounted there, if anything is; whether the path is there at all."""
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.ENOENT:
        return False
    if number != errno.EINVAL:  # not a mountpoint
        raise OSError(number, os.strerror(number), path)
    return True


def _system_call(number: int, *arguments: int | bytes) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
