"""When an archive is well, and when it is ready; the reason is one line."""

from typing import Any

import pytest

from artstorefs_daemon.metrics.health import ailment, hindrance
from artstorefs_daemon.metrics.source import Answer
from artstorefs_daemon.mount_table import MountEntry

from .status_sample import status

MOUNT = MountEntry("0:50", "/srv/museum", "fuse.artstorefs", "museum")
OTHERS = [
    MountEntry("0:51", "/srv/museum", "fuse.artstorefs", "zoo"),
    MountEntry("0:52", "/srv/elsewhere", "fuse.artstorefs", "museum"),
    MountEntry("0:53", "/srv/museum", "autofs", "museum"),
]


def answer(**changes: Any) -> Answer:
    return Answer(status(**changes), "", 0.0)


def elements(*changes: dict[str, Any]) -> dict[str, Any]:
    """Of the two of the sample, changed."""
    pairs = zip(status()["elements"], changes, strict=True)
    return {"elements": [{**one, **change} for one, change in pairs]}


def test_well_and_ready() -> None:
    assert ailment(answer(), [*OTHERS, MOUNT]) is None
    assert hindrance(answer(), [*OTHERS, MOUNT]) is None


@pytest.mark.parametrize("check", [ailment, hindrance])
def test_without_an_answer_or_a_mount_nothing_is_well(check: Any) -> None:
    silent = Answer(None, "the daemon does not answer within 3 s", 0.0)
    assert check(silent, [MOUNT]) == "the daemon does not answer within 3 s"
    assert check(answer(), OTHERS) == "museum is not mounted at /srv/museum"


AWAY, FULL = {"state": "unavailable"}, {"room": "full"}
THERE = {"state": "ok", "room": "ok"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"index_error": "disk image is malformed"}, "the index is damaged: disk image is malf"),
        (elements(AWAY, AWAY), "no element takes new files: main is unavailable; far is unavai"),
        (elements(FULL, AWAY), "no element takes new files: main is full; far is unavailable"),
        (elements({"state": "unknown"}, AWAY), "main has not answered yet"),
        (elements({**THERE, "mode": "ro"}, AWAY), "no element takes new files: far is unavail"),
    ],
)
def test_well_but_not_ready(changes: dict[str, Any], reason: str) -> None:
    assert ailment(answer(**changes), [MOUNT]) is None
    told = hindrance(answer(**changes), [MOUNT])
    assert told is not None
    assert reason in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "changes",
    [
        elements(AWAY, THERE),
        elements(THERE, FULL),
        {**elements(AWAY, AWAY), "read_only": True},
        elements({**AWAY, "mode": "ro"}, {**AWAY, "mode": "ar"}),
    ],
)
def test_one_element_is_enough_and_none_is_needed_for_reading_only(changes: dict[str, Any]) -> None:
    assert hindrance(answer(**changes), [MOUNT]) is None
