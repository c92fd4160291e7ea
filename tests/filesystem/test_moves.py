"""Files on their way from one element to another, without a mount: every step by hand."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.migration import MigrationRefused, Phase
from artstorefs.core.mode_changes import ModeState
from artstorefs.core.modes import ElementMode
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node
from artstorefs_daemon.migrations import Migrations

from .copies_bench import CopiesBench, inodes, make_tree
from .element_tree import Found
from .large_files import flip
from .workbench import ME


class MovesBench(CopiesBench):
    """Three elements, of which `main` takes new files, and a copy of each file is wanted."""

    def open(self, *arguments: Any, **named: Any) -> None:
        super().open(*arguments, **named)
        self.migrations = Migrations(self.archive, self.link)

    async def begin(self, source: str, target: str, **options: Any) -> None:
        defaults: dict[str, Any] = {"root": None, "keep_s": 0.0, "rate": None}
        await self.migrations.begin(source, target, ME, **{**defaults, **options})

    async def look(self) -> None:  # type: ignore[override]
        """One look of the daemon's, and what it has put on its way."""
        await self.migrations._look()
        self.link.schedule.try_again_now()
        await self.step()

    async def finish(self, phase: Phase = Phase.DONE) -> None:
        for _ in range(40):
            await self.look()
            if self.migrations.last is not None and self.migrations.last.phase is phase:
                return
        raise AssertionError(f"still {self.migrations.describe()}")

    async def move(self, source: str, target: str, **options: Any) -> None:
        await self.begin(source, target, **options)
        await self.finish(Phase.KEEPING if options.get("keep_s") else Phase.DONE)

    def on(self, name: str) -> set[str]:
        """Keys of all objects, documents and records of an element."""
        own = self.place(name) / ".artstorefs"
        return {
            str(path.relative_to(self.place(name)))
            for path in self.place(name).rglob("*")
            if path.is_file() and path.parent != own
        }

    def only(self, name: str) -> dict[bytes, Found]:
        """The tree that this element tells, when no other has anything."""
        trees = self.trees()
        assert sorted(trees) == [name]
        return trees[name]


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[MovesBench]:
    bench = MovesBench(tmp_path, 1)
    yield bench
    bench.check_soundness()


