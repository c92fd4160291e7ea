"""How a check goes about it: errors of reading, being cut off, its rate, a writer meanwhile."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import trio

from artstorefs.core.errors import ElementUnavailable
from artstorefs.core.xattr_values import value_to_bytes
from artstorefs.elements.interface import ObjectStat
from artstorefs.elements.local import LocalElement
from artstorefs.recovery import fsck_deep
from artstorefs.recovery.fsck import Options, RepairWhileMounted, check
from artstorefs.recovery.fsck_findings import FindingClass, Report
from artstorefs.recovery.fsck_progress import FILE_NAME
from artstorefs.state.index import ROOT_INO
from artstorefs.state.lock import StateLock
from artstorefs.state.write_ahead import log_problem
from artstorefs.transfer.documents import Account

from .element_tree import read_element
from .workbench import DIRECTORY, ME, Workbench


async def fill(bench: Workbench, files: int = 6) -> None:
    directory = bench.make(b"d", mode=DIRECTORY)
    for number in range(files):
        node = await bench.write(b"f%d" % number, b"content %d" % number, directory.ino)
    bench.xattrs.set(node, b"user.k", b"5", 0, ME)
    bench.tree.link(node.ino, ROOT_INO, b"link", ME)
    bench.tree.symlink(ROOT_INO, b"s", b"d/f1", ME)
    bench.make(b"empty")
    await bench.drain()


# ----------------------------------------------------------------------- errors are no answers


def unreadable(*arguments: Any) -> Any:
    raise ElementUnavailable("main", "some/key", "input/output error")


def cut_off_list(self: LocalElement, prefix: str = "") -> Iterator[ObjectStat]:
    """A listing that shows a part and then fails, as a disk that goes away does."""
    real = REAL_LIST(self, prefix)
    for _ in range(3):
        yield next(real)
    raise ElementUnavailable("main", "", "input/output error")


REAL_LIST = LocalElement.list


@pytest.mark.parametrize("call", ["list", "read", "leftovers", "open_read"])
async def test_lesson_03_an_error_of_reading_is_no_answer(
    bench: Workbench, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LESSONS 3: a listing error once made live objects look like garbage. Nothing is concluded
    from what was not seen, and nothing of it is repaired. SEMANTICS: FSCK-2"""
    await fill(bench)
    bench.close()
    before = {key: (bench.root / key).read_bytes() for key in [*bench.keys()]}
    monkeypatch.setattr(LocalElement, call, cut_off_list if call == "list" else unreadable)
    report = bench.fsck(deep=True, repair=True)
    monkeypatch.undo()
    assert "input/output error" in report.incomplete["main"]
    assert report.findings == []
    assert {key: (bench.root / key).read_bytes() for key in [*bench.keys()]} == before
    assert bench.fsck(deep=True).findings == []
    bench.open()


async def test_element_that_is_away_loses_nothing(bench: Workbench) -> None:
    await fill(bench)
    bench.close()
    away = bench.base / "away"
    bench.root.rename(away)
    for there in (False, True):
        if there:
            bench.root.mkdir()  # the empty mount point of a disk
        report = bench.fsck(deep=True, repair=True)
        assert list(report.incomplete) == ["main"]
        assert report.findings == []
    bench.root.rmdir()
    away.rename(bench.root)
    assert bench.fsck(deep=True).findings == []
    bench.open()


