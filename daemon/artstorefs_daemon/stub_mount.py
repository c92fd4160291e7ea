"""The mount of the stub: made, found, replaced and taken away, where no symlink leads."""

import errno
import os
from typing import NamedTuple

from artstorefs.core.mount_options import MountOptions
from artstorefs_daemon import mounted
from artstorefs_daemon import stub_system as system
from artstorefs_daemon.mount_replacement import cover, take_place
from artstorefs_daemon.mount_table import FILESYSTEM_TYPE, MOUNTINFO, MountEntry, parse_mountinfo


class Place(NamedTuple):
    """What is mounted where and for whom, as root has said it."""

    archive: str
    mountpoint: str
    state_dir: str
    uid: int
    options: MountOptions


def mount(place: Place, device: int, read_only: bool) -> None:
    """On top of the mountpoint, or in the place of a dead mount that daemon and stub have left
    there (mount_replacement.py). Where no symlink leads: whoever could make one could choose what
    is covered."""
    options = place.options
    attributes = system.READ_ONLY if read_only or options.read_only else 0
    # A daemon decides what is set-user-id and what is a device there; root may trust it with that.
    attributes |= system.NO_SUID if options.nosuid else 0
    attributes |= system.NO_DEVICES if options.nodev else 0
    attributes |= system.NO_PROGRAMS if options.noexec else 0
    kind, _, subtype = FILESYSTEM_TYPE.partition(".")
    settings = {"source": place.archive, "subtype": subtype, "fd": str(device)}
    settings |= {"rootmode": "40000", "user_id": "0", "group_id": "0"}
    switches = {
        "ro": attributes & system.READ_ONLY,
        "default_permissions": options.default_permissions,
        "allow_other": options.allow_other is not False and not options.allow_root,  # we are root
    }
    chosen = [name for name, is_chosen in switches.items() if is_chosen]
    made = system.new_mount(kind, settings, chosen, attributes)
    try:
        attach = take_place if is_dead(place) else cover
        attach(made, lambda: open_without_symlinks(place.mountpoint))
    finally:
        os.close(made)


def detach(place: Place, number: str | None) -> None:
    """Take our mount away, if it is still there; open files stay until they are closed."""
    if top_mount(place, number) is None:
        return
    point = open_without_symlinks(place.mountpoint)
    try:
        system.detach(f"/proc/self/fd/{point}")
    finally:
        os.close(point)


def is_dead(place: Place) -> bool:
    """Whether a daemon of this archive has left a dead mount. Nothing else is asked anything."""
    return top_mount(place) is not None and mounted.is_dead(place.mountpoint)


def top_mount(place: Place, number: str | None = None) -> MountEntry | None:
    """What is on top at the mountpoint, if it is a mount of this archive; and of this device."""
    at_point = [
        entry
        for entry in parse_mountinfo(MOUNTINFO.read_bytes())
        if entry.mountpoint == place.mountpoint
    ]
    top = at_point[-1] if at_point else None
    if top is None or (top.filesystem_type, top.source) != (FILESYSTEM_TYPE, place.archive):
        return None
    return top if number in (None, top.device) else None


def open_without_symlinks(path: str) -> int:
    """A descriptor that only names a directory. Raises OSError, ELOOP where a symlink led there."""
    point = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    reached = os.readlink(f"/proc/self/fd/{point}")
    if reached != path:
        os.close(point)
        raise OSError(errno.ELOOP, f"a symlink leads to {reached}: write that as the mountpoint")
    return point
