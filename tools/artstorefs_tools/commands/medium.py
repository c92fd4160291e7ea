"""`artstorefs medium`: where elements keep what is archived, and to make a disk such a place."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.errors import UsageError
from artstorefs_tools.terminal import format_table

_COLUMNS = ("element", "medium", "there", "still to go")


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show what of a mounted archive is archived, and where that lies: the medium of an element "
        "in mode ar is the directory that its offline_path names, a disk or tape that need not "
        "always be mounted. With --prepare an empty one that is mounted there is made the medium: "
        "it gets a marker, without which nothing is ever written there."
    )
    parser.epilog = (
        "examples:\n  artstorefs medium museum\n  artstorefs medium museum main --prepare"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("element", metavar="ELEMENT", nargs="?", help="id of an element")
    parser.add_argument("--prepare", action="store_true", help="make its offline_path the medium")
    parser.add_argument("--json", action="store_true", help="the answer, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Show, or prepare; the exit code."""
    if arguments.prepare and arguments.element is None:
        raise UsageError("--prepare is for one element: artstorefs medium NAME ELEMENT --prepare")
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        if arguments.prepare:
            params = {"element": arguments.element}
            media = [client.call_with_progress("medium_prepare", lambda _: None, params)]
        else:
            media = client.call("media")["media"]
    wanted = arguments.element
    media = [one for one in media if wanted is None or one.get("element") == wanted]
    if wanted is not None and not media:
        raise UsageError(f"element {wanted} of {arguments.name} has no offline_path")
    with understood(location.argument, "media"):
        lines = list(describe(media))
    print(json.dumps({"media": media}, indent=2) if arguments.json else "\n".join(lines))
    return exit_codes.OK


def describe(media: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of media for a person."""
    if not media:
        yield "no element has an offline_path, nor an archive_storage_class"
        return
    yield from format_table([list(_COLUMNS), *map(_row, media)])
    for one in media:
        if one["error"]:
            yield f"{one['element']}: {one['error']}"
        for error in one["errors"]:
            yield f"{one['element']}: {error['path']}: {error['error']}"


def _row(one: dict[str, Any]) -> list[str]:
    left = _amount(one["left_files"], one["left_bytes"]) if one["left_files"] else ""
    return [one["element"], one["place"], _amount(one["files"], one["bytes"]), left]


def _amount(files: int, size: int) -> str:
    return f"{files:,} files, {format_size(size)}"
