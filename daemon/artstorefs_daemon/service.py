"""The mount process's parts and the tasks that run beside the FUSE loop."""

import logging
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import trio

from artstorefs import __version__
from artstorefs.core.errors import StateError, StateFull, one_line
from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.attributes import Attributes, FilesystemSize
from artstorefs.filesystem.cache_orders import CacheOrders, Outcome
from artstorefs.filesystem.clean_up import CleanUp
from artstorefs.filesystem.content import Contents
from artstorefs.filesystem.handing_over import OpenFiles
from artstorefs.filesystem.open_file import Handle
from artstorefs.filesystem.passthrough import Kernel, NoPassthrough, supports_leases
from artstorefs.filesystem.recalling import Recalling
from artstorefs.filesystem.recalls import Recalls
from artstorefs.filesystem.source import ContentSource
from artstorefs.filesystem.spool_budget import SpoolBudget
from artstorefs.filesystem.tree import Tree
from artstorefs.filesystem.xattr import Xattrs
from artstorefs.state.database import CHECKPOINT_BYTES
from artstorefs.state.log import Failure
from artstorefs.state.mending import damage_of, damaged_inos
from artstorefs.state.node import Node
from artstorefs.state.queues import Standing, read_standing
from artstorefs_daemon.archived_report import ArchivedReport
from artstorefs_daemon.callers import in_group
from artstorefs_daemon.element_reports import timestamp
from artstorefs_daemon.error_entries import error_entry
from artstorefs_daemon.expiring import Expiring
from artstorefs_daemon.fuse_library import Backing, KernelPassthrough
from artstorefs_daemon.index_backups import IndexBackups
from artstorefs_daemon.kernel_caches import KernelCaches
from artstorefs_daemon.locking import Locking
from artstorefs_daemon.migrations import Migrations
from artstorefs_daemon.mode_changes import ModeChanges
from artstorefs_daemon.offlining import Offlining
from artstorefs_daemon.operation_statistics import OperationStatistics
from artstorefs_daemon.recall_webhook import RecallWebhook
from artstorefs_daemon.transfer_child import TransferChild
from artstorefs_daemon.transfer_link import TransferLink

log = logging.getLogger(__name__)

CHECKPOINT_INTERVAL_S = 1.0

DRAIN_LIMIT_S = 20.0
"""How long an unmounted daemon goes on carrying out its log. What is left waits in the log; the
next mount goes on with it."""

UNMAPPED_PAUSE_S, UNMAPPED_PAUSE_LIMIT_S = 0.02, 1.0
"""Between two looks whether what is mapped still is: the first pause is for a descriptor whose last
close is still under way."""

SEAL_PAUSE_S = 0.05
"""How long what was closed waits for more of it: recording that takes as long as creating a file,
and close(2) promises nothing of it. A start after a kill finds it OPEN, and seals it."""

SUM_LOOK_S, SUM_PAUSE_S = 2.0, 0.05
"""Between two looks for content that has waited for long in the spool; while there is much of it,
between two handfuls of files, so that programs have the disk in between."""

PIN_INTERVAL_S = 300.0
"""Between two looks for what is new below a pin: a thousand files take a few hundredths of a
second, and who is in a hurry orders it again."""

SHOWN_ERRORS = 100

UNKNOWN_SIZE = FilesystemSize(1 << 50, 1 << 50, 0, 1 << 32)
"""statfs before any element has answered: programs that check for room must not be turned away."""


