"""`artstorefs status`: what a mounted archive does, for people or as JSON."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from artstorefs.core.sizes import format_size
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.errors import NotMounted
from artstorefs_tools.flushing import describe_error
from artstorefs_tools.terminal import STATE_COLOURS, coloured, format_table

_ELEMENT_COLUMNS = ("element", "kind", "mode", "priority", "state", "free", "path")


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show a mounted archive: its elements, what no element has yet and since when, and the "
        "files that an element refuses or has damaged. The exit code is 3 if the archive is not "
        "mounted."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs status museum\n"
        "  artstorefs status museum --json | jq .pending.oldest_age_s"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Show the status; the exit code."""
    location = locate_archive(arguments.name)
    try:
        with ControlClient(location.runtime_dir, location.argument) as client:
            status = client.call("status")
    except NotMounted:
        if not arguments.json:
            raise
        print(json.dumps({"archive": location.name, "mounted": False}))
        return exit_codes.NOT_MOUNTED
    if arguments.json:
        print(json.dumps({**status, "mounted": True}, indent=2))
        return exit_codes.OK
    with understood(location.argument, "status"):
        lines = list(describe(status))
    print("\n".join(lines))
    return exit_codes.OK


def describe(status: dict[str, Any]) -> Iterator[str]:
    """The lines of a status for a person."""
    pending, spool = status["pending"], status["spool"]
    how = ", for reading only" if status.get("read_only") else ""
    yield f"{status['archive']} is mounted at {status['mountpoint']}{how}"
    yield from format_table(
        [
            ["nodes", f"{status['nodes']:,}"],
            ["pending", _describe_pending(pending)],
            ["spool", f"{format_size(spool['bytes'])} of {format_size(spool['limit_bytes'])}"],
            *_cache_row(status.get("cache")),
            *_expiring_row(status.get("expiring")),
            ["durability", status["durability"]],
            [
                "process",
                f"{status['pid']}, version {status['version']}, since {status['started_at']}",
            ],
        ],
        indent="  ",
    )
    yield ""
    heads = [coloured(name, "bold") for name in _ELEMENT_COLUMNS]
    yield from format_table([heads, *map(_element_row, status["elements"])])
    traffic = [_traffic_row(element) for element in status["elements"] if "counters" in element]
    if traffic:
        yield ""
        yield "since the mount:"
        yield from format_table(traffic, indent="  ")
    left_alone = [one for one in status["elements"] if _is_left_alone(one.get("breaker"))]
    if left_alone:
        yield ""
        yield "not asked for a while, because it has failed:"
        yield from (f"  {_describe_breaker(element)}" for element in left_alone)
    unavailable = [element["error"] for element in status["elements"] if element["error"]]
    if unavailable:
        yield ""
        yield "unavailable, and asked again until it is there:"
        yield from (f"  {error}" for error in unavailable)
    if status.get("archived"):
        yield ""
        yield "archived:"
        yield from format_table([*map(_archived_row, status["archived"])], indent="  ")
    if status.get("wanted"):
        yield ""
        yield "recalled, and wanted:"
        yield from (f"  {_describe_wanted(one)}" for one in status["wanted"])
    if status["damaged"]:
        yield ""
        yield "damaged, found when it was read or checked:"
        yield from (f"  {describe_error(error)}" for error in status["damaged"])
    if status["errors"]:
        yield ""
        yield "not on an element, and tried again:"
        yield from (f"  {describe_error(error)}" for error in status["errors"])
    quarantined = status["quarantined"]
    if quarantined["documents"]:
        yield ""
        yield f"cannot be used, and left where they are: {quarantined['documents']:,} documents"
        yield from (f"  {error}" for error in quarantined["errors"])


