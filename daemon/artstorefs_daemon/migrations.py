"""Migrations: files that come from one element to another while the archive is mounted.

`core/migration.py` has the phases, `state/moves.py` the steps of each file. Here is what goes
through the files: some hundreds are on their way at a time, carried as everything is, and more
follow as those arrive. Nothing but what the index has is needed to go on after a kill: a file is to
be moved as long as the source has a copy of it that does not leave.

Programs read and write meanwhile. What they have open for writing is moved once they close it; what
they change on its way is carried again, and only all of it counts (`Outcomes`). While somebody
flushes nothing more is put on its way, or that would never end.
"""

import logging
import sqlite3
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ArtStoreFSError, StateError
from artstorefs.core.log_fields import about
from artstorefs.core.migration import Event, Migration, MigrationRefused, Phase
from artstorefs.filesystem.archive import Archive, Caller, now_ns
from artstorefs.state.log import Move
from artstorefs.state.moves import Found, Moves, UnderWay, count_part, find_part, removals_on
from artstorefs.state.node import Node
from artstorefs.state.row_sums import RowDamaged
from artstorefs_daemon.departures import FILES_AT_ONCE, LOOK_S, Departures
from artstorefs_daemon.element_reports import timestamp
from artstorefs_daemon.migration_refusals import require_elements, why_not, why_not_file
from artstorefs_daemon.transfer_link import TransferLink

log = logging.getLogger(__name__)

FILES_UNDER_WAY = 1024
BYTES_UNDER_WAY = 1 << 30
"""On their way at a time: enough that the batches are full, and little enough that a pause or a
flush does not wait for long."""

COUNTED_PART = 0.05
"""Of the time that counting what is left takes at most, in a thread."""

LISTED_FAILURES = 100

_SETTING = "migration"
"""Key of the row of `settings` with the last migration that was begun."""


