"""The rows of the list of lessons that concern crashes and order, each a test with its number.

Row 3 and 13 are with fsck, 12 and 19 with the rebuild, 5 with block lists, 4, 6, 8 and 9 with
limits and failing elements. Kills at every step are in `test_every_step.py` and `test_every_start`.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from artstorefs.core.errors import ElementUnavailable
from artstorefs.state.database import connect_read_only
from artstorefs.state.index import ROOT_INO

from ..filesystem.element_tree import read_element
from ..filesystem.workbench import DIRECTORY, Workbench
from ..harness import MountedArchive
from ..starter import is_alive


@pytest.fixture
def clock() -> MockClock:
    return MockClock()


@pytest.fixture
async def workbench(tmp_path: Path, clock: MockClock) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[MountedArchive]:
    made = MountedArchive(tmp_path, settings="settle_s = 3600")
    try:
        yield made.start()
    finally:
        made.clean_up()


@pytest.mark.parametrize("when", ["before it is carried", "after it is carried", "answer lost"])
async def test_lesson_01_saved_visible_then_gone_a_rename_races_the_upload(
    workbench: Workbench, when: str
) -> None:
    """SEMANTICS: NAME-1, ELEM-2"""
    await workbench.write(b"report", b"first")
    await workbench.send()
    answer = None if when == "before it is carried" else workbench.carry()
    workbench.rename(b"report", b"report.old")
    await workbench.write(b"report", b"second")
    if when == "answer lost":
        workbench.restart()
    else:
        workbench.answer(answer or workbench.carry())
    await workbench.drain()
    tree = read_element(workbench.root)
    assert {path: tree[path].content for path in tree if path != b"/"} == {
        b"/report": b"second",
        b"/report.old": b"first",
    }


@pytest.mark.slow
def test_lesson_02_neither_unmount_nor_kill_drops_unsent_writes(archive: MountedArchive) -> None:
    """An unmount carries what waits; after a kill any next mount does, a read-only one as well.
    SEMANTICS: DUR-1"""
    (archive.mount / "unmounted").write_bytes(b"nothing has been carried yet")
    assert archive.objects() == []
    archive.stop()
    assert read_element(archive.element)[b"/unmounted"].content == b"nothing has been carried yet"
    archive.start()
    (archive.mount / "killed").write_bytes(b"nor this")
    archive.kill()
    assert b"/killed" not in read_element(archive.element)
    archive.start("-o", "ro")
    archive.flush()
    assert read_element(archive.element)[b"/killed"].content == b"nor this"


@pytest.mark.parametrize("operation", ["put", "barrier", "replace"])
async def test_lesson_07_a_failed_overwrite_keeps_the_old_content(
    workbench: Workbench, clock: MockClock, operation: str
) -> None:
    """SEMANTICS: ELEM-2"""
    node = await workbench.write(b"f", b"old content")
    await workbench.drain()
    await workbench.write(b"f", b"new")

    def before(name: str, key: str) -> None:
        if name == operation:
            raise ElementUnavailable("main", key, "for a while")

    workbench.before = before
    for _ in range(3):
        await workbench.step()
        (sidecar,) = workbench.root.rglob("*.attr.json")
        stored = sidecar.with_name(sidecar.name.removesuffix(".attr.json"))
        assert stored.read_bytes() == b"old content"
        assert await workbench.content(node) == b"new"
        workbench.restart()
        found = workbench.tree.lookup(ROOT_INO, b"f")
        assert found is not None
        node = found
        clock.jump(70)
    workbench.before = None
    await workbench.drain()
    assert read_element(workbench.root)[b"/f"].content == b"new"


@pytest.mark.slow
def test_lesson_10_and_11_after_a_crash_one_mount_is_all_it_takes(archive: MountedArchive) -> None:
    """No unmount by hand, no repair, and no other answer than from a mount that is there.
    SEMANTICS: MOUNT-1"""
    (archive.mount / "f").write_bytes(b"content")
    archive.kill()
    assert not is_alive(archive.mount)
    archive.start()
    assert os.listdir(archive.mount) == ["f"]
    assert (archive.mount / "f").read_bytes() == b"content"
    mounts = Path("/proc/self/mountinfo").read_text()
    assert mounts.count(f" {archive.mount} ") == 1
    assert " ERROR " not in archive.log()


async def test_lesson_17_a_rename_moves_no_object(workbench: Workbench) -> None:
    """A directory of many files: its node record and those of its parents are all that is written.
    SEMANTICS: NAME-1"""
    directory = workbench.make(b"d", mode=DIRECTORY)
    for number in range(50):
        await workbench.write(b"%d" % number, b"content", directory.ino)
    await workbench.drain()
    keys, calls = workbench.keys(), Counter[str]()

    def before(name: str, key: str) -> None:
        calls[name] += 1

    workbench.before = before
    workbench.rename(b"d", b"renamed")
    assert calls == {}
    await workbench.drain()
    assert workbench.keys() == keys
    assert (calls["put"], calls["remove"], calls["replace"]) == (0, 0, 2)
    assert b"/renamed/7" in read_element(workbench.root)


async def test_lesson_20_a_locked_database_reaches_no_caller(workbench: Workbench) -> None:
    """The transfer process reads for long, a checkpoint runs all the time, and changes go on."""
    database = workbench.archive.database
    ended = threading.Event()
    errors: list[Exception] = []

    def disturb() -> None:
        reader = connect_read_only(database.path)
        try:
            while not ended.is_set():
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM nodes").fetchone()
                database.checkpoint()
                time.sleep(0.005)
                reader.execute("COMMIT")
        except Exception as exc:
            errors.append(exc)
        finally:
            reader.close()

    threads = [threading.Thread(target=disturb) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(300):
            await workbench.write(b"%d" % number, b"content")
    finally:
        ended.set()
        for thread in threads:
            thread.join(30)
    assert errors == []
    await workbench.drain()
    assert len(read_element(workbench.root)) == 301


@pytest.mark.slow
def test_lesson_22_a_second_daemon_is_refused_and_says_who_holds_it(
    archive: MountedArchive,
) -> None:
    """SEMANTICS: MOUNT-2"""
    other = archive.base / "other"
    other.mkdir()
    done = archive.run("mount", str(archive.toml), str(other), check=False)
    assert done.returncode != 0
    assert f"in use by process {archive.pid}" in done.stderr
    assert not os.path.ismount(other)
    (archive.mount / "f").write_text("still works")
