"""A bit that flips in a spool file, after the content has been summed: it is found by whoever reads
the file, and becomes the content of nothing: not of an element, not of the next version."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ArtStoreFSError, errno_of
from artstorefs.elements.hashing import BlockHasher
from artstorefs.filesystem.errors import ContentDamaged, NotAllocatable
from artstorefs.recovery.fsck import Options, check
from artstorefs.recovery.fsck_deep import Watch
from artstorefs.recovery.fsck_findings import FindingClass
from artstorefs.state.index import ROOT_INO
from artstorefs.state.lock import StateLock
from artstorefs.state.node import ContentState, Node
from artstorefs.transfer.documents import Account

from .element_tree import read_element
from .large_files import (
    BLOCKS,
    DATA,
    REQUEST,
    SIZE,
    blocks_that_failed,
    error_of,
    flip,
    objects_on,
    read_parts,
    write_waiting,
)
from .workbench import Workbench

SIZES = [1, 4096, (128 << 10) + 1, BLOCK_BYTES, BLOCK_BYTES + 1, SIZE]


@pytest.fixture
async def bench(bench: Workbench) -> Workbench:
    """These tests do damage, and leave it."""
    bench.is_sound = False
    return bench


def spool_path(bench: Workbench, node: Node) -> Path:
    return Path(bench.archive.spool.path(node.ino, node.content))


async def summed(bench: Workbench, data: bytes) -> tuple[Node, Path]:
    """A file that waits, with its sum, and its spool file."""
    node = await write_waiting(bench, data)
    await bench.sum_waiting()
    assert bench.archive.index.spool_sum(node) is not None
    return node, spool_path(bench, node)


def rows(bench: Workbench) -> int:
    """As another process sees it."""
    with closing(sqlite3.connect(bench.archive.database.path)) as connection:
        return int(connection.execute("SELECT count(*) FROM spool_sums").fetchone()[0])


# ------------------------------------------------------------------------------------------ reads


@pytest.mark.parametrize("size", SIZES)
async def test_right_content_is_read(bench: Workbench, size: int) -> None:
    node, _ = await summed(bench, DATA[:size])
    assert blocks_that_failed(await read_parts(bench, node), DATA[:size]) == set()
    bench.restart()
    node = bench.tree.lookup(ROOT_INO, b"f") or node
    assert blocks_that_failed(await read_parts(bench, node), DATA[:size]) == set()
    with pytest.raises(ArtStoreFSError):
        error_of(bench, node)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start", [False, True])
async def test_flip_is_never_read(
    bench: Workbench, size: int, start: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The blocks around it are. SEMANTICS: DATA-8, XATTR-3"""
    node, path = await summed(bench, DATA[:size])
    flip(path, size // 2)
    if start:
        bench.restart()
        node = bench.tree.lookup(ROOT_INO, b"f") or node
    block, count = size // 2 // BLOCK_BYTES, -(-size // BLOCK_BYTES)
    assert blocks_that_failed(await read_parts(bench, node), DATA[:size]) == {block}
    expected = f"spool file {path}: block {block + 1} of {count}: does not have its SHA-256"
    assert error_of(bench, node) == expected
    assert sum(expected in record.getMessage() for record in caplog.records) == 1
    flip(path, size // 2)
    assert blocks_that_failed(await read_parts(bench, node), DATA[:size]) == set()


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, SIZE - 1, SIZE + 1])
async def test_spool_file_of_another_size_is_never_read(bench: Workbench, size: int) -> None:
    """SEMANTICS: DATA-8"""
    node, path = await summed(bench, DATA)
    os.truncate(path, size)
    assert blocks_that_failed(await read_parts(bench, node), DATA) == set(range(BLOCKS))
    assert error_of(bench, node) == f"spool file {path}: has {size} bytes, {SIZE} were written"


async def test_reader_from_before_the_sum_reads_what_was_summed(bench: Workbench) -> None:
    """SEMANTICS: DATA-8"""
    node = await write_waiting(bench, DATA)
    handle = await bench.open_file(node, os.O_RDONLY)
    assert await bench.contents.read(handle, 0, REQUEST) == DATA[:REQUEST]
    await bench.sum_waiting()
    flip(spool_path(bench, node), BLOCK_BYTES + 5)
    assert await bench.contents.read(handle, 0, REQUEST) == DATA[:REQUEST]
    with pytest.raises(ContentDamaged):
        await bench.contents.read(handle, BLOCK_BYTES, 4096)
    await bench.contents.fsync(handle)
    bench.contents.release(handle)


async def test_reader_goes_on_when_the_content_is_carried(bench: Workbench) -> None:
    """SEMANTICS: DATA-1"""
    node, path = await summed(bench, DATA)
    handle = await bench.open_file(node, os.O_RDONLY)
    assert await bench.contents.read(handle, 0, 4096) == DATA[:4096]
    await bench.drain()
    assert not path.exists()
    for start in (0, BLOCK_BYTES, 2 * BLOCK_BYTES):
        assert await bench.contents.read(handle, start, 4096) == DATA[start : start + 4096]
    bench.contents.release(handle)


