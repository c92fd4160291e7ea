"""`artstorefs migrate`: files come from one element to another while the archive is mounted."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from artstorefs.core.migration import KEEP_SOURCE_S
from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.flushing import describe_error
from artstorefs_tools.migration_text import describe_migration, duration_text
from artstorefs_tools.mounted_paths import inode_number
from artstorefs_tools.progress import ProgressBar
from artstorefs_tools.quantities import parse_duration, parse_rate

_STEPS: Final = ("wait", "pause", "resume", "cancel")
_SHOWN: Final = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Move files of a mounted archive to another element: copied, read back and hashed, and "
        "lost by the source after --keep-source. Programs read and write meanwhile; it goes on "
        "when this command ends, and after a restart. Without --path everything is moved, and "
        "nothing new comes to the source until it is empty."
    )
    parser.usage = (
        "%(prog)s NAME --from ELEMENT --to ELEMENT\n"
        "         [--path PATH] [--keep-source TIME] [--rate SIZE]\n"
        "         [--dry-run | --no-wait] [--json]\n"
        "       %(prog)s NAME [wait | pause | resume | cancel | --rate SIZE]"
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs migrate museum --from old --to new --dry-run\n"
        "  artstorefs migrate museum --from old --to new --keep-source 7d\n"
        "  artstorefs migrate museum cancel"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument(
        "step",
        metavar="STEP",
        nargs="?",
        choices=_STEPS,
        help="of the last one: wait for its end, pause, resume or cancel it",
    )
    parser.add_argument("--from", dest="source", metavar="ELEMENT", help="where the files are")
    parser.add_argument("--to", dest="target", metavar="ELEMENT", help="where they are to be")
    parser.add_argument("--path", metavar="PATH", help="only this, and what is below it")
    parser.add_argument("--dry-run", action="store_true", help="say what would be moved")
    parser.add_argument(
        "--keep-source",
        metavar="TIME",
        help=f"until it loses what was moved; {duration_text(KEEP_SOURCE_S)}",
    )
    parser.add_argument("--rate", metavar="SIZE", help="so much a second at most; 0: no limit")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the end of it")
    parser.add_argument("--json", action="store_true", help="the answer, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Plan, begin, show or change; the exit code."""
    _check(arguments)
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        result = _ask(client, arguments)
    with understood(location.argument, "migration"):
        lines = list(describe_plan(result) if arguments.dry_run else describe_migration(result))
        code = _code(result, arguments)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(lines))
    if not arguments.json:
        for error in result.get("failures", [])[:_SHOWN]:
            print(f"artstorefs: {describe_error(error)}", file=sys.stderr)
        more = result.get("failed", 0) - _SHOWN
        if more > 0:
            print(f"artstorefs: and {more:,} more files, see --json", file=sys.stderr)
    return code


def _check(arguments: argparse.Namespace) -> None:
    begins = arguments.source is not None or arguments.target is not None
    if begins and (arguments.source is None or arguments.target is None):
        raise UsageError("--from and --to belong together")
    if begins and arguments.step is not None:
        raise UsageError(f"{arguments.step} is for the last migration, without --from and --to")
    if arguments.step is not None and arguments.rate is not None:
        raise UsageError("--rate is for a new migration, or alone for the last one")
    for option in ("path", "dry_run", "keep_source", "no_wait"):
        if getattr(arguments, option) and not begins:
            raise UsageError(f"--{option.replace('_', '-')} needs --from and --to")


def _ask(client: ControlClient, arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.source is not None:
        return _begin(client, arguments)
    if arguments.step not in (None, "wait"):
        return client.call("migration_change", {"step": arguments.step})
    if arguments.rate is not None:
        return client.call("migration_change", {"step": "throttle", "rate": _rate(arguments)})
    with ProgressBar("migrate") as bar:
        shown = _Shown(bar)
        params = {"wait": arguments.step == "wait"}
        last = client.call_with_progress("migration", shown.show, params)["migration"]
    if last is None:
        raise CommandError(f"{arguments.name}: nothing was ever moved in this archive")
    found: dict[str, Any] = last
    return found


def _begin(client: ControlClient, arguments: argparse.Namespace) -> dict[str, Any]:
    params = {"source": arguments.source, "target": arguments.target}
    if arguments.path is not None:
        params["ino"] = inode_number(arguments.path, client.call("status"))
    if arguments.dry_run:
        return client.call_with_progress("migrate_plan", lambda _: None, params)
    if arguments.keep_source is not None:
        params["keep_source_s"] = parse_duration("--keep-source", arguments.keep_source)
    params |= {"rate": _rate(arguments), "wait": not arguments.no_wait}
    with ProgressBar("migrate") as bar:
        return client.call_with_progress("migrate", _Shown(bar).show, params)


def _rate(arguments: argparse.Namespace) -> int | None:
    return None if arguments.rate == "0" else parse_rate(arguments.rate)


def _code(result: dict[str, Any], arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        return exit_codes.OK if result["refused"] is None else exit_codes.FAILURE
    begins = arguments.source is not None
    is_waited_for = arguments.step == "wait" or (begins and not arguments.no_wait)
    is_over = result["phase"] in ("keeping", "done") and not result["failed"]
    return exit_codes.FAILURE if is_waited_for and not is_over else exit_codes.OK


def describe_plan(plan: dict[str, Any]) -> Iterator[str]:
    """The lines of a plan for a person."""
    yield f"{plan['files']:,} files and directories, {format_size(plan['bytes'])}, would be moved"
    if plan["free_bytes"] is not None:
        yield f"the target has room for {format_size(plan['free_bytes'])}"
    if plan["refused"] is not None:
        yield f"but that is refused: {plan['refused']}"


class _Shown:
    """Progress with a rate, and the time that is left by it."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self._begun_s = time.monotonic()
        self._first: int | None = None

    def show(self, progress: dict[str, Any]) -> None:
        """Bytes count, where there are any."""
        what = "bytes" if progress["bytes"] else "files"
        total, left = progress[what], progress[f"{what}_left"]
        done = max(0, total - left)
        if self._first is None:
            self._first = done
        rate = (done - self._first) / max(time.monotonic() - self._begun_s, 1e-3)
        files = progress["files"] - progress["files_left"]
        text = f"{max(files, 0):,} of {progress['files']:,} files"
        if what == "bytes":
            text += f", {format_size(done)} of {format_size(total)}, {format_size(int(rate))}/s"
        if rate > 0 and progress["phase"] == "copying":
            text += f", {duration_text(round(left / rate))} left"
        self._bar.show(done, total, text)
