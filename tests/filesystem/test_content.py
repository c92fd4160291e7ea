"""Content of files in every state that it can be in, and the spool's accounts of it."""

import os
import threading
from pathlib import Path

import pytest
import trio

from artstorefs.elements.durable import fallocate
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.filesystem.errors import SpoolFull
from artstorefs.filesystem.pages import PageReader
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import ContentState, Node
from artstorefs.state.spool import Spool, spool_name

from .element_tree import read_element
from .workbench import ME, Workbench

KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE of fallocate(2)."""

OLD, NEW = b"old content " * 1000, b"NEW"


async def bring_to(bench: Workbench, state: str, name: bytes = b"f") -> Node:
    """A file whose content `OLD` is in this state."""
    node = await bench.write(name, OLD)
    if state == "in flight":
        await bench.send()
    elif state == "archived":
        await bench.drain()
    elif state == "changed while in flight":
        await bench.send()
        with bench.archive.changes.attributes(node, 5, 0):
            node.mode |= 0o111
        bench.answer(bench.carry())
    return node


STATES = ("sealed", "in flight", "archived", "changed while in flight")


@pytest.mark.parametrize("state", STATES)
async def test_write_into_content_in_each_state(bench: Workbench, state: str) -> None:
    """SEMANTICS: DATA-1, DATA-4"""
    node = await bring_to(bench, state)
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 3, NEW)
    expected = OLD[:3] + NEW + OLD[6:]
    assert await bench.content(node) == expected
    while bench.sent:
        bench.answer(bench.carry())
    assert await bench.content(node) == expected
    bench.contents.release(handle)
    await bench.drain()
    assert await bench.content(node) == expected
    assert read_element(bench.root)[b"/f"].content == expected
    assert bench.budget.used_bytes == 0
    assert bench.spool_files() == {}


@pytest.mark.parametrize("size", [0, 5, len(OLD), len(OLD) + 10_000])
@pytest.mark.parametrize("state", [*STATES, "open"])
async def test_truncate_in_each_state(bench: Workbench, state: str, size: int) -> None:
    """SEMANTICS: DATA-5"""
    node = await bring_to(bench, state)
    handle = await bench.open_file(node) if state == "open" else None
    if handle:
        await bench.contents.write(handle, 0, OLD[:1])
    await bench.contents.truncate(node, size, 0)
    expected = OLD[:size].ljust(size, b"\0")
    assert node.size == size
    assert await bench.content(node) == expected
    if handle:
        bench.contents.release(handle)
    await bench.drain()
    assert await bench.content(node) == expected
    assert read_element(bench.root)[b"/f"].content == expected
    assert bench.budget.used_bytes == 0


async def test_content_that_is_being_carried_never_changes(bench: Workbench) -> None:
    """SEMANTICS: DATA-4"""
    node = await bring_to(bench, "in flight")
    before = bench.spool_files()
    for round_number in range(3):
        handle = await bench.open_file(node)
        await bench.contents.write(handle, round_number, b"x")
        bench.contents.release(handle)
        after = bench.spool_files()
        assert {name: after[name] for name in before} == before
    await bench.contents.truncate(node, 1, 0)
    assert {name: bench.spool_files()[name] for name in before} == before
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == b"x"


async def test_reopen_after_seal_writes_in_place(bench: Workbench) -> None:
    node = await bring_to(bench, "sealed")
    handle = await bench.open_file(node)
    await bench.contents.write(handle, len(OLD), NEW)
    bench.contents.release(handle)
    assert list(bench.spool_files().values()) == [OLD + NEW]
    await bench.drain()
    assert len(bench.keys()) == 3  # the object, its attr.json, the root's record


async def test_reader_of_the_old_content_sees_what_a_writer_writes(bench: Workbench) -> None:
    """SEMANTICS: DATA-1"""
    node = await bring_to(bench, "archived")
    reader = await bench.open_file(node, os.O_RDONLY)
    assert await bench.contents.read(reader, 0, 3) == OLD[:3]
    writer = await bench.open_file(node, os.O_WRONLY)
    await bench.contents.write(writer, 0, NEW)
    assert await bench.contents.read(reader, 0, 5) == NEW + OLD[3:5]
    bench.contents.release(writer)
    await bench.drain()
    assert await bench.contents.read(reader, 0, 5) == NEW + OLD[3:5]
    await bench.write(b"f", b"")
    assert await bench.contents.read(reader, 0, 5) == b""
    bench.contents.release(reader)


@pytest.mark.parametrize("state", STATES)
async def test_unlink_while_open_keeps_the_content(bench: Workbench, state: str) -> None:
    """SEMANTICS: NAME-5"""
    node = await bring_to(bench, state)
    handle = await bench.open_file(node)
    bench.unlink(b"f")
    await bench.step()
    assert await bench.contents.read(handle, 0, len(OLD)) == OLD
    await bench.contents.write(handle, 0, NEW)
    await bench.step()
    assert await bench.contents.read(handle, 0, 6) == NEW + OLD[3:6]
    bench.contents.release(handle)
    await bench.drain()
    assert set(read_element(bench.root)) == {b"/"}
    assert bench.spool_files() == {}
    assert bench.budget.used_bytes == 0


@pytest.mark.parametrize("state", STATES)
async def test_unlink_of_a_closed_file(bench: Workbench, state: str) -> None:
    await bring_to(bench, state)
    bench.unlink(b"f")
    while bench.sent:
        bench.answer(bench.carry())
    await bench.drain()
    assert set(read_element(bench.root)) == {b"/"}
    assert bench.spool_files() == {}
    assert bench.budget.used_bytes == 0


async def test_unlinked_open_file_is_gone_after_a_kill(bench: Workbench) -> None:
    """SEMANTICS: NAME-5"""
    node = await bring_to(bench, "archived")
    await bench.open_file(node)
    bench.unlink(b"f")
    await bench.drain()
    bench.restart()
    await bench.drain()
    assert set(read_element(bench.root)) == {b"/"}


async def test_rename_over_an_open_file(bench: Workbench) -> None:
    """SEMANTICS: NAME-4, NAME-5"""
    old = await bench.write(b"f", OLD)
    await bench.drain()
    reader = await bench.open_file(old, os.O_RDONLY)
    await bench.write(b"tmp", NEW)
    bench.rename(b"tmp", b"f")
    assert await bench.contents.read(reader, 0, len(OLD)) == OLD
    await bench.drain()
    assert await bench.contents.read(reader, 0, len(OLD)) == OLD
    bench.contents.release(reader)
    await bench.drain()
    tree = read_element(bench.root)
    assert set(tree) == {b"/", b"/f"}
    assert tree[b"/f"].content == NEW


async def test_killed_while_a_file_was_open(bench: Workbench) -> None:
    """SEMANTICS: DUR-1"""
    node = bench.tree.create(ROOT_INO, b"f", 0o100644, ME, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    await bench.contents.write(handle, 0, OLD)
    await bench.contents.write(handle, len(OLD), NEW)
    mtime_ns = node.mtime_ns
    bench.restart()
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    assert await bench.content(node) == OLD + NEW
    assert abs(node.mtime_ns - mtime_ns) < 20_000_000
    assert bench.budget.used_bytes == bench.spool_bytes()
    await bench.drain()
    assert bench.budget.used_bytes == 0


async def test_killed_after_a_time_was_set_on_an_open_file(bench: Workbench) -> None:
    node = await bring_to(bench, "sealed")
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, NEW)
    with bench.archive.changes.attributes(node, 77, 0):
        node.mtime_ns = 12345
    bench.contents.set_times(node)
    bench.restart()
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    assert found.mtime_ns == 12345
    del handle


# ------------------------------------------------------------------------------- the budget


async def test_budget_counts_what_is_brought_back_for_a_change(bench: Workbench) -> None:
    """SEMANTICS: LIMIT-3"""
    node = await bring_to(bench, "archived")
    assert bench.budget.used_bytes == 0
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, NEW)
    assert bench.budget.used_bytes == len(OLD)
    bench.contents.release(handle)
    await bench.drain()
    assert bench.budget.used_bytes == 0


async def test_budget_of_an_open_file_without_names(bench: Workbench) -> None:
    other = await bench.write(b"other", OLD)
    node = await bring_to(bench, "sealed")
    handle = await bench.open_file(node)
    bench.unlink(b"f")
    both = bench.spool_bytes()
    assert bench.budget.used_bytes == both
    bench.contents.release(handle)
    assert bench.budget.used_bytes == both  # the file is still there
    now = trio.current_time()
    bench.link.schedule._waiting.pop(other.ino)  # only the removal is carried out
    await bench.step()
    assert bench.budget.used_bytes == bench.spool_bytes() < both
    bench.link.schedule.node_changed(other.ino, now)
    await bench.drain()
    assert bench.budget.used_bytes == 0


@pytest.mark.parametrize("later", [8 << 20, 0])
async def test_budget_where_the_blocks_of_a_closed_file_change(
    bench: Workbench, later: int
) -> None:
    """XFS cuts off what it has set aside behind the end, ext4
    adds one for a file in many pieces, btrfs packs. A little of it stayed in the sum for ever.
    SEMANTICS: LIMIT-3"""
    open_one = await bench.open_file(bench.make(b"g"))
    await bench.contents.write(open_one, 0, OLD)
    for number in range(3):
        node = bench.make(b"f%d" % number)
        handle = await bench.open_file(node)
        await bench.contents.write(handle, 0, NEW)
        fallocate(handle.file.descriptor, KEEP_SIZE, 0, 4 << 20)
        bench.contents.release(handle)
        spool_file = bench.archive.spool.open(node.ino, node.content, write=True)
        os.ftruncate(spool_file, len(NEW))
        fallocate(spool_file, KEEP_SIZE, 0, max(len(NEW), later))
        os.close(spool_file)
        if number == 2:
            await write_again(bench, node)
    for _ in range(3):
        await bench.step()
    assert bench.budget.used_bytes == len(OLD)
    bench.contents.release(open_one)
    await bench.drain()
    assert bench.budget.used_bytes == 0


async def write_again(bench: Workbench, node: Node) -> None:
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, OLD)
    bench.contents.release(handle)


async def test_budget_after_a_disk_that_is_full(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: LIMIT-3"""
    node = await bring_to(bench, "sealed")
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, NEW)
    used = bench.budget.used_bytes

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        patch.setattr(os, "ftruncate", full)
        with pytest.raises(SpoolFull):
            await bench.contents.write(handle, len(OLD), b"x" * 1000)
        with pytest.raises(OSError, match="No space"):
            await bench.contents.truncate(node, 10 * len(OLD), 0)
    assert bench.budget.used_bytes == used
    bench.contents.release(handle)
    await bench.drain()
    assert bench.budget.used_bytes == 0


