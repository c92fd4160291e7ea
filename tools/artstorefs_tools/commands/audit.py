"""`artstorefs audit`: what the audit log says, for people and programs, and whether it is whole."""

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from artstorefs.core.errors import DocumentInvalid, one_line
from artstorefs.core.sizes import format_size
from artstorefs.core.timestamps import format_timestamp, parse_timestamp
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import read_configuration
from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.progress import ProgressBar

if TYPE_CHECKING:
    from artstorefs.state.audit_reader import Verdict

COLUMNS: Final = (
    *("seq", "time", "op", "uid", "gid", "user", "pid", "command", "file_id", "path", "to"),
    *("kind", "size", "sha256", "element", "key"),
)
"""Of the CSV: what most records have; `details` has the rest, as JSON."""

_PATHS: Final = ("path", "to")

_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show who changed what in an archive whose configuration has [audit] enabled = true. "
        "A time is ISO 8601, in UTC where it does not say, or an age such as 90m, 12h, 7d."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs audit museum --since 12h --path /loans\n"
        "  artstorefs audit museum --since 2026-11-01 --csv > november.csv\n"
        "  artstorefs audit museum --json | jq 'select(.op == \"remove\")'\n"
        "  artstorefs audit museum --verify   whether a record was changed or is gone"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--since", metavar="TIME", help="nothing before it")
    parser.add_argument("--until", metavar="TIME", help="nothing from it on")
    parser.add_argument("--path", metavar="PATH", help="only PATH and below; from the archive's /")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="the records as they are, one a line")
    shown.add_argument("--csv", action="store_true", help="as a table for a spreadsheet")
    parser.add_argument("--verify", action="store_true", help="check the chain instead")


def run(arguments: argparse.Namespace) -> int:
    """Show or verify it; the exit code."""
    from artstorefs.state.audit_files import DIRECTORY, audit_files

    configuration = read_configuration(arguments.name)
    directory = os.path.join(str(configuration.state_dir), DIRECTORY)
    try:
        if not audit_files(directory):
            advice = "" if configuration.audit.enabled else "; [audit] enabled = true begins one"
            raise CommandError(f"{arguments.name} has no audit log{advice}")
        if arguments.verify:
            return _verify(directory, as_json=arguments.json)
        _show(directory, arguments)
    except OSError as exc:
        if isinstance(exc, BrokenPipeError):
            raise
        raise CommandError(f"{exc.filename or directory}: {exc.strerror}") from None
    return exit_codes.OK


def _verify(directory: str, *, as_json: bool) -> int:
    from artstorefs.state.audit_files import audit_files
    from artstorefs.state.audit_reader import verify

    total = sum(os.stat(os.path.join(directory, name)).st_size for name in audit_files(directory))
    done = 0
    with ProgressBar("verifying") as bar:

        def show(size: int) -> None:
            nonlocal done
            done += size
            bar.show(done, total, f"{format_size(done)} of {format_size(total)}")

        verdict = verify(directory, show)
    print(json.dumps(_as_object(verdict)) if as_json else "\n".join(_describe(verdict)))
    return exit_codes.OK if verdict.is_good else exit_codes.FAILURE


def _as_object(verdict: "Verdict") -> dict[str, Any]:
    return {
        "good": verdict.is_good,
        "records": verdict.records,
        "first": verdict.first_seq,
        "last": verdict.head.seq,
        "sha256": verdict.head.sha256,
        "faults": verdict.faults,
        "more_faults": verdict.more_faults,
        "notices": verdict.notices,
    }


def _describe(verdict: "Verdict") -> Iterator[str]:
    yield from verdict.faults
    if verdict.more_faults:
        yield f"and {verdict.more_faults:,} more"
    yield from verdict.notices
    state = "the chain holds" if verdict.is_good else "THE CHAIN IS BROKEN"
    yield f"{state}: {verdict.records:,} records, {verdict.first_seq} to {verdict.head.seq}"
    yield f"record {verdict.head.seq} has SHA-256 {verdict.head.sha256}"


def _show(directory: str, arguments: argparse.Namespace) -> None:
    from artstorefs.state.audit_reader import parse, read_lines

    is_wanted = _filter(arguments)
    writer = csv.writer(sys.stdout)
    if arguments.csv:
        writer.writerow([*COLUMNS, "details"])
    for line in read_lines(directory):
        record = parse(line)
        if record is None:
            if line.is_whole:
                print(f"artstorefs: {line.where}: is no record; see --verify", file=sys.stderr)
        elif is_wanted(record):
            if arguments.json:
                print(line.data.decode())
            elif arguments.csv:
                writer.writerow(_row(record))
            else:
                print(_line(record))


def _filter(arguments: argparse.Namespace) -> Callable[[dict[str, Any]], bool]:
    since = _time(arguments.since, "--since")
    until = _time(arguments.until, "--until")
    below = None if arguments.path is None else "/" + arguments.path.strip("/")

    def is_wanted(record: dict[str, Any]) -> bool:
        time = str(record.get("time"))
        if (since and time < since) or (until and time >= until):
            return False
        if below is None or below == "/":
            return True
        paths = [path_text(record[key]) for key in _PATHS if key in record]
        return any(path == below or path.startswith(f"{below}/") for path in paths)

    return is_wanted


def _time(text: str | None, option: str) -> str | None:
    """In the form of the records, in which the order of texts is that of moments."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            moment = parse_timestamp(text)
        return format_timestamp(moment)
    except (ValueError, OverflowError):
        reason = f"{option} {text}: is no ISO 8601 time, such as 2026-11-27T04:30, and no age (12h)"
        raise UsageError(reason) from None


def path_text(value: Any) -> str:
    """A path of a record; one that is not UTF-8 as this system shows it."""
    from artstorefs.core.json_text import name_from_json

    try:
        return os.fsdecode(name_from_json(value))
    except DocumentInvalid:
        return str(value)


def _row(record: dict[str, Any]) -> list[Any]:
    paths: dict[str, Any] = {
        key: os.fsencode(path_text(record[key])).decode(errors="backslashreplace")
        for key in _PATHS
        if key in record
    }
    known = record | paths
    hidden = {*COLUMNS, "prev"}
    rest = {key: value for key, value in record.items() if key not in hidden}
    details = json.dumps(rest, ensure_ascii=False) if rest else ""
    return [_cell(known.get(column, "")) for column in COLUMNS] + [details]


def _cell(value: Any) -> Any:
    """What a spreadsheet would take for a formula is text."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _line(record: dict[str, Any]) -> str:
    """One line for a person."""
    user = record.get("user") or record.get("uid")
    process = f" {record['command']}[{record['pid']}]" if record.get("command") else ""
    who = "" if user is None else f" by {user}{process}"
    hidden = {"prev", "seq", "time", "op", "uid", "gid", "user", "pid", "command", "path", "to"}
    path = f" {path_text(record['path'])!r}" if "path" in record else ""
    to = f" to {path_text(record['to'])!r}" if "to" in record else ""
    rest = " ".join(
        f"{key}={value if isinstance(value, str | int) else json.dumps(value)}"
        for key, value in record.items()
        if key not in hidden
    )
    return one_line(f"{record['time']} {record['op']}{path}{to}{who} {rest}".rstrip())
