"""`artstorefs recall`: archived content comes back for a time, so that it can be read."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from artstorefs.core.sizes import format_size
from artstorefs_daemon.mount_table import FILESYSTEM_TYPE, MountEntry, find_mount
from artstorefs_tools import exit_codes
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.flushing import describe_error
from artstorefs_tools.paths import suggestion
from artstorefs_tools.progress import ProgressBar
from artstorefs_tools.runtime import runtime_dir

_INOS_AT_ONCE = 900
"""In one request, which has at most 1000 commas and the like (CONTROL.md)."""

_SUMS = ("files", "bytes", "waiting", "online", "failed")


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Have content of elements in mode ar brought back into the cache, where it stays for some "
        "days and can be read; of a directory everything below. What has been asked for is brought "
        "in the background, also after a restart, and as soon as the medium that it lies on is "
        "there. Ctrl-C ends the waiting only; --release takes it back."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs recall --estimate /srv/museum/1998\n"
        "  artstorefs recall --wait --days 7 /srv/museum/1998/nightwatch.tif\n"
        "  artstorefs recall --release /srv/museum/1998"
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="files or directories on the mount"
    )
    parser.add_argument(
        "--days", type=float, default=30.0, metavar="DAYS", help="how long it stays (30)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--wait", action="store_true", help="wait until all of it is there")
    what.add_argument("--job", action="store_true", help="wait in a job; see artstorefs jobs")
    what.add_argument("--estimate", action="store_true", help="only show what that would bring")
    what.add_argument("--release", action="store_true", help="nobody needs it any more")
    parser.add_argument("--json", action="store_true", help="the answer, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Ask; the exit code is that of a failure if anything cannot be had."""
    if not 0 < arguments.days <= 36_500:
        raise UsageError("--days is a number above 0, and at most 36500")
    results = [
        result
        for entry, inos in _by_mount(arguments.paths).items()
        for result in _of_mount(entry, inos, arguments)
    ]
    with understood(arguments.paths[0], "recall"):
        lines = list(_describe(results, arguments))
        result = _together(results, arguments)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(lines))
    for error in result.get("errors", []):
        print(f"artstorefs: {describe_error(error)}", file=sys.stderr)
    return exit_codes.FAILURE if result.get("failed") else exit_codes.OK


def _by_mount(paths: list[str]) -> dict[MountEntry, list[int]]:
    """Inode numbers, by the mount that they are on. Raises CommandError, UsageError."""
    found: dict[MountEntry, list[int]] = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as exc:
            hint = suggestion(path) if isinstance(exc, FileNotFoundError) else ""
            raise CommandError(f"{path}: {exc.strerror}{hint}") from None
        entry = _mount_of(path, status.st_dev)
        found.setdefault(entry, []).append(status.st_ino)
    return found


def _mount_of(path: str, device: int) -> MountEntry:
    """The mount of an archive that a path is on."""
    place = os.path.realpath(path)
    while place != "/" and os.stat(os.path.dirname(place)).st_dev == device:
        place = os.path.dirname(place)
    entry = find_mount(place)
    if entry is None or entry.filesystem_type != FILESYSTEM_TYPE:
        raise UsageError(f"{path} is in no archive that is mounted here")
    return entry


def _of_mount(
    entry: MountEntry, inos: list[int], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One answer, or a job for each request."""
    some = [inos[at : at + _INOS_AT_ONCE] for at in range(0, len(inos), _INOS_AT_ONCE)]
    with ControlClient(runtime_dir(entry), entry.source) as client:
        waits = arguments.wait and len(some) == 1
        results = [_ask(client, one, arguments, waits=waits) for one in some]
        if arguments.wait and not waits:  # all of it was asked for before the first is waited for
            for number, one in enumerate(some):
                came = _ask(client, one, arguments, waits=True)
                results[number] |= {"failed": came["failed"], "errors": came["errors"]}
    return results if arguments.job else [_together(results, arguments)]


def _ask(
    client: ControlClient, inos: list[int], arguments: argparse.Namespace, *, waits: bool
) -> dict[str, Any]:
    if arguments.release:
        return client.call_with_progress("recall_release", lambda _: None, {"inos": inos})
    params: dict[str, Any] = {"inos": inos, "days": arguments.days}
    if arguments.estimate:
        params["estimate"] = True
    if arguments.job:
        return client.call("recall", params | {"wait": True, "detach": True})
    params["wait"] = waits
    with ProgressBar("recall") as bar:
        return client.call_with_progress("recall", partial(_show, bar), params)


def _together(results: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Of several mounts, or requests, the sums."""
    if len(results) == 1:
        return results[0]
    names = ("files",) if arguments.release else () if arguments.job else _SUMS
    together: dict[str, Any] = {name: sum(one[name] for one in results) for name in names}
    if arguments.job:
        return {"jobs": [one["job"] for one in results]}
    if not arguments.release:
        together["limit_bytes"] = min(one["limit_bytes"] for one in results)
        together["errors"] = [error for one in results for error in one["errors"]]
    return together


def _describe(results: list[dict[str, Any]], arguments: argparse.Namespace) -> Iterator[str]:
    for one in results:
        if arguments.release:
            yield f"{one['files']:,} files let go of"
        elif arguments.job:
            yield f"job {one['job']} waits for it"
        else:
            yield from _lines_of(one, arguments)


def _lines_of(one: dict[str, Any], arguments: argparse.Namespace) -> Iterator[str]:
    amount = f"{one['files']:,} files, {format_size(one['bytes'])}"
    if arguments.estimate:
        yield f"{amount} would be brought back"
    else:
        yield f"{amount} {'brought back' if arguments.wait else 'asked for'}"
    if one["waiting"]:
        yield f"{one['waiting']:,} were asked for before, and are not there yet"
    if one["online"]:
        yield f"{one['online']:,} are there already"
    if one["bytes"] > one["limit_bytes"]:
        yield f"more than the cache may hold, {format_size(one['limit_bytes'])}: raise cache_max"


def _show(bar: ProgressBar, progress: dict[str, Any]) -> None:
    done, total = int(progress.get("bytes") or 0), int(progress.get("bytes_total") or 0)
    files = f"{progress.get('files') or 0:,} of {progress.get('files_total') or 0:,} files"
    wanted = progress.get("wanted")
    bar.show(done, total, f"{files}; {wanted}" if wanted else files)
