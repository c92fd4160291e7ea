"""What passes between this program and one element, counted.

`Counts` is the plain data, which travels between the processes and into `status`; `Counters` makes
it, for all users of an element in a process, from any thread. What is counted only ever grows.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

CALLS: Final = (
    *("put", "replace", "remove", "barrier"),
    *("read", "open_read", "stat", "list", "capacity", "lock"),
)
"""Kinds of calls, as `interface.py` has them; `leftovers` is a `list`."""


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Calls of one kind, failed ones included, and how long they took, in seconds."""

    count: int = 0
    total_s: float = 0.0
    max_s: float = 0.0

    def plus(self, other: "CallCounts") -> "CallCounts":
        """Both together."""
        return CallCounts(
            self.count + other.count,
            self.total_s + other.total_s,
            max(self.max_s, other.max_s),
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one element, up to a moment."""

    calls: Mapping[str, CallCounts] = field(default_factory=dict)
    sent_bytes: int = 0
    """Of objects and documents that the element has taken; of a linked file too."""
    received_bytes: int = 0
    """Of what was read; not what is read through the descriptor of an open file."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """By the name of their class, ObjectAbsent included."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """To a server, by the name that its protocol has for them, each attempt counted."""

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            calls={kind: self.call(kind).plus(other.call(kind)) for kind in CALLS},
            sent_bytes=self.sent_bytes + other.sent_bytes,
            received_bytes=self.received_bytes + other.received_bytes,
            errors=_sums(self.errors, other.errors),
            requests=_sums(self.requests, other.requests),
        )

    def call(self, kind: str) -> CallCounts:
        """Of one kind; zeros where there was none."""
        return self.calls.get(kind, CallCounts())

    def to_message(self) -> dict[str, Any]:
        """For JSON; `CONTROL.md` describes it. Every kind of call is there."""
        calls = {kind: self.call(kind) for kind in CALLS}
        return {
            "calls": {
                kind: {"count": one.count, "total_s": one.total_s, "max_s": one.max_s}
                for kind, one in calls.items()
            },
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "errors": dict(self.errors),
            "requests": dict(self.requests),
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Counts":
        """What `to_message` has made."""
        calls = {kind: CallCounts(**one) for kind, one in message["calls"].items()}
        return cls(**{**message, "calls": calls})


class Counters:
    """Counts; `counts` says what it has come to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, CallCounts] = {}
        self._sent_bytes = 0
        self._received_bytes = 0
        self._errors: dict[str, int] = {}
        self._requests: dict[str, int] = {}

    def called(self, kind: str, duration_s: float) -> None:
        """A call of a kind of `CALLS` has ended."""
        with self._lock:
            before = self._calls.get(kind, CallCounts())
            self._calls[kind] = before.plus(CallCounts(1, duration_s, duration_s))

    def failed(self, error: BaseException) -> None:
        """A call has ended with this, or the element could not be opened for it."""
        name = type(error).__name__
        with self._lock:
            self._errors[name] = self._errors.get(name, 0) + 1

    def sent(self, size_bytes: int) -> None:
        """The element has taken as much."""
        with self._lock:
            self._sent_bytes += size_bytes

    def received(self, size_bytes: int) -> None:
        """The element has given as much."""
        with self._lock:
            self._received_bytes += size_bytes

    def requested(self, operation: str) -> None:
        """A request goes to the server."""
        with self._lock:
            self._requests[operation] = self._requests.get(operation, 0) + 1

    def counts(self) -> Counts:
        """What it has come to."""
        with self._lock:
            return Counts(
                calls=dict(self._calls),
                sent_bytes=self._sent_bytes,
                received_bytes=self._received_bytes,
                errors=dict(self._errors),
                requests=dict(self._requests),
            )


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
