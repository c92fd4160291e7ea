"""Where a node goes next: to an element that has an older copy of it, or to a further one.

One at a time: once an element has the node, its intent comes again for the next, until the copies
policy is content (`state/copies.py`). Elements that do not answer now come last, so that the others
have what is new without waiting for them.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from artstorefs.core.naming import object_key, record_key
from artstorefs.elements.interface import Capacity
from artstorefs.state.copies import CopiesPolicy, is_in_record
from artstorefs.state.element_modes import ElementModes
from artstorefs.state.index import Copy, Index
from artstorefs.state.log import Assignment, Log, Move
from artstorefs.state.node import Node
from artstorefs.transfer.documents import Accounts
from artstorefs.transfer.jobs import StoreJob
from artstorefs.transfer.placement import choose_element

FULL = "takes new files of this size: they are full, or their mode forbids it"


class Targets:
    """Reads only."""

    def __init__(
        self,
        index: Index,
        log: Log,
        policy: CopiesPolicy,
        modes: ElementModes,
        accounts: Accounts,
    ) -> None:
        self._index = index
        self._log = log
        self._policy = policy
        self._modes = modes
        self._accounts = accounts

    def job(
        self,
        node: Node,
        capacities: Mapping[str, Capacity],
        unavailable: Collection[str],
        taken: set[str],
    ) -> StoreJob | None:
        """What the next element has to be told of the node; None if none takes it. `unavailable`:
        elements that did not answer last; `taken`: keys of this node that are being removed.
        """
        known = self._index.copies(node.ino)
        counting = self._policy.counting(node, known)
        job = self._job(node, known, counting, capacities, unavailable, taken)
        if job is None and not counting and known:  # accepted before nobody would take it
            counting = self._policy.counted(known)
            job = self._job(node, known, counting, capacities, unavailable, taken)
        if job is None or job.is_record or job.element not in self._policy.locks.able:
            return job
        return self._with_lock(job, node, known)

    def _job(
        self,
        node: Node,
        known: list[Copy],
        copies: list[Copy],
        capacities: Mapping[str, Capacity],
        unavailable: Collection[str],
        taken: set[str],
    ) -> StoreJob | None:
        """The same with these copies, the ones that count of those that are known."""
        is_record = is_in_record(node)
        before = self._log.assignment(node.ino)
        if before and (before.content, before.is_record) != (node.content, is_record):
            before = None
        move = self._log.move_of(node.ino)
        candidates: list[tuple[str, Copy | None]] = [
            (copy.element, copy) for copy in copies if not self._policy.is_told(node, copy)
        ]
        if move is not None:
            candidates = _while_moved(move, known, candidates, unavailable)
        elif len(copies) < self._policy.wanted:
            element = self._further(node, copies, before, capacities, unavailable)
            if element is not None:
                candidates.append((element, None))
        elif not candidates:  # all of them say so already, and can say it again
            candidates.append((copies[0].element, copies[0]))
        if not candidates:
            return None
        under_way = before.element if before else None
        element, copy = min(
            candidates,
            key=lambda candidate: (candidate[0] in unavailable, candidate[0] != under_way),
        )
        verify = move is not None and element == move.target
        if copy is not None and self._policy.has_content(copy, node):
            return StoreJob(
                *(node.ino, element, copy.key, node.content, is_record, False), verify=verify
            )
        if is_record:
            key = record_key(UUID(bytes=node.file_id))
        elif before and before.element == element:
            key = before.key
        else:
            key = self._object_key(node, known, taken)
            return StoreJob(
                *(node.ino, element, key, node.content, False, True), is_first=True, verify=verify
            )
        return StoreJob(
            *(node.ino, element, key, node.content, is_record, not is_record), verify=verify
        )

    def _with_lock(self, job: StoreJob, node: Node, known: list[Copy]) -> StoreJob:
        """The same, and until when its element is to lock the object, if it is."""
        there = next((copy for copy in known if copy.element == job.element), None)
        if job.upload or (there is not None and there.key != job.key):
            there = None
        told_ns = None if there is None else there.locked_ns
        lock_ns = self._policy.locks.wanted_ns(node, job.element, told_ns)
        if not lock_ns:
            return job
        is_told = there is not None and self._policy.is_current(node, there) and not job.verify
        return replace(job, lock_ns=lock_ns, lock_only=is_told)

    def keys_written(self, job: StoreJob) -> set[str]:
        """Every key but that of attr.json that a job may write."""
        links = [name.link_id for name in self._index.link_names(job.ino) if name.link_id]
        return {job.key, *(record_key(UUID(bytes=link_id)) for link_id in links)}

    def why_none(self) -> str:
        """Of a node for which there is no job."""
        if self._policy.wanted == 1:
            return f"no element {FULL}"
        return f"{self._policy.wanted} copies are wanted, and no further element {FULL}"

    def _further(
        self,
        node: Node,
        copies: list[Copy],
        before: Assignment | None,
        capacities: Mapping[str, Capacity],
        unavailable: Collection[str],
    ) -> str | None:
        """An element that has no copy; one that prepares for another mode only if no other takes
        it. What is on its way goes on to where it was going, unless that does not answer and there
        is another that does."""
        having = {copy.element for copy in copies}
        for elements in (self._modes.accepting, self._modes.draining):
            options = [one for one in elements if one.id not in having]
            answering = [one for one in options if one.id not in unavailable]
            if self._policy.wanted > 1 and answering:
                options = answering
            if before is not None:
                under_way = [one for one in options if one.id == before.element]
                if choose_element(under_way, capacities, node.size) is not None:
                    return before.element
            chosen = choose_element(options, capacities, node.size)
            if chosen is not None:
                return chosen
        return None

    def _object_key(self, node: Node, copies: list[Copy], taken: set[str]) -> str:
        """The key that the content has on other elements; else one that no earlier content of this
        file has: the second in it differs."""
        taken = taken | {copy.key for copy in copies if not self._policy.has_content(copy, node)}
        for copy in copies:
            if self._policy.has_content(copy, node) and copy.key not in taken:
                return copy.key
        taken |= {copy.key for copy in copies}
        before = self._log.assignment(node.ino)
        if before is not None:
            taken.add(before.key)
        entry = self._index.first_name(node.ino)
        name = entry.name if entry else b"unnamed"
        user = self._accounts(node.creator).username
        seconds = int(time.time())
        while True:
            moment = datetime.fromtimestamp(seconds, UTC)
            key = object_key(name, user, moment, UUID(bytes=node.file_id))
            if key not in taken:
                return key
            seconds += 1


def _while_moved(
    move: Move,
    known: list[Copy],
    stale: list[tuple[str, Copy | None]],
    unavailable: Collection[str],
) -> list[tuple[str, Copy | None]]:
    """Where a node may go that is on its way from one element to another, of which the first need
    not know what is new: unless the second does not answer, when it would wait in the spool."""
    there = next((copy for copy in known if copy.element == move.target), None)
    ends = (move.target, *(() if move.target in unavailable else (move.source,)))
    others = [candidate for candidate in stale if candidate[0] not in ends]
    return [(move.target, there), *others]
