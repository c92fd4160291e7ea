"""The element that fails on purpose: harmless without faults, and each fault is what it says."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from artstorefs.core.errors import ElementError, ElementUnavailable, ObjectAbsent
from artstorefs.elements.faults import ERRORS, FaultPlan, Faults, FaultyElement
from artstorefs.elements.interface import ARCHIVE_KEY, ObjectStat
from artstorefs.elements.local import LocalElement
from artstorefs.elements.memory import MemoryElement

from .element_conformance import OBJECT, SIDECAR, ElementConformance, ElementRig, content


class TestFaultyLocal(ElementConformance):
    """No probability, no fault: the whole contract of what is wrapped."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[ElementRig]:
        root, sources = tmp_path / "element", tmp_path / "sources"
        sources.mkdir()
        LocalElement.initialize(str(root))
        opened: list[FaultyElement] = []

        def crash() -> FaultyElement:
            opened.append(FaultyElement(lambda: LocalElement("disk1", str(root)), Faults(1)))
            return opened[-1]

        def vanish() -> None:
            root.rename(root.with_name("elsewhere"))
            root.mkdir()

        crash().replace(ARCHIVE_KEY, b"{}")
        opened[0].barrier()
        yield ElementRig(opened[0], sources, crash, vanish)
        for element in opened:
            element.close()


class TestFaultyMemory(ElementConformance):
    """The same around the fake; here the storage vanishes by the wrapper's own switch."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> ElementRig:
        inner = MemoryElement("memory1")
        faults = Faults(1)

        def crash() -> FaultyElement:
            inner.crash()
            return FaultyElement(lambda: inner, faults)

        return ElementRig(crash(), tmp_path, crash, lambda: faults.unreachable_for(3600))


class Bench:
    """A faulty element around one in memory, and a clock that is moved by hand."""

    def __init__(self, **probabilities: float) -> None:
        self.now_s = 0.0
        self.inner = MemoryElement("memory1")
        plan = FaultPlan(**probabilities)
        self.faults = Faults(7, plan, clock=lambda: self.now_s, sleep=self.sleep)
        self.element = FaultyElement(lambda: self.inner, self.faults)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def stop(self) -> None:
        self.faults.plan = FaultPlan()


def test_every_call_gets_every_error_of_its_contract() -> None:
    bench = Bench(error=1.0)
    calls = {
        "put": lambda: bench.element.put(OBJECT, "/dev/null", size_bytes=0),
        "replace": lambda: bench.element.replace(SIDECAR, b"{}"),
        "remove": lambda: bench.element.remove(SIDECAR),
        "barrier": bench.element.barrier,
        "read": lambda: bench.element.read(OBJECT, 0, 1),
        "open_read": lambda: bench.element.open_read(OBJECT),
        "stat": lambda: bench.element.stat(OBJECT),
        "list": lambda: list(bench.element.list()),
        "leftovers": lambda: list(bench.element.leftovers()),
        "capacity": bench.element.capacity,
        "lock": lambda: bench.element.lock(OBJECT, 1),
    }
    assert calls.keys() == ERRORS.keys()
    for name, call in calls.items():
        seen = set()
        for _ in range(100):
            with pytest.raises(ElementError) as caught:
                call()
            seen.add(type(caught.value))
        assert seen == set(ERRORS[name]), name
    assert bench.inner.calls == {}


def test_lost_reply_after_success() -> None:
    bench = Bench(lost_reply=1.0)
    with pytest.raises(ElementUnavailable):
        bench.element.replace(SIDECAR, b"{}")
    with pytest.raises(ElementUnavailable):
        bench.element.barrier()
    assert content(bench.inner, SIDECAR) == b"{}"


def test_failed_barrier_drops_what_was_staged() -> None:
    bench = Bench(failed_barrier=1.0)
    bench.element.replace(SIDECAR, b"{}")
    with pytest.raises(ElementUnavailable):
        bench.element.barrier()
    bench.stop()
    bench.element.barrier()
    assert list(bench.inner.list()) == []


def test_torn_barrier_leaves_the_first_part() -> None:
    bench = Bench(torn_barrier=1.0)
    bench.element.replace("a", b"1")
    bench.stop()
    bench.element.replace("b", b"2")
    with pytest.raises(ElementUnavailable):
        bench.element.barrier()
    bench.element.barrier()
    assert [found.key for found in bench.inner.list()] == ["a"]


def test_short_write_is_not_told() -> None:
    bench = Bench(short_write=1.0)
    bench.element.replace(SIDECAR, b"0123456789")
    bench.element.barrier()
    found = content(bench.inner, SIDECAR)
    assert found != b"0123456789"
    assert b"0123456789".startswith(found)


@pytest.mark.parametrize("fault", ["wrong_bytes", "wrong_range", "short_read"])
def test_reads_give_other_bytes(fault: str) -> None:
    bench = Bench(**{fault: 1.0})
    bench.inner.publish(OBJECT, b"0123456789")
    if fault != "wrong_range":
        with bench.element.open_read(OBJECT) as stream:
            assert stream.fileno() >= 0
            found = stream.read()
        assert found != b"0123456789"
        assert len(found) == 10 or fault == "short_read"
    if fault != "wrong_bytes":
        found = bench.element.read(OBJECT, 2, 5)
        assert found != b"23456"
        assert len(found) == 5 or fault == "short_read"


def test_listing_fails_at_the_start_in_the_middle_or_is_cut_off() -> None:
    bench = Bench(listing_start=1.0)
    for number in range(50):
        bench.inner.publish(f"key{number}", b"")
    with pytest.raises(ElementUnavailable):
        bench.element.list()
    bench.faults.plan = FaultPlan(listing_middle=1.0)
    seen: list[ObjectStat] = []
    with pytest.raises(ElementUnavailable):
        seen.extend(bench.element.list())
    assert 0 < len(seen) <= 50
    bench.faults.plan = FaultPlan(listing_truncated=1.0)
    assert len(list(bench.element.list())) < 50


def test_lie_about_absence() -> None:
    bench = Bench(lies_absent=1.0)
    bench.inner.publish(OBJECT, b"x")
    with pytest.raises(ObjectAbsent):
        bench.element.stat(OBJECT)


def test_unreachable_for_an_hour() -> None:
    bench = Bench()
    bench.inner.publish(OBJECT, b"x")
    bench.faults.unreachable_for(3600)
    for now_s in (0.0, 1800.0, 3599.0):
        bench.now_s = now_s
        with pytest.raises(ElementUnavailable):
            bench.element.stat(OBJECT)
    bench.now_s = 3600.0
    assert bench.element.stat(OBJECT).size_bytes == 1


def test_timeout_and_slow_reply_take_their_time() -> None:
    bench = Bench(timeout=1.0)
    bench.inner.publish(OBJECT, b"x")
    with pytest.raises(ElementUnavailable, match="timed out"):
        bench.element.stat(OBJECT)
    assert bench.now_s == 30.0
    bench.faults.plan = FaultPlan(slow=1.0)
    assert bench.element.stat(OBJECT).size_bytes == 1
    assert bench.now_s == 31.0


def test_one_seed_gives_one_sequence() -> None:
    def sequence(seed: int) -> list[bool]:
        faults = Faults(seed, FaultPlan(error=0.3))
        return [faults.strikes("error") for _ in range(200)]

    assert sequence(5) == sequence(5) != sequence(6)
    assert 30 < sum(sequence(5)) < 90


def test_every_fault_is_off_by_default() -> None:
    durations = {"timeout_s", "slow_s"}
    plan = FaultPlan()
    values = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in durations}
    assert set(values.values()) == {0.0}
