"""Whether an archive is well, and whether it is ready for work: None, or why not in one line.

`/healthz` is for whoever starts the daemon anew: its loop answers, and the mount is in the table.
`/readyz` is for whoever sends work: there is also an index to trust and an element that takes what
is new. A daemon that still recovers has no control socket, so it does not answer yet.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from artstorefs.core.modes import ElementMode, Operation, refusal
from artstorefs_daemon.metrics.source import Answer
from artstorefs_daemon.mount_table import FILESYSTEM_TYPE, MountEntry


def ailment(answer: Answer, mounts: Iterable[MountEntry]) -> str | None:
    """Of the daemon and its mount."""
    if answer.status is None:
        return answer.error
    archive, mountpoint = answer.status["archive"], answer.status["mountpoint"]
    wanted = (FILESYSTEM_TYPE, archive, mountpoint)
    if all((one.filesystem_type, one.source, one.mountpoint) != wanted for one in mounts):
        return f"{archive} is not mounted at {mountpoint}"
    return None


def hindrance(answer: Answer, mounts: Iterable[MountEntry]) -> str | None:
    """Of work on the mount."""
    reason = ailment(answer, mounts)
    if reason is not None or answer.status is None:
        return reason
    if answer.status["index_error"] is not None:
        return f"the index is damaged: {answer.status['index_error']}"
    takers = [one for one in answer.status["elements"] if _takes_files(one)]
    if answer.status["read_only"] or not takers:  # reading is all that is to be had
        return None
    reasons = [reason for one in takers if (reason := _element_hindrance(one))]
    if len(reasons) < len(takers):
        return None
    return "no element takes new files: " + "; ".join(reasons)


def _takes_files(element: Mapping[str, Any]) -> bool:
    return not refusal(ElementMode(element["mode"]), Operation.CREATE, False)


def _element_hindrance(element: Mapping[str, Any]) -> str | None:
    if element["state"] == "unknown":
        return f"{element['id']} has not answered yet"
    if element["state"] != "ok":
        return f"{element['id']} is {element['state']}"
    return f"{element['id']} is full" if element["room"] == "full" else None