async def test_full_spool_waits_then_refuses(tmp_path: Path) -> None:
    """SEMANTICS: LIMIT-3"""
    bench = Workbench(tmp_path, spool_max=10_000)
    await bench.write(b"a", b"a" * 9_000)
    with pytest.raises(SpoolFull):
        await bench.write(b"b", b"b" * 2_000)
    await bench.drain()
    await bench.write(b"b", b"b" * 2_000)
    await bench.drain()
    assert read_element(bench.root)[b"/b"].content == b"b" * 2_000
    assert bench.budget.used_bytes == 0


async def test_full_spool_refuses_to_bring_content_back(tmp_path: Path) -> None:
    """SEMANTICS: LIMIT-3"""
    bench = Workbench(tmp_path, spool_max=10_000)
    node = await bench.write(b"a", b"a" * 9_000)
    await bench.drain()
    await bench.write(b"b", b"b" * 2_000)
    handle = await bench.open_file(node)
    with pytest.raises(SpoolFull):
        await bench.contents.write(handle, 0, b"x")
    bench.contents.release(handle)
    assert await bench.content(node) == b"a" * 9_000
    await bench.drain()
    assert bench.budget.used_bytes == 0


async def test_budget_after_a_restart_is_what_the_spool_holds(bench: Workbench) -> None:
    await bring_to(bench, "in flight")
    await bench.write(b"g", NEW)
    await bench.write(b"f", NEW * 5)
    bench.restart()
    assert bench.budget.used_bytes == bench.spool_bytes()
    await bench.drain()
    assert bench.budget.used_bytes == 0


