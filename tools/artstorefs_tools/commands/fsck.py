"""`artstorefs fsck`: checks an archive, mounted or not, and repairs it where that is safe."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import read_configuration
from artstorefs_tools.errors import UsageError
from artstorefs_tools.progress import ProgressBar
from artstorefs_tools.quantities import parse_rate
from artstorefs_tools.terminal import coloured, format_table

if TYPE_CHECKING:
    from artstorefs.recovery.fsck_findings import Report


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Check an archive: the index against its elements and back; with --deep every object is "
        "read and its SHA-256 compared. --repair does what is safe, in an archive that is not "
        "mounted, and deletes nothing. The exit code is 0 if nothing is wrong, 5 if all that was "
        "found is repaired, 6 if something is left, 1 if not everything could be read."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs fsck museum\n"
        "  artstorefs fsck museum --deep --rate 50MiB\n"
        "  artstorefs fsck museum --repair --json"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument(
        "--deep", action="store_true", help="hash every object; goes on where it was cut off"
    )
    parser.add_argument("--restart", action="store_true", help="--deep from the beginning")
    parser.add_argument("--rate", metavar="SIZE", help="--deep reads so much a second at most")
    parser.add_argument("--repair", action="store_true", help="repair what is safe to repair")
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Check; the exit code."""
    if not arguments.deep and (arguments.restart or arguments.rate):
        raise UsageError("--restart and --rate are for --deep; give that too")
    rate = parse_rate(arguments.rate)
    configuration = read_configuration(arguments.name)
    from artstorefs.recovery.fsck import Options, check
    from artstorefs_daemon.accounts import account
    from artstorefs_daemon.privileges import become_owner

    become_owner(configuration)
    options = Options(arguments.deep, arguments.repair, arguments.restart, rate)
    with ProgressBar("reading" if arguments.deep else "comparing") as bar:
        report = check(configuration, account, options, _Progress(bar).start)
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print("\n".join(describe(report)))
    for name, reason in report.incomplete.items():
        print(f"artstorefs: {name} could not be checked whole: {reason}", file=sys.stderr)
    return _exit_code(report)


def _exit_code(report: "Report") -> int:
    if report.left:
        return exit_codes.FINDINGS_LEFT
    if report.incomplete:
        return exit_codes.FAILURE
    return exit_codes.FINDINGS_REPAIRED if report.repaired else exit_codes.OK


def describe(report: "Report") -> Iterator[str]:
    """The lines of a report for a person."""
    rows = [[coloured(name, "bold") for name in ("what", "where", "detail")]]
    for finding in report.findings:
        where = finding.path or finding.key or ""
        detail = f"{finding.key}: {finding.detail}" if finding.path else finding.detail
        if finding.repaired:
            detail += f" → {finding.repaired}"
        is_left = finding.kind.is_error and finding.repaired is None
        label = coloured(_printable(finding.kind.label), "red" if is_left else None)
        rows.append([label, _printable(where), _printable(detail)])
    if len(rows) > 1:
        yield from format_table(rows)
        yield ""
    seen = f"{report.documents:,} documents and {report.objects:,} objects seen"
    if report.deep:
        seen += f", {report.hashed_objects:,} hashed ({format_size(report.hashed_bytes)})"
    yield seen
    told = len(report.findings) - len(report.left) - len(report.repaired)
    counts = [f"{len(report.left)} left", f"{len(report.repaired)} repaired"]
    if told:
        counts.append(f"{told} only told")
    if report.unsettled:
        counts.append(f"{report.unsettled} kept changing and could not be judged")
    clean = not report.findings and not report.unsettled and not report.incomplete
    yield coloured("nothing is wrong", "green") if clean else ", ".join(counts)


def _printable(text: str) -> str:
    """What others have named cannot steer the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class _Progress:
    """How far, how fast, how long still."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self._started_s = time.monotonic()
        self._done = self._read = self._objects = self._bytes = 0

    def start(self, objects: int, size: int) -> "_Progress":
        """So much is to be read."""
        self._objects, self._bytes = objects, size
        self._started_s = time.monotonic()
        return self

    def __call__(self, objects: int, size: int) -> None:
        """So much more has been read."""
        self._done += objects
        self._read += size
        self._bar.show(self._read, self._bytes, self.text(time.monotonic()))

    def text(self, now_s: float) -> str:
        """The line as of `now_s`."""
        rate = self._read / max(now_s - self._started_s, 1e-9)
        left = (self._bytes - self._read) / rate if rate else 0.0
        minutes, seconds = divmod(round(left), 60)
        return (
            f"{self._done:,} of {self._objects:,} objects, {format_size(self._read)} of "
            f"{format_size(self._bytes)}, {format_size(int(rate))}/s, {minutes}:{seconds:02d} left"
        )
