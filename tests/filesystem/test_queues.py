"""What waits for each element, as `status` tells it."""

import sqlite3
import time
from pathlib import Path

import pytest

from artstorefs.state.index import ROOT_INO
from artstorefs.state.log import Assignment, Removal
from artstorefs.state.queues import (
    NO_QUEUE,
    Queue,
    Standing,
    read_standing,
)
from artstorefs_daemon.service import Service

from .workbench import ME, Workbench


def intents(bench: Workbench) -> dict[str | None, int]:
    queues = read_standing(bench.archive.database.path).queues
    return {element: queue.intents for element, queue in queues.items()}


async def test_what_waits_belongs_to_where_it_is_assigned_or_is_already(bench: Workbench) -> None:
    """SEMANTICS: ELEM-20"""
    began_ns = time.time_ns()
    assert intents(bench) == {None: 1}  # the root directory
    node = await bench.write(b"f", b"content")
    other = await bench.write(b"g", b"content")
    assert intents(bench) == {None: 3}
    oldest_ns = read_standing(bench.archive.database.path).queues[None].oldest_ns
    assert oldest_ns is not None
    assert oldest_ns < began_ns
    elsewhere = Assignment("elsewhere", "2026/a", node.content, False)
    bench.archive.outcomes.assign([(node.ino, elsewhere)])
    assert intents(bench) == {None: 2, "elsewhere": 1}
    with bench.archive.database.transaction():
        bench.archive.log.assign(node.ino, Assignment("main", "2026/a", node.content, False))
    await bench.drain()
    assert intents(bench) == {}
    bench.rename(b"f", b"h")
    assert intents(bench) == {"main": 2}  # the root directory has changed as well
    bench.unlink(b"g")
    assert intents(bench) == {"main": 3}
    await bench.drain()
    assert intents(bench) == {}
    assert bench.archive.index.node(other.ino) is None


async def test_removal_belongs_to_each_element_that_it_names_once(bench: Workbench) -> None:
    archive = bench.archive
    named = [["far", "a"], ["main", "a"], ["far", "b"]]
    with archive.database.transaction():
        for remove in (named, [["far", "c"]], []):
            archive.log.removal(b"f" * 16, Removal(1 << 40, remove), ME.uid)
    assert intents(bench) == {None: 1, "far": 2, "main": 1}
    bench.is_sound = False


async def test_damaged_row_is_left_out_and_a_damaged_index_is_told_of(
    bench: Workbench, tmp_path: Path
) -> None:
    bench.archive.database.execute("UPDATE log SET data = '{' WHERE ino = ?", (ROOT_INO,))
    assert intents(bench) == {None: 1}
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.Error):
        read_standing(str(broken))
    bench.archive.database.execute("UPDATE log SET data = NULL WHERE ino = ?", (ROOT_INO,))


def test_age_is_that_of_the_oldest_of_both() -> None:
    both = Queue(2, 5_000_000_000).plus(Queue(1, 3_000_000_000)).plus(NO_QUEUE)
    assert both == Queue(3, 3_000_000_000)
    assert both.oldest_age_s(4_500_000_000) == 1.5
    assert both.oldest_age_s(0) == 0.0
    assert NO_QUEUE.plus(NO_QUEUE).oldest_age_s(1) is None


async def test_sums_are_those_of_the_writing_connection(bench: Workbench) -> None:
    await bench.write(b"f", b"content")
    archive = bench.archive
    found = read_standing(archive.database.path)
    here = archive.log.summary()
    assert here["bytes"] == len(b"content")
    assert {**found.pending, "oldest_age_s": 0} == {**here, "oldest_age_s": 0}
    assert found.nodes == archive.index.count_nodes() == 2


async def test_status_says_when_it_tells_numbers_of_before(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(bench.archive, "/nowhere", 0)
    before = (await service.status())["pending"]["intents"]

    def fails(path: str) -> Standing:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("artstorefs_daemon.service.read_standing", fails)
    assert (await service.status())["pending"]["intents"] == before
    assert "numbers of before: disk I/O error" in caplog.text
