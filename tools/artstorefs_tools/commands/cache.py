"""`artstorefs cache`: what the read cache holds, and what shall be in it."""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.commands.jobs import report_start
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.errors import UsageError
from artstorefs_tools.flushing import describe_error
from artstorefs_tools.mounted_paths import inode_number
from artstorefs_tools.progress import ProgressBar
from artstorefs_tools.terminal import format_table

ORDERS = {
    "pin": "bring PATH into the cache and keep it there, also what is new or changed later",
    "unpin": "let PATH be evicted again when there is need",
    "warm": "bring PATH into the cache",
    "drop": "remove PATH from the cache",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show what the cache of a mounted archive holds of content on S3 elements, or say what "
        "shall be in it. PATH is a file or directory on the mount; of a directory everything below "
        "is meant. Ctrl-C ends bringing content; what is there by then stays."
    )
    parser.usage = (
        "%(prog)s [-h] [--json] NAME\n"
        "       %(prog)s [--json] NAME (--pin | --warm) PATH [--job]\n"
        "       %(prog)s [--json] NAME (--unpin | --drop) PATH"
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs cache museum\n"
        "  artstorefs cache museum --warm /srv/museum/exhibition\n"
        "  artstorefs cache museum --pin /srv/museum/catalogue"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    orders = parser.add_mutually_exclusive_group()
    for order, help_text in ORDERS.items():
        orders.add_argument(f"--{order}", metavar="PATH", help=help_text)
    job = "with --pin or --warm: do not wait for it; see artstorefs jobs"
    parser.add_argument("--job", action="store_true", help=job)
    parser.add_argument("--json", action="store_true", help="the answer, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Show the cache, or carry out an order; the exit code."""
    location = locate_archive(arguments.name)
    order, path = _order(arguments)
    if arguments.job and order not in ("pin", "warm"):
        raise UsageError("--job is for --pin and --warm, which may take long")
    with ControlClient(location.runtime_dir, location.argument) as client:
        if order is None or path is None:
            result = client.call_with_progress("cache", lambda _: None)
        else:
            ino = inode_number(path, client.call("status"))
            if arguments.job:
                given = {"ino": ino, "detach": True}
                return report_start(client.call(f"cache_{order}", given), arguments.json)
            with ProgressBar(order) as bar:
                progress = partial(_show_progress, bar)
                result = client.call_with_progress(f"cache_{order}", progress, {"ino": ino})
    with understood(location.argument, "cache"):
        return _report(result, order, arguments.json)


def _order(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    for order in ORDERS:
        path = getattr(arguments, order)
        if path is not None:
            return order, path
    return None, None


def _report(result: dict[str, Any], order: str | None, as_json: bool) -> int:
    if as_json:
        print(json.dumps(result, indent=2))
    elif order is None:
        print("\n".join(describe(result)))
    else:
        print(_describe_outcome(order, result))
    if order is None:
        return exit_codes.OK
    for error in result["errors"]:
        print(f"artstorefs: {describe_error(error)}", file=sys.stderr)
    more = result["failed"] - len(result["errors"])
    if more > 0:
        print(f"artstorefs: and {more:,} more files", file=sys.stderr)
    return exit_codes.FAILURE if result["failed"] else exit_codes.OK


def describe(cache: dict[str, Any]) -> Iterator[str]:
    """The lines of the state of a cache for a person."""
    yield f"cache {cache['path']}"
    yield from format_table(
        [
            ["holds", f"{format_size(cache['bytes'])} of {format_size(cache['limit_bytes'])}"],
            ["files", f"{cache['files']:,}, in {cache['blocks']:,} blocks"],
            ["pinned", format_size(cache["pinned_bytes"])],
            ["fetching", f"{cache['fetching']:,} now, {cache['fetched']:,} since the mount"],
        ],
        indent="  ",
    )
    if cache["pins"]:
        yield ""
        yield "pinned:"
        yield from (f"  {path}" for path in cache["pins"])


def _describe_outcome(order: str, result: dict[str, Any]) -> str:
    files, size = f"{result['files']:,} files", format_size(result["bytes"])
    if order == "drop":
        return f"{files} dropped, {size}"
    if order == "unpin":
        return "may be evicted again"
    return f"{files} in the cache, {size} of them fetched now"


def _show_progress(bar: ProgressBar, progress: dict[str, Any]) -> None:
    files, size = int(progress.get("files") or 0), format_size(int(progress.get("bytes") or 0))
    bar.show(files, None, f"{files:,} files, {size}")
