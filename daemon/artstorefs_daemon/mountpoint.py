"""Mounts of this machine: what is there, what is dead, mounting options, unmounting."""

import errno
import logging
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from artstorefs.core.mount_options import MountOptions

log = logging.getLogger(__name__)

READ_AHEAD = "/sys/class/bdi/{device}/read_ahead_kb"
FUSE_TYPE = "fuse.artstorefs"
FUSE_CONFIGURATION = "/etc/fuse.conf"


def is_mounted(*, pid: int) -> bool:
    """Whether a process serves a mount that is in its mount table. One that was unmounted still has
    its descriptor of /dev/fuse while it drains the log, and ends by itself."""
    try:
        connections = list(_fuse_connections(pid))
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return False
    for line in lines:
        fields, _, rest = line.partition(" - ")  # proc_pid_mountinfo(5)
        if rest.split()[0] == FUSE_TYPE:
            _, _, minor = fields.split()[2].partition(":")
            if int(minor) in connections or None in connections:
                return True
    return False


def _fuse_connections(pid: int) -> Iterator[int | None]:
    """The minor device numbers of what a process serves through /dev/fuse; None for one of which
    the kernel does not tell (before Linux 6.17)."""
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") != "/dev/fuse":
                continue
            lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines()
        except OSError:
            continue
        told = [line.split()[1] for line in lines if line.startswith("fuse_connection:")]
        yield int(told[0]) if told else None


def clear_dead_mount(mountpoint: str) -> None:
    """Take away a mount whose daemon has died ("Transport endpoint is not connected").

    statvfs(2), because the kernel may answer stat(2) from its cache long after the death.
    """
    try:
        os.statvfs(mountpoint)
    except OSError as exc:
        if exc.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            unmount(mountpoint)


def raise_read_ahead(mountpoint: str) -> None:
    """Let the kernel read ahead 1 MiB instead of 128 KiB: an eighth of the requests for a large
    file. FUSE itself can only lower it; an ordinary user has to do with what there is."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        devices = [
            fields[2]
            for fields in map(str.split, lines)
            if _unescaped(fields[4]) == os.path.abspath(mountpoint)
        ]
    if not devices or os.geteuid() != 0:
        return
    try:
        setting = os.open(READ_AHEAD.format(device=devices[-1]), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(setting, b"1024")
        finally:
            os.close(setting)
    except OSError as exc:  # a container whose /sys is read-only
        log.info("reading ahead stays as it is: %s", exc)


def _unescaped(field: str) -> str:
    """A path of mountinfo, where blanks, tabs, newlines and backslashes are octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def unmount(mountpoint: str) -> None:
    """Detach the mount now; open files stay until they are closed."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    subprocess.run([*command, mountpoint], check=False, stdin=subprocess.DEVNULL)


def fuse_options(archive: str, options: MountOptions) -> set[str]:
    """Options of libfuse for a mount of this archive."""
    chosen = {f"fsname={archive}", "subtype=artstorefs"}
    if options.default_permissions:
        chosen.add("default_permissions")
    if options.read_only:
        chosen.add("ro")
    if options.allow_root:
        chosen.add("allow_root")
    elif options.allow_other or (options.allow_other is None and _others_may_be_allowed()):
        chosen.add("allow_other")
    for name in ("noexec", "nosuid", "nodev"):
        if getattr(options, name):
            chosen.add(name)
    if os.geteuid() == 0:
        chosen |= {name for name in ("suid", "dev") if f"no{name}" not in chosen}
    return chosen


def _others_may_be_allowed() -> bool:
    """Root may, ordinary users where /etc/fuse.conf says `user_allow_other`."""
    if os.geteuid() == 0:
        return True
    try:
        with open(FUSE_CONFIGURATION, encoding="utf-8") as lines:
            return any(line.strip() == "user_allow_other" for line in lines)
    except OSError:
        return False
