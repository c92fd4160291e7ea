"""When a file comes to its end by `expire_after_days`, and what is done then: a table. Pure.

    kept ──at its end──► shown ──grace lived through──► removed
      ▲                    │
      └──no more at its end, or changed: then it is another one

A file is *at its end* when all that has it lets it expire, nothing retains it, and nobody has
changed it for as long as that says. From then on it is *shown*, and a grace period later removed.

Two clocks have to agree before anything is removed. The machine's clock (`wall_ns`) tells how old a
file is, but may be set to anything. `lived_ns` cannot be set: it is the time for which the archive
has been mounted, all mounts together, and while it is not mounted nobody can see what is shown. So

    the grace period has to pass by both clocks
    and the machine's clock, if it is further ahead of the lived time than the grace period, or
    behind it, is believed only once somebody who knows says that it is right

Then a clock that leaps forward, however far, takes no file before its time: what leaps no further
than the grace period makes a file shown too early by no more than that, and it is shown as long.

A clock that is far behind the lived time (a dead battery: 1970) makes what is changed then look old
once it is set right. The times that it has shown are kept (`Past`): a file of one of them is as old
as if it had been changed when the clock was right again.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

DAY_NS: Final = 24 * 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by both clocks: nanoseconds since the epoch, and of the lived time."""

    wall_ns: int
    lived_ns: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A file is shown since `shown`, as what it was when it was changed at `ctime_ns`."""

    ctime_ns: int
    shown: Moment


@dataclass(frozen=True, slots=True)
class Facts:
    """What counts for one file."""

    is_at_end: bool
    is_shown: bool
    """And has not changed since."""
    is_grace_over: bool
    is_busy: bool
    """Somebody has it open, or something of it has still to be carried to an element."""


@dataclass(frozen=True, slots=True)
class Past:
    """Times that the machine's clock has shown while it was in the past, in nanoseconds since the
    epoch, and the time that they count as. `is_over`: it is not any more."""

    from_ns: int
    until_ns: int
    counts_as_ns: int
    is_over: bool = False

    def changed_ns(self, ctime_ns: int) -> int:
        """When a file of this ctime was changed, as far as its age is concerned."""
        is_of_it = self.from_ns <= ctime_ns <= self.until_ns
        return max(ctime_ns, self.counts_as_ns) if is_of_it else ctime_ns


PAST_MARGIN_NS: Final = DAY_NS
"""Around a look that finds the clock in the past: for changes before it, and until the next."""


def past_at(past: Past | None, now: Moment, ahead_ns: int, behind_max_ns: int) -> Past | None:
    """What is known of it after a look at `now`, when the clock is so far ahead of the lived time;
    all such times of an archive are one, from the first to the last."""
    if -ahead_ns > behind_max_ns:
        from_ns, until_ns = now.wall_ns - PAST_MARGIN_NS, now.wall_ns + PAST_MARGIN_NS
        if past is not None:
            from_ns, until_ns = min(past.from_ns, from_ns), max(past.until_ns, until_ns)
        return Past(from_ns, until_ns, now.wall_ns - ahead_ns)
    if past is not None and not past.is_over:
        return replace(past, counts_as_ns=now.wall_ns, is_over=True)
    return past


class Verdict(Enum):
    """What becomes of it."""

    KEEP = "nothing; it is not shown, or not any more"
    SHOW = "it is shown from now on"
    WAIT = "it is shown, and stays for now"
    REMOVE = "it is removed"


def decide(facts: Facts) -> Verdict:
    """What becomes of a file. For what is not shown `is_grace_over` means nothing."""
    match facts:
        case Facts(is_at_end=False):
            return Verdict.KEEP
        case Facts(is_shown=False):
            return Verdict.SHOW
        case Facts(is_grace_over=True, is_busy=False):
            return Verdict.REMOVE
        case _:
            return Verdict.WAIT


def end_ns(changed_ns: int, life_ns: int, retained_until_ns: int) -> int:
    """When a file comes to its end, by the machine's clock."""
    return max(changed_ns + life_ns, retained_until_ns)


def left_ns(shown: Moment, now: Moment, grace_ns: int) -> int:
    """How much of the grace period is left, by the clock that has more of it; 0 or less: none."""
    return grace_ns - min(now.wall_ns - shown.wall_ns, now.lived_ns - shown.lived_ns)


def ahead_ns(before: Moment, now: Moment) -> int:
    """How much more time has passed by the machine's clock than was lived; negative: less."""
    return (now.wall_ns - before.wall_ns) - (now.lived_ns - before.lived_ns)
