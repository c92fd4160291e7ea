"""What `artstorefs status` counts of an element, while transfer processes come and go."""

import os
import signal
from typing import Any

import pytest

from ..harness import MountedArchive, wait_for_end, wait_until

pytestmark = pytest.mark.slow


def element(archive: MountedArchive) -> dict[str, Any]:
    (found,) = archive.ask("status")["elements"]
    return found


def calls(archive: MountedArchive, kind: str) -> int:
    count: int = element(archive)["counters"]["calls"][kind]["count"]
    return count


def test_counters_of_a_mount_survive_its_transfer_processes_and_begin_anew_with_the_next(
    fresh_archive: MountedArchive,
) -> None:
    """SEMANTICS: ELEM-20"""
    archive = fresh_archive
    for number in range(3):
        (archive.mount / f"file{number}").write_bytes(b"x" * 1000)
    archive.flush()
    told = element(archive)
    counters = told["counters"]
    assert told["queue"] == {"intents": 0, "oldest_age_s": None}
    assert told["breaker"] is None
    assert counters["calls"]["put"]["count"] == 3
    assert counters["calls"]["barrier"]["count"] >= 2
    assert 0 < counters["calls"]["put"]["max_s"] <= counters["calls"]["put"]["total_s"]
    assert counters["sent_bytes"] > 3000
    assert counters["requests"] == {}

    opened = calls(archive, "open_read")
    assert (archive.mount / "file0").read_bytes() == b"x" * 1000
    assert calls(archive, "open_read") > opened  # by the mount process

    transfer = archive.ask("status")["transfer_pid"]
    os.kill(transfer, signal.SIGKILL)
    wait_for_end(transfer)
    (archive.mount / "file3").write_bytes(b"x" * 1000)
    archive.flush()
    wait_until(lambda: archive.ask("status")["transfer_pid"] != transfer)
    assert calls(archive, "put") == 4
    assert element(archive)["counters"]["sent_bytes"] > counters["sent_bytes"] + 1000

    archive.remount()
    assert calls(archive, "put") == 0


def test_what_waits_for_an_element_that_is_away_is_told_with_its_errors(
    fresh_archive: MountedArchive,
) -> None:
    """SEMANTICS: ELEM-20"""
    archive = fresh_archive
    away = archive.element.with_name("away")
    archive.element.rename(away)
    try:
        (archive.mount / "new").write_bytes(b"new")
        done = archive.run("flush", str(archive.toml), check=False)
        assert done.returncode == 4
        wait_until(lambda: "ElementUnavailable" in element(archive)["counters"]["errors"])
        queue = element(archive)["queue"]
        assert queue["intents"] >= 1
        assert queue["oldest_age_s"] >= 0
    finally:
        away.rename(archive.element)
    archive.flush()
    assert element(archive)["queue"] == {"intents": 0, "oldest_age_s": None}
