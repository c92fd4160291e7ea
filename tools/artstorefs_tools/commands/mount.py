"""`artstorefs mount`: reads the configuration and the options, and hands over to the daemon."""

import argparse
import os
from pathlib import Path

from artstorefs.core.mount_options import parse_mount_options
from artstorefs_tools.configuration_files import read_configuration
from artstorefs_tools.errors import CommandError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments, those that mount(8) hands to a helper included."""
    parser.description = (
        "Mount an archive. Returns once the mount is there; with -f it serves in the foreground. "
        "A dead mount in the same place is cleared first."
    )
    parser.epilog = (
        "options for -o: ro rw allow_other allow_root default_permissions\n"
        "  noexec nosuid nodev exec suid dev debug; those of fstab and systemd are ignored\n\n"
        "examples:\n"
        "  artstorefs mount museum /srv/museum\n"
        "  artstorefs mount museum /srv/museum -o ro,allow_other"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument(
        "mountpoint", metavar="MOUNTPOINT", nargs="?", help="default: as configured"
    )
    parser.add_argument(
        "-f", dest="foreground", action="store_true", help="stay in the foreground, log to stderr"
    )
    parser.add_argument(
        "-o", dest="options", metavar="OPTS", action="append", default=[], help="mount options"
    )
    for flag in ("-s", "-n", "-v"):  # sloppy, no mtab, verbose: nothing to us
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    for option in ("-N", "-t"):  # namespace and type: mount(8) has dealt with them
        parser.add_argument(option, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Mount; the exit code, which in the foreground comes when the mount has ended."""
    options = parse_mount_options(",".join(arguments.options))
    configuration = read_configuration(arguments.name)
    if arguments.mountpoint is not None:
        path = Path(os.path.realpath(arguments.mountpoint))
        configuration = configuration.with_mountpoint(path, arguments.mountpoint)
    if configuration.mountpoint is None:
        raise UsageError(
            f"{arguments.name} has no mountpoint in its configuration; "
            f"say where: artstorefs mount {arguments.name} MOUNTPOINT"
        )
    if not _exists(configuration.mountpoint):
        raise CommandError(
            f"mountpoint {configuration.mountpoint} does not exist; make it with: "
            f"mkdir -p {configuration.mountpoint}"
        )
    from artstorefs_daemon.mount_daemon import serve

    return serve(configuration, str(configuration.mountpoint), options, arguments.foreground)


def _exists(path: Path) -> bool:
    """Whether there is a mountpoint; a dead mount is one, though it answers nothing."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