def _archived_row(one: dict[str, Any]) -> list[str]:
    """What takes a recall to be read, what was recalled, and what cannot be."""
    told = f"{one['files']:,} files, {format_size(one['bytes'])}"
    if one["offline_files"] and one["offline_files"] < one["files"]:
        told += f", {one['offline_files']:,} of them offline"
    elif one["offline_files"]:
        told += ", offline"
    if one["recalling_files"]:
        hours = one["oldest_recall_age_s"] / 3600
        told += f"; {one['recalling_files']:,} asked for, the first {hours:,.1f} h ago"
    if one["recalled_files"]:
        size = format_size(one["recalled_bytes"])
        told += f"; {one['recalled_files']:,} back for a time, {size}"
    if one["failed_files"]:
        told += coloured(f"; {one['failed_files']:,} cannot be had", "red")
    return [one["element"], told]


def _describe_wanted(one: dict[str, Any]) -> str:
    return f"{one['files']:,} files, {format_size(one['bytes'])}: {one['reason']}"


def _cache_row(cache: dict[str, Any] | None) -> Iterator[list[str]]:
    """None where there is nothing in it, as with local elements alone."""
    if cache is not None and cache["bytes"]:
        yield ["cache", f"{format_size(cache['bytes'])} of {format_size(cache['limit_bytes'])}"]


def _expiring_row(expiring: dict[str, Any] | None) -> Iterator[list[str]]:
    """None where nothing expires."""
    if expiring is not None and expiring["paused"]:
        yield ["expiring", coloured(f"nothing: {expiring['paused']}", "red")]
    elif expiring is not None and expiring["files"]:
        size, first = format_size(expiring["bytes"]), expiring["first_removal"]
        yield ["expiring", f"{expiring['files']:,} files, {size}, removed from {first} on"]


def _describe_pending(pending: dict[str, Any]) -> str:
    if not pending["intents"]:
        return "nothing: the elements have everything"
    parts = [f"{pending['intents']:,} changes", format_size(pending["bytes"])]
    if pending["oldest_age_s"] is not None:
        parts.append(f"the oldest {pending['oldest_age_s']:.0f} s old")
    if pending["failed"]:
        parts.append(coloured(f"{pending['failed']:,} refused", "red"))
    return ", ".join(parts)


def _element_row(element: dict[str, Any]) -> list[str]:
    free, total = element["free_bytes"], element["total_bytes"]
    room = "unknown" if free is None else format_size(free)
    if free is not None and total is not None:
        room += f" of {format_size(total)}"
    if element["room"] not in ("ok", "unknown"):
        room += f" ({coloured(element['room'], STATE_COLOURS.get(element['room']))})"
    return [
        element["id"],
        element["kind"],
        element["mode"],
        str(element["priority"]),
        coloured(element["state"], STATE_COLOURS.get(element["state"])),
        room,
        element["path"],
    ]


def _traffic_row(element: dict[str, Any]) -> list[str]:
    """What is to go to an element, and what has passed; absent objects are no failures."""
    counters, queue = element["counters"], element["queue"]
    calls = sum(call["count"] for call in counters["calls"].values())
    failed = sum(count for name, count in counters["errors"].items() if name != "ObjectAbsent")
    cells = [
        f"{calls:,} calls",
        f"{failed:,} failed",
        f"{format_size(counters['sent_bytes'])} sent",
        f"{format_size(counters['received_bytes'])} received",
        _describe_queue(queue),
    ]
    if counters["requests"]:
        cells.append(f"{sum(counters['requests'].values()):,} requests to the server")
    return [element["id"], ", ".join(cells)]


def _describe_queue(queue: dict[str, Any]) -> str:
    if not queue["intents"]:
        return "nothing waits"
    return f"{queue['intents']:,} changes wait, the oldest {queue['oldest_age_s']:.0f} s old"


def _is_left_alone(breaker: dict[str, Any] | None) -> bool:
    return breaker is not None and breaker["state"] != "closed"


def _describe_breaker(element: dict[str, Any]) -> str:
    breaker = element["breaker"]
    following = f"tried again at {breaker['next_trial']}" if breaker["next_trial"] else "tried now"
    since = f"{breaker['state']} since {breaker['since']}"
    return f"{element['id']}: {since}, {following}: {breaker['reason']}"