async def test_everything_is_moved_and_nothing_is_left(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-1, MIGRATE-2"""
    node = await make_tree(bench)
    large = await bench.write(b"large", b"x" * (BLOCK_BYTES + 1))
    await bench.drain()
    before = bench.only("main")
    await bench.move("main", "second")
    after = bench.only("second")
    assert after == before
    assert bench.on("main") == set()
    assert list(bench.copies(node)) == ["second"]
    assert await bench.content(large) == b"x" * (BLOCK_BYTES + 1)
    progress = bench.migrations.progress()
    assert (progress["files"], progress["files_left"]) == (6, 0)
    assert (progress["bytes"], progress["bytes_left"], progress["leaving"]) == (
        BLOCK_BYTES + 8,
        0,
        0,
    )


async def test_the_source_is_kept_for_a_while_and_counts_no_more(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-3"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    had = bench.on("main")
    await bench.move("main", "second", keep_s=3600.0)
    assert bench.on("main") == had
    assert bench.archive.guard.seals(node) is False
    assert bench.xattrs.get(node, b"user.artstore.element") == b"second"
    await bench.attributes.change(node, AttributeChange(mode=0o600), ME)
    await bench.drain()
    assert bench.on("main") == had
    report = bench.fsck(deep=True)
    assert not report.left, "what has been left behind is no finding, though it is older"
    bench.archive.database.execute("UPDATE copies SET leaves_ns = 1 WHERE element = 'main'")
    await bench.finish()
    assert bench.on("main") == set()
    assert oct(bench.only("second")[b"/f"].mode) == "0o100600"


async def test_nothing_leaves_that_no_other_has(bench: MovesBench) -> None:
    """The target has lost it, which a reader has found. SEMANTICS: MIGRATE-3"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    await bench.move("main", "second", keep_s=3600.0)
    (key, _) = bench.copies(node)["second"]
    bench.archive.policy.lost.add(("second", key))
    bench.archive.database.execute("UPDATE copies SET leaves_ns = 1 WHERE element = 'main'")
    for _ in range(3):
        await bench.look()
    assert (bench.root / key).read_bytes() == b"content"
    bench.archive.policy.lost.clear()
    bench.archive.database.execute("UPDATE copies SET leaves_ns = 1 WHERE element = 'main'")
    await bench.finish()
    assert bench.on("main") == set()


async def test_what_is_left_behind_goes_with_the_file(bench: MovesBench) -> None:
    await bench.write(b"f", b"content")
    await bench.drain()
    await bench.move("main", "second", keep_s=3600.0)
    bench.unlink(b"f")
    await bench.drain()
    assert set(bench.trees()["main"]) == {b"/"}
    assert set(bench.trees()["second"]) == {b"/"}


async def test_a_file_that_changes_on_its_way_is_moved_as_it_is_then(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-2"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    await bench.begin("main", "second")
    await bench.migrations._look()
    await bench.send()
    answer = bench.carry()
    await bench.write(b"f", b"changed")
    bench.answer(answer)
    assert "main" in bench.copies(node), "what the target has is not all of it"
    await bench.finish()
    assert bench.only("second")[b"/f"].content == b"changed"
    assert await bench.content(node) == b"changed"


async def test_what_somebody_writes_is_moved_once_it_is_closed(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-2"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, b"C")
    await bench.begin("main", "second")
    for _ in range(5):
        await bench.look()
    assert bench.migrations.last is not None
    assert bench.migrations.last.phase is Phase.COPYING
    bench.contents.release(handle)
    await bench.finish()
    assert bench.only("second")[b"/f"].content == b"Content"


async def test_what_the_target_does_not_give_back_does_not_count(
    bench: MovesBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: MIGRATE-1"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    await bench.begin("main", "second")

    def damage(operation: str, key: str) -> None:
        if operation == "open_read" and (bench.place("second") / key).exists():
            flip(bench.place("second") / key, 3)

    bench.before = damage
    for _ in range(4):
        await bench.look()
    assert list(bench.copies(node)) == ["main"]
    failures = bench.migrations.describe()["failures"]
    assert [one["path"] for one in failures] == ["/f"]
    assert "does not give back what it was given" in failures[0]["error"]
    bench.before = None
    await bench.finish()
    assert bench.only("second")[b"/f"].content == b"content"
    assert len(inodes(bench)) == 1, "what was wrong is not there any more"


async def test_damaged_content_is_not_moved(bench: MovesBench) -> None:
    node = await bench.write(b"f", b"content")
    await bench.drain()
    bench.is_sound = False
    (key, _) = bench.copies(node)["main"]
    flip(bench.root / key, 0)
    await bench.begin("main", "second")
    for _ in range(4):
        await bench.look()
    assert bench.migrations._waits_with_failures() == 1
    assert "SHA-256" in bench.migrations.describe()["failures"][0]["error"]
    bench.migrations.cancel(ME)
    await bench.finish(Phase.CANCELLED)
    await bench.drain()
    assert list(bench.copies(node)) == ["main"]
    assert bench.archive.log.failure(node.ino) is None


async def test_below_a_directory(bench: MovesBench) -> None:
    """Whichever of its names is there. SEMANTICS: MIGRATE-4"""
    node = await make_tree(bench)
    directory = bench.tree.lookup(ROOT_INO, b"d")
    assert directory is not None
    other = await bench.write(b"g", b"other")
    await bench.drain()
    await bench.move("main", "second", root=directory.ino)
    assert list(bench.copies(node)) == list(bench.copies(directory)) == ["second"]
    assert list(bench.copies(other)) == ["main"]
    new = await bench.write(b"new", b"new")
    await bench.drain()
    assert list(bench.copies(new)) == ["main"], "new files go where they went before"


async def test_new_files_do_not_come_to_what_is_emptied(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-4"""
    await bench.write(b"f", b"content")
    await bench.drain()
    await bench.move("main", "second", keep_s=3600.0)
    node = await bench.write(b"new", b"new")
    await bench.drain()
    assert list(bench.copies(node)) == ["second"]
    bench.restart()
    later = await bench.write(b"later", b"later")
    await bench.drain()
    assert list(bench.copies(later)) == ["second"]


async def test_back_again_finds_what_has_not_left_yet(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-3"""
    node = await bench.write(b"f", b"content")
    changed = await bench.write(b"g", b"other")
    await bench.drain()
    (key, _) = bench.copies(node)["main"]
    inode = os.stat(bench.root / key).st_ino
    await bench.move("main", "second", keep_s=3600.0)
    await bench.write(b"g", b"rewritten")
    await bench.drain()
    await bench.move("second", "main")
    assert os.stat(bench.root / key).st_ino == inode, "it was not copied again"
    assert bench.only("main")[b"/g"].content == b"rewritten"
    assert await bench.content(changed) == b"rewritten"


async def test_cancelled(bench: MovesBench) -> None:
    """What has arrived stays there, what has not stays where it was. SEMANTICS: MIGRATE-5"""
    nodes = [await bench.write(b"%d" % number, b"content") for number in range(4)]
    await bench.drain()
    await bench.begin("main", "second")
    await bench.migrations._look()
    bench.leave("second")
    bench.migrations.cancel(ME)
    bench.leave()
    await bench.drain()
    assert set(bench.only("main")) == {b"/", b"/0", b"/1", b"/2", b"/3"}
    assert all(list(bench.copies(node)) == ["main"] for node in nodes)
    with pytest.raises(MigrationRefused, match="is cancelled: there is nothing to resume"):
        bench.migrations.resume(ME)


async def test_cancelled_when_a_part_is_on_the_target(bench: MovesBench) -> None:
    """The object is there, and what was to follow is not. SEMANTICS: MIGRATE-5"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    await bench.begin("main", "second")
    await bench.migrations._look()
    await bench.send()
    bench.carry()  # and nobody hears of it
    bench.restart()
    bench.migrations.cancel(ME)
    await bench.finish(Phase.CANCELLED)
    await bench.drain()
    assert list(bench.copies(node)) == ["main"]
    assert bench.on("second") == set()


async def test_paused_and_resumed(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-5"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    await bench.begin("main", "second")
    bench.migrations.pause(ME)
    for _ in range(3):
        await bench.look()
    assert list(bench.copies(node)) == ["main"]
    bench.restart()
    assert bench.migrations.last is not None
    assert bench.migrations.last.phase is Phase.PAUSED
    bench.migrations.resume(ME)
    await bench.finish()
    assert list(bench.copies(node)) == ["second"]


async def test_no_faster_than_the_rate(bench: MovesBench, clock: MockClock) -> None:
    """SEMANTICS: MIGRATE-5"""
    for number in range(4):
        await bench.write(b"%d" % number, b"x" * 1000)
    await bench.drain()
    clock.jump(10)
    await bench.begin("main", "second", rate=1000)
    for _ in range(5):
        await bench.look()
    assert bench.migrations.progress()["under_way"] == 0
    left = bench.migrations._count_left
    assert bench.migrations.last is not None

    async def files_left() -> int:
        clock.jump(10)  # it counts now and then only
        await left(bench.migrations.last)  # type: ignore[arg-type]
        return int(bench.migrations.progress()["files_left"])

    first = await files_left()
    assert first >= 2, "at most a second's worth went at once"
    for _ in range(60):
        clock.jump(1)
        await bench.look()
    assert bench.on("main") == set()


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("main", "main", "is both where files are and where they are to go"),
        ("main", "fourth", "there is no element fourth; there are: main, second, third"),
        ("second", "third", "element second is in mode ro: nothing may be removed"),
        ("main", "second", "element second is in mode ro: nothing may come to it"),
    ],
)
async def test_refused(bench: MovesBench, source: str, target: str, reason: str) -> None:
    """SEMANTICS: MIGRATE-6"""
    bench.archive.modes.put("second", ModeState(ElementMode.RO, ElementMode.RO))
    with pytest.raises(MigrationRefused, match=reason):
        await bench.begin(source, target)
    bench.archive.modes.put("second", ModeState(ElementMode.EDIT, ElementMode.EDIT))


async def test_retained_files_stay(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-6"""
    retained = await bench.write(b"f", b"content")
    other = await bench.write(b"g", b"content")
    bench.xattrs.set(retained, b"user.artstore.retain_until", b"2199-01-01", 0, ME)
    await bench.drain()
    await bench.move("main", "second", keep_s=1.0)
    assert list(bench.copies(retained)) == ["main"]
    assert "second" in bench.copies(other)
    failures = bench.migrations.describe()["failures"]
    assert [one["path"] for one in failures] == ["/f"]
    assert failures[0]["error"].startswith("is retained until 2199-01-01")


async def test_with_two_copies_there_are_two_after_it(tmp_path: Path, clock: MockClock) -> None:
    """SEMANTICS: MIGRATE-6"""
    bench = MovesBench(tmp_path, 2)
    node = await bench.write(b"f", b"content")
    await bench.drain()
    assert sorted(bench.copies(node)) == ["main", "second"]
    await bench.begin("main", "second", keep_s=0.0)
    await bench.finish()
    assert sorted(bench.copies(node)) == ["main", "second"]
    assert bench.migrations.describe()["failures"][0]["error"] == (
        "2 copies are wanted, and second has one already"
    )
    await bench.move("main", "third")
    assert sorted(bench.copies(node)) == ["second", "third"]
    bench.check_soundness()


async def test_what_is_new_waits_for_no_target_that_is_away(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-2"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    await bench.begin("main", "second")
    await bench.migrations._look()
    bench.leave("second")
    await bench.write(b"f", b"changed")
    await bench.tried()
    assert bench.trees()["main"][b"/f"].content == b"changed"
    assert bench.spool_files() == {}
    bench.leave()
    await bench.finish()
    assert bench.only("second")[b"/f"].content == b"changed"
    assert await bench.content(node) == b"changed"


async def test_a_reader_goes_on_while_the_file_is_moved(bench: MovesBench) -> None:
    """SEMANTICS: MIGRATE-2"""
    data = os.urandom(BLOCK_BYTES * 2 + 5)
    node = await bench.write(b"f", data)
    await bench.drain()
    handle = await bench.open_file(node, os.O_RDONLY)
    assert await bench.contents.read(handle, 0, 10) == data[:10]
    await bench.move("main", "second")
    shutil.rmtree(bench.root / "20", ignore_errors=True)
    assert await bench.contents.read(handle, BLOCK_BYTES * 2, 5) == data[-5:]
    bench.contents.release(handle)


async def test_a_rebuild_keeps_what_was_left_behind(bench: MovesBench) -> None:
    """It is another copy then: an index that is given up removes nothing. SEMANTICS: MIGRATE-3"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    await bench.move("main", "second", keep_s=3600.0)
    await bench.attributes.change(node, AttributeChange(mode=0o600), ME)
    await bench.drain()
    file_id = node.file_id
    bench.close()
    shutil.rmtree(bench.base / "state")
    os.mkdir(bench.base / "state")
    bench.open()
    await bench.drain()
    ino = bench.archive.index.ino_of(file_id)
    assert ino is not None
    found = bench.archive.index.node(ino)
    assert isinstance(found, Node)
    assert oct(found.mode) == "0o100600"
    assert sorted(bench.copies(found)) == ["main", "second"]
    assert {tree[b"/f"].mode for tree in bench.trees().values()} == {0o100600}
    await bench.move("main", "second")
    assert list(bench.copies(found)) == ["second"]


async def test_the_row_of_the_log_says_what_is_moved(bench: MovesBench) -> None:
    node = await bench.write(b"f", b"content")
    await bench.drain()
    await bench.begin("main", "second", keep_s=5.0)
    await bench.migrations._look()
    row = bench.archive.database.execute(
        "SELECT move FROM log WHERE id = ?", (node.ino,)
    ).fetchone()
    assert json.loads(row[0]) == ["main", "second", 5_000_000_000, 1]
    await bench.finish(Phase.KEEPING)
