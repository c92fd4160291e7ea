"""When which intent is due: pure, the time is an argument (seconds of any monotonic clock).

A node is carried once it has been left alone for `settle_s`, so that rsync's create, write, chmod,
utimes and rename cost one object and one attr.json; one that never comes to rest is carried after
`SETTLE_LIMIT` times as long. A failed one waits longer each time. Removals wait for what they
follow and for the transfer process to let go of the node; and a node waits while something of it is
being removed, because the same key may be meant: an empty file has one node record, whenever it is
empty, and the second that makes object keys differ comes again. A removal that has failed may take
long: it holds up only what goes to a key that it names (`keys_being_removed`).
"""

import random
from collections import OrderedDict
from dataclasses import dataclass, field

from artstorefs.state.log import Removal

SETTLE_LIMIT = 10

RETRY_FIRST_S = 1.0
RETRY_LIMIT_S = 60.0
"""Pauses double from the first to the limit: a disk that is plugged in again is noticed within a
minute."""


@dataclass(slots=True)
class _Waiting:
    first_s: float
    changed_s: float
    not_before_s: float = 0.0


@dataclass(slots=True)
class Schedule:
    """Every pending intent is here exactly once: waiting, or under way (`in_flight`)."""

    settle_s: float
    in_flight: set[int] = field(default_factory=set)
    _waiting: "OrderedDict[int, _Waiting]" = field(default_factory=OrderedDict)
    _removals: dict[int, Removal] = field(default_factory=dict)
    _after: dict[int, list[int]] = field(default_factory=dict)
    _ready_removals: dict[int, None] = field(default_factory=dict)
    _removing: dict[int, set[int]] = field(default_factory=dict)
    """Removals that are ready or under way and take something from an element, by node."""
    _failed_removals: set[int] = field(default_factory=set)
    _refusals: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Removals that an element has refused: how often, and until when they rest."""
    _failures: dict[int, int] = field(default_factory=dict)
    _removals_paused_until_s: float = 0.0
    _begun_before: set[int] = field(default_factory=set)
    _removals_begun_before: set[int] = field(default_factory=set)
    """Under way when somebody last asked: why they fail may be over by now."""

    # ----------------------------------------------------------------------------- intents

    def node_changed(self, ino: int, now_s: float) -> None:
        """The node has an intent; a change while it waits begins its settling anew."""
        waiting = self._waiting.get(ino)
        if waiting is None:
            self._waiting[ino] = _Waiting(now_s, now_s)
        elif now_s - waiting.first_s < self.settle_s * SETTLE_LIMIT / 2:
            waiting.changed_s = now_s
            self._waiting.move_to_end(ino)
        # else it keeps its place, so that it comes to the front however often it changes

    def removal_logged(self, log_id: int, removal: Removal) -> None:
        self._removals[log_id] = removal
        if removal.after is None:
            self._release(log_id)
        else:
            self._after.setdefault(removal.after[0], []).append(log_id)

    def _release(self, log_id: int) -> None:
        removal = self._removals[log_id]
        self._ready_removals[log_id] = None
        if removal.remove:
            self._removing.setdefault(removal.ino, set()).add(log_id)

    def _may_go(self, ino: int) -> bool:
        if ino in self.in_flight:
            return False
        return ino not in self._removing or self._removing[ino] <= self._failed_removals

    def keys_being_removed(self, ino: int) -> set[str]:
        """Keys of this node that a removal may take away at any time."""
        log_ids = self._removing.get(ino, ())
        return {key for log_id in log_ids for _, key in self._removals[log_id].remove}

    def loaded(self) -> None:
        """All of the log has been told: removals whose node has no intent need not wait."""
        for ino in [ino for ino in self._after if ino not in self._waiting]:
            self._release_after(ino, None)

    def take_due(self, now_s: float, limit: int, *, hurry: bool = False) -> list[int]:
        """Up to `limit` nodes that are due, now in flight. `hurry`: settling does not matter."""
        due: list[int] = []
        for ino, waiting in self._waiting.items():
            if len(due) >= limit:
                break
            settled = (
                hurry
                or now_s - waiting.changed_s >= self.settle_s
                or now_s - waiting.first_s >= self.settle_s * SETTLE_LIMIT
            )
            if not settled and ino not in self._failures:
                break  # in order of the last change: whoever follows is not due either
            if settled and now_s >= waiting.not_before_s and self._may_go(ino):
                due.append(ino)
        for ino in due:
            del self._waiting[ino]
            self.in_flight.add(ino)
        self._begun_before.difference_update(due)
        return due

    def take_removals(self, now_s: float, limit: int) -> list[tuple[int, Removal]]:
        """Up to `limit` removals that may be carried out now."""
        taken: list[tuple[int, Removal]] = []
        if now_s < self._removals_paused_until_s:
            return taken
        for log_id in self._ready_removals:
            if len(taken) >= limit:
                break
            removal = self._removals[log_id]
            if removal.ino not in self.in_flight and now_s >= self._rests_until_s(log_id):
                taken.append((log_id, removal))
        for log_id, _ in taken:
            del self._ready_removals[log_id]
            self._removals_begun_before.discard(log_id)
        return taken

    def _rests_until_s(self, log_id: int) -> float:
        return self._refusals[log_id][1] if log_id in self._refusals else 0.0

    # ---------------------------------------------------------------------------- outcomes

    def stored(self, ino: int, revision: int) -> None:
        """An element has this revision; what waited for it may go."""
        self.in_flight.discard(ino)
        self._failures.pop(ino, None)
        self._release_after(ino, revision)

    def stored_in_part(self, ino: int) -> None:
        """One element has it, and others are still to: what waits for it goes on waiting."""
        self.in_flight.discard(ino)
        self._failures.pop(ino, None)

    def gone(self, ino: int) -> None:
        """The node has been deleted: nothing waits for it any more."""
        self._waiting.pop(ino, None)
        self.in_flight.discard(ino)
        self._failures.pop(ino, None)
        self._release_after(ino, None)

    def again(self, ino: int, now_s: float) -> None:
        """Taken, but it has to go once more."""
        self.in_flight.discard(ino)
        self.node_changed(ino, now_s)

    def failed(self, ino: int, now_s: float) -> None:
        """Try again after a pause that grows, spread out so that not everything comes at once."""
        if ino in self._begun_before:
            self._begun_before.discard(ino)
            self.again(ino, now_s)
            return
        self.in_flight.discard(ino)
        count = self._failures[ino] = self._failures.get(ino, 0) + 1
        pause = min(RETRY_LIMIT_S, RETRY_FIRST_S * 2 ** min(count - 1, 16))
        self.node_changed(ino, now_s)
        self._waiting[ino].not_before_s = now_s + pause * random.uniform(0.75, 1.25)

    def removed(self, log_id: int) -> None:
        had_failed = log_id in self._failed_removals
        self._failed_removals.discard(log_id)
        self._refusals.pop(log_id, None)
        removal = self._removals.pop(log_id, None)
        if removal is None or not removal.remove:
            return
        if had_failed and removal.ino in self._waiting:  # perhaps for a key that is free now
            self._waiting[removal.ino].not_before_s = 0.0
        others = self._removing[removal.ino]
        others.discard(log_id)
        if not others:
            del self._removing[removal.ino]

    def removal_failed(self, log_id: int, now_s: float, *, is_refused: bool = False) -> None:
        """Try again after a pause: of all removals, but for one that was refused, of which the
        others know nothing, and whose pauses grow."""
        self._ready_removals[log_id] = None
        if log_id in self._removals_begun_before:
            self._removals_begun_before.discard(log_id)
            return
        self._failed_removals.add(log_id)
        if is_refused:
            count = self._refusals.get(log_id, (0, 0.0))[0] + 1
            pause_s = min(RETRY_LIMIT_S, RETRY_FIRST_S * 2 ** min(count + 1, 16))
            self._refusals[log_id] = count, now_s + pause_s
        else:
            self._removals_paused_until_s = now_s + RETRY_FIRST_S * 4

    def try_again_now(self) -> None:
        """Somebody asks: what has failed is due at once, as if it had not been tried yet, and so
        it is with what is under way if it fails."""
        self._failures.clear()
        self._failed_removals.clear()
        self._refusals.clear()
        self._begun_before = set(self.in_flight)
        self._removals_begun_before = self._removals_under_way()
        self._removals_paused_until_s = 0.0
        for waiting in self._waiting.values():
            waiting.not_before_s = 0.0

    def transfer_process_died(self, now_s: float) -> None:
        """Everything that was under way is due again, at once."""
        for ino in list(self.in_flight):
            self.in_flight.discard(ino)
            self._waiting[ino] = _Waiting(now_s - 3600.0, now_s - 3600.0)
            self._waiting.move_to_end(ino, last=False)
        for log_id in self._removals_under_way():
            self._ready_removals[log_id] = None

    def _removals_under_way(self) -> set[int]:
        waiting = {log_id for log_ids in self._after.values() for log_id in log_ids}
        return self._removals.keys() - waiting - self._ready_removals.keys()

    def _release_after(self, ino: int, revision: int | None) -> None:
        for log_id in self._after.pop(ino, []):
            removal = self._removals[log_id]
            if revision is None or (removal.after and removal.after[1] <= revision):
                self._release(log_id)
            else:
                self._after.setdefault(ino, []).append(log_id)

    # ------------------------------------------------------------------------------- state

    @property
    def is_empty(self) -> bool:
        return not (self._waiting or self.in_flight or self._removals)

    @property
    def pending(self) -> int:
        return len(self._waiting) + len(self.in_flight) + len(self._removals)

    @property
    def retrying(self) -> int:
        """Of `pending`, what only time or somebody else can move on: what has failed at least
        once, what waits for that, and what waits for a file that is open."""
        stuck = {ino for ino in self._failures if ino in self._waiting or ino in self.in_flight}
        failed = set(self._failed_removals)
        for ino, log_ids in self._after.items():
            if ino in stuck or not (ino in self._waiting or ino in self.in_flight):
                failed.update(log_ids)
        return len(stuck) + len(failed)

    def longest_wait_s(self, now_s: float) -> float:
        """How long the node that comes next has been waiting; 0 when none is."""
        for waiting in self._waiting.values():
            return now_s - waiting.first_s
        return 0.0

    def next_due_s(self, now_s: float) -> float:
        """Seconds until something may be due; 0 for at once, infinity for nothing."""
        soonest = float("inf")
        for log_id in self._ready_removals:
            if self._removals[log_id].ino not in self.in_flight:
                at_s = max(self._removals_paused_until_s, self._rests_until_s(log_id))
                soonest = min(soonest, at_s - now_s)
                if log_id not in self._refusals:
                    break
        count = 0
        for ino, waiting in self._waiting.items():
            if not self._may_go(ino):
                continue  # what becomes of it wakes whoever waits
            due = min(
                waiting.changed_s + self.settle_s,
                waiting.first_s + self.settle_s * SETTLE_LIMIT,
            )
            soonest = min(soonest, max(due, waiting.not_before_s) - now_s)
            if ino not in self._failures:  # those are in no order
                count += 1
            if count > 32:
                break
        return max(0.0, soonest)
