"""The program `artstorefs`: finds the command, runs it, turns errors into a line and an exit code.

Each command is a module of `artstorefs_tools.commands` with `configure(parser)` and
`run(arguments) -> exit code`. Only the module of the command that is run is imported, and it
imports what is heavy (pydantic, trio) only where it needs it: `artstorefs status` must feel
instant, and a test holds it to that.

A command that stands in `COMMANDS` is in the help, in the completion of the shells and in the man
pages: what an argument is completed with follows from its `metavar` (`completion.py`).
"""

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import Final, Protocol, cast

from artstorefs import __version__
from artstorefs.core.errors import ArtStoreFSError, ConfigurationError
from artstorefs.core.nearest import did_you_mean
from artstorefs_tools import exit_codes
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.usage import WIDTH, Parser

COMMANDS: Final[dict[str, str]] = {
    "init": "make a new archive on storage elements",
    "adopt": "make an archive of what ArtStore has written, as it is",
    "mount": "mount an archive",
    "umount": "unmount an archive and wait until its process has ended",
    "status": "show what a mounted archive does and has still to do",
    "top": "show what a mounted archive does now, second by second",
    "flush": "wait until the elements have everything",
    "attr": "show and change the attributes of files",
    "mode": "show what each element allows, and have it allow less",
    "migrate": "move files to another element, and show how far that is",
    "medium": "show where archived content lies, and make a disk that",
    "recall": "have archived content brought back for a time",
    "seal": "have files complete, so that nobody can change them",
    "expiring": "show which files are removed unless they change",
    "config": "show what a configuration means, and check it",
    "cache": "show what the read cache holds, and change that",
    "fsck": "check an archive, and repair it where that is safe",
    "backup": "make a backup of the index now, also on another disk",
    "audit": "show who changed what, and check that record",
    "rescan": "take in what others changed on the elements",
    "reload": "have a mounted archive read its configuration again",
    "jobs": "show what takes long, wait for it, or cancel it",
    "log": "show how much a mounted archive logs, and change it",
    "rebuild": "make the index anew from what the elements hold",
    "migrate-schema": "make v1.0 on an element v2.0, or copy it out as v1.0",
    "doctor": "look whether everything is there that an archive needs",
    "install-units": "have systemd, mount(8), man and the shell find it",
    "completion": "print what completes commands in a shell",
}
"""Name and one-line help of every command; its module has the same name, with `_` for `-`."""

DESCRIPTION: Final = (
    "Mounts archives of ordinary files. More: artstorefs COMMAND -h, man artstorefs"
)

FIRST_STEPS: Final = """\
  artstorefs init museum --element main=local:/srv/objects
  artstorefs mount museum /srv/museum"""


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
        return exit_codes.of_mount(main(["mount", *words]))
    try:
        status = _run(words)
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
    """Whether mount.fuse3(8) calls, for the type `fuse.artstorefs`: NAME MOUNTPOINT -o OPTIONS.

    Of our commands only `mount` has an -o, so what begins with that word is a person's."""
    is_so = len(words) == 4 and words[1].startswith("/") and words[2] == "-o"
    return is_so and words[0] != "mount"


def _run(words: Sequence[str]) -> int:
    place = next((n for n, word in enumerate(words) if not word.startswith("-")), len(words))
    command = {*words[place : place + 1]}
    # What tells of all commands is -h before one. The parsers of them all would take as long as the
    # rest of what `status` does.
    parser = build_parser(command, listed=COMMANDS if place else command & COMMANDS.keys())
    parser.refuse_unknown_options(words[:place])
    if place < len(words):
        name = words[place]
        if name not in COMMANDS:
            hint = did_you_mean(name, COMMANDS, "artstorefs -h lists them")
            raise UsageError(f"{name} is not a command; {hint}")
        subparsers(parser)[name].refuse_unknown_options(words[place + 1 :])
    arguments, rest = parser.parse_known_args(words)
    if rest:
        subparsers(parser)[arguments.command].error(f"too many arguments: {' '.join(rest)}")
    return _command(arguments.command).run(arguments)


def build_parser(
    commands: Collection[str] = COMMANDS, listed: Collection[str] = COMMANDS
) -> Parser:
    """The parser, with the arguments of `commands` only; the others that are `listed` are named in
    the help."""
    parser = Parser(
        prog="artstorefs",
        description=DESCRIPTION,
        epilog=f"first steps:\n{FIRST_STEPS}\n"
        + textwrap.fill(f"exit codes: {exit_codes.summary()}", WIDTH),
    )
    version = f"artstorefs {__version__}"
    parser.add_argument("--version", action="version", version=version, help="show the version")
    added = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands"
    )
    for name, summary in COMMANDS.items():
        if name not in listed:
            continue
        subparser = added.add_parser(name, help=summary)
        if name in commands:
            _command(name).configure(subparser)
            subparser.description = textwrap.fill(subparser.description or summary, WIDTH)
    return parser


def subparsers(parser: Parser) -> dict[str, Parser]:
    """The parser of each command."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return cast(dict[str, Parser], commands.choices)


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
