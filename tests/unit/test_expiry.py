"""When a file is shown and removed, whatever the clocks do: time is an argument."""

import itertools
import json
import random
from contextlib import nullcontext
from typing import Any

import pytest

from artstorefs.core.expiry import (
    DAY_NS,
    Facts,
    Mark,
    Moment,
    Verdict,
    ahead_ns,
    decide,
    end_ns,
    left_ns,
)
from artstorefs.state.lived_time import LIVED, LivedTime
from artstorefs_daemon import machine_clock

GRACE_NS = 7 * DAY_NS
LIFE_NS = 30 * DAY_NS
BEGUN_NS = 20_000 * DAY_NS
HOUR_NS = DAY_NS // 24
PAST = '{"wall_ns": 1, "lived_ns": 1, "past": [1]}'
MINUTE_NS = HOUR_NS // 60


@pytest.mark.parametrize("values", list(itertools.product([False, True], repeat=4)))
def test_what_becomes_of_a_file(values: tuple[bool, ...]) -> None:
    """Every case there is."""
    facts = Facts(*values)
    is_at_end, is_shown, is_grace_over, is_busy = values
    may_go = is_at_end and is_shown and is_grace_over and not is_busy
    assert (decide(facts) is Verdict.REMOVE) is may_go
    assert (decide(facts) is Verdict.KEEP) is (not is_at_end)
    assert (decide(facts) is Verdict.SHOW) is (is_at_end and not is_shown)


def test_when_it_comes_to_its_end() -> None:
    assert end_ns(BEGUN_NS, LIFE_NS, 0) == BEGUN_NS + LIFE_NS
    assert end_ns(BEGUN_NS, LIFE_NS, BEGUN_NS + 2 * LIFE_NS) == BEGUN_NS + 2 * LIFE_NS
    assert end_ns(-BEGUN_NS, LIFE_NS, -BEGUN_NS) == LIFE_NS - BEGUN_NS  # before 1970


@pytest.mark.parametrize(
    ("wall_days", "lived_days", "left_days"),
    [
        (0, 0, 7),
        (3, 3, 4),
        (7, 7, 0),
        (400, 1, 6),  # not mounted for a year, or the clock has leapt
        (-9000, 8, 9007),  # the clock was set back
        (8, 7, 0),
        (7, 8, 0),
    ],
)
def test_grace_has_to_pass_by_both_clocks(wall_days: int, lived_days: int, left_days: int) -> None:
    """SEMANTICS: EXPIRE-5, EXPIRE-6"""
    shown = Moment(BEGUN_NS, 5 * DAY_NS)
    now = Moment(shown.wall_ns + wall_days * DAY_NS, shown.lived_ns + lived_days * DAY_NS)
    assert left_ns(shown, now, GRACE_NS) == left_days * DAY_NS
    assert ahead_ns(shown, now) == (wall_days - lived_days) * DAY_NS


class Machine:
    """Clocks that can be set, and a place for the setting. `true_ns` is the time that it really is;
    `wrong_ns` is how far the machine's clock is from it."""

    def __init__(self) -> None:
        self.true_ns = BEGUN_NS
        self.wrong_ns = 0
        self.is_synchronised = False
        self.settings: dict[str, str] = {}
        self.mount()

    def setting(self, key: str) -> str | None:
        return self.settings.get(key)

    def set_setting(self, key: str, value: str) -> None:
        self.settings[key] = value

    def transaction(self) -> Any:
        return nullcontext()

    def mount(self) -> None:
        """A new daemon, of a new boot perhaps."""
        boot_ns = self.true_ns - 5 * MINUTE_NS
        self.lived = LivedTime(
            self,  # type: ignore[arg-type]
            lambda: self.true_ns + self.wrong_ns,
            lambda: self.true_ns - boot_ns,
            lambda: self.is_synchronised,
        )

    def look(self) -> Moment | None:
        """What a look begins with; None: the clock is not believed."""
        now = self.lived.now()
        is_believed = self.lived.is_believed(now, GRACE_NS)
        self.lived.save(now)
        return now if is_believed else None


def test_clock_is_believed_until_it_is_too_far_ahead() -> None:
    """SEMANTICS: EXPIRE-6"""
    machine = Machine()
    assert machine.look()
    machine.true_ns += 100 * DAY_NS  # lived through
    assert machine.look()
    machine.wrong_ns = GRACE_NS
    assert machine.look()
    machine.wrong_ns += 1
    assert machine.look() is None
    machine.mount()  # which makes nothing better
    machine.wrong_ns += DAY_NS
    assert machine.look() is None
    machine.wrong_ns = 0
    assert machine.look()


@pytest.mark.parametrize("way", ["time server", "person"])
def test_who_knows_better_is_believed(way: str) -> None:
    """SEMANTICS: EXPIRE-6"""
    machine = Machine()
    machine.look()
    machine.true_ns += 400 * DAY_NS  # not mounted
    machine.mount()
    assert machine.look() is None
    if way == "person":
        machine.lived.believe(machine.lived.now())
    else:
        machine.is_synchronised = True
    assert machine.look()
    machine.is_synchronised = False
    assert machine.look()
    machine.mount()
    assert machine.look()


