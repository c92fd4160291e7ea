"""What keeps content that waits from being summed: full disks, failing disks, too many open files.

`test_spool_sums.py` has what happens otherwise.
"""

import errno
import os
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from artstorefs.core.errors import StateFull
from artstorefs.elements.hashing import BlockHasher
from artstorefs.filesystem.spool_sums import SUM_AFTER_S
from artstorefs.state.spool_sums import SpoolSum
from artstorefs_daemon.service import Service

from .large_files import error_of
from .test_spool_sums import expected, sum_of
from .workbench import Workbench


async def test_full_disk_of_the_state_directory_costs_no_second_reading(
    bench: Workbench, clock: MockClock, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: FULL-2"""
    node = await bench.write(b"f", b"content")
    clock.jump(SUM_AFTER_S + 0.1)

    def full(sums: object) -> None:
        raise StateFull(bench.archive.database.path, "its disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(bench.archive.changes, "contents_summed", full)
        for _ in range(3):
            with pytest.raises(StateFull):
                await bench.contents.sums.sum_due()
    assert hashed == [7]
    await bench.contents.sums.sum_due()
    assert hashed == [7]
    assert sum_of(bench, node) == expected(node, b"content")


@pytest.mark.parametrize("damage", ["missing", "short", "long", "unreadable"])
async def test_file_that_cannot_be_summed_is_marked_and_the_others_are(
    bench: Workbench, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: DATA-8"""
    bench.is_sound = False
    node = await bench.write(b"f", b"content")
    path = bench.archive.spool.path(node.ino, node.content)
    if damage == "missing":
        os.unlink(path)
    elif damage == "unreadable":
        add = BlockHasher.add

        def unreadable(hasher: BlockHasher, descriptor: int, buffer: bytearray) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}") == path:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return add(hasher, descriptor, buffer)

        monkeypatch.setattr(BlockHasher, "add", unreadable)
    else:
        os.truncate(path, 6 if damage == "short" else 8)
    other = await bench.write(b"other", b"content")
    await bench.sum_waiting()
    assert sum_of(bench, other) == expected(other, b"content")
    assert sum_of(bench, node) is None
    assert f"spool file {path}: " in error_of(bench, node)


async def test_failed_flush_is_told_and_leaves_no_row(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row beside content that is on no disk would refuse what a power cut has left of it.
    SEMANTICS: DUR-8"""
    node = await bench.write(b"f", b"content")

    def failing(descriptor: int) -> None:
        os.close(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(bench.archive.spool, "sync_content", failing)
    await bench.sum_waiting()
    assert sum_of(bench, node) is None
    assert "a flush of its content failed" in error_of(bench, node)
    await bench.drain()
    assert await bench.content(node) == b"content"


async def test_no_descriptor_is_no_damage(
    bench: Workbench, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await bench.write(b"f", b"content")

    def exhausted(ino: int, version: int, *, write: bool) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    clock.jump(SUM_AFTER_S + 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(bench.archive.spool, "open", exhausted)
        await bench.contents.sums.sum_due()
    assert bench.archive.damage.error(node) is None
    clock.jump(SUM_AFTER_S + 0.1)
    await bench.contents.sums.sum_due()
    assert sum_of(bench, node) == expected(node, b"content")


# -------------------------------------------------------------------------- the task of the daemon


async def let_pass(clock: MockClock, until: Callable[[], bool]) -> None:
    """Seconds, until something is so. The clock knows nothing of what a thread is about, so it must
    not jump by itself."""
    for _ in range(6000):
        if until():
            return
        clock.jump(1.0)
        await trio.testing.wait_all_tasks_blocked(0.01)
    raise AssertionError("it never came to that")


async def test_the_daemon_sums_what_waits_and_goes_on_after_a_full_disk(
    bench: Workbench,
    clock: MockClock,
    hashed: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It looks every other second, reads the file once, and says once why nothing is recorded.
    SEMANTICS: DATA-8, FULL-2"""
    node = await bench.write(b"f", b"content")
    service = Service(bench.archive, "/nowhere", 0)
    service.contents.sums.load()
    record = bench.archive.changes.contents_summed
    tries: list[float] = []

    def full_for_a_minute(sums: list[SpoolSum]) -> None:
        tries.append(trio.current_time())
        if len(tries) <= 30:
            raise StateFull(bench.archive.database.path, "its disk is full")
        record(sums)

    monkeypatch.setattr(bench.archive.changes, "contents_summed", full_for_a_minute)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service._sum_waiting)
        await let_pass(clock, lambda: sum_of(bench, node) is not None)
        nursery.cancel_scope.cancel()
    assert sum_of(bench, node) == expected(node, b"content")
    assert (len(tries), hashed) == (31, [7])
    assert tries[0] >= SUM_AFTER_S
    assert min(later - one for one, later in pairwise(tries)) > 1.9
    told = [record for record in caplog.records if "summed later" in record.getMessage()]
    assert len(told) == 1


async def test_the_daemon_goes_on_after_what_it_did_not_expect(
    bench: Workbench, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await bench.write(b"f", b"content")
    service = Service(bench.archive, "/nowhere", 0)
    service.contents.sums.load()
    once = iter([RuntimeError("a bug")])
    record = bench.archive.changes.contents_summed

    def failing_once(sums: list[SpoolSum]) -> None:
        for exc in once:
            raise exc
        record(sums)

    monkeypatch.setattr(bench.archive.changes, "contents_summed", failing_once)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service._sum_waiting)
        await let_pass(clock, lambda: sum_of(bench, node) is not None)
        nursery.cancel_scope.cancel()
    assert sum_of(bench, node) == expected(node, b"content")
