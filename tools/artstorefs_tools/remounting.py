"""`mount -o remount,…`: changes what the kernel alone keeps of a mount that is there.

Read-only is a property of the superblock that the kernel enforces, of FUSE as of every filesystem,
so that one mount(2) is all of it: the daemon goes on, and carries to the elements what was written.
Who may enter (allow_other, allow_root) FUSE decides once, when it mounts; a change is refused.
"""

import ctypes
import errno
import itertools
import os
from typing import Final

from artstorefs.core.mount_options import MountOptions, parse_mount_options
from artstorefs_daemon.mount_table import FILESYSTEM_TYPE, MountEntry, find_mount
from artstorefs_tools import exit_codes
from artstorefs_tools.control_client import ControlClient
from artstorefs_tools.errors import CommandError, NotMounted, UsageError
from artstorefs_tools.mount_holders import find_writers
from artstorefs_tools.runtime import runtime_dir

_FLAGS: Final = {"read_only": 1, "nosuid": 2, "nodev": 4, "noexec": 8}
_MS_REMOUNT: Final = 32
"""linux/mount.h."""

_HOLDERS_SHOWN: Final = 3


def remount(mountpoint: str, text: str, *, sloppy: bool = False) -> int:
    """Change the mount at `mountpoint` to the options in `text`; the exit code."""
    entry = find_mount(mountpoint)
    if entry is None:
        raise NotMounted(f"nothing is mounted at {mountpoint}, so nothing can be remounted")
    if entry.filesystem_type != FILESYSTEM_TYPE:
        raise UsageError(f"{entry.mountpoint} is of type {entry.filesystem_type}, not an archive")
    present = _present(entry)
    wanted = parse_mount_options(text, present, sloppy=sloppy)
    if (wanted.allow_other or wanted.allow_root) and "allow_other" not in entry.of_filesystem:
        name = "allow_other" if wanted.allow_other else "allow_root"
        raise UsageError(f"-o: {name}: cannot be changed by a remount; unmount, and mount with it")
    if present.read_only and not wanted.read_only:
        _check_writable(entry)
    flags = sum(flag for name, flag in _FLAGS.items() if getattr(wanted, name))
    _mount(entry, flags | _MS_REMOUNT)
    return exit_codes.OK


def _present(entry: MountEntry) -> MountOptions:
    return MountOptions(
        read_only="ro" in entry.options,
        **{name: name in entry.options for name in ("noexec", "nosuid", "nodev")},
    )


def _check_writable(entry: MountEntry) -> None:
    """Refuse to make writable what the daemon itself serves for reading only."""
    with ControlClient(runtime_dir(entry), entry.source) as client:
        if client.call("status").get("read_only"):
            raise UsageError(
                f"{entry.mountpoint} was mounted with ro and is served for reading only; "
                "unmount it, and mount it with rw"
            )


def _mount(entry: MountEntry, flags: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    point = os.fsencode(entry.mountpoint)
    if library.mount(None, point, None, ctypes.c_ulong(flags), None) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EPERM:
        reason = "only root may remount; unmount it, and mount it with the options"
    elif code == errno.EBUSY:
        holders = itertools.islice(find_writers(entry.mountpoint), _HOLDERS_SHOWN)
        told = "; ".join(map(str, holders)) or "something"
        reason = f"it is written to: {told} (end that first)"
    else:
        reason = os.strerror(code)
    raise CommandError(f"{entry.mountpoint} cannot be remounted: {reason}")
