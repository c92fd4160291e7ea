"""Options of the longer tests. pytest knows only those of this file when it runs everything."""

import gc
import os
import random
import signal
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from .scheduling import KeepsTogether, is_together


def pytest_configure(config: pytest.Config) -> None:
    """One seed for everything that chooses its cases while it is collected: the processes of a
    run that is split have to collect the same. And the interrupt as a terminal sends it, which a
    shell has its background jobs ignore, and they what they start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("ASFS_SEED", str(random.SystemRandom().randrange(2**32)))
    config.addinivalue_line("markers", "long: takes a minute or more, and is begun first")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays to the end: looking through it for garbage takes a third of the time,
    and in a process that is forked from this one a copy of it all."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """So that at the end of a run that is split no process waits for one long test: each begins
    with its share of them. What it is given first are neighbours in the list, as many as others.
    What stays together (scheduling.py) is all that one process has at first."""
    processes = int(getattr(config, "workerinput", {}).get("workercount", 1))
    together = [item for item in items if is_together(item.nodeid)]
    alone = [item for item in items if not is_together(item.nodeid)]
    if together and processes > 1:
        processes -= 1
    long = [item for item in alone if item.get_closest_marker("long") is not None]
    others = iter([item for item in alone if item.get_closest_marker("long") is None])
    order: list[pytest.Item] = []
    for number in range(processes):
        share = (len(alone) - len(order)) // (processes - number)
        first = long[number::processes]
        order += [*first, *islice(others, max(share - len(first), 0))]
    items[:] = [*together, *order, *others]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `--dist worksteal`; else the usual one."""
    return KeepsTogether(config, log) if config.getvalue("dist") == "worksteal" else None


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed of the random cases: ASFS_SEED={os.environ['ASFS_SEED']}"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("artstorefs")
    group.addoption("--kills", type=int, default=50, help="kills of the daemon under load")
    group.addoption("--kills-seed", type=int, help="repeat the kills of a run that printed this")
    group.addoption(
        "--operations", type=int, default=20_000, help="random operations, tests/model (20000)"
    )
    group.addoption("--seed", type=int, help="of the random operations, and of the power cuts")
    group.addoption("--cuts", type=int, default=10, help="power cuts")
    group.addoption("--states", type=int, default=1000, help="states of a disk after a power cut")
    group.addoption("--flips", type=int, default=200, help="bytes to flip in test_fsck_flips.py")
