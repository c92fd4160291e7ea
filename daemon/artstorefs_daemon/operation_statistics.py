"""How often the kernel asks for what, how long the answers take, and which were the slowest.

`Statistic` is of one kind of request. A request pays for two readings of a clock and for `took`:
0.4 µs, 0.6 where it fails. Everything else is done for requests that are slow already, or when
somebody asks. For the FUSE loop alone: nothing here has a lock.

A request that waits, for an element or for room, counts with all of its wait. What the kernel
answers by itself, from its cache or the spool, never comes here.
"""

import errno
import heapq
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from artstorefs_daemon.element_reports import timestamp

BOUNDS_S: Final = (0.00002, 0.0001, 0.0005, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0)
"""Upper bounds of the histogram: from what the index answers to what waits for a server. Few,
because each is a time series for each kind of request."""

NOTICED_S: Final = 0.001
"""What is faster is not among the slowest, whatever else there was."""

SHOWN: Final = 20
WINDOW_S: Final = 150.0
"""The slowest are those of this window and of the one before: of the last five minutes at most."""

clock_s = time.perf_counter


@dataclass(frozen=True, slots=True)
class SlowRequest:
    """`path`: None where the request names no file, or it could not be found out."""

    kind: str
    took_s: float
    ended_s: float
    """Seconds since the epoch."""
    inode: int | None
    path: str | None


class SlowestRequests:
    """The `SHOWN` slowest of each window; for more there is no memory."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._numbers = 0
        self._began_s = monotonic_s()
        self._now: list[tuple[float, int, SlowRequest]] = []
        """A heap, the fastest first; the number keeps requests from being compared."""
        self._before: list[tuple[float, int, SlowRequest]] = []

    def is_one(self, took_s: float) -> bool:
        """Whether one that took so long belongs to them."""
        self._turn()
        return len(self._now) < SHOWN or took_s > self._now[0][0]

    def add(self, request: SlowRequest) -> None:
        """Of one that `is_one`."""
        self._numbers += 1
        heapq.heappush(self._now, (request.took_s, self._numbers, request))
        if len(self._now) > SHOWN:
            heapq.heappop(self._now)

    def listed(self) -> list[SlowRequest]:
        """The slowest first."""
        self._turn()
        found = heapq.nlargest(SHOWN, self._now + self._before)
        return [request for _, _, request in found]

    def _turn(self) -> None:
        passed = int((self._monotonic_s() - self._began_s) // WINDOW_S)
        if passed:
            self._before = self._now if passed == 1 else []
            self._now = []
            self._began_s += passed * WINDOW_S


class Statistic:
    """Of the requests of one kind; `errors` is their number by errno, which callers raise."""

    __slots__ = ("_watched_s", "counts", "errors", "max_s", "slow", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0
        self.max_s = 0.0
        self.errors: defaultdict[int, int] = defaultdict(int)
        self._watched_s = 0.0

    def took(self, duration_s: float) -> bool:
        """One has ended; whether it is slow enough to be looked at (`noticed`)."""
        self.total_s += duration_s
        self.counts[bisect_left(BOUNDS_S, duration_s)] += 1
        if duration_s <= self._watched_s:
            return False
        if duration_s > self.max_s:
            self.max_s = duration_s
            self._watched_s = min(duration_s, NOTICED_S)
        return duration_s > NOTICED_S

    def to_message(self) -> dict[str, Any]:
        """For JSON; `CONTROL.md` describes it."""
        return {
            "count": sum(self.counts),
            "errors": {errno.errorcode.get(n, str(n)): count for n, count in self.errors.items()},
            "total_s": self.total_s,
            "max_s": self.max_s,
            "latency": list(self.counts),
        }


class OperationStatistics:
    """Of all kinds; each is there from the start, with zeros."""

    def __init__(self) -> None:
        self.slowest = SlowestRequests()
        self._kinds: dict[str, Statistic] = {}

    def of(self, kind: str) -> Statistic:
        """That of a kind, which is told of from now on."""
        return self._kinds.setdefault(kind, Statistic())

    def to_message(self) -> dict[str, Any]:
        """Keys of `status`; `CONTROL.md` describes them."""
        return {
            "operations": {kind: one.to_message() for kind, one in sorted(self._kinds.items())},
            "latency_bounds_s": list(BOUNDS_S),
            "slowest": [
                {
                    "kind": one.kind,
                    "took_ms": round(one.took_s * 1e3, 3),
                    "ended_at": timestamp(one.ended_s),
                    "inode": one.inode,
                    "path": one.path,
                }
                for one in self.slowest.listed()
            ],
        }
