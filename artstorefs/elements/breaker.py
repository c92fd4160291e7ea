"""Whether an element over a network is asked at all: a circuit breaker.

Pure but for its lock: the time is an argument (seconds of any monotonic clock). All users of one
element in a process share one, from any thread.

    state      a call is   it is answered   it fails                          the pause is over
    closed     made        counted anew     the last of `FAILURES`: open      -
    open       refused     closed           nothing                           the next call is the
                                                                              trial: half-open
    half-open  refused     closed           the trial: open, for twice as     -
                                            long; another: nothing

Calls that had been made before are answered, or fail, in any state. An answer is one of the server,
whatever it says: that nothing is there, that the key is taken, that access is denied. A failure is
that the element cannot be asked; it says nothing about what the element holds.
"""

import enum
import random
import threading
from dataclasses import dataclass

FAILURES = 5
"""In a row: more than the threads that may all be reading the one object that a server fails at."""

PAUSE_FIRST_S = 1.0
PAUSE_LIMIT_S = 15.0
"""Pauses double from the first to the limit, which is short, because who reads meanwhile gets an
error and a trial costs the server one request: one that is there again is noticed within half a
minute, if by nobody else then by the question for its room that comes every five seconds."""

JITTER = (0.75, 1.25)
"""Pauses are as much shorter or longer, so that not all clients come back together."""


class BreakerState(enum.Enum):
    """As `status` names them."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CallRefused(Exception):
    """The failure that has opened the breaker and when the element is tried again, in one line."""


@dataclass(frozen=True, slots=True)
class Permit:
    """What a call has to have; `trial` is 0 for an ordinary one."""

    trial: int


@dataclass(frozen=True, slots=True)
class BreakerView:
    """What there is to tell of a breaker, for people."""

    state: str
    for_s: float
    """How long it has not been closed; if it is, since when it is that."""
    trial_in_s: float | None
    """Until the next call is the trial, 0 if it is due; None unless it is open."""
    reason: str
    """Of the failure that has opened it, "" when closed."""


class Breaker:
    """`begin` before a call, and then `answered`, `failed` or `abandoned`."""

    def __init__(
        self,
        now_s: float = 0.0,
        chance: random.Random | None = None,
        failures: float = FAILURES,
    ) -> None:
        """Closed. `failures`: after how many in a row it opens, infinity for silence alone."""
        self._lock = threading.Lock()
        self._failures_max = failures
        self._chance = chance or random.Random()
        self._state = BreakerState.CLOSED
        self._since_s = now_s
        self._failures = 0
        self._reason = ""
        self._pause_s = PAUSE_FIRST_S
        self._due_s = 0.0
        self._trial = 0

    def begin(self, now_s: float) -> Permit:
        """The permit to make a call. Raises `CallRefused`: it is not to be made now."""
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return Permit(0)
            if self._state is BreakerState.OPEN and now_s >= self._due_s:
                self._state = BreakerState.HALF_OPEN
                self._trial += 1
                return Permit(self._trial)
            raise CallRefused(self._why_refused(now_s))

    def answered(self, now_s: float) -> None:
        """A call has been answered: the server is there."""
        with self._lock:
            self._failures = 0
            self._pause_s = PAUSE_FIRST_S
            if self._state is not BreakerState.CLOSED:
                self._state, self._since_s, self._reason = BreakerState.CLOSED, now_s, ""

    def failed(
        self,
        permit: Permit,
        now_s: float,
        reason: str,
        *,
        is_silent: bool = False,
        not_before_s: float = 0.0,
    ) -> None:
        """A call could not be made use of: the element is unavailable.

        `is_silent`: none of its attempts was answered, which is enough to open. `not_before_s`: how
        long the server itself wants to be left alone.
        """
        with self._lock:
            if self._state is BreakerState.CLOSED:
                self._failures += 1
                if is_silent or self._failures >= self._failures_max:
                    self._since_s = now_s
                    self._open(now_s, reason, not_before_s)
            elif self._is_trial(permit):
                self._open(now_s, reason, not_before_s)

    def abandoned(self, permit: Permit) -> None:
        """A call has ended without telling anything of the element; if it was the trial, the next
        call is."""
        with self._lock:
            if self._is_trial(permit):
                self._state = BreakerState.OPEN

    def try_now(self, now_s: float) -> None:
        """Somebody asks: the next call is the trial, and pauses begin anew."""
        with self._lock:
            self._pause_s = PAUSE_FIRST_S
            self._due_s = now_s

    def view(self, now_s: float) -> BreakerView:
        """What it is like now."""
        with self._lock:
            is_open = self._state is BreakerState.OPEN
            return BreakerView(
                state=self._state.value,
                for_s=max(0.0, now_s - self._since_s),
                trial_in_s=max(0.0, self._due_s - now_s) if is_open else None,
                reason=self._reason,
            )

    def _why_refused(self, now_s: float) -> str:
        if self._state is BreakerState.HALF_OPEN:
            return f"{self._reason}; just being asked again"
        return f"{self._reason}; asked again in {self._due_s - now_s:.0f} s"

    def _is_trial(self, permit: Permit) -> bool:
        return self._state is BreakerState.HALF_OPEN and permit.trial == self._trial

    def _open(self, now_s: float, reason: str, not_before_s: float) -> None:
        self._state, self._reason, self._failures = BreakerState.OPEN, reason, 0
        pause_s = self._pause_s * self._chance.uniform(*JITTER)
        self._due_s = now_s + max(pause_s, not_before_s)
        self._pause_s = min(self._pause_s * 2, PAUSE_LIMIT_S)
