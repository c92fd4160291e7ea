"""`artstorefs expiring`: the files of a mounted archive that are removed unless they change."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from artstorefs.core.errors import one_line
from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.terminal import coloured, format_table

_COLUMNS = ("removed from", "last changed", "size", "path")
_SHOWN = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show which files of a mounted archive have come to their end by expire_after_days, and "
        "from when on each is removed; those that go first come first. Any change of a file, touch "
        "of it too, gives it all of that time anew. Once the clock has leapt nothing is removed "
        "until it is set right, a time server keeps it so, or somebody says that it is right."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs expiring museum\n"
        "  artstorefs expiring museum --all --json | jq -r .expiring[].path\n"
        "  artstorefs expiring museum --clock-is-right"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--all", action="store_true", help=f"all files, not the first {_SHOWN}")
    right = "the clock is right, however far it has leapt: let files expire again"
    parser.add_argument("--clock-is-right", action="store_true", help=right)
    parser.add_argument("--json", action="store_true", help="the answer, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Show; the exit code."""
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        if arguments.clock_is_right:
            client.call("clock_is_right")
        answer = client.call("expiring")
        with understood(location.argument, "expiring"):
            while arguments.all and answer["next"] is not None:
                following = client.call("expiring", {"after": answer["next"]})
                answer["expiring"] += following["expiring"]
                answer["next"] = following["next"]
            lines = list(describe(answer))
    print(json.dumps(answer, indent=2) if arguments.json else "\n".join(lines))
    return exit_codes.OK


def describe(answer: dict[str, Any]) -> Iterator[str]:
    """The lines of an answer for a person."""
    if answer["paused"]:
        yield coloured(f"no files expire: {answer['paused']}", "red")
    if not answer["expiring"]:
        yield "no file expires now"
        return
    yield f"{answer['files']:,} files, {format_size(answer['bytes'])}"
    yield from format_table([list(_COLUMNS), *map(_row, answer["expiring"])])
    if answer["next"] is not None:
        yield f"and {max(0, answer['files'] - len(answer['expiring'])):,} more, see --all"


def _row(file: dict[str, Any]) -> list[str]:
    names = f" ({file['links']} names)" if file["links"] > 1 else ""
    path = one_line(file["path"])
    return [file["removal"], file["changed"], format_size(file["size"]), f"{path}{names}"]
