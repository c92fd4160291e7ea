"""Content that waits in the spool: summed after a while, once, and by what it is then.

What the sums are good for is in `test_spool_damage.py`.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.elements.hashing import BlockHasher
from artstorefs.filesystem.spool_sums import LARGE_BYTES, REST_BYTES_PER_S, SUM_AFTER_S
from artstorefs.state import backup
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import ContentState, Node
from artstorefs.state.spool_sums import SpoolSum

from .large_files import DATA, write_waiting
from .rebuilding import kill
from .workbench import Workbench

SIZES = [1, 4096, BLOCK_BYTES, BLOCK_BYTES + 1, len(DATA)]


def sum_of(bench: Workbench, node: Node) -> SpoolSum | None:
    return bench.archive.index.spool_sum(node)


def rows(bench: Workbench) -> int:
    """In the table, valid or not."""
    return bench.archive.database.execute("SELECT count(*) FROM spool_sums").fetchone()[0]


def expected(node: Node, data: bytes) -> SpoolSum:
    """Hashed by hand."""
    digests = [
        hashlib.sha256(data[start : start + BLOCK_BYTES]).digest()
        for start in range(0, len(data), BLOCK_BYTES)
    ]
    blocks = b"".join(digests) if len(digests) > 1 else None
    whole = hashlib.sha256(data).digest()
    return SpoolSum(node.ino, node.content, len(data), whole, blocks)


@pytest.mark.parametrize("size", SIZES)
async def test_sum_is_that_of_the_content(bench: Workbench, size: int) -> None:
    node = await write_waiting(bench, DATA[:size])
    await bench.sum_waiting()
    assert sum_of(bench, node) == expected(node, DATA[:size])
    known = sum_of(bench, node)
    assert known is not None
    blocks = known.block_list()
    assert blocks is not None
    assert len(blocks) == -(-size // BLOCK_BYTES)


async def test_content_is_summed_once_and_when_it_has_waited(
    bench: Workbench, clock: MockClock, hashed: list[int]
) -> None:
    """SEMANTICS: DATA-8"""
    node = await bench.write(b"f", b"content")
    clock.jump(SUM_AFTER_S - 0.1)
    assert not await bench.contents.sums.sum_due()
    assert sum_of(bench, node) is None
    clock.jump(0.2)
    await bench.contents.sums.sum_due()
    assert sum_of(bench, node) == expected(node, b"content")
    clock.jump(10 * SUM_AFTER_S)
    await bench.contents.sums.sum_due()
    await bench.sum_waiting()
    assert hashed == [7]


async def test_large_file_rests_for_longer(bench: Workbench, clock: MockClock) -> None:
    """Nothing waits for its turn behind it."""
    large = await bench.write(b"large", b"x")
    await bench.contents.truncate(large, LARGE_BYTES, 0)
    small = await bench.write(b"small", b"y")
    clock.jump(SUM_AFTER_S + 0.1)
    while await bench.contents.sums.sum_due():
        pass
    assert sum_of(bench, small) is not None
    assert sum_of(bench, large) is None
    clock.jump(LARGE_BYTES / REST_BYTES_PER_S)
    await bench.contents.sums.sum_due()
    known = sum_of(bench, large)
    assert known is not None
    assert known.sha256 == hashlib.sha256(b"x".ljust(LARGE_BYTES, b"\0")).digest()


async def test_content_that_was_carried_in_time_costs_nothing(
    bench: Workbench, clock: MockClock, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await bench.write(b"f%d" % number, b"content")
    await bench.drain()
    monkeypatch.setattr(bench.archive.spool, "open", None)  # a file that is opened fails the test
    clock.jump(SUM_AFTER_S + 1)
    assert not await bench.contents.sums.sum_due()
    assert hashed == []
    assert rows(bench) == 0


async def test_crowd_is_summed_in_handfuls(bench: Workbench, clock: MockClock) -> None:
    nodes = [await bench.write(b"f%d" % number, b"%d" % number) for number in range(150)]
    clock.jump(SUM_AFTER_S + 0.1)
    handfuls = 0
    while await bench.contents.sums.sum_due():
        handfuls += 1
    assert handfuls == 2
    for number, node in enumerate(nodes):
        assert sum_of(bench, node) == expected(node, b"%d" % number)


async def test_a_start_takes_up_what_waits(bench: Workbench, clock: MockClock) -> None:
    """Killed before the row is committed, and after. SEMANTICS: DATA-8"""
    await bench.write(b"summed", b"first")
    await bench.sum_waiting()
    await bench.write(b"not", b"second")
    bench.restart()
    bench.contents.sums.load()
    summed, other = (bench.tree.lookup(ROOT_INO, name) for name in (b"summed", b"not"))
    assert summed is not None
    assert other is not None
    assert sum_of(bench, summed) == expected(summed, b"first")
    assert sum_of(bench, other) is None
    clock.jump(SUM_AFTER_S + 0.1)
    await bench.contents.sums.sum_due()
    assert sum_of(bench, other) == expected(other, b"second")
    assert (await bench.content(summed), await bench.content(other)) == (b"first", b"second")


# ------------------------------------------------------------------------- rows that have to go


async def carried(bench: Workbench, node: Node) -> None:
    await bench.drain()
    assert node.content_state == ContentState.ARCHIVED


async def removed(bench: Workbench, _: Node) -> None:
    bench.unlink(b"f")


async def replaced(bench: Workbench, _: Node) -> None:
    await bench.write(b"other", b"")
    bench.rename(b"other", b"f")


async def cut_off(bench: Workbench, node: Node) -> None:
    await bench.contents.truncate(node, 0, 0)


async def written(bench: Workbench, node: Node) -> None:
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, b"CON")
    bench.contents.release(handle)


async def written_under_way(bench: Workbench, node: Node) -> None:
    """A copy: the content itself is on its way to an element."""
    await bench.send()
    await written(bench, node)


async def shortened(bench: Workbench, node: Node) -> None:
    """A power cut has taken its end."""
    os.truncate(bench.archive.spool.path(node.ino, node.content), 3)
    bench.restart()


GONE = [carried, removed, replaced, cut_off, written, written_under_way, shortened]


@pytest.mark.parametrize("change", GONE, ids=lambda change: change.__name__)
async def test_row_goes_with_the_content_that_it_is_of(
    bench: Workbench, change: Callable[[Workbench, Node], object]
) -> None:
    node = await bench.write(b"f", b"content")
    await bench.sum_waiting()
    assert rows(bench) == 1
    await change(bench, node)
    assert rows(bench) == 0
    await bench.sum_waiting()
    left = bench.tree.lookup(ROOT_INO, b"f")
    if left is not None and left.content_state == ContentState.SEALED:
        data = b"con" if change is shortened else b"CONtent"
        assert sum_of(bench, left) == expected(left, data)
        assert await bench.content(left) == data
    await bench.drain()
    assert rows(bench) == 0


async def test_sum_of_an_older_version_says_nothing(bench: Workbench) -> None:
    """SEMANTICS: DATA-8"""
    node = await bench.write(b"f", b"before")
    await bench.sum_waiting()
    stale = sum_of(bench, node)
    await bench.write(b"f", b"after!")
    assert stale is not None
    assert stale.content < node.content
    bench.archive.changes.contents_summed([stale])
    assert await bench.content(node) == b"after!"
    assert bench.fsck(deep=True).findings == []
    await bench.drain()
    assert await bench.content(node) == b"after!"


# ----------------------------------------------------------------- what happens while it is hashed


class Held:
    """The file has been read, and whoever did it waits until the test has done something else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = trio.Event()
        self.goes_on = threading.Event()
        self.calls = 0
        add = BlockHasher.add
        token = trio.lowlevel.current_trio_token()

        def held(hasher: BlockHasher, descriptor: int, buffer: bytearray) -> int:
            self.calls += 1
            length = add(hasher, descriptor, buffer)
            token.run_sync_soon(self.begun.set)
            assert self.goes_on.wait(30)
            return length

        monkeypatch.setattr(BlockHasher, "add", held)


