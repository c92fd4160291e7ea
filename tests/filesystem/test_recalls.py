"""Archived content that is asked for: what brings it, what does not, and how long it stays."""

import errno
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ArtStoreFSError
from artstorefs.core.modes import ElementMode
from artstorefs.filesystem import recalls as recalls_module
from artstorefs.filesystem.cache_orders import Outcome
from artstorefs.filesystem.recalling import HELD_PAUSE_S, LOOK_S, Prepared
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node
from artstorefs.state.recalls import DAY_NS, read_waiting

from .far_bench import read_all
from .offline_bench import OfflineBench
from .workbench import DIRECTORY

LARGE = bytes(range(256)) * (BLOCK_BYTES // 128)


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[OfflineBench]:
    bench = OfflineBench(tmp_path)
    await bench.cache.load()
    yield bench
    bench.cache.close()
    bench.check_soundness()


@pytest.fixture
async def reading(tmp_path: Path, clock: MockClock) -> AsyncIterator[OfflineBench]:
    """With `on_archived_read = "recall"`, and somebody who brings."""
    bench = OfflineBench(tmp_path, on_archived_read="recall")
    await bench.cache.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.recalling.run)
        yield bench
        nursery.cancel_scope.cancel()
    bench.cache.close()


async def refused(bench: OfflineBench, node: Node) -> int:
    """The errno of opening and reading."""
    try:
        await read_all(bench, node)
    except ArtStoreFSError as exc:
        return exc.errno_code
    return 0


def named(*names: str) -> Any:
    return lambda: names


async def test_what_is_asked_for_comes_and_goes(bench: OfflineBench) -> None:
    """SEMANTICS: AR-6, AR-7"""
    node = await bench.archived(b"large", LARGE)
    estimate = await bench.recalls.estimate([node])
    assert (estimate.files, estimate.bytes, bench.state(node)) == (1, len(LARGE), "archived")
    order = await bench.recalls.ask([node], 30)
    assert (order.files, order.bytes, bench.state(node)) == (1, len(LARGE), "recalling")
    assert await refused(bench, node) == errno.EREMOTE
    await bench.bring()
    assert bench.state(node) == "online"
    assert await read_all(bench, node) == LARGE
    bench.unmount()  # from now on it comes out of the cache
    assert await read_all(bench, node) == LARGE
    outcome = Outcome()
    await bench.orders.keep_pinned(outcome)
    assert (await bench.orders.summary())["pinned_bytes"] >= len(LARGE)
    assert bench.recalling.let_go_of_expired() > 29 * 86_400
    bench.archive.database.execute("UPDATE recalls SET until_ns = 1")
    over: list[None] = []
    bench.recalls.over = lambda: over.append(None)
    with_it_open = await bench.open_file(node, os.O_RDONLY)
    assert bench.recalling.let_go_of_expired() == HELD_PAUSE_S
    assert await bench.contents.read(with_it_open, 0, 10) == LARGE[:10]
    bench.contents.release(with_it_open)
    bench.recalling.let_go_of_expired()
    assert (bench.state(node), over) == ("archived", [None])
    assert await refused(bench, node) == errno.EREMOTE
    await bench.orders.keep_pinned(outcome)
    assert (await bench.orders.summary())["pinned_bytes"] == 0
    bench.mount()


async def test_a_tree_is_asked_for_once(bench: OfflineBench) -> None:
    """In batches, each file once, whatever is asked for again. SEMANTICS: AR-6"""
    above = bench.make(b"above", mode=DIRECTORY)
    for number in range(100):
        await bench.write(b"f%d" % number, b"content %d" % number, above.ino)
    await bench.drain()
    bench.put_into(ElementMode.AR)
    await bench.move()
    bench.asked.clear()
    root = bench.tree.node(ROOT_INO)
    order = await bench.recalls.ask([root], 1)
    again = await bench.recalls.ask([above, root], 2)
    assert (order.files, again.files, again.waiting) == (100, 0, 100)
    await bench.bring()
    assert [len(message["keys"]) for message in bench.asked] == [64, 36]
    assert len(bench.fetched) == 100
    third = await bench.recalls.ask([root], 1)
    assert (third.files, third.online, third.left) == (0, 100, {})
    days = bench.archive.database.execute(
        "SELECT min(until_ns - due_ns), max(days) FROM recalls"
    ).fetchone()
    assert days[0] >= 2 * DAY_NS
    assert await bench.recalls.release([above]) == 100
    assert bench.recalls.rows.is_empty


