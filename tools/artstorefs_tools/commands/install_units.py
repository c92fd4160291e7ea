"""`artstorefs install-units`: what systemd and mount(8) need to find the program.

The units lie in the wheel, in a checkout in the folder `systemd`; the path of this installation is
filled in.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from artstorefs.core.directories import xdg_directory
from artstorefs.elements.durable import fsync_directory, write_file_durably
from artstorefs_tools.errors import CommandError, UsageError

PROGRAM: Final = "@PROGRAM@"

SYSTEM_UNITS: Final = Path("etc/systemd/system")
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
        "Install the systemd units of this installation and, for the system, the helper of "
        "mount(8), by which `mount -t artstorefs` and fstab work. What is there is replaced."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs install-units            /etc/systemd/system, /sbin, /usr/local/bin\n"
        "  artstorefs install-units --user     ~/.config/systemd/user"
    )
    parser.add_argument("--user", action="store_true", help="for services of this user alone")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="of another system (default /)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Install them; the exit code."""
    program = Path(sys.executable).with_name("artstorefs")
    if not program.exists():
        raise CommandError(f"{program} is missing: install the package artstorefs with pip")
    source = units()
    try:
        if arguments.user:
            _install(source / "user", _user_units(), program)
        else:
            if os.geteuid() != 0 and arguments.root == Path("/"):
                raise UsageError("only root installs units for the system; --user is for your own")
            _install(source, arguments.root / SYSTEM_UNITS, program)
            for link, name in LINKS.items():
                _link(arguments.root / link, program.with_name(name))
    except OSError as exc:
        raise CommandError(f"{exc.filename} cannot be written: {exc.strerror}") from None
    print(NEXT_STEPS.format(systemctl="systemctl --user" if arguments.user else "systemctl"))
    return 0


def units() -> Path:
    """The folder with the units of this release."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "systemd", package.parent.parent / "systemd"):
        if folder.is_dir():
            return folder
    raise CommandError(f"{package / 'systemd'} is missing: install the package artstorefs again")


def _user_units() -> Path:
    home = Path.home()
    return (xdg_directory(os.environ, "XDG_CONFIG_HOME") or home / ".config") / "systemd/user"


def _install(source: Path, target: Path, program: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for unit in sorted(path for path in source.iterdir() if path.is_file()):
        text = unit.read_text().replace(PROGRAM, str(program))
        write_file_durably(target / unit.name, text.encode(), mode=0o644)
        print(target / unit.name)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    fsync_directory(link.parent)
    print(f"{link} -> {target}")
