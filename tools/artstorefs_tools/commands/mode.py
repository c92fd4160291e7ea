"""`artstorefs mode`: what the elements of a mounted archive allow, and to have them allow less."""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.errors import UsageError
from artstorefs_tools.progress import ProgressBar
from artstorefs_tools.terminal import format_table

_COLUMNS = ("element", "mode", "configured", "since", "by", "why")


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show the mode of each element of a mounted archive, or put one from rw into ro, or from "
        "ro into ar. From now on nobody can write there, but who has a file open finishes, and "
        "what was written before is carried there first. Ctrl-C ends the waiting only; --cancel "
        "takes it back as long as it prepares; then who waits for it has exit code 1. The way back "
        "is a change of the configuration and a new mount."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs mode museum\n"
        "  artstorefs mode museum main ro --why 'the year 2026 is complete'\n"
        "  artstorefs mode museum main --cancel"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("element", metavar="ELEMENT", nargs="?", help="id of an element")
    parser.add_argument("mode", metavar="MODE", nargs="?", help="the mode to put it into: ro or ar")
    parser.add_argument("--why", metavar="TEXT", default="", help="kept for those who ask later")
    parser.add_argument("--cancel", action="store_true", help="leave it in the mode that it was in")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the end of it")
    parser.add_argument("--json", action="store_true", help="the answer, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Show, or change; the exit code."""
    _check(arguments)
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        result = _ask(client, arguments)
    wanted = arguments.element
    modes = result.get("modes", [result])
    modes = [one for one in modes if wanted is None or one.get("element") == wanted]
    if not modes:
        raise UsageError(f"{arguments.name} has no element {wanted}")
    with understood(location.argument, "modes"):
        lines = list(describe(modes))
        is_reached = all(one["mode"] == arguments.mode for one in modes)
    print(json.dumps({"modes": modes}, indent=2) if arguments.json else "\n".join(lines))
    if arguments.mode is None or arguments.no_wait or is_reached:
        return exit_codes.OK
    print(f"artstorefs: {wanted} is not in mode {arguments.mode}: cancelled", file=sys.stderr)
    return exit_codes.FAILURE


def _check(arguments: argparse.Namespace) -> None:
    if arguments.cancel and (arguments.element is None or arguments.mode is not None):
        raise UsageError("--cancel is for one element, and for no mode: artstorefs mode NAME ID")
    if arguments.why and arguments.mode is None and not arguments.cancel:
        raise UsageError("--why is for a change of a mode")
    if arguments.mode not in (None, "edit", "rw", "ro", "ar"):
        raise UsageError(f"{arguments.mode} is no mode; ro and ar can be asked for")


def _ask(client: ControlClient, arguments: argparse.Namespace) -> dict[str, Any]:
    params = {"element": arguments.element, "why": arguments.why}
    if arguments.cancel:
        return client.call("mode_cancel", params)
    if arguments.mode is None:
        return client.call("modes")
    params |= {"mode": arguments.mode, "wait": not arguments.no_wait}
    with ProgressBar("mode") as bar:
        return client.call_with_progress("mode_change", partial(_show, bar), params)


def describe(modes: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of modes for a person."""
    yield from format_table([list(_COLUMNS), *map(_row, modes)])
    for one in modes:
        if one["retain_until"]:
            yield f"{one['element']}: what is there is retained until {one['retain_until']}"
        if one["error"]:
            yield f"{one['element']}: {one['error']}"


def _row(one: dict[str, Any]) -> list[str]:
    by = "" if one["by"] is None else f"user {one['by']}"
    row = [one["element"], _mode(one), one["configured"]]
    return [*row, one["since"] or "", by, one["why"]]


def _mode(one: dict[str, Any]) -> str:
    if one["target"] is None:
        return str(one["mode"])
    return f"{one['mode']} → {one['target']}, {_waiting(one)}"


def _waiting(one: dict[str, Any]) -> str:
    if one["phase"] == "committing":
        return "the element is told"
    return f"{one['intents']:,} to carry, {one['writers']:,} open for writing"


def _show(bar: ProgressBar, progress: dict[str, Any]) -> None:
    left = int(progress.get("intents") or 0) + int(progress.get("writers") or 0)
    bar.show(left, None, _waiting({"intents": 0, "writers": 0, "phase": "", **progress}))
