"""The read cache: what is fetched and what not, by whom it is shared, what trouble does to it."""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from artstorefs.core import naming
from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ArtStoreFSError, ElementUnavailable, errno_of
from artstorefs.filesystem import read_cache
from artstorefs.state.cache import WHOLE, CacheFiles, Place
from artstorefs.state.fetch import FetchAnswer, FetchKind, Urgency
from artstorefs.state.node import Node

from .far_bench import FarBench, read_all, read_at
from .large_files import (
    BLOCKS,
    DATA,
    REQUEST,
    SIZE,
    blocks_that_failed,
    error_of,
    flip,
    list_path,
    object_path,
    read_parts,
    store,
)


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[FarBench]:
    bench = FarBench(tmp_path)
    await bench.cache.load()
    yield bench
    await bench.settled()
    bench.cache.close()


async def remount(bench: FarBench) -> None:
    await bench.settled()
    bench.cache.close()
    bench.told.clear()
    bench.restart()
    await bench.cache.load()


async def fails(bench: FarBench, node: Node, offset: int, length: int = 1000) -> None:
    with pytest.raises(ArtStoreFSError) as refused:
        await read_at(bench, node, offset, length)
    assert errno_of(refused.value) == errno.EIO


def unreachable(name: str, key: str) -> None:
    raise ElementUnavailable("main", key, "nobody answers")


