"""What `status` says as metrics of Prometheus. METRICS.md describes each; a test compares them.

Nothing is counted here: all of it is made anew from one answer of `status` (CONTROL.md), so both
always say the same. Every metric has the label `archive`, because a text file may stand beside
those of others.
"""

import calendar
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from artstorefs import __version__

Json = Mapping[str, Any]
Labelled = tuple[tuple[str, ...], float | None]
"""Values of the labels after `archive`, and the number; None where there is none."""

STATES: Final = ("ok", "unavailable", "unknown")
ROOMS: Final = ("ok", "warning", "critical", "full", "unknown")
BREAKERS: Final = ("closed", "open", "half-open")


class StatusCollector(Collector):
    """The metrics of one archive at one moment."""

    def __init__(self, archive: str, status: Json | None, asked_s: float) -> None:
        """`status`: None where the daemon has not answered. `asked_s`: since the epoch."""
        self._archive = archive
        self._status = status
        self._asked_s = asked_s

    def collect(self) -> Iterator[Metric]:
        """In the order of METRICS.md."""
        version = __version__ if self._status is None else self._status["version"]
        build = InfoMetricFamily("artstorefs_build", "Version of the daemon.", labels=["archive"])
        build.add_metric([self._archive], {"version": version})
        yield build
        up = self._status is not None
        yield self._gauge("up", "Whether the daemon answers.", [((), up)])
        yield self._gauge(
            "status_timestamp_seconds", "When it was asked last.", [((), self._asked_s)]
        )
        if self._status is not None:
            yield from self._of_daemon(self._status)
            yield from self._of_operations(self._status)
            yield from self._of_content(self._status)
            yield from self._of_expiring(self._status["expiring"])
            yield from self._of_elements(self._status["elements"])
            yield from self._of_archived(self._status["archived"], self._status["wanted"])
            yield from self._of_traffic(self._status["elements"])

    def _of_daemon(self, status: Json) -> Iterator[Metric]:
        backup = status["backup"]
        started_s = _seconds(status["started_at"])
        for name, text, value in (
            ("start_time_seconds", "When the daemon began to serve.", started_s),
            ("recovery_duration_seconds", "How long the start took.", status["recovery_s"]),
            ("read_only", "Whether it is mounted for reading only.", status["read_only"]),
            (
                "index_damaged",
                "Whether damage was met in the index.",
                status["index_error"] is not None,
            ),
            (
                "index_backup_age_seconds",
                "Age of the newest backup of the index; +Inf: there is none.",
                math.inf if backup["age_s"] is None else backup["age_s"],
            ),
            (
                "index_backup_interval_seconds",
                "How often it is backed up; 0: never.",
                backup["interval_s"],
            ),
            (
                "index_backup_current",
                "Whether nothing has changed since the last backup of this mount.",
                backup["is_current"],
            ),
        ):
            yield self._gauge(name, text, [((), value)])

    def _of_operations(self, status: Json) -> Iterator[Metric]:
        operations: Mapping[str, Json] = status["operations"]
        bounds = [*map(str, status["latency_bounds_s"]), "+Inf"]
        durations = HistogramMetricFamily(
            "artstorefs_operation_duration_seconds",
            "How long requests of the kernel took.",
            labels=["archive", "kind"],
        )
        for kind, one in operations.items():
            buckets, passed = [], 0
            for bound, count in zip(bounds, one["latency"], strict=True):
                passed += count
                buckets.append((bound, passed))
            durations.add_metric([self._archive, kind], buckets, one["total_s"])
        yield durations
        yield self._gauge(
            "operation_duration_max_seconds",
            "The longest since the mount.",
            [((kind,), one["max_s"]) for kind, one in operations.items()],
            "kind",
        )
        yield self._counter(
            "operation_errors",
            "Requests of the kernel that were answered with an errno.",
            [
                ((kind, errno), count)
                for kind, one in operations.items()
                for errno, count in one["errors"].items()
            ],
            *("kind", "errno"),
        )

    def _of_content(self, status: Json) -> Iterator[Metric]:
        pending, spool, cache = status["pending"], status["spool"], status["cache"]
        for name, text, value in (
            ("nodes", "Files, directories and all else in the tree.", status["nodes"]),
            ("queue_changes", "Changes that wait for an element.", pending["intents"]),
            ("queue_bytes", "Content that no element has.", pending["bytes"]),
            (
                "queue_oldest_age_seconds",
                "Age of the oldest change that waits; 0: none does.",
                pending["oldest_age_s"] or 0.0,
            ),
            ("queue_failed_changes", "Of these, refused by an element.", pending["failed"]),
            ("damaged_files", "Files with damaged content, at most 100.", len(status["damaged"])),
            (
                "quarantined_documents",
                "Documents of the elements that could not be used.",
                status["quarantined"]["documents"],
            ),
            ("spool_bytes", "What the spool takes.", spool["bytes"]),
            ("spool_limit_bytes", "What it may take.", spool["limit_bytes"]),
            ("cache_bytes", "What the read cache takes.", cache["bytes"]),
            ("cache_limit_bytes", "What it may take.", cache["limit_bytes"]),
        ):
            yield self._gauge(name, text, [((), value)])

    def _of_expiring(self, expiring: Json) -> Iterator[Metric]:
        first = expiring["first_removal"]
        for name, text, value in (
            ("expiring_files", "Files that are removed unless they change.", expiring["files"]),
            ("expiring_bytes", "Their content.", expiring["bytes"]),
            (
                "expiring_first_removal_timestamp_seconds",
                "From when on the first of them is removed.",
                None if first is None else _seconds(first),
            ),
            (
                "expiring_paused",
                "Whether nothing is removed though it is time.",
                expiring["paused"] is not None,
            ),
        ):
            yield self._gauge(name, text, [((), value)])
        removed = [((), expiring["removed"])]
        yield self._counter("expired_files", "Files that were removed.", removed)

    def _of_elements(self, elements: Iterable[Json]) -> Iterator[Metric]:
        info = InfoMetricFamily("artstorefs_element", "What it is.", labels=["archive", "element"])
        for one in elements:
            described = {"kind": one["kind"], "mode": one["mode"], "priority": str(one["priority"])}
            info.add_metric([self._archive, one["id"]], described)
        yield info
        yield self._states("element_state", "1 for the state that it is in.", elements, STATES)
        yield self._states("element_room", "1 for the room that it has.", elements, ROOMS)
        with_breaker = [one for one in elements if one["breaker"] is not None]
        yield self._states(
            *("element_breaker", "1 for the state of its breaker.", with_breaker, BREAKERS)
        )
        queues = [(one["id"], one["queue"]) for one in elements]
        for name, text, samples in (
            ("size_bytes", "Its size.", [(one["id"], one["total_bytes"]) for one in elements]),
            ("free_bytes", "What is free.", [(one["id"], one["free_bytes"]) for one in elements]),
            (
                "queue_changes",
                "Changes that wait for it.",
                [(element, queue["intents"]) for element, queue in queues],
            ),
            (
                "queue_oldest_age_seconds",
                "Age of the oldest of these; 0: none waits.",
                [(element, queue["oldest_age_s"] or 0.0) for element, queue in queues],
            ),
        ):
            labelled = [((element,), number) for element, number in samples]
            yield self._gauge(f"element_{name}", text, labelled, "element")

    def _of_archived(self, archived: Iterable[Json], wanted: Iterable[Json]) -> Iterator[Metric]:
        """Of elements of which something is archived alone."""
        for key, name, text in (
            ("files", "archived_files", "Files of which it takes a recall to be read."),
            ("bytes", "archived_bytes", "Their content."),
            ("offline_files", "offline_files", "Of these, on its medium or in its cold class."),
            ("offline_bytes", "offline_bytes", "Their content."),
            ("recalling_files", "recalling_files", "Asked for, and not there yet."),
            ("recalling_bytes", "recalling_bytes", "Their content."),
            ("recalled_files", "recalled_files", "In the cache for a time."),
            ("recalled_bytes", "recalled_bytes", "Their content."),
            ("failed_files", "recall_failed_files", "Asked for, and not to be had."),
            (
                "oldest_recall_age_s",
                "recall_oldest_age_seconds",
                "For how long the first has been asked for; 0: none is.",
            ),
        ):
            samples = [((one["element"],), one[key] or 0) for one in archived]
            yield self._gauge(f"element_{name}", text, samples, "element")
        missing = {one["element"] for one in wanted}
        known = {one["element"] for one in archived} | missing
        yield self._gauge(
            "element_medium_wanted",
            "Whether what was asked for waits for its medium.",
            [((element,), element in missing) for element in sorted(known)],
            "element",
        )

    def _of_traffic(self, elements: Iterable[Json]) -> Iterator[Metric]:
        counters = [(one["id"], one["counters"]) for one in elements]
        calls = [
            ((element, kind), one)
            for element, counted in counters
            for kind, one in counted["calls"].items()
        ]
        labels = ("element", "call")
        yield self._counter(
            *("element_calls", "Calls.", [(of, one["count"]) for of, one in calls], *labels)
        )
        seconds = [(of, one["total_s"]) for of, one in calls]
        yield self._counter("element_call_seconds", "Time of all calls.", seconds, *labels)
        longest = [(of, one["max_s"]) for of, one in calls]
        yield self._gauge("element_call_max_seconds", "The longest call.", longest, *labels)
        for name, text, key in (
            ("element_sent_bytes", "What it has taken.", "sent_bytes"),
            ("element_received_bytes", "What was read of it.", "received_bytes"),
        ):
            samples = [((element,), counted[key]) for element, counted in counters]
            yield self._counter(name, text, samples, "element")
        for name, text, key, label in (
            ("element_errors", "Calls that failed, by class.", "errors", "error"),
            ("element_requests", "Requests to its server.", "requests", "operation"),
        ):
            found = [
                ((element, what), count)
                for element, counted in counters
                for what, count in counted[key].items()
            ]
            yield self._counter(name, text, found, "element", label)

    # ------------------------------------------------------------------------------ samples

    def _states(
        self, name: str, text: str, elements: Iterable[Json], known: Iterable[str]
    ) -> GaugeMetricFamily:
        """One time series for each state, of which one is 1: what there is can be counted."""
        key = name.removeprefix("element_")
        samples: list[Labelled] = []
        for one in elements:
            now = one["breaker"]["state"] if key == "breaker" else one[key]
            samples += [((one["id"], state), state == now) for state in known]
        return self._gauge(name, text, samples, "element", "room" if key == "room" else "state")

    def _gauge(
        self, name: str, text: str, samples: Iterable[Labelled], *labels: str
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"artstorefs_{name}", text, labels=["archive", *labels])
        for of, number in self._known(samples):
            family.add_metric(of, number)
        return family

    def _counter(
        self, name: str, text: str, samples: Iterable[Labelled], *labels: str
    ) -> CounterMetricFamily:
        """Its samples are called `NAME_total`."""
        family = CounterMetricFamily(f"artstorefs_{name}", text, labels=["archive", *labels])
        for of, number in self._known(samples):
            family.add_metric(of, number)
        return family

    def _known(self, samples: Iterable[Labelled]) -> Iterator[tuple[list[str], float]]:
        for labels, number in samples:
            if number is not None:
                yield [self._archive, *labels], float(number)


def _seconds(moment: str) -> int:
    """Since the epoch, of a time as the control socket has it."""
    return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))
