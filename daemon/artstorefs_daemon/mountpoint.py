"""Mounts of this machine: what is there, where to mount, mounting options, unmounting."""

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artstorefs.core.log_fields import about
from artstorefs.core.mount_options import MountOptions
from artstorefs_daemon.mount_replacement import replaced_mount
from artstorefs_daemon.mount_table import FILESYSTEM_TYPE, MOUNTINFO, parse_mountinfo
from artstorefs_daemon.mounted import fuse_device, is_dead, raise_read_ahead
from artstorefs_daemon.stub_system import FUSE_DEVICE

log = logging.getLogger(__name__)

ANY = ""
FUSE_CONFIGURATION = Path("/etc/fuse.conf")


def is_mounted(*, pid: int) -> bool:
    """Whether a process serves a mount that is in its mount table. One that was unmounted still has
    its descriptor of /dev/fuse while it drains the log, and ends by itself."""
    try:
        devices = set(_fuse_devices(pid))
        mounts = list(parse_mountinfo(Path(f"/proc/{pid}/mountinfo").read_bytes()))
    except OSError:
        return False
    return any(
        entry.filesystem_type == FILESYSTEM_TYPE and not devices.isdisjoint((entry.device, ANY))
        for entry in mounts
    )


def _fuse_devices(pid: int) -> Iterator[str]:
    """The devices of what a process serves through /dev/fuse, as mountinfo has them; ANY for one of
    which the kernel does not tell (before Linux 6.17)."""
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.stat(f"/proc/{pid}/fd/{descriptor}").st_rdev != FUSE_DEVICE:
                continue  # by its number: a daemon without a /dev of its own has no such path
            device = fuse_device(f"/proc/{pid}/fdinfo/{descriptor}")
        except OSError:
            continue
        yield device or ANY


@contextmanager
def place_to_mount(mountpoint: str, runtime_dir: str) -> Iterator[str]:
    """Yields where to mount what shall be on `mountpoint` in the end. A dead mount there
    ("Transport endpoint is not connected") is replaced, by root with no moment at which nothing is
    mounted."""
    if not is_dead(mountpoint):
        yield mountpoint
    elif os.geteuid() == 0 and os.path.isdir(runtime_dir):
        with replaced_mount(mountpoint, os.path.join(runtime_dir, "aside")) as aside:
            yield aside
    else:
        unmount(mountpoint)
        yield mountpoint


def read_further_ahead(mountpoint: str) -> None:
    """As `raise_read_ahead`; an ordinary user has to do with what there is."""
    devices = [
        entry.device
        for entry in parse_mountinfo(MOUNTINFO.read_bytes())
        if entry.mountpoint == os.path.abspath(mountpoint)
    ]
    if not devices or os.geteuid() != 0:
        return
    try:
        raise_read_ahead(devices[-1])
    except OSError as exc:
        log.info("reading ahead stays as it is: %s", exc, extra=about(exc))


def unmount(mountpoint: str) -> None:
    """Detach the mount now; open files stay until they are closed."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    environment = {"PATH": os.environ.get("PATH", os.defpath)}  # not what is secret in ours
    words = [*command, mountpoint]
    subprocess.run(words, check=False, stdin=subprocess.DEVNULL, env=environment)


def fuse_options(archive: str, options: MountOptions) -> set[str]:
    """Options of libfuse for a mount of this archive."""
    chosen = {f"fsname={archive}", "subtype=artstorefs"}
    if options.default_permissions:
        chosen.add("default_permissions")
    if options.read_only:
        chosen.add("ro")
    if options.allow_root:
        chosen.add("allow_root")
    elif options.allow_other or (options.allow_other is None and _others_may_be_let_in()):
        chosen.add("allow_other")
    for name in ("noexec", "nosuid", "nodev"):
        if getattr(options, name):
            chosen.add(name)
    if os.geteuid() == 0:
        chosen |= {name for name in ("suid", "dev") if f"no{name}" not in chosen}
    return chosen


def _others_may_be_let_in() -> bool:
    return os.geteuid() == 0 or users_may_let_others_in()


def users_may_let_others_in(configuration: Path = FUSE_CONFIGURATION) -> bool:
    """Whether /etc/fuse.conf says `user_allow_other`."""
    try:
        lines = configuration.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)