def digits(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ------------------------------------------------------------------------------ what is fetched


async def test_range_costs_its_blocks_and_the_list(bench: FarBench) -> None:
    node = await store(bench, DATA)
    assert await read_at(bench, node, BLOCK_BYTES + 5, 10) == DATA[BLOCK_BYTES + 5 :][:10]
    assert bench.fetched() == [1]
    assert bench.fetched(FetchKind.LIST) == [0]
    start = 2 * BLOCK_BYTES - 3
    assert await read_at(bench, node, start, 7) == DATA[start : start + 7]
    assert bench.fetched() == [1, 2]
    assert bench.fetched(FetchKind.LIST) == [0]


@pytest.mark.parametrize("size", [1, 4096, 200_000, BLOCK_BYTES])
async def test_object_of_one_block_is_one_block(bench: FarBench, size: int) -> None:
    node = await store(bench, DATA[:size])
    assert await read_all(bench, node) == DATA[:size]
    assert bench.cached() == {f"{digits(DATA[:size])[:2]}/{digits(DATA[:size])}": size}
    assert [(job.kind, job.offset, job.length) for _, job, _ in bench.told] == [
        (FetchKind.BLOCK, 0, size)
    ]


async def test_second_opening_and_another_mount_fetch_nothing(bench: FarBench) -> None:
    node = await store(bench, DATA)
    assert await read_all(bench, node) == DATA
    assert sorted(bench.fetched()) == [*range(BLOCKS)]
    bench.told.clear()
    assert await read_all(bench, node) == DATA
    assert not bench.told
    used = bench.cache.room.used_bytes
    await remount(bench)
    assert await read_all(bench, await_node(bench, node)) == DATA
    assert not bench.told
    assert bench.cache.room.used_bytes == used
    assert used >= sum(bench.cached().values())


def await_node(bench: FarBench, node: Node) -> Node:
    found = bench.archive.index.node(node.ino)
    assert found is not None
    return found


async def test_readers_of_one_block_share_its_fetch(bench: FarBench) -> None:
    node = await store(bench, DATA)
    other = await store(bench, DATA, b"same content")
    await read_at(bench, node, SIZE - 1, 1)
    bench.hold()  # with the list there, what they all wait for is the block
    told = len(bench.told)

    async def read(which: Node, offset: int) -> None:
        assert await read_at(bench, which, offset, 1000) == DATA[offset : offset + 1000]

    async with trio.open_nursery() as nursery:
        for offset in (0, 7, 1_000_000, BLOCK_BYTES - 1000):
            nursery.start_soon(read, node, offset)
            nursery.start_soon(read, other, offset)
            while len(bench.told) == told:  # those that follow find the fetch under way
                await trio.to_thread.run_sync(time.sleep, 0.001)
        await wait_all_tasks_blocked()
        bench.let_go()
    assert bench.times_fetched() == {BLOCKS - 1: 1, 0: 1}
    assert bench.fetched(FetchKind.LIST) == [0]


async def test_wish_for_a_block_that_is_under_way_joins_its_fetch(bench: FarBench) -> None:
    node = await store(bench, DATA)
    await read_at(bench, node, SIZE - 1, 1)
    job = bench.told[-1][1]
    copy = bench.archive.index.copies(node.ino)[0]
    bench.hold()
    first = bench.cache._begin(copy, job, Urgency.READ)
    while not first.is_sent:
        await trio.to_thread.run_sync(time.sleep, 0.001)
    joined = bench.cache._begin(copy, job, Urgency.READ) is first
    bench.let_go()
    assert joined
    await first.done.wait()


async def test_interrupted_reader_leaves_the_fetch_to_the_others(bench: FarBench) -> None:
    node = await store(bench, DATA[:1000])
    bench.hold()
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        got = []

        async def interrupted() -> None:
            with scope:
                await read_at(bench, node, 0, 10)

        async def patient() -> None:
            got.append(await read_at(bench, node, 0, 10))

        nursery.start_soon(interrupted)
        await wait_all_tasks_blocked()
        nursery.start_soon(patient)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        bench.let_go()
    assert got == [DATA[:10]]
    assert bench.times_fetched() == {0: 1}


async def test_fetch_that_everybody_has_left_is_kept(bench: FarBench) -> None:
    node = await store(bench, DATA[:1000])
    bench.hold()
    with trio.move_on_after(0):
        await read_at(bench, node, 0, 10)
    bench.let_go()
    await bench.settled()
    assert await read_at(bench, node, 0, 10) == DATA[:10]
    assert len(bench.told) <= 1


async def test_block_that_is_fetched_ahead_becomes_urgent_when_it_is_read(bench: FarBench) -> None:
    node = await store(bench, DATA)
    content = await bench.contents._source.open(node)
    bench.told.clear()
    bench.hold()
    bench.cache.fetch_ahead(content._copies[0], content._blocks, [1])
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(content.read, BLOCK_BYTES, 10)
        await wait_all_tasks_blocked()
        bench.let_go()
    assert [urgency for _, _, urgency in bench.told] == [Urgency.AHEAD]
    assert bench.hurried == [number for number, _, _ in bench.told]
    content.close()


# ----------------------------------------------------------------------------------- damage


async def test_flipped_bit_in_the_cache_is_fetched_again(
    bench: FarBench, caplog: pytest.LogCaptureFixture
) -> None:
    node = await store(bench, DATA)
    assert await read_all(bench, node) == DATA
    flip(bench.cached_path(".d/1"), 77)
    await remount(bench)
    node = await_node(bench, node)
    assert await read_all(bench, node) == DATA
    assert bench.fetched() == [1]
    assert bench.archive.damage.error(node) is None, "the element is not damaged"
    assert "does not have its SHA-256; it is fetched again" in caplog.text
    await remount(bench)
    assert await read_all(bench, await_node(bench, node)) == DATA
    assert not bench.told


@pytest.mark.parametrize("size", [0, 5, BLOCK_BYTES - 1])
async def test_file_of_the_cache_of_another_size_is_fetched_again(
    bench: FarBench, size: int
) -> None:
    node = await store(bench, DATA)
    assert await read_all(bench, node) == DATA
    os.truncate(bench.cached_path(".d/0"), size)
    await remount(bench)
    assert await read_all(bench, await_node(bench, node)) == DATA
    assert bench.fetched() == [0]


@pytest.mark.parametrize("position", [0, 70, 100, 200])
async def test_flipped_bit_in_a_cached_list_is_fetched_again(
    bench: FarBench, position: int
) -> None:
    node = await store(bench, DATA)
    assert await read_all(bench, node) == DATA
    flip(bench.cached_path(".d/list"), position)
    await remount(bench)
    assert await read_all(bench, await_node(bench, node)) == DATA
    assert (bench.fetched(), bench.fetched(FetchKind.LIST)) == ([], [0])


async def test_wrong_block_of_the_element_is_eio_and_marked(bench: FarBench) -> None:
    """SEMANTICS: DATA-3, XATTR-3"""
    node = await store(bench, DATA)
    flip(object_path(bench, node), BLOCK_BYTES + 3)
    assert blocks_that_failed(await read_parts(bench, node), DATA) == {1}
    key = bench.archive.index.copies(node.ino)[0].key
    assert error_of(bench, node) == (
        f"element main: {key}: block 2 of {BLOCKS}: does not have its SHA-256"
    )
    flip(object_path(bench, node), BLOCK_BYTES + 3)
    assert blocks_that_failed(await read_parts(bench, node), DATA) == set()


async def test_bit_that_flips_on_the_way_is_asked_for_again(bench: FarBench) -> None:
    node = await store(bench, DATA)
    path = object_path(bench, node)
    flip(path, 5)
    reads = []

    def heal(name: str, key: str) -> None:
        if name == "read" and not naming.is_blocks(key):
            reads.append(key)
            if len(reads) == 2:
                flip(path, 5)

    bench.before = heal
    assert await read_at(bench, node, 0, 10) == DATA[:10]
    assert len(reads) == 2


@pytest.mark.parametrize(("size", "words"), [(100, "has 100 bytes"), (SIZE + 1, "more than")])
async def test_object_of_another_size(bench: FarBench, size: int, words: str) -> None:
    node = await store(bench, DATA)
    os.truncate(object_path(bench, node), size)
    failed = blocks_that_failed(await read_parts(bench, node), DATA)
    assert BLOCKS - 1 in failed
    assert words in error_of(bench, node)


async def test_damaged_or_missing_list_has_the_whole_object_hashed(bench: FarBench) -> None:
    for number, kind in enumerate(("flipped", "missing")):
        data = DATA[number:]
        node = await store(bench, data, kind.encode())
        path = list_path(bench, node)
        if kind == "flipped":
            flip(path, 100)
        else:
            path.unlink()
        bench.told.clear()
        assert await read_all(bench, node) == data
        assert bench.fetched(FetchKind.HASH) == [0]
        assert bench.fetched() == [], "the blocks came with the hash"
        assert "block list" in error_of(bench, node)
        await remount(bench)
        assert await read_all(bench, await_node(bench, node)) == data
        assert not bench.told


async def test_object_that_is_wrong_and_has_no_list_leaves_nothing(bench: FarBench) -> None:
    node = await store(bench, DATA)
    list_path(bench, node).unlink()
    flip(object_path(bench, node), 5)
    await fails(bench, node, BLOCK_BYTES)
    assert bench.cached() == {}
    assert bench.cache.room.used_bytes == bench.cache.room.taken_bytes == 0


async def test_content_that_is_complete_is_hashed_whole_once(bench: FarBench) -> None:
    node = await store(bench, DATA)
    await read_at(bench, node, 0, 10)
    await bench.settled()
    assert bench.fetched(FetchKind.CHECK) == []
    assert await read_all(bench, node) == DATA
    await bench.settled()
    assert bench.fetched(FetchKind.CHECK) == [0]
    sha256 = bench.archive.index.copies(node.ino)[0].sha256
    assert sha256 is not None
    assert bench.cache.files.has_mark(Place(sha256, None, False), WHOLE)
    bench.cached_path(".d/0").unlink()
    assert await read_all(bench, node) == DATA
    await bench.settled()
    assert bench.fetched(FetchKind.CHECK) == [0]


async def test_content_that_is_completed_ahead_of_its_reader_is_hashed_whole(
    bench: FarBench,
) -> None:
    node = await store(bench, DATA)
    await read_at(bench, node, 0, 10)
    copy = bench.archive.index.copies(node.ino)[0]
    blocks = await bench.cache.block_list(copy)
    assert blocks is not None
    bench.cache.fetch_ahead(copy, blocks, range(BLOCKS))
    await bench.settled()
    assert sorted(bench.fetched()) == list(range(BLOCKS))
    assert bench.fetched(FetchKind.CHECK) == [0]


async def test_damage_of_the_cache_is_no_damage_of_the_content(bench: FarBench) -> None:
    """Also where it is met while all of it is hashed. SEMANTICS: ELEM-15"""
    node = await store(bench, DATA)
    await read_at(bench, node, 0, 10)
    await bench.settled()
    flip(bench.cached_path(".d/0"), 7)
    for start in range(BLOCK_BYTES, len(DATA), REQUEST):
        assert await read_at(bench, node, start, REQUEST) == DATA[start : start + REQUEST]
    await bench.settled()
    assert bench.archive.damage.marks() == {}
    assert await read_all(bench, node) == DATA


async def test_list_of_a_lie_is_found_when_the_content_is_complete(bench: FarBench) -> None:
    """The blocks fit their list, and their whole does not fit the checksum."""
    node = await store(bench, DATA)
    bench.archive.database.execute(
        "UPDATE copies SET sha256 = ? WHERE ino = ?", (bytes(32), node.ino)
    )
    assert blocks_that_failed(await read_parts(bench, node), DATA) <= {BLOCKS - 1}
    await bench.settled()
    assert "its list, and not its SHA-256" in error_of(bench, node)
    await fails(bench, node, 0)


# ------------------------------------------------------------------------------------ trouble


async def test_unreachable_element_fails_what_is_not_cached_and_comes_back(
    bench: FarBench, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: ELEM-3"""
    node = await store(bench, DATA)
    await read_at(bench, node, 0, 10)
    await bench.settled()
    bench.before = unreachable
    assert await read_at(bench, node, 1000, 10) == DATA[1000:1010]
    for _ in range(3):
        await fails(bench, node, BLOCK_BYTES)
    told = [r for r in caplog.records if "nobody answers" in r.getMessage()]
    assert len(told) == 1, "one line, and not one for each read"
    assert bench.archive.damage.error(node) is None
    bench.before = None
    assert await read_all(bench, node) == DATA


async def test_reader_waits_no_longer_than_the_limit(bench: FarBench, clock: MockClock) -> None:
    node = await store(bench, DATA[:1000])
    bench.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, bench, node, 0)
        await wait_all_tasks_blocked()
        clock.jump(read_cache.FETCH_LIMIT_S + 1)
    bench.let_go()
    await bench.settled()
    assert await read_at(bench, node, 0, 10) == DATA[:10]
    assert bench.times_fetched() == {0: 1}


async def test_object_that_is_gone_is_eio(bench: FarBench) -> None:
    node = await store(bench, DATA[:1000])
    object_path(bench, node).unlink()
    await fails(bench, node, 0)


async def test_cache_that_is_deleted_while_it_is_used(bench: FarBench) -> None:
    """SEMANTICS: FULL-5"""
    node = await store(bench, DATA)
    handle = await bench.open_file(node, os.O_RDONLY)
    assert await bench.contents.read(handle, 0, 10) == DATA[:10]
    shutil.rmtree(bench.base / "cache")
    for start in range(0, SIZE, REQUEST):
        expected = DATA[start : start + REQUEST]
        assert await bench.contents.read(handle, start, REQUEST) == expected
        shutil.rmtree(bench.base / "cache", ignore_errors=True)
    bench.contents.release(handle)
    assert await read_all(bench, node) == DATA


async def test_cache_directory_that_cannot_be_written_is_done_without(bench: FarBench) -> None:
    """SEMANTICS: FULL-5"""
    node = await store(bench, DATA)
    shutil.rmtree(bench.base / "cache", ignore_errors=True)
    (bench.base / "cache").write_text("in the way")
    assert await read_all(bench, node) == DATA
    assert bench.cache.room.used_bytes == bench.cache.room.taken_bytes == 0


async def test_full_disk_of_the_cache_serves_from_memory(
    bench: FarBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: FULL-5"""
    node = await store(bench, DATA)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CacheFiles, "store", full)
    assert await read_all(bench, node) == DATA
    assert bench.cache.room.disk_is_full
    assert bench.cached() == {}
    assert bench.cache.room.used_bytes == bench.cache.room.taken_bytes == 0
    monkeypatch.undo()
    bench.cache.room._ceiling_until_s = 0.0
    assert await read_all(bench, node) == DATA
    assert len(bench.cached()) == BLOCKS + 1


async def test_block_that_is_served_from_memory_is_verified(
    bench: FarBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: DATA-3"""
    node = await store(bench, DATA[:1000])
    real = bench.cache.answered

    def spoilt(number: int, answer: FetchAnswer) -> None:
        real(number, replace(answer, stored=0, data=b"x" * 1000))

    monkeypatch.setattr(bench.cache, "answered", spoilt)
    await fails(bench, node, 0)


async def test_written_file_is_brought_back_through_the_cache(bench: FarBench) -> None:
    """SEMANTICS: DATA-7"""
    node = await store(bench, DATA)
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 5, b"NEW")
    bench.contents.release(handle)
    expected = DATA[:5] + b"NEW" + DATA[8:]
    assert list(bench.spool_files().values()) == [expected]
    assert bench.times_fetched() == dict.fromkeys(range(BLOCKS), 1)
    await bench.drain()
    assert await read_all(bench, node) == expected