async def test_sum_that_is_damaged_itself_serves_nothing(bench: Workbench) -> None:
    """SEMANTICS: DATA-8"""
    node, _ = await summed(bench, DATA)
    for change in ("blocks = NULL", "blocks = x'00'", f"size = {SIZE - 1}"):
        bench.archive.database.execute(f"UPDATE spool_sums SET {change}")
        assert blocks_that_failed(await read_parts(bench, node), DATA) == set(range(BLOCKS))
        assert [finding.kind for finding in bench.fsck().left] == [FindingClass.SPOOL]
        bench.archive.database.execute("DELETE FROM spool_sums")
        await bench.sum_waiting()


# --------------------------------------------------------------------------------------- carrying


@pytest.mark.parametrize("size", SIZES)
async def test_flip_is_carried_to_no_element(bench: Workbench, size: int) -> None:
    """Kept as refused, and said wherever one looks. SEMANTICS: DATA-8, ELEM-3"""
    node, path = await summed(bench, DATA[:size])
    flip(path, size - 1)
    for _ in range(2):
        await bench.step()
        (failure,) = bench.archive.log.failures()
        assert failure.status == "failed"
        assert f"spool file {path} is damaged" in failure.error
        assert "\n" not in failure.error
        assert error_of(bench, node) == failure.error
        assert objects_on(bench) == []
        bench.link.schedule.try_again_now()
    flip(path, size - 1)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == DATA[:size]
    assert bench.archive.log.failures() == []


async def test_flip_leaves_the_content_that_the_element_has(bench: Workbench) -> None:
    """SEMANTICS: ELEM-2"""
    await bench.write(b"f", b"the content before")
    await bench.drain()
    node = await bench.write(b"f", b"the content after")
    await bench.sum_waiting()
    flip(spool_path(bench, node), 3)
    await bench.step()
    assert bench.archive.log.failure(node.ino) is not None
    assert read_element(bench.root)[b"/f"].content == b"the content before"


