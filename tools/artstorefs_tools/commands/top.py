"""`artstorefs top`: what a mounted archive does now, second by second."""

import argparse
import calendar
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.errors import UsageError
from artstorefs_tools.rates import rates
from artstorefs_tools.terminal import format_table

INTERVAL_S: Final = 2.0
INTERVAL_MIN_S: Final = 0.2
"""`status` takes the daemon a millisecond or two."""

_OPERATIONS: Final = ("requests", "per s", "mean", "99 % ≤", "longest", "errors/s")
_ELEMENTS: Final = ("element", "state", "room", "waits", "calls/s", "requests/s", "sent/s")
_ELEMENTS_MORE: Final = ("received/s", "errors/s", "breaker")
_SLOWEST: Final = ("slowest", "ms", "at", "path")
_SHOWN_SLOWEST: Final = 8

Rates = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show what a mounted archive does: requests of programs with how long they take, what "
        "waits for the elements, what passes to and from them, and the slowest requests of the "
        "last minutes. Anew every few seconds; q or Ctrl-C ends it. The first picture is of all "
        "since the mount."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs top museum\n"
        "  artstorefs top museum --once --interval 10      ten seconds, as text\n"
        "  artstorefs top museum --json | jq '.operations[0]'"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument(
        "--interval", metavar="S", type=float, default=INTERVAL_S, help="seconds; default: 2"
    )
    parser.add_argument("--once", action="store_true", help="one interval, and then the end")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    """Show it until it is enough; the exit code."""
    interval_s = arguments.interval
    if not INTERVAL_MIN_S <= interval_s <= 3600:
        raise UsageError(f"--interval: {interval_s:g} is not from {INTERVAL_MIN_S:g} to 3600")
    location = locate_archive(arguments.name)
    with (
        ControlClient(location.runtime_dir, location.argument) as client,
        understood(location.argument, "status", otherwise=""),
    ):
        if arguments.json or arguments.once or not sys.stdout.isatty():
            _print_all(client, arguments)
        else:
            _watch(client, interval_s)
    return exit_codes.OK