def test_return_of_a_clock_that_was_in_the_past_is_no_reason_to_doubt() -> None:
    """A dead battery, for two boots. SEMANTICS: EXPIRE-6"""
    machine = Machine()
    machine.look()
    machine.wrong_ns = -BEGUN_NS
    for _ in range(2):
        assert machine.look() is None
        machine.true_ns += 9 * DAY_NS
        assert machine.look() is None
        machine.mount()
    machine.wrong_ns = 0
    assert machine.look()
    machine.wrong_ns = GRACE_NS + 1
    assert machine.look() is None


def test_what_was_changed_while_the_clock_was_in_the_past_is_not_as_old_as_that() -> None:
    """Also when it is put right while nothing runs. SEMANTICS: EXPIRE-6"""
    machine = Machine()
    machine.look()
    machine.wrong_ns = -BEGUN_NS
    first_ns = machine.true_ns + machine.wrong_ns
    machine.look()
    machine.true_ns += 20 * DAY_NS
    machine.look()
    last_ns = machine.true_ns + machine.wrong_ns
    machine.true_ns += HOUR_NS
    machine.wrong_ns = 0
    machine.mount()
    now = machine.look()
    assert now is not None
    machine.mount()
    for ctime_ns in (first_ns - MINUTE_NS, first_ns, last_ns, last_ns + HOUR_NS):
        assert machine.lived.changed_ns(ctime_ns) == now.wall_ns
    for ctime_ns in (first_ns - 2 * DAY_NS, last_ns + 2 * DAY_NS, BEGUN_NS, now.wall_ns + 1):
        assert machine.lived.changed_ns(ctime_ns) == ctime_ns
    machine.true_ns += 100 * DAY_NS
    machine.look()
    assert machine.lived.changed_ns(first_ns) == now.wall_ns


def test_lived_time_goes_on_from_mount_to_mount() -> None:
    """SEMANTICS: EXPIRE-5"""
    machine = Machine()
    machine.true_ns += 3 * DAY_NS
    machine.look()
    machine.true_ns += DAY_NS  # of which nothing is saved
    machine.mount()
    now = machine.look()
    assert now is not None
    assert now.lived_ns == 3 * DAY_NS


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"wall_ns": "x", "lived_ns": 1}', PAST])
def test_setting_that_is_none_begins_anew(text: str) -> None:
    machine = Machine()
    machine.settings[LIVED] = text
    machine.mount()
    now = machine.look()
    assert now is not None
    assert now.lived_ns == 0
    assert set(json.loads(machine.settings[LIVED])) == {"wall_ns", "lived_ns", "past"}


def live(seed: int) -> tuple[int, int]:
    """A file and an archive that is mounted now and then, on a machine whose clock leaps once: how
    old the file is when it is removed, and for how long it could be seen before; -1: it is not."""
    random_ = random.Random(seed)
    machine, changed_ns, seen_ns = Machine(), BEGUN_NS, 0
    leaps_at = BEGUN_NS + random_.randrange(60 * DAY_NS)
    leap_ns = random_.choice([DAY_NS, GRACE_NS, GRACE_NS + 1, LIFE_NS, 4000 * DAY_NS])
    mark: Mark | None = None
    for _ in range(500):
        is_away = random_.random() < 0.05
        passed_ns = random_.randrange(10 * DAY_NS) if is_away else random_.randrange(12 * HOUR_NS)
        machine.true_ns += passed_ns
        if mark is not None and not is_away:
            seen_ns += passed_ns
        if machine.true_ns >= leaps_at:
            machine.wrong_ns = leap_ns
        if is_away:
            machine.mount()
        if is_away and machine.wrong_ns == 0:
            machine.lived.believe(machine.lived.now())  # somebody looks at another clock
        now = machine.look()
        if now is None:
            continue
        is_over = mark is not None and left_ns(mark.shown, now, GRACE_NS) <= 0
        is_at_end = end_ns(changed_ns, LIFE_NS, 0) <= now.wall_ns
        verdict = decide(Facts(is_at_end, mark is not None, is_over, False))
        if verdict is Verdict.SHOW:
            mark = Mark(changed_ns, now)
        elif verdict is Verdict.REMOVE:
            return machine.true_ns - changed_ns, seen_ns
    return -1, -1


def test_no_leap_of_the_clock_takes_a_file_before_its_time() -> None:
    """SEMANTICS: EXPIRE-5, EXPIRE-6"""
    ages = [live(seed) for seed in range(200)]
    removed = [(age_ns, seen_ns) for age_ns, seen_ns in ages if age_ns >= 0]
    assert len(removed) > 50
    assert min(age_ns for age_ns, _ in removed) >= LIFE_NS
    assert min(seen_ns for _, seen_ns in removed) >= GRACE_NS


def test_this_machine_has_such_clocks() -> None:
    assert machine_clock.boot_ns() > 0
    assert machine_clock.is_synchronised() in (True, False)
