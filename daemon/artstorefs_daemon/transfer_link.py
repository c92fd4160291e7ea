"""The mount process's end of the transfer process: it drains the log.

One task decides what is due and sends it, one receives what became of it and commits that. The
transfer process is started anew whenever it ends, and told again what it had not answered.
"""

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from typing import Any

import trio

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.spool_budget import SpoolBudget
from artstorefs.state.log import Assignment, Removal
from artstorefs.state.node import ContentState
from artstorefs.state.outcomes import Stored
from artstorefs.state.row_sums import RowDamaged
from artstorefs.state.spool import parse_spool_name
from artstorefs.transfer.jobs import BatchResult, RemoveJob, StoreJob, batch_message, decode, encode
from artstorefs.transfer.schedule import Schedule
from artstorefs.transfer.targets import Targets
from artstorefs_daemon.accounts import account
from artstorefs_daemon.element_reports import ElementReports
from artstorefs_daemon.fetch_link import FetchLink
from artstorefs_daemon.log_levels import LogLevels
from artstorefs_daemon.restart_pause import RestartPause
from artstorefs_daemon.survey_link import EntryCame, SurveyLink
from artstorefs_daemon.transfer_child import Process, TransferChild, spawn_transfer

log = logging.getLogger(__name__)

BATCH_NODES = 128
"""Nodes in a batch: they share the flushes, which are most of what a small file costs."""

BATCH_BYTES = 64 << 20
"""Content in a batch, so that the first small file does not wait for the last large one."""

BATCHES_UNDER_WAY = 2

CAPACITY_INTERVAL_S = 5.0

YIELD_STEP_S = 0.05
YIELD_CHANGES = 10
YIELD_LIMIT_S = float(os.environ.get("ARTSTOREFS_YIELD_LIMIT_S", "5"))
"""While programs make more than `YIELD_CHANGES` changes in `YIELD_STEP_S`, carrying waits, because
it takes from the same disk and cores: a burst then runs a fifth faster, and what it left is carried
in the pause after it. Nothing waits longer than `YIELD_LIMIT_S` for that; a test that
wants work under way at every moment sets it to 0."""

CROWD_S = 0.02
"""Changes come in crowds; one look at the schedule serves all that come within this time."""

ASKED = ("mode", "offline", "prepare_medium", "recall")
"""What `TransferLink.ask` can ask for: keys of messages, whose value is the id of an element."""

RESTART_PAUSE_S, RESTART_PAUSE_LIMIT_S = 0.5, 10.0
"""Before a transfer process that died is started again: longer each time, until one has carried
something or read something for somebody."""

STATE_PAUSE_S = 0.5
"""Between attempts to record something on a disk that is full."""


