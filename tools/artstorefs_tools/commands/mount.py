"""`artstorefs mount`: reads the configuration and the options, and hands over to the daemon."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from artstorefs.core.mount_options import OPTIONS, MountOptions, parse_mount_options
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import (
    Person,
    configuration_path,
    read_configuration_file,
)
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.paths import suggestion
from artstorefs_tools.usage import WIDTH

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments, those that mount(8) hands to a helper included."""
    parser.description = (
        "Mount an archive. Returns once the mount is there; with -f it serves in the foreground. "
        "A dead mount in the same place is cleared first."
    )
    parser.epilog = (
        "options for -o, which man mount.artstorefs explains:\n"
        f"{fill(' '.join(OPTIONS), WIDTH, initial_indent='  ', subsequent_indent='  ')}\n"
        "  those of fstab and systemd are ignored\n\n"
        "examples:\n"
        "  artstorefs mount museum /srv/museum\n"
        "  artstorefs mount museum /srv/museum -o ro,allow_other\n"
        "  artstorefs mount museum -o remount,ro"
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
    parser.add_argument(
        "--user", help="as root: whom it runs as, without privileges (default: as configured)"
    )
    parser.add_argument(
        "--stub",
        nargs="?",
        const="",
        metavar="SOCKET",
        help="have artstorefs-mount@NAME.service mount it, or who listens there",
    )
    parser.add_argument("-s", dest="sloppy", action="store_true", help=argparse.SUPPRESS)
    for flag in ("-n", "-v"):  # no mtab, verbose: nothing to us
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fake", action="store_true", help="do everything but mount")
    for option in ("-N", "-t"):  # namespace and type: mount(8) has dealt with them
        parser.add_argument(option, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Mount; the exit code, which in the foreground comes when the mount has ended."""
    text = ",".join(arguments.options)
    options = parse_mount_options(text, sloppy=arguments.sloppy)
    if options.remount and arguments.mountpoint is not None:  # mount(8) may know no more than that
        return _remount(arguments.mountpoint, text, arguments.sloppy)
    file = configuration_path(arguments.name, Person.current())
    reread = _reader(arguments.name, arguments.mountpoint)
    configuration = reread()
    mountpoint = configuration.mountpoint
    if mountpoint is None:
        raise UsageError(
            f"{arguments.name} has no mountpoint in its configuration; "
            f"say where: artstorefs mount {arguments.name} MOUNTPOINT"
        )
    if options.remount:
        return _remount(str(mountpoint), text, arguments.sloppy)
    if arguments.stub is None and not _exists(mountpoint):
        hint = suggestion(str(mountpoint), f"make it with: mkdir -p {mountpoint}")
        raise CommandError(f"mountpoint {mountpoint} does not exist{hint}")
    if arguments.fake:
        return exit_codes.OK
    return _serve(configuration, options, arguments, file, reread)


def _remount(mountpoint: str, text: str, sloppy: bool) -> int:
    from artstorefs_tools.remounting import remount

    return remount(mountpoint, text, sloppy=sloppy)


def _reader(name: str, mountpoint: str | None) -> Callable[[], "ArchiveConfiguration"]:
    """Reads the configuration, now and whenever the daemon is told to: files and directories are
    those of now, wherever the daemon stands then."""
    person = Person.current()
    path = configuration_path(name, person)
    place = None if mountpoint is None else _resolved(mountpoint)

    def read() -> "ArchiveConfiguration":
        configuration = read_configuration_file(path, person)
        if place is None or mountpoint is None:
            return configuration
        return configuration.with_mountpoint(place, mountpoint)

    return read


def _serve(
    configuration: "ArchiveConfiguration",
    options: MountOptions,
    arguments: argparse.Namespace,
    file: Path,
    reread: Callable[[], "ArchiveConfiguration"],
) -> int:
    """By ourselves, or without privileges and by the stub."""
    from artstorefs_daemon import privileges
    from artstorefs_daemon.mount_daemon import serve
    from artstorefs_daemon.mounting import MountByOurselves, MountByStub, Mounting
    from artstorefs_daemon.stub_client import MountStub
    from artstorefs_daemon.stub_protocol import socket_path

    mountpoint = str(configuration.mountpoint)
    waiting = partial(_waiting, configuration)
    user = arguments.user or configuration.user
    mounting: Mounting
    if arguments.stub is not None:
        where = arguments.stub or socket_path(configuration.name)
        mounting = MountByStub(MountStub.connect(where), configuration, options)
    elif os.geteuid() == 0 and user not in (None, privileges.ROOT):
        account = privileges.account_of(user)
        privileges.make_directories_for(configuration, account)
        words = ",".join(arguments.options)
        stub = privileges.start_stub(file, user, mountpoint, words, foreground=arguments.foreground)
        privileges.become(account)
        mounting = MountByStub(stub, configuration, options)
    elif arguments.user is not None and os.geteuid() != 0:
        raise UsageError("only root can have an archive run as another user")
    else:
        mounting = MountByOurselves(configuration, options)
        return serve(configuration, mounting, arguments.foreground, reread, waiting)
    privileges.check_places(configuration)
    return serve(configuration, mounting, arguments.foreground, reread, waiting)


@contextmanager
def _waiting(configuration: "ArchiveConfiguration") -> Iterator[None]:
    """Show that it takes a while: what a crash has left is looked through, and an index that is
    lost is made anew."""
    from artstorefs_daemon.logs import FILE_NAME
    from artstorefs_tools.progress import ProgressBar

    with ProgressBar("mounting") as bar:
        bar.show(0, None, f"{configuration.state_dir / FILE_NAME} says what it does")
        yield


def _resolved(mountpoint: str) -> Path:
    """Where symlinks lead. A mount that waits for its next daemon is asked nothing: that is us."""
    from artstorefs_daemon.mount_table import is_there

    parent, name = os.path.split(os.path.abspath(mountpoint))
    place = os.path.join(os.path.realpath(parent), name)
    return Path(place if is_there(place, None) else os.path.realpath(place))


def _exists(path: Path) -> bool:
    """Whether there is a mountpoint. A dead mount is one, though it answers nothing, and so is one
    that waits for its next daemon, see above."""
    from artstorefs_daemon.mount_table import is_there

    if is_there(os.path.abspath(path), None):
        return True
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
