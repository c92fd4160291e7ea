"""Processes that make system calls on the mount."""

from artstorefs.filesystem.archive import Caller
from artstorefs_daemon.fuse_library import pyfuse3


def in_group(caller: Caller, gid: int) -> bool:
    """Whether the calling process has a group, supplementary ones included."""
    if caller.gid == gid:
        return True
    try:
        return gid in pyfuse3.get_sup_groups(caller.pid)
    except (OSError, RuntimeError):
        return False  # the process has ended; nobody is left to hold a right
