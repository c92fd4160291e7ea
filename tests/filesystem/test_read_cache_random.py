"""Readers, orders and trouble at random: what is read is right, and nothing is left behind.

All chance comes from one seed, which is printed; `ASFS_SEED` repeats it. Which thread is faster is
not in it.
"""

import errno
import os
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ArtStoreFSError, ElementUnavailable, errno_of
from artstorefs.filesystem.cache_orders import CacheOrders, Outcome
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .far_bench import FarBench
from .large_files import flip, store
from .test_cache_limit import deleted_files_that_are_open, disk_bytes

ROUNDS = 40
READERS = 6
LIMIT = 3 * BLOCK_BYTES


class Trial:
    """`contents` by node; `is_away` while the element refuses, when EIO is an answer."""

    def __init__(self, bench: FarBench, seed: int) -> None:
        self.bench = bench
        self.chosen = random.Random(seed)
        self.contents: dict[int, tuple[Node, bytes]] = {}
        self.orders = CacheOrders(bench.archive, bench.contents._source)
        self.errors: list[int] = []
        self.right_reads = 0
        bench.before = self._before
        self.refusals = 0

    def _before(self, name: str, key: str) -> None:
        if self.refusals and name in ("read", "open_read"):
            self.refusals -= 1
            raise ElementUnavailable("main", key, "nobody answers")

    async def make_files(self) -> None:
        for number in range(4):
            size = self.chosen.choice((1, 5000, BLOCK_BYTES, 2 * BLOCK_BYTES + 77))
            data = self.chosen.randbytes(size)
            for name in (b"f%d" % number, b"same as f%d" % number):
                node = await store(self.bench, data, name)
                self.contents[node.ino] = node, data

    def any_file(self) -> tuple[Node, bytes]:
        return self.chosen.choice(list(self.contents.values()))

    async def reader(self) -> None:
        for _ in range(ROUNDS):
            node, data = self.any_file()
            handle = await self.bench.open_file(node, os.O_RDONLY)
            try:
                offset = self.chosen.randrange(len(data))
                for _ in range(self.chosen.randrange(1, 8)):
                    length = self.chosen.choice((1, 4096, 300_000, 1 << 20))
                    part = bytes(await self.bench.contents.read(handle, offset, length))
                    assert part == data[offset : offset + length]
                    self.right_reads += 1
                    offset += len(part)
            except ArtStoreFSError as exc:
                self.errors.append(errno_of(exc))
            finally:
                self.bench.contents.release(handle)

    async def trouble(self) -> None:
        kinds: list[Callable[[], Awaitable[None]]] = [
            *(self.flip_in_the_cache, self.delete_the_cache, self.go_away, self.drop),
            *(self.warm, self.pin, self.scan),
        ]
        for _ in range(ROUNDS // 2):
            await self.chosen.choice(kinds)()
            await trio.lowlevel.checkpoint()

    async def flip_in_the_cache(self) -> None:
        found = [p for p in (self.bench.base / "cache" / "objects").rglob("*") if p.is_file()]
        for path in self.chosen.sample(found, min(2, len(found))):
            try:
                flip(path, self.chosen.randrange(path.stat().st_size))
            except FileNotFoundError:
                continue  # evicted meanwhile

    async def delete_the_cache(self) -> None:
        shutil.rmtree(self.bench.base / "cache", ignore_errors=True)

    async def go_away(self) -> None:
        self.refusals = self.chosen.randrange(1, 3)

    async def drop(self) -> None:
        try:
            await self.orders.drop(self.any_file()[0], Outcome())
        except ArtStoreFSError:
            return  # pinned

    async def warm(self) -> None:
        await self.orders.warm(self.any_file()[0], Outcome())

    async def pin(self) -> None:
        node = self.any_file()[0]
        await self.orders.pin(node, Outcome())
        await self.orders.unpin(node, Outcome())

    async def scan(self) -> None:
        await self.orders.summary()


async def hashers_are_idle(bench: FarBench) -> None:
    """What was verified ahead of a reader that has gone has been closed."""
    for _ in range(100):
        if not bench.cache._hashers.borrowed_tokens:
            return
        await trio.to_thread.run_sync(time.sleep, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
async def test_whatever_happens_the_bytes_are_right(
    tmp_path: Path, clock: MockClock, number: int
) -> None:
    """SEMANTICS: DATA-3, ELEM-15"""
    seed = int(os.environ["ASFS_SEED"]) + number
    print(f"seed {seed}")
    bench = FarBench(tmp_path, cache_max=LIMIT)
    await bench.cache.load()
    trial = Trial(bench, seed)
    await trial.make_files()
    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(trial.reader)
        nursery.start_soon(trial.trouble)
    await bench.settled()
    assert set(trial.errors) <= {errno.EIO}
    assert trial.right_reads > 10 * len(trial.errors)
    assert bench.archive.damage.marks() == {}, "the element was never damaged"
    room = bench.cache.room
    assert room.taken_bytes == 0
    assert not bench.cache._by_number
    room.scan()
    assert room.used_bytes == disk_bytes(tmp_path / "cache") <= LIMIT
    # only what was deleted by others may still be open, and it is let go of in time
    trial.refusals = 0
    root = bench.archive.index.node(ROOT_INO)
    assert root is not None
    outcome = Outcome()
    await trial.orders.keep_pinned(outcome)  # what was read while it was unpinned lost no mark
    await trial.orders.drop(root, outcome)
    assert bench.cached() == {}
    bench.cache.close()
    await hashers_are_idle(bench)
    assert not deleted_files_that_are_open(tmp_path / "cache")