class Service:
    """What the FUSE adapter, the control socket and the daemon's start work with."""

    def __init__(
        self,
        archive: Archive,
        mountpoint: str,
        spool_used: Mapping[tuple[int, int], int],
        transfer: TransferChild | None = None,
        lock_descriptor: int | None = None,
        recovery_s: float = 0.0,
        stub: Backing | None = None,
        handed: OpenFiles | None = None,
    ) -> None:
        """`recovery_s`: how long the start took to have the state whole again. `stub`: who binds
        files for a daemon that may not. `handed`: what is open from before."""
        self.archive = archive
        self._stub = stub
        self.mountpoint = mountpoint
        self.started_at = time.time()
        self.recovery_s = recovery_s
        self.operations = OperationStatistics()
        configuration = archive.configuration
        self.budget = SpoolBudget(
            *(configuration.spool_max, spool_used),
            wait_s=configuration.spool_wait_s if configuration.spool_full == "wait" else 0.0,
            disk_is_full=self._state_is_full,
        )
        self._caches = KernelCaches()
        came = self._caches.entry_came
        self.link = TransferLink(archive, self.budget, transfer, lock_descriptor, came)
        source = ContentSource(archive, self.link.fetches.send)
        self.read_cache = self.link.fetches.cache = source.read_cache
        self.cache_orders = CacheOrders(archive, source)
        self.contents = Contents(
            archive,
            source,
            self.budget,
            self._caches.attributes_changed,
            self._kernel(),
            None if self.waits_for_elements else self._closed_one,
        )
        self.handles = self.contents.handing_over.take(handed or OpenFiles())
        """Open files by the numbers that the kernel has for them."""
        self.tree = Tree(archive, self.contents.is_held)
        self.attributes = Attributes(archive, self.contents)
        self.xattrs = Xattrs(archive, in_group, self.contents.is_written, self.contents.seal_closed)
        self._make_care_of_elements(source)
        self.state_error = ""
        self._index_error = ""
        self.backups = IndexBackups(
            *(archive.database, str(configuration.state_dir)),
            lambda: archive.configuration.index_backup_interval_s,
        )
        self.begun = trio.Event()
        """The kernel has been answered for the first time (INIT)."""
        self._mapped = trio.Event()
        self.contents.mapped_one = self._mapped_one
        self._closed = trio.Event()
        archive.changes.touches.added = self._closed_one
        self._standing: Standing | None = None
        self._files = archive.index.count_nodes()
        self._files_counted = time.monotonic()

    def _make_care_of_elements(self, source: ContentSource) -> None:
        """What happens to files because of where they are, and not because a program says so."""
        archive = self.archive
        self.mode_changes = ModeChanges(archive, self.contents, self.link)
        self.migrations = Migrations(archive, self.link)
        clean_up = CleanUp(archive, self.contents.is_held, self._caches.entry_went)
        self.expiring = Expiring(archive, clean_up, self.link, self.note_damage)
        self.offlining = Offlining(archive, self.link)
        self._archived = ArchivedReport(archive, self.note_damage)
        self.locking = Locking(archive, self.link)
        self.recalls = Recalls(archive, source)
        self.recalls.over = self._recalled_is_over
        self._webhook = RecallWebhook(archive.configuration, self.recalls.requests)
        self.recalls.tells, self.recalls.done = self._webhook.is_on, self._webhook.wake
        self.recalling = Recalling(
            *(archive, source, self.recalls, self.cache_orders),
            *(self.offlining.prepare_recall, self.contents.is_held),
        )
        self._pins_changed = trio.Event()

    def _kernel(self) -> Kernel:
        """Whether the kernel may write the spool by itself: not where close(2) has to wait for an
        element, nor where nobody could tell that a mapping is still written."""
        if self.waits_for_elements or not supports_leases(self.archive.spool.directory):
            return NoPassthrough()
        return KernelPassthrough(self._stub)

    # ------------------------------------------------------------------------------- tasks

    async def run(self) -> None:
        """The tasks beside the FUSE loop, until cancelled."""
        self.link.load()
        self.contents.sums.load()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            nursery.start_soon(self._keep_cache)
            nursery.start_soon(self.link.surveys.run)
            nursery.start_soon(self._keep_state)
            nursery.start_soon(self._caches.run)
            nursery.start_soon(self._let_go_of_unmapped)
            nursery.start_soon(self._seal_closed)
            nursery.start_soon(self._sum_waiting)
            nursery.start_soon(self.mode_changes.run)
            nursery.start_soon(self.migrations.run)
            nursery.start_soon(self.expiring.run)
            nursery.start_soon(self.offlining.run)
            nursery.start_soon(self.locking.run)
            nursery.start_soon(self.recalling.run)
            nursery.start_soon(self._archived.run)
            nursery.start_soon(self._webhook.run)

    async def _keep_state(self) -> None:
        """Checkpoints, backups, what was closed on a full disk, and the reserve; every second, for
        ever."""
        self.backups.begin(trio.current_time())
        while True:
            await trio.sleep(CHECKPOINT_INTERVAL_S)
            try:
                async with self.backups.turn:
                    await self._keep_state_once()
            except (StateError, OSError) as exc:
                if str(exc) != self.state_error:
                    log.warning("the state directory: %s", exc, extra=about(exc))
                self.state_error = str(exc)
            else:
                if self.state_error:
                    log.info("the state directory is well again")
                self.state_error = ""

    async def _keep_state_once(self) -> None:
        database = self.archive.database
        if database.audit is not None:
            await trio.to_thread.run_sync(database.audit.sync)
        try:
            self.contents.record_closed()  # first: a full disk may refuse everything else
        except StateFull:  # but what the log takes on the disk, of which this makes some use again
            await trio.to_thread.run_sync(database.checkpoint)
            self.contents.record_closed()
        if database.log_bytes() >= CHECKPOINT_BYTES or self._state_is_full():
            await trio.to_thread.run_sync(database.checkpoint)
        database.require_room()
        self.archive.changes.touches.record_all()
        if self.backups.is_to_be_looked_at(trio.current_time()):
            await trio.to_thread.run_sync(self.backups.back_up)

    def _state_is_full(self) -> bool:
        reserve = self.archive.database.reserve
        return reserve is not None and not reserve.hold()

    def note_damage(self, exc: BaseException) -> bool:
        """Whether `exc` says that the index is damaged: told once, and mended by the next start."""
        if not isinstance(exc, sqlite3.Error) or not self.archive.database.note_damage(exc):
            return False
        if not self._index_error:
            log.error(
                "the index is damaged (%s): what needs the damaged part of it is EIO. Unmount and"
                " mount again; the start reads all of it, and if it is damaged takes a backup, or"
                " what the elements say, in its place",
                exc,
            )
        self._index_error = one_line(str(exc))
        return True

    def _closed_one(self) -> None:
        self._closed.set()

    def _mapped_one(self) -> None:
        self._mapped.set()

    async def _seal_closed(self) -> None:
        while True:
            await self._closed.wait()
            await trio.sleep(SEAL_PAUSE_S)
            self._closed = trio.Event()
            try:
                self.record_waiting()
            except StateError as exc:  # what is closed has been told of; `_keep_state` goes on
                log.debug("directories are recorded later: %s", exc)
            except Exception as exc:  # they stay OPEN until the next start, and the mount goes on
                if not self.note_damage(exc):
                    log.exception("closed files could not be sealed")

    def record_waiting(self) -> None:
        """What was closed, and directories in which something came. Raises StateError."""
        self.contents.seal_closed()
        self.archive.changes.touches.record_all()

    async def _sum_waiting(self) -> None:
        """Sum what waits in the spool for long. On a full disk that waits for room, as all does."""
        told = ""
        while True:
            is_more = False
            try:
                is_more = await self.contents.sums.sum_due()
                told = ""
            except StateError as exc:
                if str(exc) != told:
                    log.warning("content that waits is summed later: %s", exc, extra=about(exc))
                told = str(exc)
            except Exception as exc:  # the mount goes on
                if not self.note_damage(exc):
                    log.exception("content that waits could not be summed")
            await trio.sleep(SUM_PAUSE_S if is_more else SUM_LOOK_S)

    async def _keep_cache(self) -> None:
        """Count what the cache holds, and then, now and then, bring what is pinned."""
        await self.read_cache.load()
        while True:
            pins_changed, self._pins_changed = self._pins_changed.is_set(), trio.Event()
            if pins_changed or self.cache_orders.pins.inos or not self.recalls.rows.is_empty:
                outcome = Outcome()
                try:
                    await self.cache_orders.keep_pinned(outcome)
                except Exception as exc:  # the mount goes on
                    if not self.note_damage(exc):
                        log.exception("what is pinned could not be looked through")
                for error in outcome.errors[:1]:
                    log.warning(
                        "%d files that are pinned are not in the cache now, among them %s: %s",
                        *(outcome.failed, error["path"], error["error"]),
                        extra=about(path=error["path"]),
                    )
            with trio.move_on_after(PIN_INTERVAL_S):
                await self._pins_changed.wait()

    def _recalled_is_over(self) -> None:
        """What was recalled may leave the cache, and the element."""
        self._pins_changed.set()
        self.offlining.wake()

    async def _let_go_of_unmapped(self) -> None:
        pause_s = UNMAPPED_PAUSE_LIMIT_S  # of what has outlived a daemon
        while True:
            await trio.sleep(pause_s)
            if self.contents.let_go_of_unmapped():
                pause_s = min(2 * pause_s, UNMAPPED_PAUSE_LIMIT_S)
                continue
            await self._mapped.wait()
            self._mapped = trio.Event()
            pause_s = UNMAPPED_PAUSE_S

    # ------------------------------------------------------------------------------- waits

    @property
    def waits_for_elements(self) -> bool:
        return self.archive.configuration.durability == "element"

    async def wait_stored(self, handle: Handle) -> None:
        """Until an element has what was written through `handle`; raises OSError(EIO) with the
        reason as soon as an element has refused it."""
        if not self.contents.seal_written(handle):
            return
        node = handle.file.node
        with self.link.hurry():
            while self.archive.log.is_waiting(node.ino):
                error = self.archive.log.failure(node.ino)
                if error:
                    raise OSError(5, error)
                await self.link.wait_progress(1.0)

    async def flush(self) -> AsyncGenerator[dict[str, int], None]:
        """Carry out the whole log without settling; yields what is pending. Ends when nothing is,
        or when all that is left has been tried now and has failed."""
        self.contents.let_go_of_unmapped()
        self.record_waiting()
        with self.link.hurry(), self.migrations.held():
            await self.link.refresh_capacities()
            self.link.schedule.try_again_now()
            while True:
                pending = self.link.schedule.pending
                yield {"pending": pending, "bytes": self.pending()["bytes"]}
                if pending <= self.link.schedule.retrying and not self.locking.is_behind:
                    return
                await self.link.wait_progress(0.25)

    async def drain(self) -> None:
        """After the unmount: carry out what is left, up to a limit."""
        with trio.move_on_after(DRAIN_LIMIT_S) as limit:
            async with aclosing(self.flush()) as steps:
                async for _ in steps:
                    pass
        if limit.cancelled_caught:
            log.warning("%d intents are left for the next mount", self.link.schedule.pending)

    # ----------------------------------------------------------------------------- answers

    def filesystem_size(self) -> FilesystemSize:
        """statfs from what the elements last said; never asks one."""
        capacities = [c for c in self.link.reports.capacities.values() if c.total_bytes is not None]
        if not capacities:
            return UNKNOWN_SIZE
        return FilesystemSize(
            total_bytes=sum(c.total_bytes or 0 for c in capacities),
            free_bytes=sum(c.free_bytes or 0 for c in capacities),
            files=self.count_nodes(),
            free_files=sum(c.free_files or 0 for c in capacities),
        )

    def count_nodes(self) -> int:
        """Number of nodes, at most ten seconds old: counting a million takes 20 ms."""
        if time.monotonic() - self._files_counted > 10:
            self._files = self.archive.index.count_nodes()
            self._files_counted = time.monotonic()
        return self._files

    def pending(self) -> dict[str, Any]:
        return self.archive.log.summary()

    def summary(self) -> str:
        """What it does, in a line for people."""
        intents = self.pending()["intents"]
        return f"{intents} wait for an element" if intents else "the elements have everything"

    def node(self, ino: Any) -> Node | None:
        """The node with this inode number, if it is one."""
        return self.archive.index.node(ino) if type(ino) is int and 0 < ino < 1 << 63 else None

    def errors(self) -> list[dict[str, Any]]:
        """What an element did not take so far, by file."""
        return self._intent_errors(self.archive.log.failures(SHOWN_ERRORS))

    def outcome_of_flush(self) -> dict[str, Any]:
        """The answer of the control method `flush`; what waits for a file that is open has not
        failed in it."""
        intents = self.archive.log
        return {
            "pending": self.pending()["intents"],
            "failed": intents.count_failures_of_closed(),
            "errors": self._intent_errors(intents.failures_of_closed(SHOWN_ERRORS)),
        }

    def _intent_errors(self, failures: list[Failure]) -> list[dict[str, Any]]:
        archive = self.archive
        return self._state_errors(self.link.state_error) + [
            error_entry(archive, one.ino, one.file_id, one.error, one.since_ns, one.place)
            for one in failures
        ]

    def damaged(self) -> list[dict[str, Any]]:
        """What reading since the mount, or a check before it, has found damaged, by file."""
        archive = self.archive
        found: list[dict[str, Any]] = []
        for ino, mark in archive.damage.marks().items():
            node = archive.index.node(ino)
            if node is not None and archive.damage.error(node) and len(found) < SHOWN_ERRORS:
                found.append(error_entry(archive, ino, mark.file_id, mark.error, mark.since_ns))
        for ino in damaged_inos(archive.database, SHOWN_ERRORS):
            node = archive.index.node(ino)
            if node is None or archive.damage.error(node) or len(found) >= SHOWN_ERRORS:
                continue
            error = damage_of(archive.database, node)
            if error is not None:
                found.append(error_entry(archive, ino, node.file_id, error, None))
        return found

    def _state_errors(self, error: str) -> list[dict[str, Any]]:
        """An entry of `errors` for the state directory, where it has one."""
        path = str(self.archive.configuration.state_dir)
        return [{"path": path, "file_id": "", "error": error, "since": None}] if error else []

    async def status(self) -> dict[str, Any]:
        """The answer of the control method `status`; CONTROL.md describes it."""
        configuration = self.archive.configuration
        standing = await self._read_standing()
        return {
            "archive": configuration.name,
            "mountpoint": self.mountpoint,
            "pid": os.getpid(),
            "transfer_pid": self.link.pid,
            "version": __version__,
            "started_at": timestamp(self.started_at),
            "durability": configuration.durability,
            "read_only": self.archive.read_only,
            "copies": configuration.copies,
            "recovery_s": self.recovery_s,
            "index_error": self._index_error or None,
            "backup": await trio.to_thread.run_sync(self.backups.report),
            "nodes": standing.nodes,
            "pending": standing.pending,
            "errors": self.errors() or self._state_errors(self.state_error),
            "damaged": self.damaged(),
            "quarantined": {
                "documents": self.link.surveys.last.get("quarantined", 0),
                "errors": self.link.surveys.bad_documents[:SHOWN_ERRORS],
            },
            "spool": {
                "bytes": self.budget.used_bytes,
                "limit_bytes": self.budget.limit_bytes,
            },
            "cache": {
                "bytes": self.read_cache.room.used_bytes,
                "limit_bytes": self.read_cache.room.limit_bytes,
            },
            "survey": self.link.surveys.last or {"seen": 0},
            "expiring": self.expiring.summary(),
            "archived": await self._archived.describe(),
            "wanted": await self.offlining.describe_wanted(self.recalls.wanted),
            "elements": self.link.reports.status(self.archive.modes.elements, standing.queues),
            **self.operations.to_message(),
        }

    async def _read_standing(self) -> Standing:
        """What the index says; what it said before, where it cannot be read now: `status` has to
        tell of that, and must not fail for it."""
        path = self.archive.database.path
        try:
            self._standing = await trio.to_thread.run_sync(read_standing, path)
        except sqlite3.Error as exc:
            if not self.note_damage(exc):
                log.warning("status tells numbers of before: %s", exc, extra=about(exc, path=path))
        return self._standing or Standing({}, self.pending(), self.count_nodes())
