"""Mounts and processes that a benchmark has made, and how they end, whatever state they are in."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from artstorefs_daemon.mount_table import MOUNTINFO, parse_mountinfo

KILL_LIMIT_S = 10.0
"""After SIGTERM, and again after SIGKILL."""


def is_mounted(mount: Path) -> bool:
    """The mount itself is not asked: a dead one would not answer."""
    return str(mount) in mounts_below(mount)


def mounts_below(directory: Path) -> list[str]:
    """Mountpoints at or below it, the last one first."""
    found = (entry.mountpoint for entry in parse_mountinfo(MOUNTINFO.read_bytes()))
    return [path for path in found if Path(path).is_relative_to(directory)][::-1]


def unmount_command(mount: Path, *, lazy: bool = False) -> list[str]:
    """As root, or as the user who has mounted it."""
    if os.geteuid() == 0:
        return ["umount", *(["-l"] if lazy else []), str(mount)]
    return ["fusermount3", "-u", *(["-z"] if lazy else []), str(mount)]


def unmount_lazily(directory: Path) -> None:
    """Take away what is mounted at or below it, also what is busy or dead."""
    for mount in mounts_below(directory):
        subprocess.run(unmount_command(Path(mount), lazy=True), capture_output=True, check=False)


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """End a process that has a session of its own, and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, number)
        with suppress(subprocess.TimeoutExpired):
            leader.wait(KILL_LIMIT_S)
