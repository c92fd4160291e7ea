"""`artstorefs jobs`: what a mounted archive does that takes long, and what came of it."""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.migration_text import describe_migration
from artstorefs_tools.progress import ProgressBar
from artstorefs_tools.terminal import format_table

STARTED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "flush": ("flush", {}),
    "rescan": ("rescan", {}),
    "fsck": ("fsck", {}),
    "fsck-deep": ("fsck", {"deep": True}),
    "backup": ("backup", {}),
}
"""What can be started without anybody who waits, as method and parameters (CONTROL.md). Bringing
content into the cache is started by `cache --job`, recalls by `recall --job`."""

_COLUMNS = ("job", "what", "state", "since", "by", "how far, or what came of it")


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show the jobs of a mounted archive: what goes on in its daemon although nobody waits for "
        "it, and the last fifty that have ended; and the migration that is under way, see "
        "artstorefs migrate. --start begins one. With --wait the exit code is 1 if the job has "
        "failed or was cancelled; Ctrl-C ends the waiting only. A job ends with the mount."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs jobs museum\n"
        "  artstorefs jobs museum --start fsck-deep\n"
        "  artstorefs jobs museum --wait 3\n"
        "  artstorefs jobs museum --cancel 3"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    one = parser.add_mutually_exclusive_group()
    what = f"begin one: {', '.join(STARTED)}"
    one.add_argument("--start", choices=list(STARTED), metavar="WHAT", help=what)
    one.add_argument("--wait", type=int, metavar="ID", help="wait for the end of a job")
    one.add_argument("--cancel", type=int, metavar="ID", help="end a job; what it has done stays")
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Show, wait for or cancel jobs; the exit code."""
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        if arguments.start is not None:
            method, params = STARTED[arguments.start]
            return report_start(client.call(method, params | {"detach": True}), arguments.json)
        result = _ask(client, arguments.wait, arguments.cancel)
    jobs = result.get("jobs", [result])
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        with understood(location.argument, "jobs"):
            lines = [*describe(jobs), *_migration(result)]
        print("\n".join(lines))
    has_failed = arguments.wait is not None and result.get("state") != "done"
    return exit_codes.FAILURE if has_failed else exit_codes.OK


def report_start(result: dict[str, Any], as_json: bool) -> int:
    """Tell of a job that was started; the exit code."""
    print(json.dumps(result, indent=2) if as_json else f"job {result.get('job')} goes on by itself")
    return exit_codes.OK


def _ask(client: ControlClient, wait: int | None, cancel: int | None) -> dict[str, Any]:
    if cancel is not None:
        return client.call_with_progress("job_cancel", lambda _: None, {"job": cancel})
    if wait is None:
        return client.call("jobs")
    with ProgressBar(f"job {wait}") as bar:
        return client.call_with_progress("job", partial(_show, bar), {"job": wait})


def describe(jobs: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of a list of jobs for a person."""
    if not jobs:
        yield "no job was started since the mount"
        return
    yield from format_table([list(_COLUMNS), *map(_row, jobs)])


def _migration(result: dict[str, Any]) -> Iterator[str]:
    """The lines of the one that is under way."""
    last = result.get("migration")
    if last is not None and last["phase"] in ("copying", "paused", "keeping"):
        yield from describe_migration(last)


def _row(job: dict[str, Any]) -> list[str]:
    since = job["started_at"] if job["state"] == "running" else job["ended_at"]
    by = f"user {job['by']['uid']}"
    return [str(job["job"]), _what(job), job["state"], since, by, _news(job)]


def _what(job: dict[str, Any]) -> str:
    return " ".join([job["method"], *(f"{key}={value}" for key, value in job["params"].items())])


def _news(job: dict[str, Any]) -> str:
    """What there is to tell in a few words: an error, or the numbers of a result or progress, and
    what somebody has to bring."""
    if job["error"]:
        return str(job["error"])
    return _numbers(job["result"] or job["progress"] or {})


def _numbers(values: dict[str, Any]) -> str:
    counts = {key: value for key, value in values.items() if type(value) is int}
    numbers = ", ".join(f"{value:,} {key}" for key, value in counts.items())
    return f"{numbers}; {values['wanted']}" if values.get("wanted") else numbers


def _show(bar: ProgressBar, progress: dict[str, Any]) -> None:
    done, total = progress.get("bytes") or 0, progress.get("bytes_total")
    bar.show(done, total, _numbers(progress))
