"""What an element that locks objects is told of retention, and when; the element is a local one
that remembers what it was told."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.errors import ElementDenied, ElementUnavailable
from artstorefs.core.marks import moment_ns
from artstorefs.elements.local import LocalElement
from artstorefs.elements.wrapper import ElementWrapper
from artstorefs.state.node import Node
from artstorefs_daemon.locking import Locking

from .rebuilding import rebuild
from .test_retention import YEAR_S, RetentionBench
from .test_sealing import GRACE_S, moment
from .workbench import ME, HookedElement


class LockingElement(ElementWrapper):
    """Of a bench, which says what it does."""

    def __init__(self, inner: Any, bench: "LockingBench") -> None:
        super().__init__(inner)
        self._bench = bench

    def can_lock(self) -> bool:
        return self._bench.can_lock

    def lock(self, key: str, until_ns: int) -> None:
        self._bench.asked.append(key)
        if self._bench.refusal is not None:
            raise self._bench.refusal
        before = self._bench.locked.get((self.id, key), 0)
        assert until_ns > before, "asked for nothing"
        self._bench.locked[self.id, key] = until_ns


class LockingBench(RetentionBench):
    """`locked`: until when, by element and key."""

    can_lock = True
    refusal: Exception | None = None

    def __init__(self, base: Path, **settings: Any) -> None:
        self.locked: dict[tuple[str, str], int] = {}
        self.asked: list[str] = []
        super().__init__(base, **settings)

    def open(self, closed_one: Any = None) -> None:
        super().open(closed_one)
        for one in self.archive.configuration.elements:
            self.archive.policy.locks.learn(one.id, self.can_lock)
        self.locking = Locking(self.archive, self.link)

    def elements_of_carrier(self) -> dict[str, Any]:
        hooked: Any = HookedElement(self.element, self)
        return {"main": LockingElement(hooked, self)}

    async def look_for_locks(self) -> None:
        """As the daemon does when something may be due, and then what that has found."""
        for element in self.locking._due():
            await self.locking._look(element)
        await self.drain()

    def lock_of(self, node: Node, element: str = "main") -> str | None:
        """Until when its object is locked."""
        copies = {copy.element: copy for copy in self.archive.index.copies(node.ino)}
        until_ns = self.locked.get((element, copies[element].key))
        assert copies[element].locked_ns == until_ns
        return None if until_ns is None else shown(until_ns)


def shown(until_ns: int) -> str:
    return next(
        one for one in (moment(n * YEAR_S) for n in range(1, 9)) if moment_ns(one) == until_ns
    )


@pytest.fixture
async def locking(tmp_path: Path, clock: MockClock) -> AsyncIterator[LockingBench]:
    bench = LockingBench(tmp_path)
    yield bench
    bench.check_soundness()


async def test_file_is_locked_until_its_own_time(locking: LockingBench) -> None:
    """SEMANTICS: RETAIN-4"""
    bench = locking
    node = await bench.write(b"f", b"content")
    other = await bench.write(b"other", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.drain()
    assert (bench.lock_of(node), bench.lock_of(other)) == (moment(YEAR_S), None)
    bench.retain(other, moment(YEAR_S))  # what the element has by now
    bench.retain(node, moment(2 * YEAR_S))
    await bench.drain()
    assert (bench.lock_of(node), bench.lock_of(other)) == (moment(2 * YEAR_S), moment(YEAR_S))


async def test_what_is_locked_is_not_asked_for_again(locking: LockingBench) -> None:
    """Other changes of the file leave its lock as it is. SEMANTICS: RETAIN-4"""
    bench = locking
    node = await bench.write(b"f", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.drain()
    bench.xattrs.set(node, b"user.k", b"v", 0, ME)
    bench.rename(b"f", b"g")
    await bench.drain()
    await bench.look_for_locks()
    assert len(bench.asked) == 1
    assert bench.lock_of(node) == moment(YEAR_S)
    bench.pass_s(2 * YEAR_S)
    bench.xattrs.set(node, b"user.k", b"w", 0, ME)
    await bench.drain()
    assert len(bench.asked) == 1
    bench.unlink(b"g")
    await bench.drain()


async def test_new_content_has_a_lock_of_its_own(locking: LockingBench) -> None:
    """Who had the file open when it was retained goes on. SEMANTICS: RETAIN-4"""
    bench = locking
    node = await bench.write(b"f", b"one ")
    await bench.drain()
    handle = await bench.open_file(node)
    bench.retain(node, moment(YEAR_S))
    await bench.contents.write(handle, 4, b"two")
    bench.contents.release(handle)
    await bench.drain()
    assert await bench.content(node) == b"one two"
    assert bench.lock_of(node) == moment(YEAR_S)


async def test_element_locks_what_is_sealed_and_not_before(locking: LockingBench) -> None:
    """SEMANTICS: RETAIN-4"""
    bench = locking
    bench.configure(moment(YEAR_S))
    node = await bench.write(b"f", b"content")
    later = await bench.write(b"later", b"content")
    await bench.look_for_locks()
    assert bench.asked == []
    bench.pass_s(GRACE_S - 1)
    await bench.write(b"later", b"other content")
    await bench.look_for_locks()
    assert bench.asked == []
    bench.pass_s(1)
    assert bench.locking.is_behind
    await bench.look_for_locks()
    assert not bench.locking.is_behind
    assert (bench.lock_of(node), bench.lock_of(later)) == (moment(YEAR_S), None)
    bench.pass_s(GRACE_S)
    await bench.look_for_locks()
    assert bench.lock_of(later) == moment(YEAR_S)
    bench.make(b"d", mode=0o040755)
    await bench.write(b"empty", b"")
    bench.pass_s(2 * GRACE_S)
    await bench.look_for_locks()
    assert len(bench.asked) == 2


async def test_what_is_open_for_writing_is_locked_once_it_is_closed(locking: LockingBench) -> None:
    """SEMANTICS: RETAIN-4"""
    bench = locking
    bench.configure(moment(YEAR_S))
    node = await bench.write(b"f", b"content")
    await bench.drain()
    handle = await bench.open_file(node)
    bench.pass_s(GRACE_S)
    await bench.look_for_locks()
    assert bench.lock_of(node) is None
    bench.contents.release(handle)
    bench.pass_s(2 * GRACE_S)
    await bench.look_for_locks()
    assert bench.lock_of(node) == moment(YEAR_S)


async def test_later_time_of_the_configuration_is_of_what_is_there(locking: LockingBench) -> None:
    """No attr.json is written anew for it. SEMANTICS: RETAIN-4"""
    bench = locking
    nodes = [await bench.write(b"f%d" % number, b"content") for number in range(5)]
    own = await bench.write(b"own", b"content")
    bench.retain(own, moment(3 * YEAR_S))
    await bench.drain()
    bench.pass_s(GRACE_S)
    for until in (1, 2):
        bench.configure(moment(until * YEAR_S))
        replaced: list[str] = []
        bench.before = lambda name, key, seen=replaced: (
            seen.append(key) if name != "barrier" else None
        )
        await bench.look_for_locks()
        assert replaced == []
        bench.before = None
        nodes = [bench.tree.node(node.ino) for node in nodes]
        assert {bench.lock_of(node) for node in nodes} == {moment(until * YEAR_S)}
        assert bench.lock_of(own) == moment(3 * YEAR_S)
    assert len(bench.asked) == 1 + 2 * 5


async def test_element_of_mode_ro_is_told_of_a_later_time(locking: LockingBench) -> None:
    """SEMANTICS: RETAIN-4"""
    bench = locking
    node = await bench.write(b"f", b"content")
    await bench.drain()
    bench.pass_s(GRACE_S)
    for until, mode in ((1, "rw"), (2, "ro"), (3, "ar")):
        bench.configure(moment(until * YEAR_S), mode)
        await bench.look_for_locks()
        assert bench.lock_of(bench.tree.node(node.ino)) == moment(until * YEAR_S)


async def test_kill_between_the_time_and_the_lock_forgets_nothing(locking: LockingBench) -> None:
    """SEMANTICS: RETAIN-5"""
    bench = locking
    node = await bench.write(b"f", b"content")
    await bench.drain()
    bench.retain(node, moment(YEAR_S))
    bench.restart()
    await bench.send()
    bench.carry()  # locked, and the answer is lost
    (key,) = bench.locked
    del bench.locked[key]
    bench.restart()
    node = bench.tree.node(node.ino)
    await bench.drain()
    assert bench.lock_of(node) == moment(YEAR_S)


async def test_rebuilt_index_has_everything_locked_again(locking: LockingBench) -> None:
    """SEMANTICS: RETAIN-3, RETAIN-5"""
    bench = locking
    node = await bench.write(b"f", b"content")
    await bench.write(b"other", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.drain()
    bench.locked.clear()
    rebuild(bench)
    found = bench.tree.lookup(1, b"f")
    assert found is not None
    await bench.look_for_locks()
    assert len(bench.locked) == 1
    assert bench.lock_of(found) == moment(YEAR_S)


async def test_element_that_says_later_that_it_locks(locking: LockingBench) -> None:
    """What was retained before is locked then. SEMANTICS: RETAIN-5"""
    bench = locking
    bench.can_lock = False
    bench.restart()
    node = await bench.write(b"f", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.drain()
    await bench.look_for_locks()
    assert bench.asked == []
    bench.can_lock = True
    bench.archive.policy.locks.learn("main", True)
    assert bench.locking.is_behind
    await bench.look_for_locks()
    assert bench.lock_of(node) == moment(YEAR_S)


async def test_element_of_which_it_is_not_known_yet(locking: LockingBench) -> None:
    """Nothing is left pending where the answer is that it locks nothing. SEMANTICS: RETAIN-5"""
    bench = locking
    bench.can_lock = False
    bench.archive.policy.locks.certain.clear()
    node = await bench.write(b"f", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.send()
    answer = bench.carry()
    bench.archive.policy.locks.learn("main", False)  # in the gauges of that answer
    bench.answer(answer)
    assert not bench.archive.log.is_waiting(node.ino)
    assert not bench.locking.is_behind
    await bench.drain()
    assert bench.asked == []


@pytest.mark.parametrize("refuses", [True, False])
async def test_lock_that_fails_holds_up_nothing_else(
    locking: LockingBench, clock: MockClock, refuses: bool
) -> None:
    """SEMANTICS: RETAIN-5"""
    bench = locking
    kind = ElementDenied if refuses else ElementUnavailable
    bench.refusal = kind("main", "f", "cannot be locked")
    node = await bench.write(b"f", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.write(b"other", b"content")
    for _ in range(2):  # the second for what the spool has no use for any more
        await bench.step()
    assert bench.xattrs.get(node, b"user.artstore.error") == b"element main: f: cannot be locked"
    (failure,) = bench.archive.log.failures()
    assert failure.status == ("failed" if refuses else "pending")
    assert bench.link.schedule.pending == bench.link.schedule.retrying == 1
    before = bench.keys()
    assert len(before) == 5  # the root, and of each file the object and attr.json
    for _ in range(8):
        clock.jump(80)
        await bench.step()
    assert bench.keys() == before
    assert len(bench.asked) == 9
    bench.refusal = None
    clock.jump(80)
    await bench.drain()
    assert bench.lock_of(node) == moment(YEAR_S)


async def test_index_of_an_earlier_release_has_told_no_element(locking: LockingBench) -> None:
    """SEMANTICS: RETAIN-5"""
    bench = locking
    node = await bench.write(b"f", b"content")
    bench.can_lock = False
    bench.restart()
    bench.retain(bench.tree.node(node.ino), moment(YEAR_S))
    await bench.drain()
    bench.archive.database.execute("ALTER TABLE copies DROP COLUMN locked_ns")
    bench.can_lock = True
    bench.restart()
    await bench.look_for_locks()
    assert bench.lock_of(bench.tree.node(node.ino)) == moment(YEAR_S)


async def test_more_than_the_log_takes_at_once(
    locking: LockingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: RETAIN-5"""
    monkeypatch.setattr("artstorefs.state.locks._SCANNED", 7)
    monkeypatch.setattr("artstorefs_daemon.locking.AT_ONCE", 3)
    bench = locking
    for number in range(20):
        await bench.write(b"f%d" % number, b"content")
    await bench.drain()
    bench.configure(moment(YEAR_S))
    await bench.look_for_locks()
    assert len(bench.locked) == 20


