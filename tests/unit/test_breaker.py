"""Each transition of the table in `artstorefs/elements/breaker.py`; time is a number here."""

import math
import random
import threading
from contextlib import suppress

import pytest

from artstorefs.elements.breaker import (
    FAILURES,
    JITTER,
    PAUSE_FIRST_S,
    PAUSE_LIMIT_S,
    Breaker,
    CallRefused,
    Permit,
)

WHY = "no connection: Connection refused"


def refused(breaker: Breaker, now_s: float) -> str:
    """What is said of a call that is not to be made."""
    with pytest.raises(CallRefused) as raised:
        breaker.begin(now_s)
    return str(raised.value)


def opened(now_s: float = 100.0) -> Breaker:
    """One that has just been opened by a server that does not answer."""
    breaker = Breaker(0.0, random.Random(1))
    breaker.failed(breaker.begin(now_s), now_s, WHY, is_silent=True)
    assert breaker.view(now_s).state == "open"
    return breaker


def due_s(breaker: Breaker, now_s: float) -> float:
    """How long until the trial."""
    trial_in_s = breaker.view(now_s).trial_in_s
    assert trial_in_s is not None
    return trial_in_s


def test_closed_opens_with_so_many_failures_in_a_row() -> None:
    breaker = Breaker(5.0)
    for _ in range(FAILURES - 1):
        breaker.failed(breaker.begin(10.0), 10.0, WHY)
    breaker.answered(10.0)  # in a row: it begins anew
    for _ in range(FAILURES - 1):
        breaker.failed(breaker.begin(20.0), 20.0, WHY)
    assert breaker.view(25.0).state == "closed"
    assert breaker.view(25.0).for_s == 20.0
    breaker.failed(breaker.begin(30.0), 30.0, WHY)
    view = breaker.view(30.5)
    assert (view.state, view.for_s, view.reason) == ("open", 0.5, WHY)
    assert refused(breaker, 30.5)


def test_closed_opens_at_once_when_nothing_answered() -> None:
    assert refused(opened(), 100.1)


def test_of_a_tool_opens_for_silence_alone() -> None:
    breaker = Breaker(failures=math.inf)
    for _ in range(100):
        breaker.failed(breaker.begin(0.0), 0.0, WHY)
    assert breaker.view(0.0).state == "closed"
    breaker.failed(breaker.begin(0.0), 0.0, WHY, is_silent=True)
    assert refused(breaker, 0.1)


def test_refused_says_why_and_when_it_is_tried_again() -> None:
    breaker = opened()
    breaker.failed(Permit(0), 100.0, "what comes later changes nothing", not_before_s=500.0)
    breaker.try_now(107.0)
    assert refused(breaker, 100.0) == f"{WHY}; asked again in 7 s"
    breaker.begin(107.0)
    assert refused(breaker, 107.0) == f"{WHY}; just being asked again"


def test_one_trial_after_the_pause_and_its_answer_closes() -> None:
    breaker = opened()
    pause_s = due_s(breaker, 100.0)
    assert refused(breaker, 100.0 + pause_s * 0.99)
    trial = breaker.begin(100.0 + pause_s)
    assert trial.trial
    assert breaker.view(102.0).state == "half-open"
    assert breaker.view(102.0).trial_in_s is None
    assert refused(breaker, 1000.0)  # however long it takes
    breaker.answered(1001.0)
    view = breaker.view(1003.0)
    assert (view.state, view.for_s, view.reason) == ("closed", 2.0, "")
    assert breaker.begin(1003.0).trial == 0


