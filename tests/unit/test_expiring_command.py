"""What `artstorefs expiring` and `status` say of files that are removed unless they change."""

import re

from artstorefs_tools.commands.expiring import describe
from artstorefs_tools.commands.status import describe as describe_status

from .control_server import EXPIRING, STATUS

DOUBT = "the clock says 2038-01-19T03:14:07Z, which is 4,000.0 days more than have passed"


def test_files_for_people() -> None:
    lines = list(describe(EXPIRING))
    assert lines[0] == "12 files, 3MiB"
    assert lines[1].split("  ")[0] == "removed from"
    times = "2026-01-09T03:04:05Z +2025-12-02T03:04:05Z"
    assert re.fullmatch(rf"{times} +3MiB +/inbox/scan\\n\.tif \(2 names\)", lines[2])
    assert lines[3:] == ["and 11 more, see --all"]


def test_nothing_expires() -> None:
    nothing = {**EXPIRING, "files": 0, "expiring": [], "next": None}
    assert list(describe(nothing)) == ["no file expires now"]


def test_clock_that_is_not_believed_comes_first() -> None:
    (first, *_) = describe({**EXPIRING, "paused": DOUBT})
    assert first == f"no files expire: {DOUBT}"


def test_status_for_people() -> None:
    first = "2026-01-09T03:04:05Z"
    assert f"1,200 files, 3MiB, removed from {first} on" in "\n".join(describe_status(STATUS))
    paused = {**STATUS["expiring"], "paused": DOUBT}
    assert DOUBT in "\n".join(describe_status({**STATUS, "expiring": paused}))
    none = {**STATUS["expiring"], "files": 0}
    for status in ({**STATUS, "expiring": none}, {**STATUS, "expiring": None}):
        assert not re.search(r"^  expiring ", "\n".join(describe_status(status)), re.MULTILINE)


def test_archived_content_for_people() -> None:
    told = "1,200 files, 3MiB, 1,000 of them offline; 3 asked for, the first 2.0 h ago"
    rest = "; 5 back for a time, 4KiB; 1 cannot be had"
    lines = "\n".join(describe_status(STATUS)).splitlines()
    assert lines[lines.index("archived:") + 1] == f"  main  {told}{rest}"
    earlier = {key: value for key, value in STATUS.items() if key != "archived"}
    assert "archived:" not in "\n".join(describe_status(earlier))