async def test_disk_error_in_an_object_ends_the_pass(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(bench)
    monkeypatch.setattr(LocalElement, "open_read", lambda self, key: BrokenStream())
    report = bench.fsck(deep=True)
    assert "Input/output error" in report.incomplete["main"]
    assert report.findings == []


class BrokenStream:
    def __enter__(self) -> "BrokenStream":
        return self

    def __exit__(self, *exc_info: object) -> None: ...

    def read(self, size: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


# ------------------------------------------------------------------- readable without the tool


async def test_lesson_13_readable_without_the_tool(bench: Workbench, tmp_path: Path) -> None:
    """LESSONS 13: a plain copy of the element is ordinary files with readable names, and JSON says
    the rest; a quarantine in it does not get in the way."""
    await fill(bench)
    stray = next(path for path in bench.root.glob("2*/**/f1_*") if path.suffix != ".json")
    bench.close()
    stray.with_name(stray.name + ".attr.json").rename(tmp_path / "aside")
    (stray.with_name("x_root_20250101T000000_0f8fad5b-d9cb-469f-a165-70867728950e")).write_text("?")
    assert bench.fsck(repair=True).left == []
    bench.open()
    await bench.drain()
    copy = tmp_path / "copy"
    shutil.copytree(bench.root, copy)
    tree = read_element(copy)
    assert [tree[b"/d/f%d" % n].content for n in range(6)] == [b"content %d" % n for n in range(6)]
    assert tree[b"/link"] is tree[b"/d/f5"]
    assert tree[b"/s"].target == b"d/f1"
    assert stat.S_ISREG(tree[b"/empty"].mode)
    assert value_to_bytes(tree[b"/link"].custom["k"]) == b"5"
    names = {path.name.partition("_")[0] for path in copy.glob("2*/**/*") if path.is_file()}
    assert names == {f"f{number}" for number in range(6)}


# --------------------------------------------------------------------------- cut off, and rate


class CutOff(Exception):
    """Ctrl-C, a power cut."""


def deep(bench: Workbench, watch: Callable[[int, int], None], **options: Any) -> Report:
    return check(
        bench.configuration,
        lambda uid: Account(f"user{uid}", ""),
        Options(deep=True, **options),
        lambda objects, size: watch,
    )


async def test_deep_goes_on_where_it_was_cut_off(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(bench)
    opened: list[str] = []
    real = LocalElement.open_read

    def counted(self: LocalElement, key: str) -> BinaryIO:
        opened.append(key)
        return real(self, key)

    monkeypatch.setattr(LocalElement, "open_read", counted)
    first = sorted(path for path in bench.root.glob("2*/**/f*") if path.suffix != ".json")[0]
    right = first.read_bytes()
    first.write_bytes(right.upper())
    done = 0

    def watch(objects: int, size: int) -> None:
        nonlocal done
        done += objects
        if done == 3:
            raise CutOff

    with pytest.raises(CutOff):
        deep(bench, watch)
    state = bench.base / "state" / FILE_NAME
    assert json.loads(state.read_bytes())["objects"] == 3
    opened.clear()
    report = deep(bench, lambda objects, size: None)
    assert len(opened) == 4, "three that were not read yet, and the one that was bad"
    assert [finding.kind for finding in report.left] == [FindingClass.WRONG_HASH]
    assert not state.exists()
    first.write_bytes(right)
    opened.clear()
    assert deep(bench, lambda objects, size: None).findings == []
    assert len(opened) == 6
    done = 0
    with pytest.raises(CutOff):
        deep(bench, watch)
    opened.clear()
    report = deep(bench, lambda objects, size: None, restart=True)
    assert (len(opened), report.hashed_objects) == (6, 6)


def test_progress_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    for text in ("", "[]", '{"archive_id": "a"}', '{"archive_id": "b"}'):
        (tmp_path / FILE_NAME).write_text(text)
        progress = fsck_deep.Progress.load(tmp_path, "a")
        assert not progress.is_done("main", "key")


def test_rate_is_kept_over_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = 100.0
    monkeypatch.setattr(fsck_deep.time, "monotonic", lambda: now)
    monkeypatch.setattr(fsck_deep.time, "sleep", slept.append)
    throttle = fsck_deep.Throttle(1000)
    for _ in range(3):
        throttle.take(500)
    assert slept == [0.5, 1.0, 1.5]
    now = 200.0
    throttle.take(500)
    assert slept[-1] == 0.5, "what was not used is not saved up"
    fsck_deep.Throttle(None).take(1 << 40)
    assert len(slept) == 4


# ------------------------------------------------------------------------ while it is mounted


@pytest.fixture
def mounted(bench: Workbench) -> Iterator[Workbench]:
    """As if a daemon had it: the lock is taken."""
    lock = StateLock(str(bench.base / "state"), "test")
    lock.acquire()
    yield bench
    lock.release()


async def test_repair_of_a_mounted_archive_is_refused(mounted: Workbench) -> None:
    """SEMANTICS: FSCK-1"""
    with pytest.raises(RepairWhileMounted, match="artstorefs umount test"):
        mounted.fsck(repair=True)


async def test_damage_is_found_while_mounted(mounted: Workbench) -> None:
    mounted.is_sound = False
    await fill(mounted)
    assert mounted.fsck(deep=True).findings == []
    paths = sorted(path for path in mounted.root.glob("2*/**/f*") if path.suffix != ".json")
    paths[0].write_bytes(b"CONTENT 0")
    paths[1].with_name(paths[1].name + ".attr.json").unlink()
    mounted.archive.database.execute(
        "UPDATE nodes SET uid = 5, sum = NULL WHERE size = 9 AND nlink = 2"
    )
    report = mounted.fsck(deep=True)
    assert [finding.kind for finding in report.left] == [
        *(FindingClass.OBJECT_WITHOUT_SIDECAR, FindingClass.WRONG_HASH),
        FindingClass.INDEX_DRIFT,
    ]
    assert report.unsettled == 0


async def test_change_between_index_and_element_is_no_finding(
    mounted: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pass meets an element that is ahead of its image of the index, and another file too."""
    await fill(mounted)
    names = iter(range(1000))
    real = REAL_LIST

    def listed(self: LocalElement, prefix: str = "") -> Iterator[ObjectStat]:
        number = next(names)
        mounted.archive.database.execute(
            "UPDATE nodes SET revision = revision + 1, sum = NULL WHERE nlink = 2 AND size = 9"
        )
        path = mounted.root / f"2025/01/01/0{number % 10}"
        path.mkdir(parents=True, exist_ok=True)
        name = f"x_root_20250101T000000_0f8fad5b-d9cb-469f-a165-{number:012d}"
        (path / name).write_text("being carried")
        try:
            yield from real(self, prefix)
        finally:
            (path / name).unlink()

    monkeypatch.setattr(LocalElement, "list", listed)
    report = mounted.fsck()
    assert report.left == []
    assert report.unsettled
    mounted.is_sound = False


@pytest.mark.slow
async def test_no_false_findings_under_load(mounted: Workbench) -> None:
    """A writer, and what carries it, all the time that the checks run."""
    await fill(mounted, 3)
    directory = mounted.make(b"w", mode=DIRECTORY)
    running = True

    async def write() -> None:
        number = 0
        while running:
            number += 1
            name = b"n%d" % (number % 7)
            node = await mounted.write(name, b"%d" % number * 50, directory.ino)
            mounted.xattrs.set(node, b"user.n", b"%d" % number, 0, ME)
            if number % 3 == 0:
                mounted.rename(name, b"moved", directory.ino, directory.ino)
            if number % 5 == 0:
                mounted.tree.link(node.ino, ROOT_INO, b"l%d" % number, ME)
                mounted.unlink(b"l%d" % number)
            await mounted.step()
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for _ in range(4):
            report = await trio.to_thread.run_sync(lambda: mounted.fsck(deep=True))
            assert report.left == []
            assert not report.incomplete
        running = False
    await mounted.drain()


def test_write_ahead_log_of_random_bytes_is_no_crash() -> None:
    for data in (b"", b"x", bytes(32), bytes(5000), b"\x37\x7f\x06\x82" + bytes(100)):
        assert (log_problem(data) is None) == (data == b"")
