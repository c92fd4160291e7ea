"""`artstorefs install-units`: what systemd and mount(8) need to find the program.

The units lie in the wheel, in a checkout in the folder `systemd`; the path of this installation is
filled in.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from artstorefs.core.directories import xdg_directory
from artstorefs.elements.durable import fsync_directory, write_file_durably
from artstorefs_tools import exit_codes
from artstorefs_tools.errors import CommandError, UsageError

PROGRAM: Final = "@PROGRAM@"

SYSTEM_UNITS: Final = Path("etc/systemd/system")
SYSTEM_SHARE: Final = Path("usr/local/share")
LINKS: Final = {
    Path("sbin/mount.artstorefs"): "mount.artstorefs",
    Path("usr/local/bin/artstorefs"): "artstorefs",
}
"""For `mount -t artstorefs`, and for `mount -t fuse.artstorefs` by way of mount.fuse3(8)."""

NEXT_STEPS: Final = """\
next steps:
  {systemctl} daemon-reload
  {systemctl} enable --now artstorefs@NAME"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Install the systemd units of this installation, man pages, completions for bash, zsh and "
        "fish, and, for the system, the helper of mount(8), by which `mount -t artstorefs` and "
        "fstab work. What is there is replaced."
    )
    parser.epilog = "examples:\n  artstorefs install-units\n  artstorefs install-units --user"
    parser.add_argument("--user", action="store_true", help="for services of this user alone")
    parser.add_argument("--remove", action="store_true", help="take away what was installed")
    parser.add_argument("--json", action="store_true", help="the paths, as one JSON object")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="of another system (default /)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Install or remove them; the exit code."""
    if not arguments.user and os.geteuid() != 0 and arguments.root == Path("/"):
        raise UsageError("only root installs units for the system; --user is for your own")
    work = _remove if arguments.remove else _install
    try:
        paths = [str(path) for path in work(arguments.user, arguments.root)]
    except OSError as exc:
        raise CommandError(f"{exc.filename} cannot be written: {exc.strerror}") from None
    if arguments.json:
        print(json.dumps({"removed" if arguments.remove else "installed": paths}, indent=2))
        return exit_codes.OK
    print("\n".join(paths))
    if not arguments.remove:
        print(NEXT_STEPS.format(systemctl="systemctl --user" if arguments.user else "systemctl"))
    return exit_codes.OK


def units() -> Path:
    """The folder with the units of this release."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "systemd", package.parent.parent / "systemd"):
        if folder.is_dir():
            return folder
    raise CommandError(f"{package / 'systemd'} is missing: install the package artstorefs again")


def _units_folder(user: bool, root: Path) -> Path:
    if user:
        return _own("XDG_CONFIG_HOME", ".config") / "systemd/user"
    return root / SYSTEM_UNITS


def _share(user: bool, root: Path) -> Path:
    return _own("XDG_DATA_HOME", ".local/share") if user else root / SYSTEM_SHARE


def _own(variable: str, default: str) -> Path:
    return xdg_directory(os.environ, variable) or Path.home() / default


def _sources(user: bool) -> list[Path]:
    folder = units() / "user" if user else units()
    return sorted(path for path in folder.iterdir() if path.is_file())


def _install(user: bool, root: Path) -> Iterator[Path]:
    from artstorefs_tools.shared_files import install_shared_files

    program = Path(sys.executable).with_name("artstorefs")
    if not program.exists():
        raise CommandError(f"{program} is missing: install the package artstorefs with pip")
    target = _units_folder(user, root)
    target.mkdir(parents=True, exist_ok=True)
    for unit in _sources(user):
        text = unit.read_text().replace(PROGRAM, str(program))
        write_file_durably(target / unit.name, text.encode(), mode=0o644)
        yield target / unit.name
    yield from install_shared_files(_share(user, root))
    for link, name in () if user else LINKS.items():
        _link(root / link, program.with_name(name))
        yield root / link


def _remove(user: bool, root: Path) -> Iterator[Path]:
    from artstorefs_tools.shared_files import remove_shared_files

    installed = [_units_folder(user, root) / unit.name for unit in _sources(user)]
    links = [] if user else [root / link for link in LINKS]
    for path in [*installed, *links]:
        if path.is_symlink() or path.exists():
            path.unlink()
            yield path
    yield from remove_shared_files(_share(user, root))


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    fsync_directory(link.parent)
