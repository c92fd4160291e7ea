"""The transfer process's side of the read cache: whose turn it is, and who holds up nobody."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from artstorefs.elements.memory import MemoryElement
from artstorefs.state.cache import CacheFiles
from artstorefs.state.fetch import FetchAnswer, FetchJob, FetchKind, Urgency
from artstorefs.transfer import fetching
from artstorefs.transfer.fetching import THREADS, Fetching
from artstorefs.transfer.jobs import (
    MessageInvalid,
    answer_message,
    answer_of,
    fetch_message,
    fetch_of,
)

LIMIT_S = 20.0


class Bench:
    """Two elements with objects `0`, `1`, …; those of `held` are not answered until `go` is set."""

    def __init__(self, directory: Path) -> None:
        self.read: list[str] = []
        self.answers: dict[int, FetchAnswer] = {}
        self.held: set[str] = set()
        self.go = threading.Event()
        self.changed = threading.Condition()
        self.elements = {name: MemoryElement(name) for name in ("one", "two")}
        for element in self.elements.values():
            element.before = self._before
            for number in range(20):
                element.publish(f"{element.id}/{number}", b"%d" % number)
        self.opened: list[str] = []
        self.fetching = Fetching(self._open, CacheFiles(str(directory)), self._answered)

    def _open(self, name: str) -> MemoryElement:
        self.opened.append(name)
        return self.elements[name]

    def _before(self, operation: str, key: str) -> None:
        if operation != "read":
            return
        with self.changed:
            self.read.append(key)
            self.changed.notify_all()
        if key in self.held:
            assert self.go.wait(LIMIT_S)

    def _answered(self, number: int, answer: FetchAnswer) -> None:
        with self.changed:
            self.answers[number] = answer
            self.changed.notify_all()

    def job(self, element: str, number: int) -> FetchJob:
        data = b"%d" % number
        digest = hashlib.sha256(data).hexdigest()
        return FetchJob(
            *(FetchKind.BLOCK, element, f"{element}/{number}", digest),
            *(len(data), 0, 0, len(data), digest),
        )

    def ask(self, element: str, number: int, urgency: Urgency = Urgency.READ) -> None:
        self.fetching.request(number, self.job(element, number), urgency)

    def wait(self, is_so: Any) -> None:
        with self.changed:
            assert self.changed.wait_for(is_so, LIMIT_S)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def hold_all_threads(bench: Bench) -> None:
    bench.held = {f"one/{number}" for number in range(THREADS)}
    for number in range(THREADS):
        bench.ask("one", number)
    bench.wait(lambda: len(bench.read) == THREADS)


def test_who_reads_comes_before_what_is_fetched_ahead(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "THREADS", 1)
    bench.held = {"one/0"}
    bench.ask("one", 0)
    bench.wait(lambda: bench.read == ["one/0"])
    for number, urgency in ((10, Urgency.WARM), (11, Urgency.AHEAD), (12, Urgency.WARM)):
        bench.ask("one", number, urgency)
    bench.ask("one", 13, Urgency.READ)
    bench.fetching.request(12, None, Urgency.READ)
    bench.go.set()
    bench.wait(lambda: len(bench.answers) == 5)
    assert bench.read == [f"one/{number}" for number in (0, 13, 12, 11, 10)]


def test_what_has_been_begun_is_not_done_again_when_it_becomes_urgent(bench: Bench) -> None:
    """A block was asked for twice when its reader came while it was fetched ahead."""
    bench.held = {"one/5"}
    bench.ask("one", 5, Urgency.AHEAD)
    bench.wait(lambda: bench.read == ["one/5"])
    bench.fetching.request(5, None, Urgency.READ)
    bench.go.set()
    bench.wait(lambda: 5 in bench.answers)
    bench.fetching.request(5, None, Urgency.READ)
    bench.ask("one", 6)
    bench.wait(lambda: 6 in bench.answers)
    assert bench.read == ["one/5", "one/6"]


def test_element_that_does_not_answer_does_not_hold_up_another(bench: Bench) -> None:
    hold_all_threads(bench)
    bench.ask("two", 7)
    bench.wait(lambda: 7 in bench.answers)
    assert bench.answers[7].stored == 4096
    bench.go.set()
    bench.wait(lambda: len(bench.answers) == THREADS + 1)


def test_elements_are_opened_when_they_are_needed(bench: Bench) -> None:
    assert bench.opened == []
    for number in range(3):
        bench.ask("two", number)
    bench.wait(lambda: len(bench.answers) == 3)
    assert bench.opened == ["two"]


@pytest.mark.parametrize(
    "answer",
    [
        FetchAnswer(stored=4096),
        FetchAnswer(data=bytes(range(256)), is_full=True),
        FetchAnswer(data=b""),
    ],
)
def test_messages_come_through_as_they_were(bench: Bench, answer: FetchAnswer) -> None:
    job = bench.job("one", 3)
    for told in (job, None):
        message = json.loads(json.dumps(fetch_message(9, told, Urgency.AHEAD)))
        assert fetch_of(message) == (9, told, Urgency.AHEAD)
    assert answer_of(json.loads(json.dumps(answer_message(9, answer)))) == (9, answer)


@pytest.mark.parametrize(
    "message",
    [{}, {"fetch": 1, "job": {}, "urgency": 0}, {"fetch": 1, "job": {"kind": "x"}, "urgency": 0}],
)
def test_messages_that_nobody_can_have_meant(message: dict[str, Any]) -> None:
    with pytest.raises(MessageInvalid):
        fetch_of(message)
    with pytest.raises(MessageInvalid):
        answer_of(message)
