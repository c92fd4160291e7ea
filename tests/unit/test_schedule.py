"""When intents are due; time is a number here."""

import random

from artstorefs.state.log import Removal
from artstorefs.transfer.schedule import RETRY_LIMIT_S, SETTLE_LIMIT, Schedule


def test_a_node_is_due_once_it_has_been_left_alone() -> None:
    schedule = Schedule(2.0)
    schedule.node_changed(1, 100.0)
    assert schedule.take_due(101.9, 10) == []
    schedule.node_changed(1, 101.9)
    assert schedule.next_due_s(102.0) == 1.9000000000000057
    assert schedule.take_due(102.1, 10) == []
    assert schedule.take_due(103.9, 10) == [1]
    assert schedule.in_flight == {1}
    assert schedule.pending == 1
    schedule.stored(1, 7)
    assert schedule.is_empty


def test_a_node_that_never_rests_is_carried_all_the_same() -> None:
    schedule = Schedule(1.0)
    now = 0.0
    taken_after = []
    for _ in range(1000):
        schedule.node_changed(1, now)
        schedule.node_changed(int(now * 100) + 1000, now)  # others come and go
        now += 0.1
        if 1 in schedule.take_due(now, 100):
            taken_after.append(now)
            schedule.stored(1, 0)
        if len(taken_after) == 3:
            break
    gaps = [b - a for a, b in zip([0.0, *taken_after], taken_after, strict=False)]
    assert len(gaps) == 3
    assert max(gaps) <= SETTLE_LIMIT + 0.2


def test_hurry_does_not_wait_for_settling() -> None:
    schedule = Schedule(100.0)
    schedule.node_changed(1, 0.0)
    schedule.node_changed(2, 0.0)
    assert schedule.take_due(0.0, 10) == []
    assert schedule.take_due(0.0, 1, hurry=True) == [1]
    assert schedule.take_due(0.0, 10, hurry=True) == [2]


def test_a_change_while_in_flight_waits_for_the_answer() -> None:
    schedule = Schedule(0.0)
    schedule.node_changed(1, 0.0)
    assert schedule.take_due(0.0, 10) == [1]
    schedule.node_changed(1, 1.0)
    assert schedule.take_due(5.0, 10) == []
    assert schedule.next_due_s(5.0) == float("inf")  # the answer wakes, not the clock
    schedule.stored(1, 3)
    assert schedule.take_due(5.0, 10) == [1]


def test_pauses_grow_up_to_a_limit() -> None:
    random.seed(1)
    schedule = Schedule(0.0)
    schedule.node_changed(1, 0.0)
    now, pauses = 0.0, []
    for _ in range(12):
        assert schedule.take_due(now, 10) == [1]
        schedule.failed(1, now)
        assert schedule.retrying == schedule.pending == 1
        pause = schedule.next_due_s(now)
        assert schedule.take_due(now + pause - 0.01, 10, hurry=True) == []
        pauses.append(pause)
        now += pause + 0.01
    assert pauses[0] < 1.3
    assert RETRY_LIMIT_S * 0.75 <= pauses[-1] <= RETRY_LIMIT_S * 1.25
    assert schedule.take_due(now, 10) == [1]
    schedule.stored(1, 1)
    assert (schedule.retrying, schedule.pending) == (0, 0)


def test_many_that_fail_do_not_hold_up_the_next() -> None:
    schedule = Schedule(1.0)
    for ino in range(100):
        schedule.node_changed(ino, 0.0)
    for ino in schedule.take_due(1.0, 1000):
        for _ in range(7):
            schedule.failed(ino, 1.0)
    schedule.node_changed(1000, 10.0)
    assert schedule.next_due_s(10.0) <= 1.0
    assert schedule.take_due(11.0, 10) == [1000]


def test_a_removal_that_fails_does_not_hold_up_the_rest() -> None:
    schedule = Schedule(0.5)
    schedule.removal_logged(7, Removal(ino=1, remove=[["main", "k"]]))
    assert [log_id for log_id, _ in schedule.take_removals(0.0, 10)] == [7]
    schedule.removal_failed(7, 0.0)
    schedule.node_changed(2, 0.0)
    assert schedule.next_due_s(0.0) == 0.5
    assert schedule.take_removals(1.0, 10) == []
    assert schedule.take_due(0.5, 10) == [2]
    assert (schedule.pending, schedule.retrying) == (2, 1)
    assert [log_id for log_id, _ in schedule.take_removals(5.0, 10)] == [7]
    schedule.removed(7)
    schedule.stored(2, 1)
    assert schedule.is_empty


