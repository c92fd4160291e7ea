"""Has buckets with Object Lock told of what is retained in them, where nothing else does.

crash after                     index                 element          the next start
1 found, an intent committed    the log has the file  as before        carries it
2 the bucket has locked it      the same              locked           has it locked again, the same
3 outcome committed             `locked_ns`           locked           nothing

A change of a file has an intent anyway, and so has a `retain_until` of its own (`state/locks.py`).
Looked for here is what becomes due by itself: a file that is sealed on an element with
`retain_until`, a later time in the configuration, an index that was rebuilt, a bucket that has got
Object Lock since. A look goes through what an element has: all of it once after each start, then
only from the first file on that has come there, and was not sealed yet.
"""

import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import trio
import trio.lowlevel

from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.core.marks import SEALED, marked_ns
from artstorefs.filesystem.archive import Archive
from artstorefs.state.index import Copy
from artstorefs.state.locks import read_unlocked
from artstorefs.state.node import Node
from artstorefs.state.row_sums import RowDamaged
from artstorefs_daemon.transfer_link import TransferLink

log = logging.getLogger(__name__)

AT_ONCE = 128
"""Files of one transaction; others have their turn between two."""

WAITING_MAX = 1000
"""Intents with which nothing is added to the log: a million files are locked piece by piece."""

FAILING_MAX = 5000
"""Intents that fail with which a look ends for now: what a bucket refuses it may refuse of all."""

PAUSE_S = 60.0
"""Until a look at what somebody has open for writing, and after one that has failed."""

PAUSE_SHARE = 20
"""A look is followed by a pause of at least so many times as long."""


class _TooManyFail(Exception):
    """Nothing more is to be tried now."""


@dataclass(slots=True)
class _Look:
    """Through what an element has, from an inode number on, at a time."""

    first: int = 0
    due_ns: int = 0


class Locking:
    """`run` does it, until cancelled."""

    def __init__(self, archive: Archive, link: TransferLink) -> None:
        self._archive = archive
        self._link = link
        self._locks = archive.policy.locks
        self._looks = {} if archive.read_only else {one: _Look() for one in self._locks.able}
        self._at: str | None = None
        self._found = 0
        self._wake = trio.Event()
        self._locks.changed = self._changed
        self._locks.stored = self._stored

    @property
    def is_behind(self) -> bool:
        """Whether something may be due that is not in the log yet, on an element that answers."""
        behind = {*self._due(), *self._unsaid()}
        if self._at is not None:
            behind.add(self._at)
        return not behind <= self._link.reports.errors.keys()

    def _unsaid(self) -> list[str]:
        """Elements with a time of their own that have not said yet whether they lock objects."""
        now, locks = self._now_ns(), self._locks
        return [one for one in locks.able - locks.certain if self._until_ns(one) > now]

    def _due(self) -> list[str]:
        now = self._now_ns()
        certain = self._locks.certain
        return [one for one, look in self._looks.items() if one in certain and look.due_ns <= now]

    def _changed(self) -> None:
        """An element has said whether it locks objects."""
        if not self._archive.read_only:
            self._looks |= {one: _Look() for one in self._locks.certain}
            self._wake.set()

    def _stored(self, node: Node, copy: Copy) -> None:
        """An element has got something; what is not sealed yet is to be locked later."""
        if self._is_awaited(node, copy):
            self._look_later(node, copy)
            self._wake.set()

    def _is_awaited(self, node: Node, copy: Copy) -> bool:
        """Whether the element's own time is to be told of it at some time."""
        if copy.is_record or copy.content != node.content:
            return False
        until_ns = self._until_ns(copy.element)
        return until_ns > max(copy.locked_ns or 0, self._now_ns())

    def _look_later(self, node: Node, copy: Copy) -> None:
        now = self._now_ns()
        sealed_ns = marked_ns(node.xattrs, SEALED) or 0
        due_ns = sealed_ns if sealed_ns > now else now + int(PAUSE_S * 1e9)
        look = self._looks.setdefault(copy.element, _Look(copy.ino, due_ns))
        look.first = min(look.first, copy.ino)
        look.due_ns = min(look.due_ns, due_ns)

    def _now_ns(self) -> int:
        return self._archive.guard.now_ns()

    def _until_ns(self, element: str) -> int:
        state = self._archive.modes.states.get(element)
        return 0 if state is None else state.retain_until_ns or 0

    # --------------------------------------------------------------------------- looking

    async def run(self) -> None:
        """Look whenever something may be due."""
        while True:
            self._wake = trio.Event()
            for element in self._due():
                await self._look(element)
            due_ns = [
                look.due_ns for one, look in self._looks.items() if one in self._locks.certain
            ]
            pause_s = (min(due_ns) - self._now_ns()) / 1e9 if due_ns else float("inf")
            with trio.move_on_after(max(0.0, pause_s)):
                await self._wake.wait()

    async def _look(self, element: str) -> None:
        look = self._looks.pop(element)
        began = time.monotonic()
        self._at, self._found = element, 0
        rest_s = PAUSE_S
        try:
            await self._go_through(element, look.first)
            rest_s = PAUSE_SHARE * (time.monotonic() - began)
        except (StateError, sqlite3.Error) as exc:
            log.warning("what is to be locked is looked for later: %s", exc, extra=about(exc))
            self._again(element, look)
        except _TooManyFail:
            self._again(element, look)
        except Exception:  # the mount goes on
            log.exception("what is to be locked is looked for later because of this")
            self._again(element, look)
        finally:
            self._at = None
        if self._found:
            told = about(element=element)
            log.info("element %s: %d files are to be locked", element, self._found, extra=told)
        if element in self._looks:
            soonest_ns = self._now_ns() + int(rest_s * 1e9)
            self._looks[element].due_ns = max(self._looks[element].due_ns, soonest_ns)

    def _again(self, element: str, look: _Look) -> None:
        later = self._looks.setdefault(element, look)
        later.first = min(later.first, look.first)

    async def _go_through(self, element: str, first: int) -> None:
        path, last = self._archive.database.path, first - 1
        while True:
            read = partial(read_unlocked, path, element, self._until_ns(element), last)
            found = await trio.to_thread.run_sync(read)
            for start in range(0, len(found.inos), AT_ONCE):
                await self._wait_for_room()
                self._want(element, found.inos[start : start + AT_ONCE])
            if found.last is None:
                return
            last = found.last

    async def _wait_for_room(self) -> None:
        """Until the log is short again, but for what fails."""
        schedule = self._link.schedule
        if schedule.retrying > FAILING_MAX:
            raise _TooManyFail
        while schedule.pending > WAITING_MAX + schedule.retrying:
            await self._link.wait_progress(1.0)
        await trio.lowlevel.checkpoint()

    def _want(self, element: str, inos: Sequence[int]) -> None:
        """Step 1 of those that are due; the others later."""
        lacking = [ino for ino in inos if self._is_lacking(element, ino)]
        if lacking:
            self._archive.outcomes.want_locks(lacking)
            self._link.disregard_changes(len(lacking))
            self._found += len(lacking)

    def _is_lacking(self, element: str, ino: int) -> bool:
        try:
            node = self._archive.index.node(ino)
        except RowDamaged:  # told to whoever needs it
            return False
        copies = [] if node is None else self._archive.index.copies(ino)
        copy = next((copy for copy in copies if copy.element == element), None)
        if node is None or copy is None:
            return False
        if self._archive.policy.lacks_lock(node, copy):
            return True
        if self._is_awaited(node, copy):
            self._look_later(node, copy)
        return False
