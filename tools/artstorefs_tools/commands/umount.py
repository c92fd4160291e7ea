"""`artstorefs umount`: unmounts an archive and waits for the process that served it.

umount(2) returns while the daemon still carries things to the elements. That is safe, for the log
is in the state directory, but whoever is about to take a disk away wants to know when it is over.
"""

import argparse
import itertools
import os
import select
import subprocess
import sys
from typing import Final

from artstorefs.core.errors import ConfigurationError
from artstorefs.core.nearest import did_you_mean
from artstorefs_daemon.mount_table import (
    FILESYSTEM_TYPE,
    MountEntry,
    find_mount,
    our_mountpoints,
)
from artstorefs_tools import exit_codes
from artstorefs_tools.control_client import ControlClient
from artstorefs_tools.errors import CommandError, NotMounted, UsageError
from artstorefs_tools.flushing import flush
from artstorefs_tools.mount_holders import find_holders, find_namespaces
from artstorefs_tools.runtime import runtime_dir

_SILENT_WAIT_MS: Final = 2000
"""A wait that is longer than this is explained to whoever watches."""
_ELSEWHERE_WAIT_MS: Final = 10_000
"""A program that begins in a mount namespace of its own may not keep what it finds there."""
_HOLDERS_SHOWN: Final = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Unmount an archive and wait until its process has ended. What no element has yet stays in "
        "the state directory, and the next mount carries it on."
    )
    parser.epilog = (
        "examples:\n  artstorefs umount /srv/museum\n  artstorefs umount /srv/museum --flush"
    )
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="where the archive is mounted")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--flush",
        action="store_true",
        help="first wait until the elements have everything; if one refuses something, "
        "stay mounted (exit code 4)",
    )
    how.add_argument(
        "--lazy", action="store_true", help="detach at once, and end when nobody uses it any more"
    )


def run(arguments: argparse.Namespace) -> int:
    """Unmount; the exit code."""
    entry = find_mount(arguments.mountpoint)
    if entry is None:
        mounts = our_mountpoints()
        known = f"archives are mounted at: {', '.join(mounts)}" if mounts else ""
        hint = did_you_mean(os.path.abspath(arguments.mountpoint), mounts, known)
        told = filter(None, [f"nothing is mounted at {arguments.mountpoint}", hint])
        raise NotMounted("; ".join(told))
    if entry.filesystem_type != FILESYSTEM_TYPE:
        raise UsageError(f"{entry.mountpoint} is of type {entry.filesystem_type}, not an archive")
    if arguments.lazy:  # asks the daemon nothing, so that a hanging one can be detached
        unmount(entry.mountpoint, "--lazy")
        return exit_codes.OK
    try:
        with ControlClient(runtime_dir(entry), entry.source) as client:
            if arguments.flush and (status := flush(client)) != exit_codes.OK:
                return status
            process = os.pidfd_open(client.daemon_pid)
    except (CommandError, ConfigurationError, OSError) as exc:
        if arguments.flush:
            raise CommandError(f"{entry.mountpoint} cannot be flushed: {exc}") from None
        unmount(entry.mountpoint)
        if not isinstance(exc, NotMounted):  # which is a dead mount: nobody to be waited for
            print(f"artstorefs: unmounted, but the end is not waited for: {exc}", file=sys.stderr)
        return exit_codes.OK
    try:
        unmount(entry.mountpoint)
        _wait_for_end(process, entry)
    finally:
        os.close(process)
    return exit_codes.OK


def unmount(mountpoint: str, *options: str) -> None:
    """Unmount as root with umount(8), else with fusermount3(1). Raises `CommandError`."""
    if os.geteuid() == 0:
        command = ["umount", *options, mountpoint]
    else:
        command = ["fusermount3", "-u", *(["-z"] if options else []), mountpoint]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False
        )
    except FileNotFoundError:
        raise CommandError(f"{command[0]} is not installed; install fuse3") from None
    if done.returncode == 0:
        return
    if "busy" not in done.stderr:
        raise CommandError(" ".join(done.stderr.split()) or f"{command[0]} failed")
    holders = [str(h) for h in itertools.islice(find_holders(mountpoint), _HOLDERS_SHOWN)]
    raise CommandError(
        f"{mountpoint} is busy: {'; '.join(holders) or 'something uses it'} "
        "(end that first, or use --lazy)"
    )


def _wait_for_end(process: int, entry: MountEntry) -> None:
    """Wait until the process behind a pidfd has ended; tell whoever watches if it takes long.
    Raises `CommandError` where it will not end, because the filesystem is mounted elsewhere too."""
    ended = select.poll()
    ended.register(process, select.POLLIN)
    if not ended.poll(_SILENT_WAIT_MS):
        elsewhere = itertools.islice(find_namespaces(entry.device), _HOLDERS_SHOWN)
        holders = "; ".join(map(str, elsewhere))
        if holders:
            if ended.poll(_ELSEWHERE_WAIT_MS):
                return
            raise CommandError(
                f"{entry.mountpoint} is unmounted here, and its process goes on, because {holders}"
                " (it ends when that does)"
            )
        print(
            f"{entry.source} is unmounted; its process still writes. Ctrl-C is safe: the next "
            "mount goes on with what is left.",
            file=sys.stderr,
        )
        ended.poll()
