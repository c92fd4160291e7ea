"""Orders to the read cache: warm, pin, unpin, drop, of files and of trees."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from artstorefs.core.block_list import BLOCK_BYTES, BlockList
from artstorefs.core.errors import ArtStoreFSError, ElementUnavailable
from artstorefs.filesystem.cache_orders import CacheOrders, NotPinned, Outcome, StillPinned
from artstorefs.state.index import ROOT_INO, Copy
from artstorefs.state.node import Node

from .far_bench import FarBench, read_all
from .large_files import DATA, SIZE, flip, object_path, store
from .workbench import DIRECTORY

SMALL = 5000


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[FarBench]:
    """With room for one file of three blocks and some small ones."""
    bench = FarBench(tmp_path, cache_max=3 * BLOCK_BYTES + (1 << 20))
    await bench.cache.load()
    yield bench
    await bench.settled()
    bench.cache.close()


@pytest.fixture
async def orders(bench: FarBench) -> CacheOrders:
    return CacheOrders(bench.archive, bench.contents._source)


async def tree(bench: FarBench, count: int = 20) -> Node:
    """A directory with a directory with files."""
    above = bench.make(b"above", mode=DIRECTORY)
    below = bench.make(b"below", above.ino, DIRECTORY)
    for number in range(count):
        data = DATA[number : number + SMALL]
        await bench.write(b"f%d" % number, data, (above, below)[number % 2].ino)
    await bench.drain()
    bench.told.clear()
    return above


async def test_warm_brings_a_tree_once(bench: FarBench, orders: CacheOrders) -> None:
    above = await tree(bench)
    outcome = Outcome()
    await orders.warm(above, outcome)
    assert (outcome.files, outcome.bytes, outcome.failed) == (20, 20 * SMALL, 0)
    assert len(bench.cached()) == 20
    again = Outcome()
    await orders.warm(above, again)
    assert (again.files, again.bytes) == (20, 0)
    assert len(bench.told) == 20
    bench.told.clear()
    node = bench.tree.lookup(above.ino, b"f0")
    assert node is not None
    assert await read_all(bench, node) == DATA[:SMALL]
    assert not bench.told


async def test_warm_brings_all_blocks_of_a_file(bench: FarBench, orders: CacheOrders) -> None:
    node = await store(bench, DATA)
    outcome = Outcome()
    await orders.warm(node, outcome)
    assert (outcome.files, outcome.bytes, outcome.failed) == (1, SIZE, 0)
    bench.told.clear()
    assert await read_all(bench, node) == DATA
    assert bench.fetched() == []


async def test_content_that_waits_in_the_spool_needs_no_cache(
    bench: FarBench, orders: CacheOrders
) -> None:
    await bench.write(b"waits", b"content")
    await bench.write(b"empty", b"")
    outcome = Outcome()
    root = bench.archive.index.node(ROOT_INO)
    assert root is not None
    await orders.warm(root, outcome)
    assert outcome == Outcome()


async def test_what_cannot_be_brought_is_named_and_the_rest_is_brought(
    bench: FarBench, orders: CacheOrders
) -> None:
    above = await tree(bench, 6)
    bad = bench.tree.lookup(above.ino, b"f2")
    assert bad is not None
    flip(object_path(bench, bad), 7)
    away = bench.tree.lookup(above.ino, b"f4")
    assert away is not None
    away_key = bench.archive.index.copies(away.ino)[0].key

    def before(name: str, key: str) -> None:
        if key == away_key:
            raise ElementUnavailable("main", key, "nobody answers")

    bench.before = before
    outcome = Outcome()
    await orders.warm(above, outcome)
    assert (outcome.files, outcome.failed) == (4, 2)
    said = {error["path"]: error["error"] for error in outcome.errors}
    assert "does not have its SHA-256" in said["/above/f2"]
    assert "nobody answers" in said["/above/f4"]
    assert bench.archive.damage.error(bad) is not None


async def test_warming_more_than_there_is_room_for_says_so(
    bench: FarBench, orders: CacheOrders
) -> None:
    for name in (b"a", b"b", b"c"):
        await store(bench, DATA[ord(name) :], name)
    outcome = Outcome()
    root = bench.archive.index.node(ROOT_INO)
    assert root is not None
    await orders.pin(root, outcome)
    assert outcome.failed >= 1
    assert "raise cache_max" in outcome.errors[0]["error"]
    await bench.settled()
    room = bench.cache.room
    room.scan()
    assert room.used_bytes + room.taken_bytes <= bench.configuration.cache_max


async def test_pinned_content_stays_and_others_are_read_all_the_same(
    bench: FarBench, orders: CacheOrders
) -> None:
    pinned = await store(bench, DATA)
    other = await store(bench, DATA[::-1], b"other")
    await orders.pin(pinned, Outcome())
    assert await read_all(bench, other) == DATA[::-1]
    bench.told.clear()
    assert await read_all(bench, pinned) == DATA
    assert bench.fetched() == []
    assert (await orders.summary())["pins"] == ["/f"]
    assert (await orders.summary())["pinned_bytes"] >= SIZE


@pytest.mark.parametrize(("times", "failed"), [(1, 0), (99, 1)])
async def test_block_that_is_evicted_before_it_is_pinned_is_brought_again(
    bench: FarBench,
    orders: CacheOrders,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    failed: int,
) -> None:
    """It was missing without a word."""
    node = await store(bench, DATA)
    evictions = []
    bring = bench.cache.bring

    async def brought_and_evicted(copy: Copy, blocks: BlockList, index: int) -> int:
        length = await bring(copy, blocks, index)
        if index == 1 and len(evictions) < times:
            evictions.append(index)
            bench.cache.forget(bench.cache.place(copy, blocks, index))
        return length

    monkeypatch.setattr(bench.cache, "bring", brought_and_evicted)
    outcome = Outcome()
    await orders.pin(node, outcome)
    assert outcome.failed == failed
    assert bool((await orders.summary())["pinned_bytes"] >= SIZE) is not bool(failed)


async def test_unpinned_content_may_be_evicted(bench: FarBench, orders: CacheOrders) -> None:
    pinned = await store(bench, DATA)
    await orders.pin(pinned, Outcome())
    await orders.unpin(pinned, Outcome())
    assert (await orders.summary())["pinned_bytes"] == 0
    other = await store(bench, DATA[::-1], b"other")
    assert await read_all(bench, other) == DATA[::-1]
    await bench.settled()
    bench.told.clear()
    assert await read_all(bench, other) == DATA[::-1]
    assert bench.fetched() == []
    with pytest.raises(NotPinned):
        await orders.unpin(pinned, Outcome())


async def test_unpinning_a_directory_keeps_what_is_pinned_below(
    bench: FarBench, orders: CacheOrders
) -> None:
    above = await tree(bench)
    inner = bench.tree.lookup(above.ino, b"f0")
    assert inner is not None
    await orders.pin(above, Outcome())
    await orders.pin(inner, Outcome())
    await orders.unpin(above, Outcome())
    assert (await orders.summary())["pinned_bytes"] == 8192


async def test_pass_over_the_pins_brings_what_is_new_and_lets_go_of_what_is_old(
    bench: FarBench, orders: CacheOrders
) -> None:
    above = await tree(bench, 4)
    await orders.pin(above, Outcome())
    await bench.write(b"f0", b"changed", above.ino)
    await bench.write(b"new", b"new content", above.ino)
    bench.unlink(b"f2", above.ino)
    await bench.drain()
    outcome = Outcome()
    await orders.keep_pinned(outcome)
    assert (outcome.files, outcome.bytes) == (4, len(b"changed") + len(b"new content"))
    assert (await orders.summary())["pinned_bytes"] == 2 * 8192 + 2 * 4096


async def test_pins_outlive_the_cache_and_the_mount(bench: FarBench, orders: CacheOrders) -> None:
    above = await tree(bench)
    await orders.pin(above, Outcome())
    shutil.rmtree(bench.base / "cache")
    bench.cache.close()
    bench.restart()
    await bench.cache.load()
    again = CacheOrders(bench.archive, bench.contents._source)
    outcome = Outcome()
    await again.keep_pinned(outcome)
    assert (outcome.files, outcome.bytes) == (20, 20 * SMALL)
    renumber = "UPDATE nodes SET ino = 999, sum = NULL WHERE ino = ?"
    bench.archive.database.execute(renumber, (above.ino,))
    bench.archive.index.forget(above.ino)
    assert [node.ino for node in again._pinned_nodes()] == [999]
    bench.is_sound = False


async def test_pins_that_cannot_be_read_are_none(
    bench: FarBench, caplog: pytest.LogCaptureFixture
) -> None:
    path = bench.base / "state" / "cache-pins.json"
    for text in ("", "[]", '{"pins": [{"ino": 1}]}', '{"pins": [{"file_id": "x", "ino": 1}]}'):
        path.write_text(text)
        assert CacheOrders(bench.archive, bench.contents._source).pins.inos == {}
    assert caplog.text.count("nothing is pinned") == 4


async def test_dropped_content_is_fetched_again(bench: FarBench, orders: CacheOrders) -> None:
    above = await tree(bench)
    large = await store(bench, DATA)
    await orders.warm(above, Outcome())
    await orders.warm(large, Outcome())
    used = bench.cache.room.used_bytes
    outcome = Outcome()
    await orders.drop(above, outcome)
    assert (outcome.files, outcome.bytes) == (20, 20 * 8192)
    assert bench.cache.room.used_bytes == used - 20 * 8192
    await orders.drop(large, Outcome())
    await bench.settled()
    assert bench.cached() == {}
    assert bench.cache.room.used_bytes == 0
    assert await read_all(bench, large) == DATA


async def test_what_is_pinned_is_not_dropped(bench: FarBench, orders: CacheOrders) -> None:
    above = await tree(bench)
    inner = bench.tree.lookup(above.ino, b"f0")
    assert inner is not None
    await orders.pin(above, Outcome())
    for node in (above, inner):
        with pytest.raises(StillPinned):
            await orders.drop(node, Outcome())
    assert len(bench.cached()) == 20


async def test_pin_that_cannot_be_kept_is_none(
    bench: FarBench, orders: CacheOrders, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await store(bench, DATA[:SMALL])

    def fails() -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(orders.pins, "save", fails)
    with pytest.raises((OSError, ArtStoreFSError)):
        await orders.pin(node, Outcome())
    assert orders.pins.inos == {}
