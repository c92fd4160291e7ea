"""The elements that exist, each through the whole of `element_conformance.py`."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artstorefs.core.errors import ElementFull, ElementUnavailable
from artstorefs.elements import durable
from artstorefs.elements.counted import CountedElement
from artstorefs.elements.counters import Counters
from artstorefs.elements.interface import ARCHIVE_KEY
from artstorefs.elements.local import LocalElement
from artstorefs.elements.memory import MemoryElement

from .element_conformance import ElementConformance, ElementRig, content


def _local_rig(root: Path, sources: Path) -> Iterator[ElementRig]:
    LocalElement.initialize(str(root))
    opened = [LocalElement("disk1", str(root))]
    opened[0].replace(ARCHIVE_KEY, b"{}")
    opened[0].barrier()

    def crash() -> LocalElement:
        opened.append(LocalElement("disk1", str(root)))  # the old one is left as it is
        return opened[-1]

    def vanish() -> None:
        root.rename(root.with_name("elsewhere"))
        root.mkdir()  # the empty mount point

    sources.mkdir(exist_ok=True)
    yield ElementRig(opened[0], sources, crash, vanish)
    for element in opened:
        element.close()


class TestLocalByLink(ElementConformance):
    """Sources on the filesystem of the element: hard links."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[ElementRig]:
        yield from _local_rig(tmp_path / "element", tmp_path / "sources")


class TestLocalByCopy(ElementConformance):
    """Sources on another filesystem: copies."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[ElementRig]:
        shared_memory = Path("/dev/shm")
        if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
            pytest.fail("/dev/shm is no filesystem of its own: mount a tmpfs there")
        with tempfile.TemporaryDirectory(dir=shared_memory) as sources:
            yield from _local_rig(tmp_path / "element", Path(sources))


class TestLocalFlushEach(ElementConformance):
    """A filesystem whose syncfs is not trusted: an fsync for each file."""

    @pytest.fixture
    def rig(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ElementRig]:
        monkeypatch.setattr(durable, "honours_syncfs", lambda fd: False)
        yield from _local_rig(tmp_path / "element", tmp_path / "sources")


def _memory_rig(tmp_path: Path) -> ElementRig:
    element = MemoryElement("memory1")

    def crash() -> MemoryElement:
        element.crash()
        return element

    def refuse(operation: str, key: str) -> None:
        raise ElementUnavailable("memory1", key, "is switched off")

    def vanish() -> None:
        element.before = refuse

    return ElementRig(element, tmp_path, crash, vanish)


def _counted_rig(rig: ElementRig) -> ElementRig:
    """The same with all that the tests call counted."""
    counters = Counters()
    return replace(
        rig,
        element=CountedElement(rig.element, counters),
        crash=lambda: CountedElement(rig.crash(), counters),
    )


class TestMemory(ElementConformance):
    """The fake keeps the contract too."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> ElementRig:
        return _memory_rig(tmp_path)


class TestCountedMemory(ElementConformance):
    """Counting changes nothing: streams without a descriptor."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> ElementRig:
        return _counted_rig(_memory_rig(tmp_path))


class TestCountedLocal(ElementConformance):
    """Counting changes nothing: streams that are files."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[ElementRig]:
        for rig in _local_rig(tmp_path / "element", tmp_path / "sources"):
            yield _counted_rig(rig)


# ----------------------------------------------------------------- what only the fake can do


def test_memory_failed_barrier_publishes_nothing() -> None:
    element = MemoryElement("memory1")
    failures = iter([True, False])

    def fail_once(operation: str, key: str) -> None:
        if operation == "barrier" and next(failures):
            raise ElementUnavailable("memory1", key, "cut off")

    element.before = fail_once
    element.replace("a", b"1")
    with pytest.raises(ElementUnavailable):
        element.barrier()
    element.barrier()
    assert list(element.list()) == []
    assert element.calls["barrier"] == 2


def test_memory_error_in_the_middle_of_a_listing_raises() -> None:
    element = MemoryElement("memory1")
    element.publish("a", b"1")
    element.publish("b", b"2")

    def fail_at_b(operation: str, key: str) -> None:
        if key == "b":
            raise ElementUnavailable("memory1", key, "cut off")

    element.before = fail_at_b
    with pytest.raises(ElementUnavailable):
        list(element.list())


def test_memory_full_refuses_and_keeps_the_rest() -> None:
    element = MemoryElement("memory1", capacity_bytes=10)
    element.replace("a", b"12345678")
    with pytest.raises(ElementFull):
        element.replace("b", b"123")
    element.barrier()
    assert content(element, "a") == b"12345678"
    assert element.capacity().free_bytes == 2