class Watch:
    """Asks again and again; each answer is compared with the one before."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._before: Rates | None = None
        self._asked_s = 0.0

    def look(self) -> Rates:
        """Since the last look; the first is of all since the mount."""
        status = self._client.call("status")
        now_s = time.monotonic()
        started = calendar.timegm(time.strptime(status["started_at"], "%Y-%m-%dT%H:%M:%SZ"))
        passed_s = time.time() - started if self._before is None else now_s - self._asked_s
        found = rates(self._before, status, passed_s)
        self._before, self._asked_s = status, now_s
        return found


def _print_all(client: ControlClient, arguments: argparse.Namespace) -> None:
    """As text, or as JSON; without a picture of the time before."""
    watch = Watch(client)
    watch.look()
    while True:
        time.sleep(arguments.interval)
        found = watch.look()
        if arguments.json:
            print(json.dumps(found), flush=True)
        else:
            print("\n".join(describe(found)), flush=True)
        if arguments.once:
            return
        if not arguments.json:
            print(flush=True)


# -------------------------------------------------------------------------------------- text


def describe(found: Rates) -> Iterator[str]:
    """The lines of a picture."""
    yield headline(found)
    yield from format_table(summary(found), indent="  ")
    for rows in (operation_rows(found), element_rows(found), slowest_rows(found)):
        if len(rows) > 1:
            yield ""
            yield from format_table(rows)


def headline(found: Rates) -> str:
    """What it is a picture of."""
    requests = sum(one["per_s"] for one in found["operations"])
    span = "since the mount" if found["since_mount"] else f"in {found['seconds']:.1f} s"
    return f"{found['archive']} at {found['mountpoint']}: {requests:,.1f} requests a second {span}"


def summary(found: Rates) -> list[list[str]]:
    """Queue, spool and cache."""
    pending, rows = found["pending"], []
    waits = f"{pending['intents']:,} changes, {format_size(pending['bytes'])}"
    if pending["oldest_age_s"] is not None:
        waits += f", the oldest {pending['oldest_age_s']:.0f} s old"
    if pending["failed"]:
        waits += f", {pending['failed']:,} refused"
    rows.append(["queue", waits])
    for name in ("spool", "cache"):
        part = found[name]
        rows.append([name, f"{format_size(part['bytes'])} of {format_size(part['limit_bytes'])}"])
    return rows


def operation_rows(found: Rates) -> list[list[str]]:
    """A head, and a row for each kind of request."""
    return [list(_OPERATIONS)] + [
        [
            one["kind"],
            f"{one['per_s']:,.1f}",
            *(format_duration(one[key]) for key in ("mean_s", "p99_s", "max_s")),
            f"{one['errors_per_s']:,.1f}" if one["errors_per_s"] else "-",
        ]
        for one in found["operations"]
    ]


def element_rows(found: Rates) -> list[list[str]]:
    """A head, and a row for each element."""
    return [[*_ELEMENTS, *_ELEMENTS_MORE]] + [
        [
            one["id"],
            one["state"],
            one["room"],
            f"{one['queue']['intents']:,}",
            *(f"{one[key]:,.1f}" for key in ("calls_per_s", "requests_per_s")),
            *(format_size(int(one[f"{key}_bytes_per_s"])) for key in ("sent", "received")),
            f"{one['errors_per_s']:,.1f}" if one["errors_per_s"] else "-",
            one["breaker"] or "-",
        ]
        for one in found["elements"]
    ]


def slowest_rows(found: Rates) -> list[list[str]]:
    """A head, and a row for each of the slowest requests."""
    return [list(_SLOWEST)] + [
        [
            one["kind"],
            f"{one['took_ms']:,.1f}",
            one["ended_at"],
            one["path"] or (f"inode {one['inode']}" if one["inode"] else "-"),
        ]
        for one in found["slowest"][:_SHOWN_SLOWEST]
    ]


def format_duration(duration_s: float) -> str:
    """With three digits and the unit that makes them readable."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if duration_s * factor >= 1 or unit == "µs":
            return f"{duration_s * factor:.3g} {unit}"
    raise AssertionError("there is a unit for everything")


# ---------------------------------------------------------------------------------- terminal


def _watch(client: ControlClient, interval_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    watch = Watch(client)
    with (
        _keys() as wait_for_key,
        Live(_picture(watch.look()), console=Console(), screen=True, auto_refresh=False) as live,
    ):
        live.refresh()
        while "q" not in wait_for_key(interval_s).lower():
            live.update(_picture(watch.look()), refresh=True)


def _picture(found: Rates) -> Any:
    """The same as text, in colours. Names of files are no markup."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [Text(headline(found), style="bold")]
    parts += [Text(f"  {name}  {words}") for name, words in summary(found)]
    for rows, numbers in (
        (operation_rows(found), range(1, 6)),
        (element_rows(found), range(3, 9)),
        (slowest_rows(found), range(1, 2)),
    ):
        if len(rows) > 1:
            table = Table(box=None, pad_edge=False, header_style="bold cyan")
            for place, head in enumerate(rows[0]):
                table.add_column(
                    head, justify="right" if place in numbers else "left", no_wrap=True
                )
            for row in rows[1:]:
                table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
            parts += [Text(""), table]
    return Group(*parts, Text(""), Text("q ends it", style="dim"))


def _style(cell: str) -> str:
    if cell in ("unavailable", "full", "open"):
        return "bold red"
    return "yellow" if cell in ("unknown", "warning", "critical", "half-open") else ""


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds at most for keys, and returns them. Keys count at once
    and are not shown; afterwards the terminal is as it was."""
    import select
    import termios
    import tty

    def wait_alone(limit_s: float) -> str:
        time.sleep(limit_s)
        return ""

    def wait(limit_s: float) -> str:
        readable, _, _ = select.select([descriptor], [], [], limit_s)
        if not readable:
            return ""
        return os.read(descriptor, 64).decode(errors="replace") or "q"  # nobody is there any more

    if not sys.stdin.isatty():
        yield wait_alone
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield wait
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