def test_a_removal_that_is_refused_holds_up_no_other() -> None:
    """Its pauses grow. SEMANTICS: RETAIN-7"""
    schedule = Schedule(0.5)
    schedule.removal_logged(7, Removal(ino=1, remove=[["main", "k"]]))
    now, pauses = 0.0, []
    for _ in range(6):
        assert [log_id for log_id, _ in schedule.take_removals(now, 10)] == [7]
        schedule.removal_failed(7, now, is_refused=True)
        pauses.append(schedule.next_due_s(now))
        now += pauses[-1]
    assert pauses == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    schedule.take_removals(now, 10)
    schedule.removal_failed(7, now, is_refused=True)
    schedule.removal_logged(8, Removal(ino=2, remove=[["main", "l"]]))
    assert schedule.next_due_s(now) == 0.0
    assert [log_id for log_id, _ in schedule.take_removals(now, 10)] == [8]
    schedule.removed(8)
    assert (schedule.pending, schedule.retrying) == (1, 1)
    schedule.try_again_now()
    assert [log_id for log_id, _ in schedule.take_removals(now, 10)] == [7]
    schedule.removed(7)
    assert schedule.is_empty


def test_a_removal_waits_for_its_node_to_be_let_go() -> None:
    schedule = Schedule(0.0)
    schedule.node_changed(1, 0.0)
    schedule.take_due(0.0, 10)
    schedule.removal_logged(7, Removal(ino=1, spool=["1.1"]))
    assert schedule.take_removals(0.0, 10) == []
    schedule.stored(1, 5)
    assert [log_id for log_id, _ in schedule.take_removals(0.0, 10)] == [7]


def test_a_node_waits_while_something_of_it_is_removed() -> None:
    schedule = Schedule(0.0)
    schedule.removal_logged(7, Removal(ino=1, remove=[["main", "record"]]))
    schedule.node_changed(1, 0.0)
    schedule.node_changed(2, 0.0)
    assert schedule.take_due(9.0, 10, hurry=True) == [2]
    schedule.take_removals(9.0, 10)
    assert schedule.take_due(9.0, 10, hurry=True) == []
    schedule.transfer_process_died(9.0)
    assert schedule.take_due(9.0, 10, hurry=True) == [2]
    schedule.take_removals(99.0, 10)
    schedule.removed(7)
    schedule.removed(7)  # told twice
    assert schedule.take_due(99.0, 10, hurry=True) == [1]


def test_a_removal_that_failed_holds_up_only_what_goes_to_its_key() -> None:
    schedule = Schedule(0.0)
    schedule.removal_logged(7, Removal(ino=1, remove=[["main", "record"]]))
    schedule.node_changed(1, 0.0)
    schedule.take_removals(9.0, 10)
    schedule.removal_failed(7, 9.0)
    assert schedule.take_due(9.0, 10) == [1]
    assert schedule.keys_being_removed(1) == {"record"}
    schedule.failed(1, 9.0)  # it was to go there
    assert schedule.take_due(9.1, 10) == []
    assert schedule.retrying == schedule.pending == 2
    schedule.take_removals(99.0, 10)
    schedule.removed(7)
    assert schedule.keys_being_removed(1) == set()
    assert schedule.take_due(9.1, 10) == [1]


def test_a_removal_of_spool_files_only_holds_up_nothing() -> None:
    schedule = Schedule(0.0)
    schedule.removal_logged(7, Removal(ino=1, spool=["1.1"]))
    schedule.node_changed(1, 0.0)
    assert schedule.take_due(0.0, 10) == [1]


def test_a_removal_after_a_revision() -> None:
    schedule = Schedule(0.0)
    schedule.node_changed(1, 0.0)
    schedule.removal_logged(7, Removal(ino=2, remove=[["main", "k"]], after=[1, 5]))
    assert schedule.take_removals(9.0, 10) == []
    assert schedule.take_due(9.0, 10) == [1]
    schedule.stored(1, 4)
    schedule.again(1, 9.0)
    assert schedule.take_removals(9.0, 10) == []
    schedule.take_due(9.0, 10)
    schedule.stored(1, 5)
    assert [log_id for log_id, _ in schedule.take_removals(9.0, 10)] == [7]


def test_a_removal_after_a_node_that_is_deleted() -> None:
    schedule = Schedule(0.0)
    schedule.node_changed(1, 0.0)
    schedule.removal_logged(7, Removal(ino=2, remove=[["main", "k"]], after=[1, 5]))
    schedule.take_due(0.0, 10)
    schedule.gone(1)
    assert [log_id for log_id, _ in schedule.take_removals(9.0, 10)] == [7]


def test_removals_after_a_start() -> None:
    schedule = Schedule(0.0)
    schedule.node_changed(1, 0.0)
    schedule.removal_logged(7, Removal(ino=2, remove=[["main", "k"]], after=[1, 5]))
    schedule.removal_logged(8, Removal(ino=3, remove=[["main", "l"]], after=[4, 5]))
    schedule.loaded()
    assert [log_id for log_id, _ in schedule.take_removals(0.0, 10)] == [8]