# ------------------------------------------------------------------------------------- fsync


@pytest.mark.parametrize("state", ["sealed", "in flight", "open"])
async def test_fsync_by_a_descriptor_that_did_not_write(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """SEMANTICS: DUR-2"""
    node = await bring_to(bench, state)
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    handle = await bench.open_file(node, os.O_RDWR if state == "open" else os.O_RDONLY)
    monkeypatch.setattr(os, "fsync", fsync)
    await bench.contents.fsync(handle)
    path = bench.archive.spool.path(node.ino, node.content)
    assert path in synced
    assert os.path.dirname(path) in synced
    bench.contents.release(handle)


async def test_content_reverts_when_its_spool_file_was_lost(bench: Workbench) -> None:
    """SEMANTICS: DUR-3"""
    node = await bring_to(bench, "archived")
    await bench.write(b"f", NEW)
    bench.archive.spool.remove(spool_name(node.ino, node.content))
    bench.restart()
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    assert found.content_state == ContentState.ARCHIVED
    assert await bench.content(found) == OLD
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == OLD


async def test_spool_file_of_no_file_is_kept_aside(bench: Workbench) -> None:
    os.close(bench.archive.spool.create(0xABC, 3))
    bench.restart()
    assert os.listdir(os.path.join(bench.archive.spool.directory, "lost")) == ["abc.3"]
    assert bench.spool_files() == {}
    assert bench.budget.used_bytes == 0


def test_spool_file_that_was_put_aside_half_or_twice(tmp_path: Path) -> None:
    """A kill between its two names leaves both; another of that name is kept as well."""
    spool = Spool(str(tmp_path))
    lost = tmp_path / "lost"
    lost.mkdir()
    os.close(spool.create(0xABC, 3))
    os.link(spool.path(0xABC, 3), lost / "abc.3")
    assert spool.put_aside("abc.3") == str(lost / "abc.3")
    assert os.listdir(lost) == ["abc.3"]
    (tmp_path / "abc.3").write_bytes(b"another")
    assert spool.put_aside("abc.3") == str(lost / "abc.3.1")
    assert (lost / "abc.3.1").read_bytes() == b"another"
    assert spool.names() == []


@pytest.mark.parametrize("state", [*STATES, "empty"])
async def test_times_stay_when_a_kill_comes_between_opening_and_the_first_write(
    bench: Workbench, state: str
) -> None:
    """Found by the kill test: the time that a program had set was lost."""
    node = await bring_to(bench, state) if state != "empty" else bench.make(b"f")
    times = AttributeChange(atime_ns=1_000_000_000_123, mtime_ns=2_000_000_000_456)
    await bench.attributes.change(node, times, ME)
    handle = await bench.open_file(node)
    await bench.contents._make_writable(handle.file, truncate=False)
    assert node.content_state == ContentState.OPEN
    bench.restart()
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    assert (found.atime_ns, found.mtime_ns) == (1_000_000_000_123, 2_000_000_000_456)
    assert found.content_state == (ContentState.EMPTY if state == "empty" else ContentState.SEALED)


async def test_read_that_waits_for_the_disk_keeps_its_file(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer has given the file other content meanwhile, and another file its descriptor.
    SEMANTICS: DATA-3"""
    node = await bring_to(bench, "in flight")
    reading = await bench.open_file(node, os.O_RDONLY)
    await bench.contents.read(reading, 0, 1)
    is_reading, may_read = threading.Event(), threading.Event()
    pread = os.pread

    def slow(descriptor: int, length: int, offset: int) -> bytes:
        is_reading.set()
        assert may_read.wait(10)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", slow)
    monkeypatch.setattr(PageReader, "read", lambda *_: None)
    number = reading.file.descriptor
    other = os.open(bench.base, os.O_RDONLY | os.O_TMPFILE | os.O_RDWR)
    os.write(other, b"wrong content" * 1000)

    async def replace() -> None:
        await trio.to_thread.run_sync(is_reading.wait, 10)
        reading.file.drop_descriptor()
        assert os.dup2(other, number) == number
        may_read.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(replace)
        assert bytes(await bench.contents.read(reading, 0, 100)) == OLD[:100]
    os.close(other)
    os.close(number)
    bench.contents.release(reading)
