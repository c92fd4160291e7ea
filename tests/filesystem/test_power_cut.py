"""Single moments at which a sync or a power cut is awkward; `tests/power` cuts the power itself."""

import json
import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from artstorefs.core.errors import ElementFull, StateFull
from artstorefs.recovery.boots import AT_REST, BOOT, boot_id, note_rest, power_was_cut
from artstorefs.recovery.start import recover
from artstorefs.state.database import CHECKPOINT_BYTES
from artstorefs.state.node import ContentState, Node
from artstorefs_daemon.mount_daemon import make_state_directory
from artstorefs_daemon.service import Service

from .workbench import Workbench


async def synced_file_that_an_element_has_an_older_content_of(bench: Workbench) -> str:
    """A file `f`: "first" on the element, "second content" synced in the spool. The spool file."""
    await bench.write(b"f", b"first")
    await bench.drain()
    node = await bench.write(b"f", b"second content")
    handle = await bench.open_file(node)
    await bench.contents.fsync(handle)
    bench.contents.release(handle)
    assert node.content_state == ContentState.SEALED
    return bench.archive.spool.path(node.ino, node.content)


def node_of_f(bench: Workbench) -> Node:
    node = bench.tree.lookup(1, b"f")
    assert node is not None
    return node


def append(path: str, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


async def test_power_cut_takes_what_was_appended_and_not_what_was_synced(
    bench: Workbench,
) -> None:
    """SEMANTICS: DUR-2. The disk has the longer spool file and not the record that it was opened
    again: that it is not as long as the record says does not make it a lost one."""
    spool_file = await synced_file_that_an_element_has_an_older_content_of(bench)
    append(spool_file, b" and more")
    bench.restart()
    node = node_of_f(bench)
    assert await bench.content(node) == b"second content and more"
    await bench.drain()
    assert await bench.content(node) == b"second content and more"


async def test_power_cut_after_a_truncate_that_was_not_synced(bench: Workbench) -> None:
    """SEMANTICS: DUR-2"""
    spool_file = await synced_file_that_an_element_has_an_older_content_of(bench)
    os.truncate(spool_file, 6)
    bench.restart()
    node = node_of_f(bench)
    assert await bench.content(node) == b"second"


async def test_power_cut_takes_what_was_written_to_a_copy_and_not_what_was_synced_before(
    bench: Workbench,
) -> None:
    """SEMANTICS: DUR-2. What is under way to an element is copied before it changes; of the change
    the disk has nothing, and the element still has what was before both. Seed 2171789156."""
    await synced_file_that_an_element_has_an_older_content_of(bench)
    await bench.send()
    node = node_of_f(bench)
    writer = await bench.open_file(node)
    await bench.contents.write(writer, len(b"second content"), b" and more")
    bench.contents.release(writer)
    os.truncate(bench.archive.spool.path(node.ino, node.content), len(b"second content"))
    bench.restart()
    node = node_of_f(bench)
    assert await bench.content(node) == b"second content"


async def test_power_cut_takes_what_was_appended_after_a_sync_of_the_whole_disk(
    bench: Workbench,
) -> None:
    """SEMANTICS: DUR-2. sync(2) does not come to us, and leaves no mark. Seed 1190927123."""
    await bench.write(b"f", b"first")
    await bench.drain()
    node = await bench.write(b"f", b"second content")
    os.sync()
    writer = await bench.open_file(node, os.O_WRONLY | os.O_APPEND)
    await bench.contents.write(writer, node.size, b" and more")
    bench.contents.release(writer)
    os.truncate(bench.archive.spool.path(node.ino, node.content), len(b"second content"))
    bench.restart()
    node = node_of_f(bench)
    assert await bench.content(node) == b"second content"


async def test_power_cut_takes_content_that_was_never_synced(bench: Workbench) -> None:
    """SEMANTICS: DUR-3. What an element has is the content again."""
    await bench.write(b"f", b"first")
    await bench.drain()
    node = await bench.write(b"f", b"second content")
    os.truncate(bench.archive.spool.path(node.ino, node.content), 0)
    bench.restart()
    node = node_of_f(bench)
    assert await bench.content(node) == b"first"


async def test_content_that_follows_a_lost_one_is_not_removed_in_its_place(
    bench: Workbench,
) -> None:
    """SEMANTICS: DUR-1. The removal of the lost one's spool file is still in the log. Seed
    2023253724, cut 28."""
    await bench.write(b"f", b"first")
    await bench.drain()
    node = await bench.write(b"f", b"second content")
    os.truncate(bench.archive.spool.path(node.ino, node.content), 0)
    bench.restart()
    node = node_of_f(bench)
    writer = await bench.open_file(node, os.O_WRONLY | os.O_TRUNC)
    await bench.contents.write(writer, 0, b"third")
    await bench.step()
    bench.contents.release(writer)
    await bench.drain()
    assert node.content_state == ContentState.ARCHIVED
    assert await bench.content(node) == b"third"


async def test_fsync_is_of_the_file_that_was_open_when_it_was_called(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor is closed, and its number used again, while the thread has not begun."""
    node = await bench.write(b"f", b"x" * 100)
    await bench.send()  # assigned: the next writer makes another version
    reader = await bench.open_file(node, os.O_RDONLY)
    await bench.contents.read(reader, 0, 10)
    wanted = os.stat(bench.archive.spool.path(node.ino, node.content)).st_ino
    replaced = threading.Event()
    synced = []
    real = os.fsync

    def late(descriptor: int) -> None:
        if not synced:
            replaced.wait(10)
            synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", late)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.contents.fsync, reader)
        await trio.testing.wait_all_tasks_blocked()
        await bench.contents.truncate(node, 0, 0)
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
        replaced.set()
    for descriptor in others:
        os.close(descriptor)
    assert synced == [wanted]
    bench.contents.release(reader)


async def test_fsync_of_one_version_says_nothing_of_the_name_of_the_next(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: DUR-2. The next version is begun while the directory is being synced."""
    node = await bench.write(b"f", b"x" * 100)
    await bench.send()
    handle = await bench.open_file(node, os.O_RDONLY)
    directories = 0
    reached, begun = threading.Event(), threading.Event()
    real = bench.archive.spool.sync_directory

    def sync_directory() -> None:
        nonlocal directories
        directories += 1
        real()
        reached.set()
        begun.wait(10)

    monkeypatch.setattr(bench.archive.spool, "sync_directory", sync_directory)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.contents.fsync, handle)
        await trio.to_thread.run_sync(reached.wait, 10)
        writer = await bench.contents.open(node, os.O_WRONLY | os.O_TRUNC, 0)
        await bench.contents.write(writer, 0, b"next")
        begun.set()
    await bench.contents.fsync(writer)
    assert directories == 2
    bench.contents.release(writer)
    bench.contents.release(handle)


def synced_directories(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Directories, and files, that are synced from now on."""
    synced: set[str] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return synced


async def test_content_brought_back_is_durable_before_it_is_recorded(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: DUR-2. The record of the copy without the copy would be a file without content,
    and what the element has was durable before."""
    node = await bench.write(b"f", b"archived")
    await bench.drain()
    handle = await bench.open_file(node)
    spool, record = bench.archive.spool, bench.archive.changes.content_opened
    synced = synced_directories(monkeypatch)
    durable: list[bool] = []

    def content_opened(node: Node, version: int, size: int) -> None:
        durable.append({spool.path(node.ino, version), spool.directory} <= synced)
        record(node, version, size)

    monkeypatch.setattr(bench.archive.changes, "content_opened", content_opened)
    await bench.contents.write(handle, 0, b"A")
    assert durable == [True]
    bench.contents.release(handle)


def test_a_new_state_directory_is_durable_with_all_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: DUR-2. What is synced in a directory whose own name is not would be nowhere."""
    synced = synced_directories(monkeypatch)
    make_state_directory(tmp_path / "a" / "b" / "state")
    assert {str(tmp_path), f"{tmp_path}/a", f"{tmp_path}/a/b"} <= synced


async def test_the_names_in_a_state_directory_are_durable_when_it_is_open(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: DUR-2. SQLite makes its log anew at a start, and would sync its name only if it
    synced the log itself."""
    synced = synced_directories(monkeypatch)
    bench.restart()
    assert str(bench.base / "state") in synced
    recover(bench.archive)


async def test_a_checkpoint_that_fails_is_tried_again(
    bench: Workbench, clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, or one that errs, once took the whole mount with it."""
    tries = []

    def checkpoint() -> None:
        tries.append(None)
        raise StateFull("state.db", "database or disk is full")

    monkeypatch.setattr(bench.archive.database, "log_bytes", lambda: CHECKPOINT_BYTES)
    monkeypatch.setattr(bench.archive.database, "checkpoint", checkpoint)
    service = Service(bench.archive, "/nowhere", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service._keep_state)
        clock.autojump_threshold = 0.01
        for _ in range(500):  # the clock jumps on while a thread of a busy machine has not begun
            await trio.sleep(1)
            if len(tries) >= 3:
                break
        nursery.cancel_scope.cancel()
    assert len(tries) >= 3


def quarantined(bench: Workbench) -> dict[str, bytes]:
    """What lies in the element's quarantine, by what it was called: the user's name at least."""
    folder = bench.root / ".artstorefs" / "quarantine"
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name.partition("_")[0] + path.suffix: path.read_bytes() for path in found}


async def overwritten(bench: Workbench) -> Node:
    """A file `f`: "first" on the element, "second" in the spool, written anew and not synced."""
    await bench.write(b"f", b"first")
    await bench.drain()
    return await bench.write(b"f", b"second")


async def test_older_content_is_kept_when_a_power_cut_may_have_taken_a_part_of_the_new(
    bench: Workbench,
) -> None:
    """SEMANTICS: DUR-3, ELEM-18. Of "second" three bytes came to the disk, and nobody can tell."""
    node = await overwritten(bench)
    os.truncate(bench.archive.spool.path(node.ino, node.content), 3)
    bench.restart(power_cut=True)
    assert await bench.content(node_of_f(bench)) == b"sec"
    bench.restart()  # a kill, before anything is carried
    await bench.drain()
    bench.restart()
    await bench.drain()
    assert await bench.content(node_of_f(bench)) == b"sec"
    kept = quarantined(bench)
    report = json.loads(kept.pop("f.json"))
    assert report["class"] == "earlier-content"
    assert "power cut" in report["why"]
    assert sorted(kept) == ["f.kept"]
    assert len(list(bench.root.glob("2*/*/*/*/*"))) == 2  # f and its attr.json, nothing of before


async def test_older_content_is_kept_with_its_attr_json(bench: Workbench) -> None:
    """SEMANTICS: ELEM-18"""
    await overwritten(bench)
    (before,) = (path for path in bench.root.glob("2*/*/*/*/f_*") if path.suffix != ".json")
    document = before.with_name(before.name + ".attr.json").read_bytes()
    bench.restart(power_cut=True)
    await bench.drain()
    folder = bench.root / ".artstorefs" / "quarantine"
    name = before.relative_to(bench.root)
    (object_kept,) = folder.glob(f"*/{name}.kept")
    (document_kept,) = folder.glob(f"*/{name}.attr.json.kept")
    assert object_kept.read_bytes() == b"first"
    assert document_kept.read_bytes() == document
    assert not before.exists()


async def test_older_content_is_not_kept_after_a_kill_nor_of_what_was_synced(
    bench: Workbench,
) -> None:
    """SEMANTICS: ELEM-18. The kernel has what was written; and the new content is whole."""
    await overwritten(bench)
    bench.restart()
    await bench.drain()
    await synced_file_that_an_element_has_an_older_content_of(bench)
    bench.restart(power_cut=True)
    await bench.drain()
    await overwritten(bench)
    await bench.sum_waiting()
    bench.restart(power_cut=True)
    await bench.drain()
    assert quarantined(bench) == {}


async def test_older_content_of_a_file_that_is_deleted_after_the_power_cut_goes_with_it(
    bench: Workbench,
) -> None:
    """SEMANTICS: ELEM-18. Who deletes it has seen what there is."""
    await overwritten(bench)
    bench.restart(power_cut=True)
    bench.unlink(b"f")
    await bench.drain()
    bench.restart(power_cut=True)
    assert quarantined(bench) == {}
    rows = bench.archive.database.execute("SELECT key FROM settings").fetchall()
    assert not [key for (key,) in rows if key.startswith("earlier")]


async def test_clean_end_brings_what_waits_to_the_disk(bench: Workbench) -> None:
    """SEMANTICS: ELEM-18. As umount(8) of any filesystem does; so a power cut takes nothing."""
    node = await overwritten(bench)
    note_rest(bench.archive)
    assert not power_was_cut(bench.archive)
    assert bench.archive.database.setting(BOOT) == AT_REST
    bench.restart()
    assert bench.archive.database.setting(BOOT) == boot_id()
    await bench.drain()
    assert await bench.content(node_of_f(bench)) == b"second"
    assert node.ino
    assert quarantined(bench) == {}


async def test_kept_content_is_kept_once_however_often_its_removal_is_cut_off(
    bench: Workbench,
) -> None:
    """SEMANTICS: ELEM-18"""
    await overwritten(bench)
    bench.restart(power_cut=True)
    await bench.step()  # stored; the removal is logged
    await bench.send()
    bench.carry()  # carried out, and the answer is lost with the daemon
    bench.sent.clear()
    bench.restart()
    await bench.drain()
    folder = bench.root / ".artstorefs" / "quarantine"
    assert len(list(folder.rglob("f_*.kept"))) == 2


async def test_element_that_cannot_keep_it_keeps_the_older_content_where_it_is(
    bench: Workbench,
) -> None:
    """SEMANTICS: ELEM-18. Nothing is removed before it is kept."""
    await overwritten(bench)
    bench.restart(power_cut=True)
    is_full = True

    def refuse(operation: str, key: str) -> None:
        if operation == "put" and "quarantine" in key and is_full:
            raise ElementFull("main", key, "has no room")

    bench.before = refuse
    for _ in range(3):
        await bench.step()
    assert [path for path in bench.root.glob("2*/*/*/*/f_*") if path.read_bytes() == b"first"]
    assert bench.link.schedule.pending == 1
    is_full = False
    bench.link.schedule.try_again_now()
    await bench.drain()
    assert quarantined(bench)


async def test_older_content_of_a_file_with_the_longest_name_is_kept(bench: Workbench) -> None:
    """SEMANTICS: ELEM-18. Its object's name leaves room for that of a report, just."""
    name = b"n" * 255
    await bench.write(name, b"first")
    await bench.drain()
    await bench.write(name, b"second")
    bench.restart(power_cut=True)
    await bench.drain()
    folder = bench.root / ".artstorefs" / "quarantine"
    assert b"first" in [path.read_bytes() for path in folder.rglob("*.kept")]
    reports = [json.loads(path.read_text()) for path in folder.rglob("*.report.json")]
    assert len({report["original_key"] for report in reports}) == 2
