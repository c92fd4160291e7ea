"""The program `artstorefs`: finds the command, runs it, turns errors into a line and an exit code.

Each command is a module of `artstorefs_tools.commands` with `configure(parser)` and
`run(arguments) -> exit code`. Only the module of the command that is run is imported, and it
imports what is heavy (pydantic, trio) only where it needs it: `artstorefs status` must feel
instant, and a test holds it to that.
"""

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Final, Protocol, cast

from artstorefs.core.errors import ArtStoreFSError, ConfigurationError
from artstorefs_tools import exit_codes
from artstorefs_tools.errors import CommandError

COMMANDS: Final[dict[str, str]] = {
    "init": "make a new archive on storage elements",
    "mount": "mount an archive",
    "umount": "unmount an archive and wait until its process has ended",
    "status": "show what a mounted archive does, and what no element has yet",
    "flush": "wait until the elements have everything",
    "attr": "show and change the attributes of files",
    "config": "show what a configuration means, and check it",
    "cache": "show what the read cache holds, and say what shall be in it",
    "fsck": "check an archive, and repair it where that is safe",
    "rescan": "take in what others changed on the elements",
    "rebuild": "make the index anew from what the elements hold",
    "doctor": "look whether everything is there that an archive needs",
    "install-units": "have systemd and mount(8) find this program",
}
"""Name and one-line help of every command; its module has the same name, with `_` for `-`."""

_HELP_WIDTH: Final = 78

_EPILOG: Final = """\
first steps:
  artstorefs init museum --element main=local:/srv/objects
  artstorefs mount museum /srv/museum
  artstorefs attr /srv/museum/nightwatch.jpg artist=Rembrandt year:=1642
  artstorefs umount /srv/museum

exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 not mounted,
4 an element refuses some of the changes (they are kept, and tried again),
5 fsck has repaired all that it found, 6 fsck has found what is left
"""


class Command(Protocol):
    """What a module of `artstorefs_tools.commands` offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Set the parser's description, examples (`epilog`) and arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; the exit code. Raises `ArtStoreFSError` for what a person can understand."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code of the process. Lets only bugs through, with a traceback."""
    for stream in (sys.stdout, sys.stderr):  # names that are not UTF-8 come out as they are
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    words = list(sys.argv[1:] if argv is None else argv)
    if _is_by_mount_fuse(words):
        words.insert(0, "mount")
    name = next((word for word in words if not word.startswith("-")), "")
    parser = build_parser(name)
    try:
        arguments = parser.parse_args(words)
        status = _command(name).run(arguments)
        sys.stdout.flush()
    except ArtStoreFSError as exc:
        return _explain(exc)
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.FAILURE
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    return status


def _is_by_mount_fuse(words: Sequence[str]) -> bool:
    """Whether mount.fuse3(8) calls, for the type `fuse.artstorefs`: NAME MOUNTPOINT -o OPTIONS."""
    return len(words) == 4 and words[1].startswith("/") and words[2] == "-o"


def build_parser(command: str) -> argparse.ArgumentParser:
    """The parser, with the arguments of `command` only; the others are named in the help."""
    parser = argparse.ArgumentParser(
        prog="artstorefs",
        description="Keeps an archive as ordinary files, each with a readable attr.json,\n"
        "and mounts it as a filesystem. More: artstorefs COMMAND -h",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == command:
            _command(name).configure(subparser)
            subparser.description = textwrap.fill(subparser.description or summary, _HELP_WIDTH)
    return parser


def command_module(name: str) -> str:
    """The module of a command."""
    return f"artstorefs_tools.commands.{name.replace('-', '_')}"


def _command(name: str) -> Command:
    return cast(Command, importlib.import_module(command_module(name)))


def _explain(exc: ArtStoreFSError) -> int:
    """Print the one line, and give the exit code of an error."""
    print("artstorefs:", " ".join(str(exc).splitlines()), file=sys.stderr)
    if isinstance(exc, CommandError):
        return exc.exit_code
    return exit_codes.USAGE if isinstance(exc, ConfigurationError) else exit_codes.FAILURE


if __name__ == "__main__":
    sys.exit(main())
