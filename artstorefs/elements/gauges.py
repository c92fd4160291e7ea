"""What all users of one element in a process share: what is counted, and whether it is asked."""

import time
from dataclasses import dataclass, field

from artstorefs.elements.breaker import Breaker
from artstorefs.elements.counters import Counters


def _closed_breaker() -> Breaker:
    return Breaker(time.monotonic())


@dataclass(frozen=True, slots=True)
class Gauges:
    """Of one element. Only elements over a network have use for the breaker: the calls of a local
    one fail at once, and what one file of it fails with need not be said of the others."""

    counters: Counters = field(default_factory=Counters)
    breaker: Breaker = field(default_factory=_closed_breaker)
