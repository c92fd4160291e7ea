"""Files of elements with `expire_after_days`: looked for now and then, shown, and removed some at a
time. SEMANTICS.md (EXPIRE) says what is promised, `core/expiry.py` when a file is removed.

A look reads the index in a thread, some thousand copies at a time; what it finds is decided in the
loop, a handful at a time, with pauses in which everybody else is served.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import trio

from artstorefs.core.errors import StateError
from artstorefs.core.expiry import DAY_NS, Moment, Verdict
from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.clean_up import CleanUp
from artstorefs.state.expiring import (
    FIRST,
    Cursor,
    ExpiringReader,
    Extent,
    Row,
    forget_all,
    page,
)
from artstorefs.state.lived_time import LivedTime
from artstorefs_daemon import machine_clock
from artstorefs_daemon.element_reports import timestamp
from artstorefs_daemon.transfer_link import TransferLink

log = logging.getLogger(__name__)

LOOK_S = 900.0
"""Between two looks. Lives are days; a look takes a second or two of a processor for each million
copies on such elements, and a restart costs what was lived since the last one."""

DOUBT_LOOK_S = 30.0
"""While the clock is not believed: a time server is asked within that after a boot, most often."""

AT_ONCE, PAUSE_S = 32, 0.01
"""Files that are decided in one go, some milliseconds, and the pause after it."""

REMOVAL_PAUSE_S = 0.005
"""After each removal, which takes a few tenths of a millisecond."""

PENDING_MAX = 1000
"""Intents that may wait while files are removed: what people change must not stand in a long queue,
nor a queue of a million in memory. Elements that are away stop the removal too."""

PAGE_FILES = 100
"""In one answer: each takes a dozen look-ups in the loop."""


class Expiring:
    """`run` carries it out; all else answers."""

    def __init__(
        self,
        archive: Archive,
        clean_up: CleanUp,
        link: TransferLink,
        note_damage: Callable[[BaseException], bool],
        lived: LivedTime | None = None,
    ) -> None:
        self._archive = archive
        self._clean_up = clean_up
        self._link = link
        self._note_damage = note_damage
        self._lived = lived or LivedTime(
            *(archive.database, time.time_ns, machine_clock.boot_ns),
            machine_clock.is_synchronised,
        )
        archive.lifetimes.changed_ns = self._lived.changed_ns
        self._extent = Extent()
        self._removed = 0
        self._doubt = ""
        self._asked = trio.Event()
        self.looked = trio.Event()
        """Set when a look has ended, and then another event."""

    # ---------------------------------------------------------------------------- carrying out

    async def run(self) -> None:
        """Look, again and again, until cancelled."""
        if not self._archive.lifetimes.by_element:
            self._forget_all()
            return
        told = ""
        while True:
            self._asked = trio.Event()
            try:
                await self.look()
                told = ""
            except (StateError, sqlite3.Error) as exc:
                if str(exc) != told and not self._note_damage(exc):
                    log.warning("files expire later: %s", exc, extra=about(exc))
                told = str(exc)
            except Exception:  # the mount goes on, and so does this after the next start
                log.exception("no files expire any more because of this")
                return
            self.looked.set()
            self.looked = trio.Event()
            with trio.move_on_after(DOUBT_LOOK_S if self._doubt else LOOK_S):
                await self._asked.wait()

    def ask(self) -> None:
        """Have the next look now."""
        self._asked.set()

    def believe_clock(self) -> None:
        """A person says that the machine's clock is right."""
        self._lived.believe(self._lived.now())
        self.ask()

    def _forget_all(self) -> None:
        try:
            forget_all(self._archive.database)
        except StateError as exc:  # they mean nothing, and the next start tries it again
            log.debug("rows of what does not expire any more are left: %s", exc)

    async def look(self) -> None:
        """Bring what is shown up to date, and remove what is due. Raises StateError, and
        sqlite3.Error."""
        now = self._lived.now()
        reader = ExpiringReader(
            self._archive.database.path, self._archive.lifetimes.by_element, now.wall_ns
        )
        self._extent = await trio.to_thread.run_sync(reader.read_extent)
        if self._archive.read_only:
            return
        is_believed = self._is_clock_believed(now)
        self._lived.save(now)
        if not is_believed:
            return
        await self._hide(reader, now)
        for element in self._archive.lifetimes.by_element:
            await self._show(reader, element, now)
        self._extent = await trio.to_thread.run_sync(reader.read_extent)
        if await self._remove(now):
            self._extent = await trio.to_thread.run_sync(reader.read_extent)

    def _is_clock_believed(self, now: Moment) -> bool:
        grace_ns = self._archive.lifetimes.grace_ns
        if self._lived.is_believed(now, grace_ns):
            if self._doubt:
                log.info("the clock is believed again: files expire")
            self._doubt = ""
            return True
        days = self._lived.ahead_ns(now) / DAY_NS
        doubt = (
            f"the clock says {timestamp(now.wall_ns / 1e9)}, which is {abs(days):,.1f} days "
            f"{'more' if days > 0 else 'less'} than have passed while this archive was mounted"
        )
        if not self._doubt:
            log.warning("no files expire: %s; see artstorefs expiring --clock-is-right", doubt)
        self._doubt = doubt
        return False

    async def _hide(self, reader: ExpiringReader, now: Moment) -> None:
        after: int | None = -1
        while after is not None:
            found, after = await trio.to_thread.run_sync(reader.read_stale, after)
            for some in _handfuls(found):
                self._clean_up.hide(some, now)
                await trio.sleep(PAUSE_S)

    async def _show(self, reader: ExpiringReader, element: str, now: Moment) -> None:
        shown = 0
        after: str | None = ""
        while after is not None:
            found, after = await trio.to_thread.run_sync(reader.read_new, element, after)
            for some in _handfuls(found):
                shown += self._clean_up.show(some, now)
                await trio.sleep(PAUSE_S)
        if shown:
            log.info(
                "element %s: %d files have come to their end; what stays unchanged is removed after"
                " %d days, see artstorefs expiring",
                *(element, shown, self._archive.configuration.expire_grace_days),
                extra=about(element=element),
            )

    async def _remove(self, now: Moment) -> int:
        """Remove what has been shown for long enough; how many files that were."""
        removed = 0
        after, until_ns = FIRST, now.lived_ns - self._archive.lifetimes.grace_ns
        execute = self._archive.database.execute
        while rows := page(execute, after, AT_ONCE, until_ns):
            after = rows[-1].cursor
            for row in rows:
                if not await self._has_room():
                    return removed
                if self._clean_up.settle(row, now) is Verdict.REMOVE:
                    removed += 1
                    self._removed += 1
                await trio.sleep(REMOVAL_PAUSE_S)
        return removed

    async def _has_room(self) -> bool:
        """Wait until few enough intents wait; whether that is so before the next look is due."""
        with trio.move_on_after(LOOK_S):
            while self._link.schedule.pending >= PENDING_MAX:
                await self._link.wait_progress(LOOK_S)
            return True
        return False

    # ----------------------------------------------------------------------------- answers

    def summary(self) -> dict[str, Any]:
        """`expiring` of `status`: as of the last look."""
        first = self._extent.first
        return {
            "files": self._extent.files,
            "bytes": self._extent.size_bytes,
            "first_removal": None if first is None else self._removal(first),
            "removed": self._removed,
            "paused": self._doubt or None,
        }

    async def files(self, after: str | None) -> dict[str, Any]:
        """Some of what is shown, those that go first before the others, and where the next answer
        is to go on. `after`: where this one is to. Raises ValueError for what is no such place."""
        rows = page(self._archive.database.execute, _cursor(after), PAGE_FILES)
        described = []
        for row in rows:
            await trio.lowlevel.checkpoint()
            described.append(self._describe(row))
        is_last = len(rows) < PAGE_FILES
        return {
            **self.summary(),
            "expiring": [one for one in described if one is not None],
            "next": None if is_last else ".".join(map(str, rows[-1].cursor)),
        }

    def _describe(self, row: Row) -> dict[str, Any] | None:
        """None for what has changed, and is told of no more."""
        node = self._archive.index.node(row.ino)
        if node is None or node.ctime_ns != row.mark.ctime_ns:
            return None
        return {
            "path": self._archive.index.path(row.ino).decode(errors="backslashreplace"),
            "file_id": str(UUID(bytes=node.file_id)),
            "size": node.size,
            "links": node.nlink,
            "changed": timestamp(node.ctime_ns / 1e9),
            "shown": timestamp(row.mark.shown.wall_ns / 1e9),
            "removal": self._removal(row),
        }

    def _removal(self, row: Row) -> str:
        """When it may go at the earliest, if the archive stays mounted."""
        shown = row.mark.shown
        now = self._lived.now()
        unlived_ns = (now.wall_ns - now.lived_ns) - (shown.wall_ns - shown.lived_ns)
        at_ns = shown.wall_ns + self._archive.lifetimes.grace_ns + max(0, unlived_ns)
        return timestamp(at_ns / 1e9)


def _handfuls(inos: Sequence[int]) -> Iterator[Sequence[int]]:
    return (inos[start : start + AT_ONCE] for start in range(0, len(inos), AT_ONCE))


def _cursor(text: str | None) -> Cursor:
    if text is None:
        return FIRST
    lived_ns, _, ino = text.partition(".")
    return int(lived_ns), int(ino)
