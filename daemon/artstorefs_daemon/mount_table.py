"""What is mounted where, from mountinfo below /proc (proc_pid_mountinfo(5)).

Nothing here touches a mounted filesystem, so a dead or hanging mount is seen like any other; stat()
and mountpoint(1) would fail on it, and are fooled by autofs.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTINFO: Final = Path("/proc/self/mountinfo")
FILESYSTEM_TYPE: Final = "fuse.artstorefs"

# The kernel writes space, tab, newline and backslash as three octal digits.
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One mount; `source` is the `fsname`, which for our mounts is the name of the archive.
    `device` is "MAJOR:MINOR", of FUSE "0:" and the number of its connection. `options` are those
    of the mount, `of_filesystem` those of the filesystem below it."""

    device: str
    mountpoint: str
    filesystem_type: str
    source: str
    options: frozenset[str] = frozenset()
    of_filesystem: frozenset[str] = frozenset()


def parse_mountinfo(data: bytes) -> Iterator[MountEntry]:
    """The mounts in the order of the kernel: where two lie on one point, the later is on top."""
    for line in data.splitlines():
        before, separator, after = line.partition(b" - ")
        fields, described = before.split(b" "), after.split(b" ")
        if separator and len(fields) >= 6 and len(described) >= 2:
            yield MountEntry(
                device=_text(fields[2]),
                mountpoint=_text(fields[4]),
                filesystem_type=_text(described[0]),
                source=_text(described[1]),
                options=_options(fields[5]),
                of_filesystem=_options(b"".join(described[2:3])),
            )


def find_mount(path: str) -> MountEntry | None:
    """The mount whose mountpoint `path` is, the topmost of several; `None` if nothing is there.

    Symlinks on the way are followed. Of `path` itself nothing but its name is asked for: on a dead
    mount every other question fails.
    """
    parent, name = os.path.split(os.path.abspath(path))
    resolved = {os.path.join(os.path.realpath(parent), name), os.path.realpath(path)}
    found = None
    for entry in parse_mountinfo(MOUNTINFO.read_bytes()):
        if entry.mountpoint in resolved:
            found = entry
    return found


def is_there(mountpoint: str, device: str | None) -> bool:
    """Whether an archive is on top at a mountpoint, and of this device, if it is known. Neither is
    asked anything, not even by name: a mount without a daemon may answer after half a minute."""
    top = None
    for entry in parse_mountinfo(MOUNTINFO.read_bytes()):
        if entry.mountpoint == mountpoint:
            top = entry
    return (
        top is not None and top.filesystem_type == FILESYSTEM_TYPE and device in (None, top.device)
    )


def our_mountpoints() -> list[str]:
    """Where archives are mounted."""
    mounts = parse_mountinfo(MOUNTINFO.read_bytes())
    return [entry.mountpoint for entry in mounts if entry.filesystem_type == FILESYSTEM_TYPE]


def _options(field: bytes) -> frozenset[str]:
    return frozenset(_text(field).split(","))


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field))
