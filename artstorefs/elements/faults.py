"""An element that fails on purpose, around any other; for tests, from one seed.

The fault model. A call of the element may, each with the probability that `FaultPlan` gives it:

    error               raise one of the errors of its contract (`ERRORS`); nothing has changed
    timeout             take `timeout_s`, then be unavailable; nothing has changed
    slow                take `slow_s` and succeed
    lost_reply          do what it was asked for, then be unavailable
    failed_barrier      (barrier) drop what is staged, and say so
    torn_barrier        (barrier) publish the first part of what is staged, drop the rest, say so
    listing_start       (list) be unavailable at once
    listing_middle      (list) be unavailable after some of what it lists

and all calls fail while `Faults.unreachable_for` lasts. So far the element keeps its contract:
nothing may be lost by it, ever. The rest are breaches, which have to be noticed by whoever reads,
or do a limited damage:

    short_write         (replace) a document loses its end, and nobody is told
    wrong_bytes         (open_read) one byte of the object is another
    wrong_range         (read) one byte of what is read is another
    short_read          (open_read, read) the end is missing
    listing_truncated   (list) ends early without an error
    lies_absent         (read, open_read, stat) what is there is reported absent

With all probabilities zero, and reachable, the wrapper is not to be told from what it wraps. A
product never makes one: nothing here is imported by the daemon or the tools.
"""

import builtins
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from artstorefs.core.errors import (
    ElementDenied,
    ElementError,
    ElementFull,
    ElementUnavailable,
    KeyInvalid,
    ObjectAbsent,
    ObjectDamaged,
    ObjectExists,
)
from artstorefs.elements.interface import Capacity, Element, ObjectStat
from artstorefs.elements.wrapper import ElementWrapper

WRITING = (ElementUnavailable, ElementFull, ElementDenied)
READING = (ElementUnavailable, ElementDenied)

ERRORS: dict[str, tuple[type[ElementError], ...]] = {
    "put": (*WRITING, ObjectDamaged, ObjectExists, KeyInvalid),
    "replace": (*WRITING, KeyInvalid),
    "remove": READING,
    "barrier": (*WRITING, ObjectExists),
    "read": READING,
    "open_read": READING,
    "stat": READING,
    "list": READING,
    "leftovers": READING,
    "capacity": READING,
    "lock": READING,
}
"""What each call may raise although nothing is wrong with the request."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Probabilities, 0 to 1, of the faults that the head of this file describes."""

    error: float = 0.0
    timeout: float = 0.0
    timeout_s: float = 30.0
    slow: float = 0.0
    slow_s: float = 1.0
    lost_reply: float = 0.0
    failed_barrier: float = 0.0
    torn_barrier: float = 0.0
    listing_start: float = 0.0
    listing_middle: float = 0.0
    short_write: float = 0.0
    wrong_bytes: float = 0.0
    wrong_range: float = 0.0
    short_read: float = 0.0
    listing_truncated: float = 0.0
    lies_absent: float = 0.0


