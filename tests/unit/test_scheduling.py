"""Tests that share a machine stay in one process, whoever else has nothing to do."""

from collections.abc import Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

from ..scheduling import KeepsTogether

TOGETHER = [f"tests/systemd/test_service.py::test_{number}" for number in range(24)]
OTHERS = [f"tests/unit/test_other.py::test_{number}" for number in range(80)]


class Process:
    """A worker of pytest-xdist; `todo` is what it has been given."""

    def __init__(self, scheduler: KeepsTogether) -> None:
        self._scheduler = scheduler
        self.gateway = SimpleNamespace(id=id(self))
        self.shutting_down = False
        self.todo: list[int] = []
        self.done: list[int] = []

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        self.todo += indices

    def send_steal(self, indices: Sequence[int]) -> None:
        self.wanted = list(indices)

    def give(self) -> None:
        """What was asked for and is not begun yet."""
        given = [index for index in self.wanted if index in self.todo[1:]]
        self.todo = [index for index in self.todo if index not in given]
        scheduler: Any = self._scheduler
        scheduler.remove_pending_tests_from_node(self, given)

    def shutdown(self) -> None:
        self.shutting_down = True

    def run_one(self) -> None:
        """As a worker does it: the last one only once it knows what follows."""
        if len(self.todo) > 1 or (self.todo and self.shutting_down):
            self.done.append(self.todo.pop(0))
            scheduler: Any = self._scheduler
            scheduler.mark_test_complete(self, self.done[-1])


def split(collection: list[str], paces: Sequence[int]) -> list[list[str]]:
    """What each process has run; it runs one test in as many rounds as its pace says."""
    specs = SimpleNamespace(getvalue=lambda name: ["popen"] * len(paces))
    scheduler: Any = KeepsTogether(specs, SimpleNamespace(workstealsched=print))  # type: ignore[arg-type]
    processes = [Process(scheduler) for _ in paces]
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, collection)
    scheduler.schedule()
    for turn in range(10_000):
        for process, pace in zip(processes, paces, strict=True):
            if turn % pace == 0:
                process.run_one()
        if scheduler.steal_requested_from_node is not None:
            scheduler.steal_requested_from_node.give()
        if not any(process.todo for process in processes):
            break
    assert scheduler.tests_finished
    return [[collection[index] for index in process.done] for process in processes]


def test_slow_folder_is_taken_from_nobody() -> None:
    ran = split([*TOGETHER, *OTHERS], [50, 1, 1, 1])
    assert sorted(chain.from_iterable(ran)) == sorted([*TOGETHER, *OTHERS])
    assert ran[0] == TOGETHER


def test_folder_is_not_divided_at_the_beginning() -> None:
    ran = split([*TOGETHER, *OTHERS[:8]], [1, 1, 1, 1])
    assert ran[0] == TOGETHER
    assert sorted(chain.from_iterable(ran[1:])) == sorted(OTHERS[:8])


def test_who_is_done_with_it_takes_from_others() -> None:
    ran = split([*TOGETHER, *OTHERS], [1, 50, 50])
    assert ran[0][:24] == TOGETHER
    assert len(ran[0]) > 90


def test_folder_alone_is_for_one() -> None:
    assert [len(tests) for tests in split(TOGETHER, [1, 1])] == [24, 0]


def test_others_are_taken_as_ever() -> None:
    ran = split(OTHERS, [50, 1])
    assert len(ran[0]) < 10
    assert sum(len(tests) for tests in ran) == len(OTHERS)