def test_what_waits_for_a_node_that_fails_counts_as_failing() -> None:
    """`flush` ends when all that is left has failed or waits for that."""
    schedule = Schedule(0.0)
    schedule.node_changed(1, 0.0)
    schedule.removal_logged(7, Removal(ino=2, remove=[["main", "k"]], after=[1, 5]))
    schedule.take_due(0.0, 10)
    assert (schedule.pending, schedule.retrying) == (2, 0)
    schedule.failed(1, 0.0)
    assert (schedule.pending, schedule.retrying) == (2, 2)


def test_death_of_the_transfer_process() -> None:
    schedule = Schedule(60.0)
    for ino in (1, 2, 3):
        schedule.node_changed(ino, 0.0)
    schedule.removal_logged(7, Removal(ino=8, spool=["8.1"]))
    schedule.removal_logged(9, Removal(ino=8, remove=[["main", "k"]], after=[3, 1]))
    assert schedule.take_due(60.0, 2) == [1, 2]
    schedule.take_removals(60.0, 10)
    schedule.node_changed(2, 61.0)
    schedule.transfer_process_died(62.0)
    assert sorted(schedule.take_due(62.0, 10)) == [1, 2, 3]
    assert [log_id for log_id, _ in schedule.take_removals(62.0, 10)] == [7]


def test_every_intent_is_there_once_whatever_happens() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    choose = random.Random(seed)
    schedule = Schedule(1.0)
    now, log_id, revision = 0.0, 0, 0
    pending: set[int] = set()
    removals: set[int] = set()
    removing: set[int] = set()
    for _ in range(5000):
        now += choose.random()
        ino, revision = choose.randrange(8), revision + 1
        action = choose.randrange(7)
        if action == 0:
            schedule.node_changed(ino, now)
            pending.add(ino)
        elif action == 6:
            schedule.try_again_now()
        elif action == 1:
            log_id += 1
            after = [choose.randrange(8), revision] if choose.random() < 0.5 else None
            if after and after[0] not in pending:
                after = None  # it names a change of the same transaction
            if after:
                schedule.node_changed(after[0], now)
            schedule.removal_logged(log_id, Removal(ino=ino, remove=[["m", "k"]], after=after))
            removals.add(log_id)
        elif action == 2:
            schedule.take_due(now, 3, hurry=choose.random() < 0.5)
        elif action == 3:
            removing |= {taken for taken, _ in schedule.take_removals(now, 3)}
        elif action == 4 and schedule.in_flight:
            ino = choose.choice(sorted(schedule.in_flight))
            if choose.random() < 0.3:
                schedule.failed(ino, now)
            else:
                schedule.stored(ino, revision)
                if ino not in schedule._waiting:
                    pending.discard(ino)
        elif removing:
            done = removing.pop()
            if choose.random() < 0.3:
                schedule.removal_failed(done, now)
            else:
                schedule.removed(done)
                removals.discard(done)
        assert schedule.retrying <= schedule.pending
        assert set(schedule._waiting) | schedule.in_flight == pending
        assert set(schedule._removals) == removals
    for _ in range(2000):  # what is left can always be brought to an end
        now += 100
        for ino in schedule.take_due(now, 100, hurry=True):
            schedule.stored(ino, revision)
        for taken in list(removing) + [taken for taken, _ in schedule.take_removals(now, 100)]:
            schedule.removed(taken)
        removing.clear()
        for ino in list(schedule.in_flight):
            schedule.stored(ino, revision)
        if schedule.is_empty:
            return
    raise AssertionError(schedule)


def test_what_has_failed_is_tried_at_once_when_somebody_asks() -> None:
    schedule = Schedule(settle_s=1.0)
    schedule.node_changed(7, 0.0)
    assert schedule.take_due(10.0, 10) == [7]
    schedule.failed(7, 10.0)
    assert schedule.take_due(10.1, 10, hurry=True) == []
    assert schedule.retrying == 1
    schedule.try_again_now()
    assert schedule.retrying == 0
    assert schedule.take_due(10.1, 10, hurry=True) == [7]


def test_what_was_under_way_when_somebody_asked_is_tried_once_more() -> None:
    """Its failure may be of before: the disk has been plugged in since, and then flush is run."""
    schedule = Schedule(settle_s=1.0)
    schedule.node_changed(7, 0.0)
    schedule.removal_logged(3, Removal(ino=9, remove=[["main", "k"]]))
    assert schedule.take_due(10.0, 10) == [7]
    assert [log_id for log_id, _ in schedule.take_removals(10.0, 10)] == [3]
    schedule.try_again_now()
    schedule.failed(7, 10.1)
    schedule.removal_failed(3, 10.1)
    assert (schedule.pending, schedule.retrying) == (2, 0)
    assert schedule.take_due(10.1, 10, hurry=True) == [7]
    assert [log_id for log_id, _ in schedule.take_removals(10.1, 10)] == [3]
    schedule.failed(7, 10.2)
    schedule.removal_failed(3, 10.2)
    assert (schedule.pending, schedule.retrying) == (2, 2)
