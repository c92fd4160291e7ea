"""Counting requests of the kernel: what is counted, what is remembered as slow, and the price."""

import errno
import time
from typing import Any

import pytest
import trio

from artstorefs.core.errors import ElementUnavailable
from artstorefs_daemon import operation_statistics, operations
from artstorefs_daemon.operation_statistics import (
    BOUNDS_S,
    NOTICED_S,
    SHOWN,
    WINDOW_S,
    OperationStatistics,
    SlowestRequests,
    SlowRequest,
    Statistic,
)
from artstorefs_daemon.operations import Operations, answers, pyfuse3

COST_MAX_S = 5e-6
"""Ten times what it costs: so that a machine that is busy with other things does not fail this, but
a lock, a system call or a line of a log would."""


def slow(took_s: float, kind: str = "read") -> SlowRequest:
    return SlowRequest(kind, took_s, 0.0, 7, "/a")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_each_duration_is_in_the_first_bucket_that_holds_it() -> None:
    for place, bound_s in enumerate(BOUNDS_S):
        statistic = Statistic()
        statistic.took(bound_s)
        statistic.took(bound_s * 1.01)
        assert statistic.counts[place : place + 2] == [1, 1]
        message = statistic.to_message()
        assert message["count"] == sum(message["latency"]) == 2
        assert message["max_s"] == bound_s * 1.01
        assert message["total_s"] == pytest.approx(bound_s * 2.01)


def test_longest_is_known_however_short_and_only_the_noticeable_are_looked_at() -> None:
    statistic = Statistic()
    durations = [3e-6, 2e-6, 5e-6, NOTICED_S, NOTICED_S * 1.5, NOTICED_S * 1.2, 9e-6]
    noticed = [statistic.took(duration_s) for duration_s in durations]
    assert noticed == [False, False, False, False, True, True, False]
    assert statistic.max_s == NOTICED_S * 1.5


def test_slowest_are_few_and_of_the_last_minutes() -> None:
    clock = Clock()
    slowest = SlowestRequests(clock)
    for number in range(1000):
        if slowest.is_one(number):
            slowest.add(slow(number))
    assert [one.took_s for one in slowest.listed()] == list(range(999, 999 - SHOWN, -1))
    assert not slowest.is_one(1)
    clock.now_s = WINDOW_S
    assert slowest.is_one(1)  # of the new window
    slowest.add(slow(5000))
    assert [one.took_s for one in slowest.listed()][:2] == [5000, 999]
    clock.now_s = 2 * WINDOW_S
    assert [one.took_s for one in slowest.listed()] == [5000]
    clock.now_s = 9.5 * WINDOW_S
    assert slowest.listed() == []
    assert slowest.is_one(1)


class StubOperations(Operations):
    """Without a service: only what the decorator needs."""

    def __init__(self) -> None:
        self.note_damage = lambda exc: False

    def subject(self, arguments: dict[str, Any]) -> tuple[int | None, str | None]:
        return arguments["inode"], f"/{arguments['inode']}"

    @answers
    async def tried(self, inode: int, fails: Exception | None = None, wait_s: float = 0.0) -> int:
        await trio.sleep(wait_s)
        if fails:
            raise fails
        return inode


TRIED = operations.STATISTICS.of("tried")


@pytest.fixture
def statistics(monkeypatch: pytest.MonkeyPatch) -> OperationStatistics:
    """Those of a decorated handler, from zero."""
    statistics = operations.STATISTICS
    monkeypatch.setattr(statistics, "slowest", SlowestRequests())
    monkeypatch.setattr(statistics, "_kinds", {})
    return statistics


async def test_request_is_counted_with_its_wait_and_its_errno(
    statistics: OperationStatistics, autojump_clock: trio.testing.MockClock
) -> None:
    known = operations.STATISTICS
    assert known is statistics
    statistic = TRIED
    before, total_s = sum(statistic.counts), statistic.total_s
    stub = StubOperations()
    assert await stub.tried(3) == 3
    for exc, code in (
        (pyfuse3.FUSEError(errno.ENODATA), errno.ENODATA),
        (FileExistsError(errno.EEXIST, ""), errno.EEXIST),
        (ElementUnavailable("main", "", "away"), ElementUnavailable.errno_code),
        (ZeroDivisionError(), errno.EIO),
    ):
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await stub.tried(4, exc)
        assert raised.value.errno == code
    assert sum(statistic.counts) - before == 5
    assert statistic.total_s > total_s
    told = statistic.to_message()["errors"]
    assert (told["ENODATA"], told["EEXIST"], told["EIO"]) == (1, 1, 2)


async def test_slow_request_is_remembered_with_what_it_was_about(
    statistics: OperationStatistics,
) -> None:
    await StubOperations().tried(9, None, NOTICED_S * 5)
    (found,) = statistics.to_message()["slowest"]
    assert found["took_ms"] >= NOTICED_S * 5e3
    assert (found["kind"], found["inode"], found["path"]) == ("tried", 9, "/9")
    assert found["ended_at"].endswith("Z")


def test_every_kind_of_request_is_told_of_from_the_start() -> None:
    kinds = operations.STATISTICS.to_message()["operations"]
    assert {"lookup", "getattr", "create", "write", "read", "release", "fallocate"} <= set(kinds)
    assert kinds["rename"].keys() == {"count", "errors", "total_s", "max_s", "latency"}


def test_price_of_a_request() -> None:
    statistic = Statistic()
    clock_s = operation_statistics.clock_s
    durations = []
    for _ in range(5):
        began_s = time.perf_counter()
        for _ in range(2000):
            start_s = clock_s()
            statistic.took(clock_s() - start_s)
        durations.append((time.perf_counter() - began_s) / 2000)
    assert min(durations) < COST_MAX_S