class TransferLink:
    """`run` owns the child process; the rest are requests to it."""

    def __init__(
        self,
        archive: Archive,
        budget: SpoolBudget,
        first: TransferChild | None = None,
        lock_descriptor: int | None = None,
        entry_came: EntryCame = lambda directory, name: None,
    ) -> None:
        """`first`: the transfer process to begin with. Those that follow inherit `lock_descriptor`
        as it has, so that no other daemon begins while one that has lost its mount process is still
        at work on an element. `entry_came` is told of names that others have added there."""
        self._first = first
        self._inherited = [] if lock_descriptor is None else [lock_descriptor]
        self._archive = archive
        self._budget = budget
        self.fetches = FetchLink()
        self.log_levels = LogLevels()
        self.schedule = Schedule(archive.configuration.settle_s)
        self.reports = ElementReports(archive.counters)
        self._targets = Targets(
            *(archive.index, archive.log, archive.policy),
            *(archive.modes, account),
        )
        self.state_error = ""
        self.pid = 0
        self.surveys = SurveyLink(archive, self, entry_came)
        self._answers: dict[tuple[str, str], dict[str, Any]] = {}
        self._batches: dict[int, tuple[list[StoreJob], list[RemoveJob]]] = {}
        self._last_batch = 0
        self._hurry = 0
        self._changes = 0
        self._capacity_wanted = trio.Event()
        self._try_now = False
        self._wake = trio.Event()
        self._progress = trio.Event()
        self._sending = trio.Lock()
        self._connected = trio.Event()
        self._stream: trio.SocketStream | None = None
        self._pause = RestartPause(RESTART_PAUSE_S, RESTART_PAUSE_LIMIT_S)

    def load(self) -> None:
        """Take over what earlier processes have left in the log, and hear of what is added."""
        now = trio.current_time()
        log_of_intents = self._archive.log
        for ino in log_of_intents.waiting_nodes():
            self.schedule.node_changed(ino, now - 3600)
        for log_id, removal in log_of_intents.removals():
            self.schedule.removal_logged(log_id, removal)
        self.schedule.loaded()
        log_of_intents.on_node_changed = self._node_changed
        log_of_intents.on_removal_logged = self._removal_logged

    def _node_changed(self, ino: int) -> None:
        self.schedule.node_changed(ino, trio.current_time())
        self._changes += 1
        self._wake.set()

    def _removal_logged(self, log_id: int, removal: Removal) -> None:
        self.schedule.removal_logged(log_id, removal)
        self.surveys.note_removal(removal)
        self._wake.set()

    # ---------------------------------------------------------------------------- the child

    async def run(self) -> None:
        """Keep a transfer process at work, for ever."""
        while True:
            try:
                # the one before may have ended because it could not, which a new one would not see
                await trio.to_thread.run_sync(self._archive.database.sync_log)
                child = self._start()
            except (StateError, OSError) as exc:  # or no memory, no processes, no descriptors
                told = ("the transfer process cannot be started now: %s", exc)
                log.warning(*told, extra=about(exc))
                await trio.sleep(self._pause.take_s())
                continue
            self.pid = child.process.pid
            self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(child.ours))
            self._connected.set()
            try:
                async with trio.open_nursery() as nursery:
                    if self.log_levels.changed:
                        await self.tell({"log_levels": self.log_levels.changed})
                    nursery.start_soon(self._send_due)
                    nursery.start_soon(self._ask_capacity)
                    nursery.start_soon(self.fetches.run, self.tell)
                    await self._receive()
                    nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                log.debug("the transfer process has closed its end")
            except* Exception:
                # draining stops for a moment, the mount goes on
                log.exception("draining the log begins anew because of this")
            finally:
                await self._end(child.process)
            log.warning("transfer process %d ended; starting another", self.pid)
            self.reports.process_ended()
            self._batches.clear()
            self.schedule.transfer_process_died(trio.current_time())
            await trio.sleep(self._pause.take_s())

    def _start(self) -> TransferChild:
        child, self._first = self._first, None
        if child is None:
            child = spawn_transfer(
                self._archive.configuration,
                read_only=self._archive.read_only,
                inherited=self._inherited,
            )
        try:
            child.introduce(self._archive.id, self._archive.modes.in_force)
        except OSError:  # it has died already
            child.dismiss()
            raise
        return child

    async def _end(self, process: Process) -> None:
        with trio.CancelScope(shield=True):
            if self._stream is not None:
                await self._stream.aclose()
                self._stream = None
                self._connected = trio.Event()
            with trio.move_on_after(5):
                await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
            if process.poll() is None:
                process.kill()
                await trio.to_thread.run_sync(process.wait)

    # ----------------------------------------------------------------------------- sending

    async def _send_due(self) -> None:
        while True:
            sent = False
            if self._yields_to_programs():
                await trio.sleep(YIELD_STEP_S)
                continue
            if len(self._batches) < BATCHES_UNDER_WAY:
                sent = await self._send_batch()
            if sent:
                continue
            self._wake = trio.Event()
            pause = self.schedule.next_due_s(trio.current_time())
            if len(self._batches) >= BATCHES_UNDER_WAY:
                pause = math.inf
            elif self._hurry:
                pause = min(pause, 0.05)
            with trio.move_on_after(max(0.02, pause)):
                await self._wake.wait()
                if not self._hurry:
                    await trio.sleep(CROWD_S)

    def _yields_to_programs(self) -> bool:
        """Whether programs are busy on the mount and nothing has waited for long."""
        changes, self._changes = self._changes, 0
        waited_s = self.schedule.longest_wait_s(trio.current_time())
        return not self._hurry and changes > YIELD_CHANGES and waited_s < YIELD_LIMIT_S

    async def _send_batch(self) -> bool:
        now = trio.current_time()
        removals = self.schedule.take_removals(now, BATCH_NODES * 2)
        inos = self.schedule.take_due(now, BATCH_NODES, hurry=self._hurry > 0)
        store = self._assign_if_it_can_be_kept(inos)
        remove = [
            RemoveJob(log_id, r.remove, r.spool, r.keep, r.content_only) for log_id, r in removals
        ]
        if not store and not remove:
            return bool(inos)
        self._last_batch += 1
        self._batches[self._last_batch] = (store, remove)
        await self.tell(batch_message(self._last_batch, store, remove))
        crash_point("batch.sent")
        return True

    async def tell(self, message: dict[str, Any]) -> None:
        assert self._stream is not None
        async with self._sending:
            await self._stream.send_all(encode(message))

    def _assign_if_it_can_be_kept(self, inos: list[int]) -> list[StoreJob]:
        """Nothing when the state directory is full: the nodes come again, and removals, which
        make room, go on meanwhile."""
        try:
            jobs = self._assign(inos)
        except StateError as exc:
            self._state_failed(exc)
            for ino in inos:
                self.schedule.failed(ino, trio.current_time())
            return []
        if jobs or self.schedule.is_empty:
            self.state_error = ""
        return jobs

    def _state_failed(self, exc: StateError) -> None:
        if not self.state_error:
            told = ("carrying waits for the state directory: %s", exc)
            log.warning(*told, extra=about(exc))
        self.state_error = str(exc)

    def _assign(self, inos: list[int]) -> list[StoreJob]:
        """Decide where each node goes and commit that; what is not ready is put back."""
        jobs: list[StoreJob] = []
        assignments: list[tuple[int, Assignment]] = []
        size = 0
        now = trio.current_time()
        for ino in inos:
            try:
                node = self._archive.index.node(ino)
            except RowDamaged as exc:  # told to whoever needs it, and mended by the next start
                self._archive.outcomes.refuse(ino, str(exc))
                self.schedule.failed(ino, now)
                continue
            if node is None or node.nlink == 0:
                self.schedule.gone(ino)
                continue
            if node.content_state == ContentState.OPEN:
                self.schedule.in_flight.discard(ino)  # closing it makes it due
                continue
            if size > BATCH_BYTES:
                self.schedule.again(ino, now - 3600)
                continue
            taken = self.schedule.keys_being_removed(ino)
            job = self._targets.job(node, self.reports.capacities, self.reports.errors, taken)
            if job is not None and taken and taken & self._targets.keys_written(job):
                self.schedule.failed(ino, now)  # as the removal has; nothing can be said of it
                continue
            if job is None:
                self._archive.outcomes.refuse(ino, self._targets.why_none())
                self.schedule.failed(ino, now)
                continue
            size += node.size if job.upload else 0
            jobs.append(job)
            assignments.append((ino, Assignment(job.element, job.key, job.content, job.is_record)))
        if assignments:
            self._archive.outcomes.assign(assignments)
        return jobs

    async def _ask_capacity(self) -> None:
        while True:
            try_now, self._try_now = self._try_now, False
            await self.tell({"capacity": True, "try_now": try_now})
            with trio.move_on_after(CAPACITY_INTERVAL_S):
                await self._capacity_wanted.wait()
            self._capacity_wanted = trio.Event()

    async def refresh_capacities(self) -> None:
        """Ask the elements for their room now, also those that are left alone because they did not
        answer; what they said last counts if they do not answer."""
        times_tried = self.reports.times_tried
        self._try_now = True
        self._capacity_wanted.set()
        with trio.move_on_after(CAPACITY_INTERVAL_S):
            while self.reports.times_tried == times_tried:
                await self._progress.wait()

    # --------------------------------------------------------------------------- receiving

    async def _receive(self) -> None:
        assert self._stream is not None
        results, waiting = trio.open_memory_channel[dict[str, Any]](math.inf)
        async with trio.open_nursery() as nursery, results:
            nursery.start_soon(self._take_results, waiting)
            unread = bytearray()
            with contextlib.suppress(trio.BrokenResourceError):
                while data := await self._stream.receive_some(1 << 20):
                    unread += data
                    *lines, unread = unread.split(b"\n") if b"\n" in data else [unread]
                    for message in map(decode, lines):
                        if "fetched" in message:  # readers do not wait for a disk that is full
                            self._pause.was_of_use()
                            self.fetches.take(message)
                        else:
                            results.send_nowait(message)

    async def _take_results(self, waiting: "trio.MemoryReceiveChannel[dict[str, Any]]") -> None:
        async for message in waiting:
            await self._take_when_it_can_be_kept(message)

    async def _take_when_it_can_be_kept(self, message: dict[str, Any]) -> None:
        """What the elements have done is recorded before anything else is heard of it."""
        while True:
            try:
                self._take(message)
                return
            except StateError as exc:
                self._state_failed(exc)
                await trio.sleep(STATE_PAUSE_S)

    def _take(self, message: dict[str, Any]) -> None:
        if "gauges" in message:
            self.reports.take_gauges(message.pop("gauges"))
            for element, locks in self.reports.locks.items():
                self._archive.policy.locks.learn(element, locks)
        if "capacity" in message:
            if self.reports.take_capacities(message):
                self.surveys.ask_if_incomplete()
        elif "survey" in message:
            self.surveys.take(message)
        elif kind := next((kind for kind in ASKED if kind in message), None):
            self._answers[kind, message[kind]] = message
        elif message:
            self._take_result(BatchResult.from_message(message))
        self._wake.set()
        self._progress.set()
        self._progress = trio.Event()

    def _take_result(self, result: BatchResult) -> None:
        crash_point("result.received")
        self._pause.was_of_use()
        now = trio.current_time()
        self._archive.outcomes.observe(result.observed)
        again = set(
            self._archive.outcomes.apply(
                *(result.stored, result.removed, result.failed, result.removal_failures)
            )
        )
        self.state_error = ""
        _, removals = self._batches.pop(result.batch)
        spool_names = {job.log_id: job.spool for job in removals}
        for stored in result.stored:
            self._take_stored(stored, now, is_done=stored.ino not in again)
        for ino in result.dropped:
            self.schedule.in_flight.discard(ino)
            if self._archive.log.is_waiting(ino):
                self.schedule.again(ino, now)
            else:
                self.schedule.gone(ino)
        for failure in result.failed:
            self.schedule.failed(failure.ino, now)
        for log_id in result.removed:
            self.schedule.removed(log_id)
            for name in spool_names[log_id]:
                self._budget.remove(*parse_spool_name(name))
        for log_id, error, refused in result.removal_failures:
            log.warning("a removal is tried again: %s", error)
            self.schedule.removal_failed(log_id, now, is_refused=refused)

    def _take_stored(self, stored: Stored, now: float, *, is_done: bool) -> None:
        """One element has the node. What waits for it waits until all have it that are to."""
        self._archive.damage.stored_again(stored.ino, stored.element, stored.key)
        if is_done or self._archive.policy.wanted == 1:
            self.schedule.stored(stored.ino, stored.revision)
        else:
            self.schedule.stored_in_part(stored.ino)
        if is_done:
            return
        node = self._archive.index.node(stored.ino)
        is_changed = node is None or node.revision != stored.revision
        self.schedule.again(stored.ino, now if is_changed else now - 3600)

    # ---------------------------------------------------------------------------- requests

    async def tell_log_levels(self) -> None:
        """Have the transfer process log as much as this one; one that is not there yet will."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if self._stream is not None:
                await self.tell({"log_levels": self.log_levels.changed})

    def change_settling(self, settle_s: float) -> None:
        """From now on a node rests so long; also what rests already."""
        self.schedule.settle_s = settle_s
        self._wake.set()

    async def record_mode(self, element: str, record: str) -> str | None:
        """Have an element keep what mode it is in; what has gone wrong, or None."""
        error: str | None = (await self.ask("mode", element, record=record))["error"]
        return error

    async def ask(self, kind: str, element: str, **more: Any) -> dict[str, Any]:
        """Have the transfer process do one of `ASKED` with an element, and what it answers; one
        that ends before that is followed by another, which is asked again. One of a kind at a time
        for each element."""
        self._answers.pop((kind, element), None)
        asked = 0
        while (kind, element) not in self._answers:
            await self._connected.wait()
            if asked != self.pid:
                asked = self.pid
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.tell({kind: element, **more})
            await self.wait_progress(1.0)
        return self._answers.pop((kind, element))

    async def wait_connected(self) -> None:
        """Until there is a transfer process."""
        await self._connected.wait()

    async def wait_progress(self, limit_s: float) -> None:
        """Until something has been carried out, or `limit_s` seconds."""
        with trio.move_on_after(limit_s):
            await self._progress.wait()

    @contextlib.contextmanager
    def hurry(self) -> Iterator[None]:
        """A context in which nothing waits for settling: flush, unmount, durability=element."""
        self.change_hurry(1)
        try:
            yield
        finally:
            self.change_hurry(-1)

    def disregard_changes(self, count: int) -> None:
        """The last so many changes were made by no program: nobody is to be yielded to."""
        self._changes -= count

    def change_hurry(self, difference: int) -> None:
        self._hurry += difference
        self._wake.set()