class Migrations:
    """`run` carries out what `begin` has begun, also before the last start."""

    def __init__(self, archive: Archive, link: TransferLink) -> None:
        self._archive = archive
        self._link = link
        self._moves = Moves(archive.database, archive.index, archive.log)
        self._departures = Departures(archive, self._moves)
        self._wake = trio.Event()
        self._looked = trio.Event()
        self._after = 0
        """Up to this inode number the source has been gone through."""
        self._has_begun_some = False
        """Since it was last begun with."""
        self._waits_with: int | None = None
        """All of it has been gone through, and all that is left to be moved, so many, is on its
        way."""
        self._left = (0, 0)
        """Files and bytes that the source has still, when they were last counted."""
        self._next_count_s = 0.0
        self._refused: dict[int, str] = {}
        self._allowance = 0.0
        """Bytes that may be put on their way by the rate."""
        self._allowance_s = 0.0
        self._holds = 0
        self._told = ""
        self.last = self._load()
        self._obey()

    def _load(self) -> Migration | None:
        text = self._archive.database.setting(_SETTING)
        if not text:
            return None
        try:
            return Migration.from_json(text)
        except (ValueError, TypeError, KeyError) as exc:
            log.error("the index does not tell what was being moved any more: %s", exc)
            return None

    def _obey(self) -> None:
        """Have the modes know which elements are concerned."""
        last = self.last
        is_active = last is not None and (last.is_under_way or last.empties_source)
        moving = frozenset({last.source, last.target} if last and last.is_under_way else ())
        emptied = last.source if last is not None and is_active and last.empties_source else None
        self._archive.modes.migrates(moving, emptied)

    # ------------------------------------------------------------------------------- requests

    async def plan(self, source: str, target: str, root: int | None) -> dict[str, Any]:
        """What would be moved, and why it cannot be. Raises MigrationRefused for what makes no
        sense at all."""
        require_elements(self._archive, source, target)
        files, size = await self._count(source, root)
        capacity = self._link.reports.capacities.get(target)
        return {
            "files": files,
            "bytes": size,
            "free_bytes": None if capacity is None else capacity.free_bytes,
            "refused": self._why_not(source, target, size),
        }

    async def begin(
        self,
        source: str,
        target: str,
        who: Caller,
        *,
        root: int | None,
        keep_s: float,
        rate: int | None,
    ) -> None:
        """From now on; `root` as in `Migration`. Raises MigrationRefused, StateError."""
        require_elements(self._archive, source, target)
        files, size = await self._count(source, root)
        reason = self._why_not(source, target, size)
        if reason is not None:
            raise MigrationRefused(reason)
        number = 1 if self.last is None else self.last.number + 1
        moment_ns = now_ns()
        began = Migration(
            *(number, source, target, int(keep_s * 1e9), who.uid, moment_ns, moment_ns),
            *(files, size, root, rate),
        )
        told = {**self._about(began, "begin"), "files": files, "bytes": size, "keep_s": keep_s}
        self._archive.note("migrate", who, **told)
        self._refused.clear()
        self._after, self._has_begun_some, self._waits_with = 0, False, None
        self._left = (files, size)
        self._put(began, "begin", who)
        crash_point("migration.begun")

    def pause(self, who: Caller) -> None:
        """Begin no further file. Raises MigrationRefused, StateError."""
        self._step(Event.PAUSE, who)
        self._take_back()

    def resume(self, who: Caller) -> None:
        """Go on. Raises MigrationRefused, StateError."""
        self._step(Event.RESUME, who)

    def cancel(self, who: Caller) -> None:
        """What has not come to the target stays where it is. Raises MigrationRefused,
        StateError."""
        self._step(Event.CANCEL, who)
        self._take_back()
        crash_point("migration.cancelled")

    def throttle(self, rate: int | None, who: Caller) -> None:
        """So many bytes a second from now on, or as fast as it goes. Raises MigrationRefused,
        StateError."""
        last = self._require_last()
        if not last.is_under_way:
            raise MigrationRefused(f"migration {last.number} is {last.phase}")
        self._put(replace(last, rate=rate), "throttle", who)

    def _step(self, event: Event, who: Caller | None) -> None:
        following = self._require_last().after(event, now_ns())
        self._archive.note("migrate", who, **self._about(following, str(event)))
        self._put(following, str(event), who)

    def _put(self, migration: Migration, step: str, who: Caller | None) -> None:
        with self._archive.database.transaction():
            self._archive.database.set_setting(_SETTING, migration.to_json())
        self.last = migration
        self._obey()
        by = f" by user {who.uid}" if who is not None else ""
        log.info(
            *("migration %d from %s to %s: %s%s", migration.number, migration.source),
            *(migration.target, step, by),
        )
        self._wake.set()

    def _about(self, migration: Migration, step: str) -> dict[str, Any]:
        root = None if migration.root is None else self._path(migration.root)
        return {
            "number": migration.number,
            "step": step,
            "source": migration.source,
            "target": migration.target,
            "path": root,
        }

    def _require_last(self) -> Migration:
        if self.last is None:
            raise MigrationRefused("nothing was ever moved in this archive")
        return self.last

    def _why_not(self, source: str, target: str, size: int) -> str | None:
        return why_not(self._archive, self._link.reports, self.last, source, target, size)

    async def _count(self, source: str, root: int | None) -> tuple[int, int]:
        path = self._archive.database.path
        return await trio.to_thread.run_sync(count_part, path, source, root)

    # ---------------------------------------------------------------------------- carrying out

    async def run(self) -> None:
        """Go through the files, until cancelled."""
        while True:
            self._wake = trio.Event()
            pause_s = LOOK_S
            try:
                pause_s = await self._look()
                self._told = ""
            except (StateError, sqlite3.Error) as exc:
                if str(exc) != self._told:
                    log.warning("a migration goes on later: %s", exc, extra=about(exc))
                self._told = str(exc)
            except Exception:  # the mount goes on, and so do the files after the next start
                log.exception("no file is moved any more because of this")
                return
            self._looked.set()
            self._looked = trio.Event()
            with trio.move_on_after(pause_s):
                await self._wake.wait()

    async def _look(self) -> float:
        """One look at everything; after how many seconds there is something to look at."""
        last = self.last
        if self._archive.read_only:
            return float("inf")
        pauses = [self._departures.remove_due()]
        if last is not None and last.phase is Phase.COPYING:
            pauses.append(await self._copy_more(last))
        elif last is not None and last.phase is Phase.KEEPING:
            pauses.append(await self._see_whether_empty(last))
        elif self._take_back():
            pauses.append(LOOK_S)
        return min(pauses)

    async def _copy_more(self, migration: Migration) -> float:
        """Put some more files on their way, or find that there are none."""
        if not {migration.source, migration.target} <= self._archive.modes.states.keys():
            log.error("an element of the migration is not in the configuration any more")
            self._step(Event.CANCEL, None)
            return 0.0
        await self._count_left(migration)
        under_way = self._moves.under_way()
        room = FILES_UNDER_WAY - len(under_way)
        bytes_room = self._room_by_rate(migration, sum(one.size for one in under_way))
        if self._holds or room <= 0 or bytes_room <= 0 or len(under_way) == self._waits_with:
            return LOOK_S
        found = await self._find(migration, min(room, FILES_AT_ONCE))
        if self.last is not migration or self._holds:
            return 0.0  # it was paused or cancelled meanwhile, or somebody flushes
        self._begin_files(migration, found, {one.ino for one in under_way}, bytes_room)
        if self._after:
            return 0.0
        self._waits_with = None if self._has_begun_some else len(under_way)
        self._has_begun_some = False
        if self._waits_with == 0:
            await self._finish(migration)
        return LOOK_S

    async def _count_left(self, migration: Migration) -> None:
        """For who wants to see how far it is."""
        begun_s = trio.current_time()
        if begun_s >= self._next_count_s:
            self._left = await self._count(migration.source, migration.root)
            now_s = trio.current_time()
            self._next_count_s = now_s + max(LOOK_S, (now_s - begun_s) / COUNTED_PART)

    async def _find(self, migration: Migration, limit: int) -> Found:
        path = self._archive.database.path
        look = partial(find_part, path, migration.source, migration.root, self._after, limit)
        return await trio.to_thread.run_sync(look)

    def _room_by_rate(self, migration: Migration, under_way: int) -> float:
        """Bytes of files that may be put on their way now."""
        now_s = trio.current_time()
        room = float(BYTES_UNDER_WAY - under_way)
        if migration.rate is not None:
            earned = (now_s - self._allowance_s) * migration.rate
            self._allowance = min(self._allowance + earned, float(migration.rate))
            room = min(room, self._allowance)
        self._allowance_s = now_s
        return room

    def _begin_files(
        self, migration: Migration, found: Found, under_way: set[int], bytes_room: float
    ) -> None:
        """Of those that were found, what may go and fits; the others come again."""
        begun: list[Node] = []
        self._after = found.last or 0
        for ino in found.inos:
            if bytes_room <= 0:
                self._after = ino - 1
                break
            if ino in under_way:
                continue
            node = self._movable(migration, ino)
            if node is None:
                continue
            begun.append(node)
            bytes_room -= node.size
            self._allowance -= node.size
        if begun:
            self._has_begun_some = True
            move = Move(*(migration.source, migration.target, migration.keep_ns, migration.number))
            self._moves.begin(begun, move, migration.uid)
            self._link.disregard_changes(len(begun))

    def _movable(self, migration: Migration, ino: int) -> Node | None:
        """The node, if it can be moved; why it cannot is remembered."""
        try:
            node = self._archive.index.node(ino)
        except RowDamaged as exc:
            self._refused[ino] = str(exc)
            return None
        if node is None or node.nlink == 0:
            return None
        reason = why_not_file(self._archive, migration, node)
        if reason is None and node.revision == 0:
            reason = self._give_revision(node)
        if reason is not None:
            self._refused[ino] = reason
            return None
        self._refused.pop(ino, None)
        return node

    def _give_revision(self, node: Node) -> str | None:
        """A first one, to what others have written: a document of ours is written of it now. Why
        that is not possible, if it is not."""
        try:
            with self._archive.changes.attributes(node, node.ctime_ns, node.uid):
                pass
        except StateError:
            raise
        except ArtStoreFSError as exc:  # it has no room for what a document of ours has
            return str(exc)
        return None

    def _take_back(self) -> bool:
        """What waits stays where it is; what is being carried may arrive. Whether any is."""
        in_flight = self._link.schedule.in_flight
        under_way = [one.ino for one in self._moves.under_way()]
        waiting = [ino for ino in under_way if ino not in in_flight]
        if waiting:
            self._moves.stay(waiting)
        return len(waiting) < len(under_way)

    async def _finish(self, migration: Migration) -> None:
        """All that can be moved was."""
        self._left = await self._count(migration.source, migration.root)
        if self.last is migration and not self._moves.under_way():
            self._step(Event.COPIED, None)
            crash_point("migration.copied")

    async def _see_whether_empty(self, migration: Migration) -> float:
        if self._moves.leaving(migration.number):
            return float("inf")
        path = self._archive.database.path
        left = await trio.to_thread.run_sync(removals_on, path, migration.source)
        if not left and self.last is migration:
            self._step(Event.EMPTIED, None)
            crash_point("migration.done")
        return LOOK_S

    # ------------------------------------------------------------------------------- answers

    async def follow(self) -> AsyncGenerator[dict[str, Any], None]:
        """How far it is, until nothing more comes of itself soon: it has ended, is paused, keeps
        what was moved for longer, or all that is left has failed."""
        number = self._require_last().number
        while self.last is not None and self.last.number == number:
            progress = self.progress()
            yield progress
            is_brief = self.last.phase is Phase.KEEPING and self.last.keep_ns == 0
            if self.last.phase is not Phase.COPYING and not is_brief:
                return
            if progress["under_way"] and progress["under_way"] == self._waits_with_failures():
                return
            await self._looked.wait()

    def _waits_with_failures(self) -> int | None:
        """How many files are still to be moved, if that was tried with all of them."""
        under_way = self._moves.under_way()
        is_all = len(under_way) == self._waits_with and all(one.error for one in under_way)
        return len(under_way) if is_all else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """A context in which no further file is begun."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self._wake.set()

    def progress(self) -> dict[str, Any]:
        """As the protocol has it."""
        last = self._require_last()
        under_way = self._moves.under_way() if last.is_under_way else []
        return {
            "phase": str(last.phase),
            "files": last.files,
            "bytes": last.bytes,
            "files_left": self._left[0],
            "bytes_left": self._left[1],
            "under_way": len(under_way),
            "failed": sum(one.error is not None for one in under_way) + len(self._refused),
            "leaving": self._moves.leaving(last.number),
        }

    def describe(self) -> dict[str, Any]:
        """`migration` of the protocol."""
        last = self._require_last()
        failures = self._failures(self._moves.under_way() if last.is_under_way else [])
        return {
            "number": last.number,
            "source": last.source,
            "target": last.target,
            "path": None if last.root is None else self._path(last.root),
            "by": last.uid,
            "begun": timestamp(last.begun_ns / 1e9),
            "since": timestamp(last.since_ns / 1e9),
            "keep_source_s": last.keep_ns / 1e9,
            "rate": last.rate,
            **self.progress(),
            "failures": failures,
        }

    def _failures(self, under_way: Sequence[UnderWay]) -> list[dict[str, str]]:
        reasons = {one.ino: one.error for one in under_way if one.error is not None}
        reasons |= self._refused
        return [
            {"path": self._path(ino), "error": error}
            for ino, error in list(reasons.items())[:LISTED_FAILURES]
        ]

    def _path(self, ino: int) -> str:
        return self._archive.index.path(ino).decode(errors="backslashreplace")
