"""Processes that make system calls on the mount."""

from pathlib import Path

from artstorefs.filesystem.archive import Caller
from artstorefs_daemon.fuse_library import pyfuse3


def program_names(pid: int) -> frozenset[str]:
    """What a thread of a program, and its process, are called (proc_pid_comm(5)); none if it cannot
    be seen from here, or has ended. FUSE tells the number of the thread."""
    try:
        thread = Path(f"/proc/{pid}")
        leader = (thread / "status").read_text().partition("\nTgid:\t")[2].partition("\n")[0]
        return frozenset(_name(place) for place in (thread, Path("/proc", leader)))
    except (OSError, ValueError):
        return frozenset()


def _name(process: Path) -> str:
    return (process / "comm").read_text().rstrip("\n")


def in_group(caller: Caller, gid: int) -> bool:
    """Whether the calling process has a group, supplementary ones included."""
    if caller.gid == gid:
        return True
    try:
        return gid in pyfuse3.get_sup_groups(caller.pid)
    except (OSError, RuntimeError):
        return False  # the process has ended; nobody is left to hold a right
