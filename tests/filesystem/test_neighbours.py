"""Small files that are fetched ahead, because those before them in the directory are opened."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from artstorefs.filesystem.neighbours import FIRST_WINDOW, LAST_WINDOW, SMALL_BYTES
from artstorefs.state.fetch import Urgency
from artstorefs.state.node import Node

from .far_bench import FarBench, read_all
from .workbench import DIRECTORY

FILES = 100


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[FarBench]:
    bench = FarBench(tmp_path)
    await bench.cache.load()
    yield bench
    await bench.settled()
    bench.cache.close()


async def make_files(bench: FarBench, count: int = FILES, parent: int = 1) -> list[Node]:
    nodes = []
    for number in range(count):
        content = b"%d" % (parent * 1000 + number)
        nodes.append(await bench.write(b"f%d" % number, content, parent))
    await bench.drain()
    bench.told.clear()
    return nodes


async def read(bench: FarBench, node: Node) -> None:
    """As a program that needs a while for each."""
    assert (await read_all(bench, node)).isdigit()
    await bench.settled()


def ahead(bench: FarBench) -> int:
    """How many were fetched that nobody waited for."""
    return sum(urgency is not Urgency.READ for _, _, urgency in bench.told)


async def test_one_file_alone_fetches_no_other(bench: FarBench) -> None:
    nodes = await make_files(bench)
    await read(bench, nodes[5])
    assert len(bench.told) == 1


async def test_files_in_order_are_there_before_they_are_wanted(bench: FarBench) -> None:
    """SEMANTICS: ELEM-14"""
    nodes = await make_files(bench)
    for node in nodes[:2]:
        await read(bench, node)
    assert (len(bench.told), ahead(bench)) == (2 + FIRST_WINDOW, FIRST_WINDOW)
    for node in nodes[2:]:
        await read(bench, node)
    assert ahead(bench) == FILES - 2
    assert len({job.key for _, job, _ in bench.told}) == len(bench.told) == FILES  # each once


async def test_window_grows_to_its_limit_and_no_further(bench: FarBench) -> None:
    nodes = await make_files(bench, 200)
    most = 0
    for number, node in enumerate(nodes[:100]):
        await read(bench, node)
        most = max(most, len(bench.told) - number - 1)
    assert LAST_WINDOW // 2 < most <= LAST_WINDOW * 3 // 2


async def test_files_here_and_there_cost_what_they_are(bench: FarBench) -> None:
    nodes = await make_files(bench, 400)
    chosen = random.Random(1).sample(nodes[::20], 20)
    for node in chosen:
        await read(bench, node)
    assert len(bench.told) == len(chosen)


async def test_some_left_out_are_still_in_order(bench: FarBench) -> None:
    """As rsync does with what has not changed."""
    nodes = await make_files(bench)
    for node in nodes[::3]:
        await read(bench, node)
    assert ahead(bench) > FILES // 2


async def test_whoever_begins_again_somewhere_else_begins_with_nothing(bench: FarBench) -> None:
    nodes = await make_files(bench, 200)
    for node in nodes[:20]:
        await read(bench, node)
    before = len(bench.told)
    await read(bench, nodes[150])
    assert len(bench.told) == before + 1


async def test_large_files_are_left_to_themselves(bench: FarBench) -> None:
    nodes = [await bench.write(b"small%d" % number, b"%d" % number) for number in range(2)]
    await bench.write(b"large", bytes(SMALL_BYTES + 1))
    await bench.write(b"last", b"2")
    await bench.drain()
    bench.told.clear()
    for node in nodes:
        await read(bench, node)
    assert sorted(job.size for _, job, _ in bench.told) == [1, 1, 1]


async def test_small_cache_evicts_nothing_before_it_is_wanted(
    tmp_path: Path, clock: MockClock
) -> None:
    bench = FarBench(tmp_path, cache_max=40 * 4096)
    await bench.cache.load()
    for node in await make_files(bench):
        await read(bench, node)
    assert len({job.key for _, job, _ in bench.told}) == len(bench.told) == FILES
    bench.cache.close()


async def test_directories_do_not_disturb_one_another(bench: FarBench) -> None:
    one, other = (bench.make(name, mode=DIRECTORY) for name in (b"one", b"other"))
    first = await make_files(bench, 20, one.ino)
    second = await make_files(bench, 20, other.ino)
    for node, neighbour in zip(first, second, strict=True):
        await read(bench, node)
        await read(bench, neighbour)
    assert ahead(bench) == 2 * 18
