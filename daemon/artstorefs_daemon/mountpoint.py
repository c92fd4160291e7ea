"""Mounts of this machine: what is there, what is dead, mounting options, unmounting."""

import errno
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
from artstorefs_daemon.stub_system import FUSE_DEVICE

log = logging.getLogger(__name__)

READ_AHEAD = "/sys/class/bdi/{device}/read_ahead_kb"
ANY = ""
FUSE_CONFIGURATION = "/etc/fuse.conf"


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
            lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines()
        except OSError:
            continue
        told = [line.split()[1] for line in lines if line.startswith("fuse_connection:")]
        yield f"0:{told[0]}" if told else ANY


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


def is_dead(mountpoint: str) -> bool:
    """Whether the daemon of a mount has died; statvfs(2), because the kernel may answer stat(2)
    from its cache long after the death."""
    try:
        os.statvfs(mountpoint)
    except OSError as exc:
        return exc.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def raise_read_ahead(mountpoint: str) -> None:
    """Let the kernel read ahead 1 MiB instead of 128 KiB: an eighth of the requests for a large
    file. FUSE itself can only lower it; an ordinary user has to do with what there is."""
    devices = [
        entry.device
        for entry in parse_mountinfo(MOUNTINFO.read_bytes())
        if entry.mountpoint == os.path.abspath(mountpoint)
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