CHANGES = [carried, removed, cut_off, written, written_under_way]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_file_that_changes_its_state_is_given_up(
    bench: Workbench,
    clock: MockClock,
    change: Callable[[Workbench, Node], object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is recorded of the content that was, and nothing is said. Of what is written in
    place the version is the same, before and after."""
    node = await bench.write(b"f", b"content")
    held = Held(monkeypatch)
    clock.jump(SUM_AFTER_S + 0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.contents.sums.sum_due)
        await held.begun.wait()
        await change(bench, node)
        held.goes_on.set()
    assert rows(bench) == 0
    clock.jump(SUM_AFTER_S + 0.1)
    await bench.contents.sums.sum_due()
    left = bench.tree.lookup(ROOT_INO, b"f")
    known = sum_of(bench, left) if left is not None else None
    waits = change in (written, written_under_way)
    assert known == (expected(node, b"CONtent") if waits else None)
    assert held.calls == 1 + waits
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    await bench.drain()


async def test_what_may_be_written_at_any_moment_is_summed_later(
    bench: Workbench, clock: MockClock, hashed: list[int]
) -> None:
    """Sealed for `durability = "element"`, while its writer goes on; it is not even read."""
    node = bench.make(b"f")
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, b"content")
    assert bench.contents.seal_written(handle)
    assert node.content_state == ContentState.SEALED
    bench.contents.sums.load()
    clock.jump(SUM_AFTER_S + 0.1)
    await bench.contents.sums.sum_due()
    await bench.sum_waiting()
    assert sum_of(bench, node) is None
    assert hashed == []
    bench.contents.release(handle)
    clock.jump(SUM_AFTER_S + 0.1)
    await bench.contents.sums.sum_due()
    assert sum_of(bench, node) == expected(node, b"content")


# ------------------------------------------------------------------------- indexes of other times


async def test_index_of_an_earlier_release_gets_the_table(bench: Workbench) -> None:
    node = await bench.write(b"f", b"content")
    bench.archive.database.execute("DROP TABLE spool_sums")
    assert bench.fsck(deep=True).findings == []
    bench.restart()
    node = bench.tree.lookup(ROOT_INO, b"f") or node
    await bench.sum_waiting()
    assert sum_of(bench, node) == expected(node, b"content")


async def test_rows_of_a_backup_are_not_believed(bench: Workbench) -> None:
    """The same version has been written on in place since. SEMANTICS: ELEM-11"""
    node = await bench.write(b"f", b"content")
    await bench.sum_waiting()
    backup.make_backup(bench.archive.database.path, str(bench.base / "state"))
    await written(bench, node)
    assert node.content == 1
    kill(bench)
    os.truncate(bench.base / "state/state.db", 0)
    os.truncate(bench.base / "state/state.db-wal", 0)
    bench.open()
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    assert (found.content, found.content_state) == (1, ContentState.SEALED)
    assert rows(bench) == 0
    assert await bench.content(found) == b"CONtent"
    await bench.drain()


async def test_change_that_does_not_come_is_summed_again(
    bench: Workbench, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is killed after its write has given up the sum."""
    node = await bench.write(b"f", b"content")
    await bench.sum_waiting()
    handle = await bench.open_file(node)
    drop = bench.archive.changes.sum_dropped
    with trio.CancelScope() as scope:

        def interrupted(of: Node) -> None:
            drop(of)
            scope.cancel()

        monkeypatch.setattr(bench.archive.changes, "sum_dropped", interrupted)
        await bench.contents.write(handle, 0, b"CON")
    assert scope.cancelled_caught
    bench.contents.release(handle)
    assert sum_of(bench, node) is None
    clock.jump(SUM_AFTER_S + 0.1)
    await bench.contents.sums.sum_due()
    assert sum_of(bench, node) == expected(node, b"content")


async def test_durable_before_the_row(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEMANTICS: DUR-2"""
    steps: list[str] = []
    sync, record = bench.archive.spool.sync_content, bench.archive.changes.contents_summed

    def synced(descriptor: int) -> None:
        steps.append("synced")
        sync(descriptor)

    def recorded(sums: list[SpoolSum]) -> None:
        steps.append("recorded")
        record(sums)

    monkeypatch.setattr(bench.archive.spool, "sync_content", synced)
    monkeypatch.setattr(bench.archive.changes, "contents_summed", recorded)
    await bench.write(b"f", b"content")
    await bench.sum_waiting()
    assert steps == ["synced", "recorded"]
