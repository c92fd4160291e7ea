"""What `status` tells of the elements, over the ends of transfer processes."""

import time
from dataclasses import asdict
from typing import Any

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import ElementUnavailable
from artstorefs.elements.breaker import Breaker
from artstorefs.elements.counters import CallCounts, Counters
from artstorefs.elements.interface import Capacity
from artstorefs_daemon.element_reports import ElementReports

NOW_S = time.mktime(time.strptime("2026-01-02", "%Y-%m-%d")) - time.timezone


def gauges(
    counters: Counters,
    breaker: Breaker | None = None,
    now_s: float = 0.0,
    locks: bool | None = None,
) -> Any:
    view = None if breaker is None else asdict(breaker.view(now_s))
    counted = counters.counts().to_message()
    return {"main": {"counters": counted, "breaker": view, "locks": locks}}


def test_totals_are_those_of_all_transfer_processes_and_of_the_mount_process() -> None:
    """SEMANTICS: ELEM-20"""
    here = Counters()
    reports = ElementReports({"main": here})
    assert reports.counts("main").to_message() == Counters().counts().to_message()
    here.called("open_read", 0.5)
    first = Counters()
    for _ in range(3):
        first.called("put", 1.0)
        first.sent(10)
        reports.take_gauges(gauges(first))  # each report holds those before
    assert reports.counts("main").call("put") == CallCounts(3, 3.0, 1.0)
    reports.process_ended()
    assert reports.counts("main").call("put") == CallCounts(3, 3.0, 1.0)
    reports.process_ended()  # one that ended before it had told anything
    second = Counters()
    second.called("put", 2.0)
    second.failed(ElementUnavailable("main", "", "away"))
    reports.take_gauges(gauges(second))
    total = reports.counts("main")
    assert total.call("put") == CallCounts(4, 5.0, 2.0)
    assert total.call("open_read") == CallCounts(1, 0.5, 0.5)
    assert total.sent_bytes == 30
    assert total.errors == {"ElementUnavailable": 1}


def test_breaker_is_told_with_times_of_the_clock_on_the_wall() -> None:
    """SEMANTICS: ELEM-19"""
    reports = ElementReports({}, wall_s=lambda: NOW_S)
    assert reports.breaker("main") is None
    breaker = Breaker(100.0)
    reports.take_gauges(gauges(Counters(), breaker, 160.0))
    assert reports.breaker("main") == {
        "state": "closed",
        "since": "2026-01-01T23:59:00Z",
        "next_trial": None,
        "reason": None,
    }
    breaker.failed(breaker.begin(160.0), 160.0, "no connection", is_silent=True, not_before_s=20.0)
    reports.take_gauges(gauges(Counters(), breaker, 165.0))
    assert reports.breaker("main") == {
        "state": "open",
        "since": "2026-01-01T23:59:55Z",
        "next_trial": "2026-01-02T00:00:15Z",
        "reason": "no connection",
    }
    reports.process_ended()
    assert reports.breaker("main") is None
    reports.take_gauges(gauges(Counters()))  # a local element
    assert reports.breaker("main") is None


def test_room_is_what_was_said_last_and_a_return_is_noticed() -> None:
    reports = ElementReports({})
    room = {"total_bytes": 9, "free_bytes": 5, "total_files": None, "free_files": None}
    assert not reports.take_capacities({"tried": False, "capacity": {"main": room}})
    away = {"error": "element main: is away"}
    assert not reports.take_capacities({"tried": True, "capacity": {"main": away}})
    assert reports.errors == {"main": "element main: is away"}
    assert reports.capacities == {"main": Capacity(9, 5, None, None)}
    assert reports.times_tried == 1
    assert reports.take_capacities({"tried": False, "capacity": {"main": room}})
    assert reports.errors == {}
    assert reports.times_tried == 1


def test_how_a_bucket_locks_is_told_once_it_has_said_that_it_does() -> None:
    """SEMANTICS: RETAIN-5"""
    element = ElementConfiguration(id="main", kind="s3", bucket="bucket", object_lock="compliance")
    reports = ElementReports({})
    seen = []
    for locks in (None, False, None, True, None):
        reports.take_gauges(gauges(Counters(), locks=locks))
        seen.append(reports.status([element], {})[0]["object_lock"])
    assert seen == [None, None, None, "compliance", "compliance"]