# -------------------------------------------------------------------------------------- writing on


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("under_way", [False, True])
async def test_flip_never_becomes_new_content(bench: Workbench, size: int, under_way: bool) -> None:
    """Not in place, and not by the copy of what is on its way. SEMANTICS: DATA-7"""
    node, path = await summed(bench, DATA[:size])
    if under_way:
        await bench.send()
    flip(path, size // 2)
    before = path.read_bytes()
    handle = await bench.open_file(node)
    for _ in range(2):
        with pytest.raises(ContentDamaged) as refused:
            await bench.contents.write(handle, 0, b"x")
        assert errno_of(refused.value) == errno.EIO
    with pytest.raises(ContentDamaged):
        await bench.contents.truncate(node, size + 5, 0)
    bench.contents.release(handle)
    assert (node.content_state, node.content, node.size) == (ContentState.SEALED, 1, size)
    assert bench.spool_files() == {path.name: before}
    assert rows(bench) == 1
    assert f"spool file {path}" in error_of(bench, node)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("under_way", [False, True])
async def test_right_content_is_written_on(bench: Workbench, size: int, under_way: bool) -> None:
    """In place, which takes no room, unless it is on its way. SEMANTICS: DATA-4, DATA-7"""
    node, path = await summed(bench, DATA[:size])
    if under_way:
        await bench.send()
    handle = await bench.open_file(node)
    await bench.contents.write(handle, size, b"and more")
    bench.contents.release(handle)
    assert (spool_path(bench, node) == path) is not under_way
    assert rows(bench) == 0
    assert spool_path(bench, node).read_bytes() == DATA[:size] + b"and more"
    await bench.sum_waiting()
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == DATA[:size] + b"and more"
    assert bench.budget.used_bytes == 0


async def test_row_is_durably_gone_before_anything_is_written(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut that brought it back would have what was written taken for damage.
    SEMANTICS: DUR-2"""
    node, path = await summed(bench, b"content")
    seen: list[tuple[int, bytes]] = []
    sync = bench.archive.database.sync_log

    def synced() -> None:
        sync()
        seen.append((rows(bench), path.read_bytes()))

    monkeypatch.setattr(bench.archive.database, "sync_log", synced)
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, b"CON")
    bench.contents.release(handle)
    assert seen == [(0, b"content")]
    assert path.read_bytes() == b"CONtent"


async def test_row_stays_when_the_log_cannot_be_synced(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: DUR-8"""
    node, path = await summed(bench, b"content")

    def failing() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    handle = await bench.open_file(node)
    with monkeypatch.context() as patch:
        patch.setattr(bench.archive.database, "sync_log", failing)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            await bench.contents.write(handle, 0, b"CON")
    assert (rows(bench), path.read_bytes()) == (1, b"content")
    await bench.contents.write(handle, 0, b"CON")
    bench.contents.release(handle)
    assert (rows(bench), path.read_bytes()) == (0, b"CONtent")


async def test_damaged_file_can_be_cut_off_and_written_anew(bench: Workbench) -> None:
    """SEMANTICS: DATA-5, LIMIT-3"""
    node, path = await summed(bench, DATA)
    flip(path, 0)
    await read_parts(bench, node)
    await bench.step()
    assert "damaged" in error_of(bench, node)
    await bench.write(b"f", b"new content")
    assert await bench.content(node) == b"new content"
    bench.link.schedule.try_again_now()
    await bench.drain()
    with pytest.raises(ArtStoreFSError):
        error_of(bench, node)
    assert read_element(bench.root)[b"/f"].content == b"new content"
    assert bench.spool_files() == {}
    assert bench.budget.used_bytes == 0


async def test_cutting_off_is_counted_once_while_others_read(bench: Workbench) -> None:
    """The spool file that it leaves is given back by its removal, and by nothing else."""
    node, _ = await summed(bench, DATA)
    reader = await bench.open_file(node, os.O_RDONLY)
    writer = await bench.open_file(node)
    await bench.contents.write(writer, SIZE, b"x")
    bench.contents.release(writer)
    await bench.sum_waiting()
    await bench.write(b"f", DATA[:REQUEST])
    assert bench.budget.used_bytes == bench.spool_bytes()
    bench.contents.release(reader)
    await bench.drain()
    assert bench.budget.used_bytes == 0


async def test_summed_content_is_not_allocated_in(bench: Workbench) -> None:
    """It would have to be verified first. SEMANTICS: MOUNT-4"""
    node, path = await summed(bench, b"content")
    handle = await bench.open_file(node)
    with pytest.raises(NotAllocatable):
        bench.contents.allocate(handle, 0, 0, 100)
    bench.contents.release(handle)
    assert path.read_bytes() == b"content"


# ------------------------------------------------------------------------------------------- fsck


@pytest.mark.parametrize("size", SIZES)
async def test_flip_is_found_by_a_deep_check(bench: Workbench, size: int) -> None:
    """SEMANTICS: FSCK-4, FSCK-5"""
    node, path = await summed(bench, DATA[:size])
    assert bench.fsck(deep=True).findings == []
    flip(path, size // 2)
    assert bench.fsck().findings == []
    (finding,) = bench.fsck(deep=True).left
    assert (finding.kind, finding.key) == (FindingClass.SPOOL_HASH, f"spool/{path.name}")
    assert (finding.path, finding.file_id) == ("/f", node.file_id)
    assert "SHA-256" in finding.detail
    bench.close()
    before = path.read_bytes()
    assert [f.repaired for f in bench.fsck(deep=True, repair=True).findings] == [
        "marked as damaged"
    ]
    assert path.read_bytes() == before
    bench.open()
    node = bench.tree.lookup(ROOT_INO, b"f") or node
    assert error_of(bench, node).startswith(f"spool/{path.name} has SHA-256")
    flip(path, size // 2)
    bench.close()
    assert bench.fsck(deep=True, repair=True).findings == []
    bench.open()
    with pytest.raises(ArtStoreFSError):
        error_of(bench, bench.tree.lookup(ROOT_INO, b"f") or node)


async def test_wrong_size_is_found_by_any_check_and_once(bench: Workbench) -> None:
    _, path = await summed(bench, b"content")
    os.truncate(path, 6)
    for deep in (False, True):
        assert [finding.kind for finding in bench.fsck(deep=deep).left] == [FindingClass.SPOOL]
    path.unlink()
    for deep in (False, True):
        assert [finding.kind for finding in bench.fsck(deep=deep).left] == [FindingClass.SPOOL]


async def test_spool_file_that_cannot_be_read_is_no_finding(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: FSCK-2"""
    _, path = await summed(bench, b"content")

    def unreadable(hasher: BlockHasher, descriptor: int, buffer: bytearray) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(BlockHasher, "add", unreadable)
    report = bench.fsck(deep=True)
    assert report.findings == []
    assert report.incomplete == {"spool": f"spool/{path.name}: {os.strerror(errno.EIO)}"}


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
async def test_deep_check_of_a_mounted_archive(bench: Workbench, damage: str) -> None:
    """SEMANTICS: FSCK-1"""
    _, path = await summed(bench, b"content")
    lock = StateLock(str(bench.base / "state"), "test")
    lock.acquire()
    try:
        assert bench.fsck(deep=True).findings == []
        if damage == "flip":
            flip(path, 2)
        elif damage == "cut":
            os.truncate(path, 6)
        else:
            path.unlink()
        report = bench.fsck(deep=True)
    finally:
        lock.release()
    assert report.mounted
    assert [finding.kind for finding in report.left] == [FindingClass.SPOOL_HASH]


async def test_what_changes_while_it_is_checked_is_no_finding(bench: Workbench) -> None:
    """Written on in place by a program, after the check has taken its image of the index.
    SEMANTICS: FSCK-1"""
    node, path = await summed(bench, b"content")
    lock = StateLock(str(bench.base / "state"), "test")
    lock.acquire()

    def write(objects: int, size: int) -> Watch:
        assert (objects, size) == (1, 7)
        bench.archive.changes.sum_dropped(node)
        flip(path, 2)
        return lambda done, read: None

    try:
        report = check(
            bench.configuration, lambda uid: Account(f"user{uid}", ""), Options(deep=True), write
        )
    finally:
        lock.release()
    assert (report.mounted, report.left) == (True, [])