def test_failed_trials_make_longer_pauses_with_chance_in_them() -> None:
    breaker = opened(now_s := 100.0)
    wanted, pauses = PAUSE_FIRST_S, []
    for _ in range(12):
        pause_s = due_s(breaker, now_s)
        assert wanted * JITTER[0] <= pause_s <= wanted * JITTER[1]
        pauses.append(pause_s / wanted)
        wanted = min(wanted * 2, PAUSE_LIMIT_S)
        now_s += pause_s
        breaker.failed(breaker.begin(now_s), now_s, WHY)
        assert breaker.view(now_s).state == "open"
        assert breaker.view(now_s).for_s == pytest.approx(now_s - 100.0)  # all the time
    assert wanted == PAUSE_LIMIT_S
    assert len(set(pauses)) > 6
    breaker.try_now(now_s)
    breaker.answered(now_s)
    breaker.failed(breaker.begin(now_s), now_s, WHY, is_silent=True)
    assert due_s(breaker, now_s) <= PAUSE_FIRST_S * JITTER[1]


def test_server_that_says_when_is_left_alone_until_then() -> None:
    breaker = Breaker()
    breaker.failed(breaker.begin(0.0), 0.0, WHY, is_silent=True, not_before_s=30.0)
    assert due_s(breaker, 0.0) == 30.0


def test_somebody_who_asks_makes_the_next_call_the_trial_and_pauses_begin_anew() -> None:
    breaker = opened()
    for now_s in (200.0, 300.0, 400.0, 500.0):
        breaker.failed(breaker.begin(now_s), now_s, WHY)
    assert due_s(breaker, 500.0) > 4
    breaker.try_now(500.0)
    trial = breaker.begin(500.0)
    breaker.try_now(500.0)  # while it is under way: no second one
    assert refused(breaker, 500.0)
    breaker.failed(trial, 501.0, WHY)
    assert due_s(breaker, 501.0) <= PAUSE_FIRST_S * JITTER[1]
    closed = Breaker()
    closed.try_now(1.0)
    assert closed.view(1.0).state == "closed"


def test_call_from_before_that_is_answered_closes_and_one_that_fails_does_nothing() -> None:
    breaker = Breaker()
    before = breaker.begin(0.0)
    breaker.failed(breaker.begin(0.0), 0.0, WHY, is_silent=True)
    pause_s = due_s(breaker, 0.0)
    breaker.failed(before, 0.0, "another", is_silent=True)
    assert due_s(breaker, 0.0) == pause_s
    trial = breaker.begin(2.0)
    breaker.failed(before, 2.0, "another", is_silent=True)
    assert breaker.view(2.0).state == "half-open"
    breaker.answered(3.0)
    assert breaker.view(3.0).state == "closed"
    breaker.failed(trial, 4.0, WHY)  # one failure, as of any call
    assert breaker.view(4.0).state == "closed"


def test_trial_of_an_earlier_outage_is_not_taken_for_that_of_this_one() -> None:
    breaker = opened()
    earlier = breaker.begin(200.0)
    breaker.answered(201.0)
    breaker.failed(Permit(0), 202.0, WHY, is_silent=True)
    breaker.begin(300.0)
    breaker.failed(earlier, 301.0, WHY)
    breaker.abandoned(earlier)
    assert breaker.view(301.0).state == "half-open"


def test_trial_without_an_outcome_makes_room_for_another() -> None:
    breaker = opened()
    trial = breaker.begin(200.0)
    breaker.abandoned(trial)
    assert breaker.view(200.0).state == "open"
    assert breaker.begin(200.0).trial
    ordinary = Breaker()
    ordinary.abandoned(ordinary.begin(0.0))
    assert ordinary.view(0.0).state == "closed"


def test_of_many_threads_one_makes_the_trial() -> None:
    """SEMANTICS: ELEM-19"""
    breaker = opened()
    for outage in range(20):
        now_s = 1000.0 * (outage + 1)
        start = threading.Barrier(8)
        permits: list[Permit] = []

        def ask(now_s: float = now_s, start: threading.Barrier = start) -> None:
            start.wait()
            with suppress(CallRefused):
                permits.append(breaker.begin(now_s))  # noqa: B023  # ended before it is another

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (trial,) = permits
        breaker.failed(trial, now_s, WHY)