async def test_a_request_waits_for_the_medium_and_survives_a_restart(bench: OfflineBench) -> None:
    """SEMANTICS: AR-6, AR-8"""
    node = await bench.archived(b"f", b"content")
    bench.unmount()
    order = await bench.recalls.ask([node], 30, waits=True)
    assert await bench.bring() == LOOK_S
    assert "the medium of element main is wanted there" in bench.recalls.wanted["main"]
    (wanted,) = await bench.offlining.describe_wanted(bench.recalls.wanted)
    assert (wanted["files"], wanted["bytes"]) == (1, 7)
    assert wanted["place"] == str(bench.medium)
    assert bench.recalls._progress(order)["wanted"] == bench.recalls.wanted["main"]
    bench.cache.close()
    bench.restart()
    await bench.cache.load()
    bench.put_into(ElementMode.AR)
    node = bench.tree.node(node.ino)
    assert bench.state(node) == "recalling"
    bench.mount()
    await bench.bring()
    assert bench.recalls.wanted == {}
    assert await read_all(bench, node) == b"content"
    assert read_waiting(bench.archive.database.path) == []


async def test_a_cold_store_is_asked_less_and_less_often(bench: OfflineBench) -> None:
    """SEMANTICS: AR-10"""
    node = await bench.archived(b"f", b"content")
    await bench.recalls.ask([node], 30)
    answers = [Prepared(set(), {})] * 8

    async def prepare(element: str, keys: list[str], days: float) -> Prepared:
        return answers.pop() if answers else Prepared(set(keys), {})

    bench.recalling._prepare = prepare
    pauses = []
    while answers:
        assert bench.state(node) == "recalling"
        pauses.append(round(await bench.bring()))
        bench.archive.database.execute("UPDATE recalls SET due_ns = 0")
    assert pauses == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    await bench.bring()
    assert bench.state(node) == "online"


@pytest.mark.parametrize("damage", ["changed", "gone", "whole"])
async def test_only_what_is_right_counts(bench: OfflineBench, damage: str) -> None:
    """ "whole": every block is as its list says, and the object is another. SEMANTICS: AR-7"""
    node = await bench.archived(b"large", LARGE)
    (path,) = (p for p in bench.medium.rglob("large*") if p.suffix != ".blocks")
    if damage == "changed":
        path.write_bytes(LARGE[:-1] + b"?")
    elif damage == "gone":
        path.unlink()
    else:
        bench.archive.database.execute("UPDATE copies SET sha256 = ?", (b"\1" * 32,))
    order = await bench.recalls.ask([node], 30, waits=True)
    seen: list[dict[str, Any]] = []

    async def notify(progress: dict[str, Any]) -> None:
        seen.append(progress)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.recalls.follow, order, notify)
        await wait_all_tasks_blocked()
        await bench.bring()
    assert (order.failed, order.done_files, order.left) == (1, 0, {})
    assert order.errors[0]["path"] == "/large"
    assert bench.state(node) == "archived"
    assert await refused(bench, node) == errno.EREMOTE
    assert seen[-1]["files_total"] == 1
    bench.is_sound = False


async def test_what_does_not_fit_the_cache_is_told(tmp_path: Path) -> None:
    """SEMANTICS: AR-6"""
    bench = OfflineBench(tmp_path, cache_max=BLOCK_BYTES)
    await bench.cache.load()
    node = await bench.archived(b"large", LARGE)
    order = await bench.recalls.ask([node], 30, waits=True)
    with bench.recalls._watching_for(order):
        await bench.bring()
    assert "cache_max" in order.errors[0]["error"]
    bench.cache.close()


