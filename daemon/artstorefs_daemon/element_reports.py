"""What the transfer process says of the elements, as the mount process keeps it for `status`.

Counters are those since the mount: what the mount process itself has read is added, and so is what
transfer processes that have ended had counted; of one that was killed, up to its last report.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.elements.breaker import BreakerView
from artstorefs.elements.counters import Counters, Counts
from artstorefs.elements.interface import Capacity
from artstorefs.state.queues import NO_QUEUE, Queue
from artstorefs.transfer.placement import choose_element, room_of

NOTHING = Counts()


class ElementReports:
    """`capacities` and `errors`, of elements by their ids, are what each said last of its room."""

    def __init__(self, here: Mapping[str, Counters], wall_s: Callable[[], float] = time.time):
        """`here`: what the mount process counts."""
        self.capacities: dict[str, Capacity] = {}
        self.errors: dict[str, str] = {}
        self.times_tried = 0
        """How often all elements have been asked for their room whatever their breakers said."""
        self.locks: dict[str, bool] = {}
        """Whether objects are locked there, of elements that have said so."""
        self._here = here
        self._wall_s = wall_s
        self._ended: dict[str, Counts] = {}
        self._running: dict[str, Counts] = {}
        self._breakers: dict[str, tuple[float, BreakerView]] = {}

    # ---------------------------------------------------------------------------- messages

    def take_capacities(self, message: dict[str, Any]) -> bool:
        """Room, or what is wrong; whether an element is there again."""
        has_returned = False
        self.times_tried += bool(message["tried"])
        for element, values in message["capacity"].items():
            if "error" in values:
                self.errors[element] = values["error"]
            else:
                has_returned |= self.errors.pop(element, None) is not None
                self.capacities[element] = Capacity(**values)
        return has_returned

    def take_gauges(self, gauges: dict[str, dict[str, Any]]) -> None:
        """Counters of the transfer process since it began, the state of its breakers, and which
        elements lock objects."""
        for element, values in gauges.items():
            self._running[element] = Counts.from_message(values["counters"])
            if values["breaker"] is not None:
                self._breakers[element] = self._wall_s(), BreakerView(**values["breaker"])
            if values["locks"] is not None:
                self.locks[element] = values["locks"]

    def process_ended(self) -> None:
        """The next one counts from zero, and its breakers are closed."""
        for element, counts in self._running.items():
            self._ended[element] = self._ended.get(element, NOTHING).plus(counts)
        self._running.clear()
        self._breakers.clear()

    # ----------------------------------------------------------------------------- answers

    def counts(self, element: str) -> Counts:
        """All of the processes together."""
        here = self._here[element].counts() if element in self._here else NOTHING
        ended = self._ended.get(element, NOTHING)
        return here.plus(ended).plus(self._running.get(element, NOTHING))

    def breaker(self, element: str) -> dict[str, Any] | None:
        """As `status` shows it; None of an element that has none, or before the first report."""
        if element not in self._breakers:
            return None
        told_s, view = self._breakers[element]
        trial_s = None if view.trial_in_s is None else told_s + view.trial_in_s
        return {
            "state": view.state,
            "since": timestamp(told_s - view.for_s),
            "next_trial": None if trial_s is None else timestamp(trial_s),
            "reason": view.reason or None,
        }

    def status(
        self, configured: Sequence[ElementConfiguration], queues: Mapping[str | None, Queue]
    ) -> list[dict[str, Any]]:
        """`elements` of `status`. What is new to all elements, in `queues` of None, counts for the
        one that takes new files now."""
        taker = choose_element(configured, self.capacities, 0)
        found = []
        for element in configured:
            queue = queues.get(element.id, NO_QUEUE)
            if element.id == taker:
                queue = queue.plus(queues.get(None, NO_QUEUE))
            found.append(self._status_of(element, queue))
        return found

    def _status_of(self, element: ElementConfiguration, queue: Queue) -> dict[str, Any]:
        capacity = self.capacities.get(element.id)
        error = self.errors.get(element.id)
        now_ns = int(self._wall_s() * 1e9)
        return {
            "id": element.id,
            "kind": element.kind,
            "path": element.place,
            "mode": element.mode,
            "object_lock": element.object_lock if self.locks.get(element.id) else None,
            "priority": element.priority,
            "state": "unavailable" if error else "ok" if capacity else "unknown",
            "error": error,
            "total_bytes": capacity.total_bytes if capacity else None,
            "free_bytes": capacity.free_bytes if capacity else None,
            "room": room_of(capacity).value,
            "queue": {"intents": queue.intents, "oldest_age_s": queue.oldest_age_s(now_ns)},
            "breaker": self.breaker(element.id),
            "counters": self.counts(element.id).to_message(),
        }


def timestamp(seconds: float) -> str:
    """As the control socket has them."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