class Faults:
    """The dice and the switches of one or more faulty elements. Safe to use from many threads.

    `clock` gives seconds and `sleep` lets them pass, so that a test may do both by hand. `struck`
    counts the faults that happened, by name.
    """

    def __init__(
        self,
        seed: int,
        plan: FaultPlan | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.plan = plan or FaultPlan()
        self.clock = clock
        self.sleep = sleep
        self.struck: dict[str, int] = {}
        self._random = random.Random(seed)
        self._unreachable_until = clock()
        self._lock = threading.Lock()

    def reseed(self, seed: int, plan: FaultPlan) -> None:
        """Throw other dice from now on, so that a part of a test repeats by itself."""
        with self._lock:
            self._random = random.Random(seed)
            self.plan = plan

    def unreachable_for(self, seconds: float) -> None:
        """No call succeeds for so long, by `clock`; 0 ends it."""
        self._unreachable_until = self.clock() + seconds

    @property
    def is_unreachable(self) -> bool:
        return self.clock() < self._unreachable_until

    def strikes(self, name: str) -> bool:
        """Whether the fault of this name happens now."""
        probability: float = getattr(self.plan, name)
        with self._lock:
            if not probability or self._random.random() >= probability:
                return False
            self.struck[name] = self.struck.get(name, 0) + 1
            return True

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        with self._lock:
            return self._random.randrange(limit)


class FaultyElement(ElementWrapper):
    """The `Element` around what `open_inner` opens.

    It is opened anew where a fault drops what is staged: closing is the one way to do that, which
    the contract gives.
    """

    def __init__(self, open_inner: Callable[[], Element], faults: Faults) -> None:
        super().__init__(open_inner())
        self._open_inner = open_inner
        self._faults = faults
        self._is_torn = False

    # ------------------------------------------------------------------------------ changes

    def put(
        self,
        key: str,
        source_path: str,
        *,
        size_bytes: int,
        sha256: str | None = None,
        is_first: bool = False,
    ) -> None:
        """Stage an object, or fail."""
        self._begin("put", key)
        self._inner.put(key, source_path, size_bytes=size_bytes, sha256=sha256, is_first=is_first)
        self._staged(key)

    def replace(self, key: str, data: bytes) -> None:
        """Stage a document, or a part of it, or fail."""
        self._begin("replace", key)
        if data and self._faults.strikes("short_write"):
            data = data[: self._faults.below(len(data))]
        self._inner.replace(key, data)
        self._staged(key)

    def remove(self, key: str) -> None:
        """Stage a removal, or fail."""
        self._begin("remove", key)
        self._inner.remove(key)
        self._staged(key)

    def barrier(self) -> Mapping[str, int]:
        """Publish what is staged: all, some, or nothing; no error means all."""
        if self._is_torn or self._faults.strikes("failed_barrier"):
            self._is_torn = False
            self._drop_staged()
            raise ElementUnavailable(self.id, "", "a barrier failed on purpose")
        try:
            self._begin("barrier", "")
        except ElementError:
            self._drop_staged()
            raise
        marks = self._inner.barrier()
        self._lose_reply("")
        return marks

    def _staged(self, key: str) -> None:
        """After a change: it may be seen early, as the first part of a barrier that is torn."""
        if self._faults.strikes("torn_barrier"):
            self._is_torn = True
            self._inner.barrier()
        self._lose_reply(key)

    def _drop_staged(self) -> None:
        self._inner.close()
        self._inner = self._open_inner()

    # -------------------------------------------------------------------------------- reads

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range, or what a bad disk makes of it."""
        self._begin_read("read", key)
        data = self._inner.read(key, offset, length)
        if data and self._faults.strikes("wrong_range"):
            data = self._flipped(data)
        if data and self._faults.strikes("short_read"):
            data = data[: self._faults.below(len(data))]
        self._lose_reply(key)
        return data

    def open_read(self, key: str) -> BinaryIO:
        """The object, or what a bad disk makes of it: a file of its own then, as a descriptor of
        it may be asked for."""
        self._begin_read("open_read", key)
        stream = self._inner.open_read(key)
        try:
            wrong, short = self._faults.strikes("wrong_bytes"), self._faults.strikes("short_read")
            self._lose_reply(key)
        except BaseException:
            stream.close()
            raise
        if not wrong and not short:
            return stream
        with stream:
            data = stream.read()
        if data and wrong:
            data = self._flipped(data)
        if data and short:
            data = data[: self._faults.below(len(data))]
        return _file_of(data)

    def stat(self, key: str) -> ObjectStat:
        """Size and time, or a failure."""
        self._begin_read("stat", key)
        found = self._inner.stat(key)
        self._lose_reply(key)
        return found

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """What the element has, whole, or in part with an error, or (a breach) without one."""
        self._begin("list", prefix)
        if self._faults.strikes("listing_start"):
            raise ElementUnavailable(self.id, prefix, "a listing failed on purpose")
        fails = self._faults.strikes("listing_middle")
        ends = self._faults.strikes("listing_truncated")
        if not fails and not ends:
            return self._inner.list(prefix)
        return self._part_of_list(prefix, fails)

    def _part_of_list(self, prefix: str, fails: bool) -> Iterator[ObjectStat]:
        found = builtins.list(self._inner.list(prefix))
        yield from found[: self._faults.below(len(found) + 1 if fails else max(1, len(found)))]
        if fails:
            raise ElementUnavailable(self.id, prefix, "a listing failed half-way, on purpose")

    def leftovers(self) -> Iterator[ObjectStat]:
        """Staging temporaries, or a failure."""
        self._begin("leftovers", "")
        return self._inner.leftovers()

    def capacity(self) -> Capacity:
        """Room, or a failure."""
        self._begin("capacity", "")
        return self._inner.capacity()

    def lock(self, key: str, until_ns: int) -> None:
        """An object kept, or a failure."""
        self._begin("lock", key)
        self._inner.lock(key, until_ns)
        self._lose_reply(key)

    def close(self) -> None:
        """Never fails."""
        self._inner.close()

    # ------------------------------------------------------------------------------- faults

    def _begin(self, operation: str, key: str) -> None:
        faults = self._faults
        if faults.is_unreachable:
            raise ElementUnavailable(self.id, key, "is unreachable on purpose")
        if faults.strikes("slow"):
            faults.sleep(faults.plan.slow_s)
        if faults.strikes("timeout"):
            faults.sleep(faults.plan.timeout_s)
            raise ElementUnavailable(self.id, key, f"{operation} timed out on purpose")
        if faults.strikes("error"):
            raise self._error(operation, key)

    def _begin_read(self, operation: str, key: str) -> None:
        self._begin(operation, key)
        if self._faults.strikes("lies_absent"):
            raise ObjectAbsent(self.id, key)

    def _error(self, operation: str, key: str) -> ElementError:
        classes = ERRORS[operation]
        error = classes[self._faults.below(len(classes))]
        if error is ObjectExists:
            return ObjectExists(self.id, key)
        return error(self.id, key, f"{operation} failed on purpose")

    def _lose_reply(self, key: str) -> None:
        if self._faults.strikes("lost_reply"):
            raise ElementUnavailable(self.id, key, "the reply was lost on purpose")

    def _flipped(self, data: bytes) -> bytes:
        """With one bit of one byte turned over."""
        changed = bytearray(data)
        changed[self._faults.below(len(data))] ^= 1 << self._faults.below(8)
        return bytes(changed)


def _file_of(data: bytes) -> BinaryIO:
    """An open file without a name that has this content, read without a buffer in between."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        return os.fdopen(os.dup(file.fileno()), "rb")
