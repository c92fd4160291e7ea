"""What an archive does now, from two answers of `status` (CONTROL.md), for `artstorefs top`.

Pure. Where the earlier answer is of another mount, or there is none, it is what has passed since
the mount, whose counters began at zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from artstorefs.core.errors import one_line

JsonObject = Mapping[str, Any]

_RARE: Final = 0.99
"""Ninety-nine of a hundred requests took at most `p99_s`."""


def rates(before: JsonObject | None, now: JsonObject, passed_s: float) -> dict[str, Any]:
    """The JSON of `artstorefs top`; `passed_s` is between the two, or since the mount.

    Raises KeyError, TypeError or ValueError for what is no answer of `status`.
    """
    if before is not None and not _is_same_mount(before, now):
        before = None
    passed_s = max(passed_s, 1e-3)
    return {
        "archive": now["archive"],
        "mountpoint": now["mountpoint"],
        "seconds": passed_s,
        "since_mount": before is None,
        "operations": _operations(before, now, passed_s),
        "nodes": now["nodes"],
        "pending": now["pending"],
        "spool": now["spool"],
        "cache": now["cache"],
        "elements": _elements(before, now, passed_s),
        "slowest": [{**one, "path": _shown(one["path"])} for one in now["slowest"]],
    }


def _is_same_mount(before: JsonObject, now: JsonObject) -> bool:
    """Whether counters go on, and do not begin anew."""
    return all(before[key] == now[key] for key in ("archive", "pid", "started_at"))


def _shown(path: str | None) -> str | None:
    return None if path is None else one_line(path)


def _operations(before: JsonObject | None, now: JsonObject, passed_s: float) -> list[JsonObject]:
    """Of each kind that there was, the most frequent first."""
    earlier = {} if before is None else before["operations"]
    found = []
    for kind, one in now["operations"].items():
        change = _Change.between(earlier.get(kind), one)
        if change.count:
            found.append(
                {
                    "kind": kind,
                    "per_s": change.count / passed_s,
                    "mean_s": change.total_s / change.count,
                    "p99_s": change.quantile_s(_RARE, now["latency_bounds_s"], one["max_s"]),
                    "max_s": one["max_s"],
                    "errors_per_s": change.errors / passed_s,
                }
            )
    return sorted(found, key=lambda one: (-one["per_s"], one["kind"]))


@dataclass(frozen=True, slots=True)
class _Change:
    """Requests of one kind between two answers."""

    count: int
    errors: int
    total_s: float
    latency: tuple[int, ...]

    @classmethod
    def between(cls, before: JsonObject | None, now: JsonObject) -> "_Change":
        if before is None:
            before = {
                "count": 0,
                "errors": {},
                "total_s": 0.0,
                "latency": [0] * len(now["latency"]),
            }
        return cls(
            count=now["count"] - before["count"],
            errors=sum(now["errors"].values()) - sum(before["errors"].values()),
            total_s=now["total_s"] - before["total_s"],
            latency=tuple(
                later - earlier
                for earlier, later in zip(before["latency"], now["latency"], strict=True)
            ),
        )

    def quantile_s(self, part: float, bounds_s: list[float], max_s: float) -> float:
        """How long that part of them took at most, as exactly as the histogram knows."""
        passed = 0
        for count, bound_s in zip(self.latency, [*bounds_s, max_s], strict=True):
            passed += count
            if passed >= part * self.count:
                return min(bound_s, max_s)
        return max_s


def _elements(before: JsonObject | None, now: JsonObject, passed_s: float) -> list[JsonObject]:
    earlier = {} if before is None else {one["id"]: one["counters"] for one in before["elements"]}
    return [_element(earlier.get(one["id"]), one, passed_s) for one in now["elements"]]


def _element(before: JsonObject | None, now: JsonObject, passed_s: float) -> JsonObject:
    sums, zeros = _sums(now["counters"]), dict.fromkeys(_sums(now["counters"]), 0)
    earlier = zeros if before is None else _sums(before)
    breaker = now["breaker"]
    return {
        "id": now["id"],
        "state": now["state"],
        "room": now["room"],
        "breaker": None if breaker is None else breaker["state"],
        "queue": now["queue"],
        **{f"{key}_per_s": (sums[key] - earlier[key]) / passed_s for key in sums},
    }


def _sums(counters: JsonObject) -> dict[str, int]:
    """That an object is absent is an answer and no error."""
    errors = sum(count for name, count in counters["errors"].items() if name != "ObjectAbsent")
    return {
        "calls": sum(call["count"] for call in counters["calls"].values()),
        "requests": sum(counters["requests"].values()),
        "sent_bytes": counters["sent_bytes"],
        "received_bytes": counters["received_bytes"],
        "errors": errors,
    }
