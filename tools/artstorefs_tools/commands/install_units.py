"""`artstorefs install-units`: what systemd, mount(8), man(1), shells and updatedb(8) need to know
of the program.

The units lie in the wheel, in a checkout in the folder `systemd`; the path of this installation is
filled in. What is installed is also what `--remove` takes away.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from artstorefs.core.directories import xdg_directory
from artstorefs.elements.durable import fsync_directory, write_file_durably
from artstorefs_daemon.stub_protocol import PROGRAM as STUB
from artstorefs_tools import exit_codes, updatedb
from artstorefs_tools.errors import CommandError, UsageError

PROGRAM: Final = "@PROGRAM@"

SYSTEM: Final = {
    ".": Path("etc/systemd/system"),
    "sysusers.d": Path("etc/sysusers.d"),
    "tmpfiles.d": Path("etc/tmpfiles.d"),
}
"""Where the files of each of our folders are in a system; `user` is not of the system."""

SYSTEM_SHARE: Final = Path("usr/local/share")
LINKS: Final = {
    Path("sbin/mount.artstorefs"): "mount.artstorefs",
    Path("usr/local/bin/artstorefs"): "artstorefs",
}
"""For `mount -t artstorefs`, and for `mount -t fuse.artstorefs` by way of mount.fuse3(8)."""

APPLIED: Final = (
    ("systemd-sysusers", "/etc/sysusers.d/artstorefs.conf"),
    ("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/artstorefs.conf"),
)
"""In this order, as the directories may belong to the account. Without them it happens at boot."""

NEXT_STEPS: Final = """\
next steps:
  {systemctl} daemon-reload
  {systemctl} enable --now artstorefs@NAME
  {systemctl} enable --now artstorefs-fsck@NAME.timer      (a check each month)
  {systemctl} enable --now artstorefs-backup@NAME.timer    (a copy of the index each day)"""

REMOVED: Final = """\
archives, their configuration and the account artstorefs stay; what is mounted stays mounted
next step:
  {systemctl} daemon-reload"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Install the systemd units of this installation, man pages, completions for bash, zsh and "
        "fish, and, for the system, its account and directories, the helper of mount(8), by which "
        "`mount -t artstorefs` and fstab work, and an entry in the list of what updatedb leaves "
        "out. What is there is replaced."
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
    told = REMOVED if arguments.remove else NEXT_STEPS
    print(told.format(systemctl="systemctl --user" if arguments.user else "systemctl"))
    return exit_codes.OK


def units() -> Path:
    """The folder with the units of this release."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "systemd", package.parent.parent / "systemd"):
        if folder.is_dir():
            return folder
    raise CommandError(f"{package / 'systemd'} is missing: install the package artstorefs again")


def _places(user: bool, root: Path) -> Iterator[tuple[Path, Path]]:
    """Each file of this release, and where it is installed."""
    if user:
        folders = {"user": _own("XDG_CONFIG_HOME", ".config") / "systemd/user"}
    else:
        folders = {name: root / place for name, place in SYSTEM.items()}
    for name, place in folders.items():
        for path in sorted((units() / name).iterdir()):
            if path.is_file():
                yield path, place / path.name


def _share(user: bool, root: Path) -> Path:
    return _own("XDG_DATA_HOME", ".local/share") if user else root / SYSTEM_SHARE


def _own(variable: str, default: str) -> Path:
    return xdg_directory(os.environ, variable) or Path.home() / default


# ------------------------------------------------------------------------------------ install


def _install(user: bool, root: Path) -> Iterator[Path]:
    from artstorefs_tools.shared_files import install_shared_files

    program = Path(sys.executable).with_name("artstorefs")
    for needed in (program, program.with_name(STUB)):
        if not needed.exists():
            raise CommandError(f"{needed} is missing: install the package artstorefs with pip")
    for source, target in _places(user, root):
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text().replace(PROGRAM, str(program))
        write_file_durably(target, text.encode(), mode=0o644)
        yield target
    yield from install_shared_files(_share(user, root))
    if user:
        return
    for link, name in LINKS.items():
        _link(root / link, program.with_name(name))
        yield root / link
    yield from _edit_prune_list(root, updatedb.pruned)
    if root == Path("/"):
        for command in APPLIED:
            _apply(*command)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    fsync_directory(link.parent)


def _edit_prune_list(root: Path, edit: Callable[[str], str]) -> Iterator[Path]:
    path = root / updatedb.CONFIGURATION
    if not path.is_file():
        return
    before = os.fsdecode(path.read_bytes())
    after = edit(before)
    if after != before:
        write_file_durably(path, os.fsencode(after), mode=path.stat().st_mode & 0o7777)
        yield path


def _apply(program: str, *words: str) -> None:
    """Have systemd make the account or the directories now."""
    if shutil.which(program) is None:
        return
    done = subprocess.run(
        [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise CommandError(f"{program} failed: {reason}")


# ------------------------------------------------------------------------------------- remove


def _remove(user: bool, root: Path) -> Iterator[Path]:
    """What `enable` has linked goes first: boots complain of a link to a unit that is gone."""
    from artstorefs_tools.shared_files import remove_shared_files

    installed = [target for _, target in _places(user, root)]
    links = [] if user else [root / link for link in LINKS]
    for path in [*_enabled(installed), *installed, *links]:
        if path.is_symlink() or path.exists():
            path.unlink()
            yield path
    yield from remove_shared_files(_share(user, root))
    if not user:
        yield from _edit_prune_list(root, updatedb.unpruned)


def _enabled(installed: list[Path]) -> Iterator[Path]:
    """The links that `systemctl enable` has made to what is installed."""
    for folder in sorted({target.parent for target in installed}):
        names = {target.name for target in installed if target.parent == folder}
        for link in sorted(folder.glob("*.wants/*")):
            if link.is_symlink() and link.readlink().name in names:
                yield link