async def test_bucket_that_refuses_all_is_not_asked_for_everything(
    locking: LockingBench, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: RETAIN-5"""
    monkeypatch.setattr("artstorefs_daemon.locking.AT_ONCE", 3)
    monkeypatch.setattr("artstorefs_daemon.locking.FAILING_MAX", 5)
    bench = locking
    for number in range(20):
        await bench.write(b"f%d" % number, b"content")
    await bench.drain()
    bench.pass_s(GRACE_S)
    bench.configure(moment(YEAR_S))
    bench.refusal = ElementDenied("main", "", "not allowed")
    waits = bench.locking._wait_for_room

    async def carry_first() -> None:
        await bench.step()
        await waits()

    monkeypatch.setattr(bench.locking, "_wait_for_room", carry_first)
    for element in bench.locking._due():
        await bench.locking._look(element)
    assert len(bench.archive.log.failures()) == 6
    assert not bench.locking.is_behind
    bench.refusal = None
    clock.jump(80)
    bench.pass_s(2 * GRACE_S)
    assert bench.locking.is_behind
    await bench.look_for_locks()
    assert len(bench.locked) == 20


class TwoBench(LockingBench):
    """`copies = 2`, on `main` and on `second`."""

    def configured(self, mode: str, settings: dict[str, Any]) -> ArchiveConfiguration:
        second = self.base / "second"
        if not second.exists():
            shutil.copytree(self.root, second)
            record = second / ".artstorefs" / "archive.json"
            record.write_text(record.read_text().replace('"main"', '"second"'))
        before = super().configured(mode, {**settings, "copies": 1})
        more = ElementConfiguration(id="second", path=second)
        fields = {"elements": (*before.elements, more), "copies": 2}
        return before.model_copy(update=fields)

    def elements_of_carrier(self) -> dict[str, Any]:
        second: Any = LocalElement("second", str(self.base / "second"))
        return {**super().elements_of_carrier(), "second": LockingElement(second, self)}


async def test_each_element_has_a_lock_of_its_own(tmp_path: Path, clock: MockClock) -> None:
    """SEMANTICS: RETAIN-4"""
    bench = TwoBench(tmp_path)
    node = await bench.write(b"f", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.drain()
    bench.pass_s(GRACE_S)
    bench.configure(moment(2 * YEAR_S))
    node = bench.tree.node(node.ino)
    await bench.look_for_locks()
    assert bench.lock_of(node) == moment(2 * YEAR_S)
    assert bench.lock_of(node, "second") == moment(YEAR_S)


async def test_element_with_a_time_that_has_not_said_whether_it_locks_is_waited_for(
    locking: LockingBench,
) -> None:
    """A flush right after a start told nothing of a later time. SEMANTICS: RETAIN-5"""
    locks, modes = locking.archive.policy.locks, locking.archive.modes
    locks.able, locks.certain = {"main"}, set()
    assert not locking.locking.is_behind, "there is no time that it has to be told of"
    state = replace(modes.states["main"], retain_until_ns=moment_ns(moment(8 * YEAR_S)))
    modes.states["main"] = state
    assert locking.locking.is_behind
    locking.link.reports.errors["main"] = "does not answer"
    assert not locking.locking.is_behind
    del locking.link.reports.errors["main"]
    locks.learn("main", False)
    assert not locking.locking.is_behind
