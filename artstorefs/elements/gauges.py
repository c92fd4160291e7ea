"""What all users of one element in a process share: what is counted, whether it is asked, and
whether it locks what is retained."""

import threading
import time
from dataclasses import dataclass, field

from artstorefs.elements.breaker import Breaker
from artstorefs.elements.counters import Counters


@dataclass(slots=True)
class LockSupport:
    """Whether an element locks what it holds; None until it has said so, `asking` it one at a
    time."""

    is_there: bool | None = None
    asking: threading.Lock = field(default_factory=threading.Lock)


def _closed_breaker() -> Breaker:
    return Breaker(time.monotonic())


@dataclass(frozen=True, slots=True)
class Gauges:
    """Of one element. Only elements over a network have use for the breaker: the calls of a local
    one fail at once, and what one file of it fails with need not be said of the others."""

    counters: Counters = field(default_factory=Counters)
    breaker: Breaker = field(default_factory=_closed_breaker)
    locks: LockSupport = field(default_factory=LockSupport)
