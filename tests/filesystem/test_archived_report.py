"""`archived` of `status`: what takes a recall to be read, what was recalled, and what cannot be."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from artstorefs.core.modes import ElementMode
from artstorefs.state import archived
from artstorefs_daemon import archived_report
from artstorefs_daemon.archived_report import LOOK_S, SHARE, ArchivedReport
from artstorefs_daemon.control.status import Archived

from .offline_bench import OfflineBench

NOTHING = {
    "element": "main",
    **{f"{what}_{unit}": 0 for what in ("offline", "recalling") for unit in ("files", "bytes")},
    **dict.fromkeys(("recalled_files", "recalled_bytes", "failed_files"), 0),
    "oldest_recall_age_s": None,
}


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[OfflineBench]:
    bench = OfflineBench(tmp_path)
    await bench.cache.load()
    yield bench
    bench.cache.close()


@pytest.fixture(params=[1, 5000])
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archived, "SLICE_ROWS", request.param)


async def told(bench: OfflineBench) -> list[dict[str, Any]]:
    """By a look of now, as the protocol has it."""
    report = ArchivedReport(bench.archive, lambda _: False)
    await report._look()
    report._next_s = float("inf")
    return [Archived.model_validate(one).model_dump() for one in await report.describe()]


@pytest.mark.usefixtures("slices")
async def test_from_the_element_to_the_medium_to_the_cache(bench: OfflineBench) -> None:
    first, second = await bench.write(b"f", b"content"), await bench.write(b"g", b"more")
    await bench.drain()
    assert await told(bench) == []
    bench.put_into(ElementMode.AR)
    all_of_it = {**NOTHING, "files": 2, "bytes": 11}
    assert await told(bench) == [all_of_it]
    await bench.move()
    offline = {**all_of_it, "offline_files": 2, "offline_bytes": 11}
    assert await told(bench) == [offline]

    await bench.recalls.ask([first], 30.0)
    (asked,) = await told(bench)
    assert (asked["recalling_files"], asked["recalling_bytes"], asked["files"]) == (1, 7, 2)
    assert 0 <= asked["oldest_recall_age_s"] < 60
    await bench.bring()
    (came,) = await told(bench)
    assert came == {**offline, "recalled_files": 1, "recalled_bytes": 7}

    await bench.recalls.ask([second], 30.0)
    row = bench.recalls.rows.get(bench.archive.index.node(second.ino) or second)
    assert row is not None
    bench.recalls.rows.fail(row, "is gone")
    assert (await told(bench))[0]["failed_files"] == 1

    bench.put_into(ElementMode.RO)
    (back,) = await told(bench)
    assert (back["files"], back["offline_files"]) == (2, 2), "it lies there still"


async def test_recall_of_content_of_before_counts_no_more(bench: OfflineBench) -> None:
    node = await bench.archived(b"f", b"content")
    await bench.recalls.ask([node], 30.0)
    with bench.archive.database.transaction():
        bench.archive.database.execute("UPDATE recalls SET content = content + 1")
    assert (await told(bench))[0]["recalling_files"] == 0


async def test_it_is_counted_now_and_then(
    bench: OfflineBench, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for long; what cannot be read now is what it was before."""
    report = ArchivedReport(bench.archive, lambda _: True)
    bench.put_into(ElementMode.AR)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report.run)
        assert (await report.describe())[0]["files"] == 0
        bench.put_into(ElementMode.EDIT)
        await bench.write(b"f", b"content")
        await bench.drain()
        bench.put_into(ElementMode.AR)
        assert (await report.describe())[0]["files"] == 0
        clock.jump(LOOK_S)
        assert (await report.describe())[0]["files"] == 1

        may_end = trio.Event()

        async def look() -> None:
            await may_end.wait()
            report._found = []

        monkeypatch.setattr(report, "_look", look)
        monkeypatch.setattr(archived_report, "WAIT_S", 0)
        clock.jump(LOOK_S)
        assert (await report.describe())[0]["files"] == 1, "of the look before"
        await wait_all_tasks_blocked()
        clock.jump(2.0)
        may_end.set()
        await wait_all_tasks_blocked()
        assert await report.describe() == []
        assert report._next_s > trio.current_time() + 2.0 / SHARE - 1
        nursery.cancel_scope.cancel()


async def test_index_that_cannot_be_read_ends_nothing(
    bench: OfflineBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise sqlite3.DatabaseError("malformed")

    monkeypatch.setattr(archived_report, "read_archived", fail)
    assert await told(bench) == []
    assert "what is archived is counted later: malformed" in caplog.text
