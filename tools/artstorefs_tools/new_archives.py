"""What `init` and `adopt` share: where a new archive is configured, for whom, and what is said."""

import argparse
import os
import pwd
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from artstorefs.core.crash_points import crash_point
from artstorefs_tools.configuration_files import Person
from artstorefs_tools.errors import CommandError, UsageError

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration

SERVICE_USER = "artstorefs"
"""As whom artstorefs@.service runs."""


def add_place_arguments(parser: argparse.ArgumentParser, printed: str) -> None:
    """Those that `place_of` reads, and `--json`: `printed`, as an object."""
    parser.add_argument("--mountpoint", metavar="DIR", help="where `mount NAME` mounts it")
    parser.add_argument("--json", action="store_true", help=f"{printed}, as one JSON object")
    parser.add_argument(
        "--config-dir", metavar="DIR", help="where NAME.toml is written (as root /etc/artstorefs)"
    )


def place_of(arguments: argparse.Namespace, person: Person) -> tuple[Path, str]:
    """The path of NAME.toml, and how other commands are told of the archive."""
    folder = Path(absolute(arguments.config_dir)) if arguments.config_dir else None
    path = (folder or person.configurations) / f"{arguments.name}.toml"
    return path, str(path) if folder else arguments.name


def tell_made(configuration: "ArchiveConfiguration", path: Path, told: str) -> None:
    """What comes next, for people."""
    print(f"archive {configuration.name} is configured in {path}")
    where = "" if configuration.mountpoint else " MOUNTPOINT"
    print(f"mount it with: artstorefs mount {told}{where}")


def user_for(wanted: str | None) -> str | None:
    """The account for a new archive, of which only root can choose."""
    if wanted is not None and os.geteuid() != 0:
        raise UsageError("only root can make an archive for another user")
    if wanted is None and os.geteuid() == 0:
        return SERVICE_USER if any(one.pw_name == SERVICE_USER for one in pwd.getpwall()) else None
    return None if wanted == "root" else wanted


def write_new_file(path: Path, data: bytes) -> None:
    """Write a file durably and whole; `CommandError` if there is one."""
    from artstorefs.elements import durable

    # XDG Base Directory Specification: a person's own configuration directories have mode 0700.
    durable.make_directories_durably(path.parent, 0o755 if os.geteuid() == 0 else 0o700)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        durable.write_file_durably(temporary, data, mode=0o644)
        crash_point("init.configuration_staged")
        durable.rename_new(temporary.name, folder, path.name, folder)
        durable.fsync_directory(folder)
    except FileExistsError:
        raise CommandError(f"{path} was made by somebody else meanwhile; it is left") from None
    finally:
        temporary.unlink(missing_ok=True)
        os.close(folder)


def absolute(path: str) -> str:
    """`path` from the working directory and the home, with the symlinks on the way resolved."""
    return os.path.realpath(os.path.expanduser(path))
