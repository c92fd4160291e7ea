"""What is counted of the calls of an element, and what becomes of the counts."""

import json
import os
import threading
from pathlib import Path

import pytest

from artstorefs.core.errors import ElementUnavailable, ObjectAbsent
from artstorefs.elements.counted import CountedElement
from artstorefs.elements.counters import CALLS, CallCounts, Counters, Counts
from artstorefs.elements.interface import Element
from artstorefs.elements.local import LocalElement
from artstorefs.elements.memory import MemoryElement

KEY = "2026/11/23/22/harbour.tif"


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def memory() -> MemoryElement:
    return MemoryElement("memory1")


@pytest.fixture
def element(memory: MemoryElement, counters: Counters) -> CountedElement:
    return CountedElement(memory, counters)


def store(element: Element, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    element.put(KEY, str(path), size_bytes=len(content))
    element.replace(f"{KEY}.attr.json", b"{}")
    element.barrier()


def numbers(counters: Counters) -> dict[str, int]:
    """Calls by kind, those alone that there were."""
    return {kind: one.count for kind, one in counters.counts().calls.items() if one.count}


def test_each_call_is_counted_under_its_kind_with_its_bytes(
    element: CountedElement, memory: MemoryElement, counters: Counters, tmp_path: Path
) -> None:
    memory.locked = {}
    store(element, tmp_path / "source", b"x" * 1000)
    element.read(KEY, 10, 20)
    element.stat(KEY)
    list(element.list())
    list(element.leftovers())
    element.capacity()
    element.lock(KEY, 1)
    element.remove(KEY)
    once = set(CALLS) - {"open_read", "list"}
    assert numbers(counters) == {**dict.fromkeys(once, 1), "list": 2}
    counts = counters.counts()
    assert counts.sent_bytes == 1002
    assert counts.received_bytes == 20
    assert counts.errors == {}
    for kind in CALLS:
        one = counts.call(kind)
        assert 0 <= one.max_s <= one.total_s


def test_stream_over_a_network_is_one_call_when_it_is_closed(
    element: CountedElement, counters: Counters, tmp_path: Path
) -> None:
    content = os.urandom(100_000)
    store(element, tmp_path / "source", content)
    with element.open_read(KEY) as stream:
        assert stream.read(70_000) == content[:70_000]
        assert "open_read" not in numbers(counters)
        assert stream.read() == content[70_000:]
    stream.close()
    assert numbers(counters)["open_read"] == 1
    assert counters.counts().received_bytes == 100_000


def test_stream_of_a_local_element_is_the_file_itself(counters: Counters, tmp_path: Path) -> None:
    LocalElement.initialize(str(tmp_path / "element"))
    element = CountedElement(LocalElement("disk1", str(tmp_path / "element")), counters)
    store(element, tmp_path / "source", b"content")
    with element.open_read(KEY) as stream:
        assert os.pread(stream.fileno(), 100, 0) == b"content"
    assert numbers(counters)["open_read"] == 1
    assert counters.counts().received_bytes == 0
    element.close()


def test_error_is_counted_by_its_class_and_the_call_too(
    element: CountedElement, memory: MemoryElement, counters: Counters, tmp_path: Path
) -> None:
    """SEMANTICS: ELEM-20"""
    for call in (element.stat, element.open_read):
        with pytest.raises(ObjectAbsent):
            call(KEY)

    def refuse(operation: str, key: str) -> None:
        raise ElementUnavailable("memory1", key, "is switched off")

    memory.before = refuse
    with pytest.raises(ElementUnavailable):
        list(element.list())
    with pytest.raises(ElementUnavailable):
        element.replace(KEY, b"data")
    memory.before = None
    with pytest.raises(FileNotFoundError):
        element.put(KEY, str(tmp_path / "missing"), size_bytes=1)
    counts = counters.counts()
    assert counts.errors == {"ObjectAbsent": 2, "ElementUnavailable": 2, "FileNotFoundError": 1}
    assert numbers(counters) == {"stat": 1, "open_read": 1, "list": 1, "replace": 1, "put": 1}
    assert counts.sent_bytes == 0


def test_listing_that_nobody_ends_is_counted(element: CountedElement, counters: Counters) -> None:
    for number in range(3):
        element.replace(f"2026/{number}", b"")
    element.barrier()
    listing = element.list()
    next(listing)
    del listing
    assert numbers(counters)["list"] == 1


def test_counts_of_two_processes_add_up_and_travel_as_json(counters: Counters) -> None:
    counters.called("put", 2.0)
    counters.called("put", 1.0)
    counters.sent(10)
    counters.failed(ObjectAbsent("main", KEY))
    counters.requested("PutObject")
    first = counters.counts()
    counters.called("stat", 4.0)
    counters.received(5)
    counters.requested("HeadObject")
    second = Counts.from_message(json.loads(json.dumps(counters.counts().to_message())))
    assert first.call("stat") == CallCounts()  # what was told does not change
    both = Counts().plus(first).plus(second)
    assert both.call("put") == CallCounts(4, 6.0, 2.0)
    assert both.call("stat") == CallCounts(1, 4.0, 4.0)
    assert (both.sent_bytes, both.received_bytes) == (20, 5)
    assert both.errors == {"ObjectAbsent": 2}
    assert both.requests == {"PutObject": 2, "HeadObject": 1}
    assert tuple(both.to_message()["calls"]) == CALLS


def test_threads_lose_no_count(element: CountedElement, counters: Counters) -> None:
    element.replace(KEY, b"data")
    element.barrier()

    def ask() -> None:
        for _ in range(500):
            element.read(KEY, 0, 4)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(counters)["read"] == 4000
    assert counters.counts().received_bytes == 16_000