async def test_what_has_left_the_cache_is_brought_again(bench: OfflineBench) -> None:
    node = await bench.archived(b"f", b"content")
    await bench.recalls.ask([node], 30)
    await bench.bring()
    shutil.rmtree(bench.base / "cache" / "objects")
    await bench.orders.keep_pinned(Outcome())
    assert bench.state(node) == "recalling"
    await bench.bring()
    assert bench.state(node) == "online"
    assert await read_all(bench, node) == b"content"


async def test_what_is_recalled_is_not_moved_meanwhile(bench: OfflineBench) -> None:
    node = await bench.write(b"f", b"content")
    await bench.drain()
    bench.put_into(ElementMode.AR)
    await bench.recalls.ask([node], 30)
    await bench.bring()
    assert (bench.state(node), bench.fetched) == ("online", [])
    await bench.move()
    assert len(bench.objects(bench.root)) == 1
    assert await read_all(bench, node) == b"content"
    await bench.recalls.release([node])
    await bench.move()
    assert bench.objects(bench.root) == {}
    assert await refused(bench, node) == errno.EREMOTE


async def test_what_is_recalled_while_it_is_copied_stays(
    bench: OfflineBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await bench.write(b"f", b"content")
    await bench.drain()
    bench.put_into(ElementMode.AR)
    answered = bench.ask

    async def recalled_meanwhile(kind: str, element: str, **more: Any) -> dict[str, Any]:
        answer = await answered(kind, element, **more)
        if kind == "offline":
            await bench.recalls.ask([node], 30)
            await bench.bring()
        return answer

    monkeypatch.setattr(bench.link, "ask", recalled_meanwhile)
    await bench.move()
    assert bench.state(node) == "online"
    assert len(bench.objects(bench.root)) == len(bench.objects(bench.medium)) == 1
    bench.unmount()
    assert await read_all(bench, node) == b"content"
    bench.mount()


async def test_with_fail_nothing_is_brought_by_reading(bench: OfflineBench) -> None:
    """SEMANTICS: AR-9"""
    node = await bench.archived(b"f", b"content")
    assert not bench.recalls.admits(node, os.O_RDONLY, named("cat"))
    assert await refused(bench, node) == errno.EREMOTE
    assert bench.recalls.rows.is_empty


async def test_reading_brings_and_opening_does_not(reading: OfflineBench) -> None:
    """SEMANTICS: AR-9"""
    bench = reading
    node = await bench.archived(b"f", b"content")
    assert bench.recalls.admits(node, os.O_RDONLY, named("cat"))
    handle = await bench.contents.open(node, os.O_RDONLY, 0, may_wait=True)
    await wait_all_tasks_blocked()
    assert bench.state(node) == "archived"
    assert await bench.contents.read(handle, 0, 100) == b"content"
    assert bench.state(node) == "online"
    bench.contents.release(handle)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (os.O_RDONLY, ("updatedb",)),
        (os.O_RDONLY, ("pool-7", "tumblerd")),
        (os.O_RDONLY | os.O_NONBLOCK, ("cat",)),
        (os.O_RDONLY, ()),
    ],
)
async def test_some_readers_bring_nothing(
    reading: OfflineBench, flags: int, names: tuple[str, ...]
) -> None:
    """SEMANTICS: AR-9"""
    node = await reading.archived(b"f", b"content")
    assert not reading.recalls.admits(node, flags, named(*names))


async def test_a_read_does_not_wait_for_ever(
    reading: OfflineBench, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not too many wait; what they want comes all the same. SEMANTICS: AR-9"""
    bench = reading
    node = await bench.archived(b"f", b"content")
    bench.unmount()
    clock.autojump_threshold = 0.05
    with trio.fail_after(recalls_module.READ_WAIT_S + 10):
        handle = await bench.contents.open(node, os.O_RDONLY, 0, may_wait=True)
        with pytest.raises(ArtStoreFSError) as caught:
            await bench.contents.read(handle, 0, 100)
    assert caught.value.errno_code == errno.EREMOTE
    monkeypatch.setattr(recalls_module, "READERS_MAX", 0)
    with trio.fail_after(1), pytest.raises(ArtStoreFSError):
        await bench.contents.read(handle, 0, 100)
    assert bench.state(node) == "recalling"
    bench.mount()
    await bench.bring()
    assert await bench.contents.read(handle, 0, 100) == b"content"
    bench.contents.release(handle)
