"""Changes of the mode of an element while the archive is mounted, from the question to the end.

crash after                          index           element             the next start
1 prepare: asked for, and allowed    preparing       as before           goes on to drain it
2 commit: nothing is under way to    committing      as before           writes its mode.json
  it, and nobody writes what it has
3 mode.json written, flushed         committing      says the new mode   writes the same again
4 settle                             the new mode    says the new mode   nothing

Before 3 the log of the index is synced, so that an element never knows more than the index does. A
change can be taken back until 2. `core/mode_changes.py` has the table of what may follow what.

What draining waits for is only what was accepted before: from 1 on system calls are held against
the new mode (`filesystem/guard.py`), and new files go elsewhere. Who has a file open for writing
finishes; nobody is cut off, so a program that never closes one keeps the element preparing.
"""

import logging
import sqlite3
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import trio

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import StateError, one_line
from artstorefs.core.log_fields import about
from artstorefs.core.mode_changes import (
    ModeChangeRefused,
    ModeState,
    Phase,
    cancelled,
    drained,
    prepared,
    recorded,
)
from artstorefs.core.mode_record import WHY_LIMIT_CHARACTERS, render_mode_record
from artstorefs.core.modes import ElementMode
from artstorefs.filesystem.archive import Archive, Caller, now_ns
from artstorefs.filesystem.content import Contents
from artstorefs.state.node import Node
from artstorefs.state.queues import count_concerning, read_concerning
from artstorefs_daemon.element_reports import timestamp
from artstorefs_daemon.transfer_link import TransferLink

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""Between two looks whether an element is drained, and between attempts to tell it its mode."""


class ModeChanges:
    """`run` carries out what `begin` has begun, also before the last start."""

    def __init__(self, archive: Archive, contents: Contents, link: TransferLink) -> None:
        self._archive = archive
        self._modes = archive.modes
        self._contents = contents
        self._link = link
        self._wake = trio.Event()
        self._looked = trio.Event()
        self._hurries = False
        self._pending: dict[str, int] = {}
        self._errors: dict[str, str] = {}

    # ------------------------------------------------------------------------------- requests

    def begin(self, element: str, mode: ElementMode, who: Caller, why: str) -> None:
        """Step 1. Raises ModeChangeRefused, StateError."""
        state = self._state(element)
        if self._archive.read_only:
            raise ModeChangeRefused(element, "the archive is mounted read-only")
        if element in self._modes.moving:
            reason = "files are moved from it or to it; wait for the end of that, or cancel it"
            raise ModeChangeRefused(element, reason)
        why = one_line(why)[:WHY_LIMIT_CHARACTERS]
        following = prepared(element, state, mode, now_ns=now_ns(), uid=who.uid, why=why)
        self._put(element, following, "prepare", who)
        crash_point("mode.preparing")

    def cancel(self, element: str, who: Caller, why: str) -> None:
        """Back to the mode before. Raises ModeChangeRefused, StateError."""
        state = self._state(element)
        why = one_line(why)[:WHY_LIMIT_CHARACTERS]
        following = cancelled(element, state, now_ns=now_ns(), uid=who.uid, why=why)
        self._put(element, following, "cancel", who)
        crash_point("mode.cancelled")

    async def follow(self, element: str) -> AsyncGenerator[dict[str, Any], None]:
        """What is left, until the change has come to its end, whichever that is."""
        while self._state(element).target is not None:
            yield self.progress(element)
            await self._looked.wait()

    def progress(self, element: str) -> dict[str, Any]:
        """As the protocol has it."""
        return {
            "phase": str(self._state(element).phase),
            "intents": self._pending.get(element, 0),
            "writers": len(self._writers(element)),
            "error": self._errors.get(element),
        }

    def describe(self) -> list[dict[str, Any]]:
        """`modes` of the protocol."""
        return [self.describe_one(element) for element in self._modes.states]

    def describe_one(self, element: str) -> dict[str, Any]:
        """One of these. Raises ModeChangeRefused for an element that there is not."""
        state = self._state(element)
        return {
            "element": element,
            "mode": str(state.mode),
            "configured": str(state.configured),
            "phase": str(state.phase),
            "target": None if state.target is None else str(state.target),
            "since": _shown(state.since_ns),
            "by": state.uid,
            "why": state.why,
            "retain_until": _shown(state.retain_until_ns),
            "intents": self._pending.get(element, 0) if state.target else 0,
            "writers": len(self._writers(element)) if state.target else 0,
            "error": self._errors.get(element),
        }

    def _state(self, element: str) -> ModeState:
        state = self._modes.states.get(element)
        if state is None:
            known = ", ".join(self._modes.states)
            raise ModeChangeRefused(element, f"there is no such element; there are: {known}")
        return state

    def _put(self, element: str, state: ModeState, step: str, who: Caller | None) -> None:
        """The next phase, with a record of it before it is committed, and a line in the log."""
        before = self._modes.states[element]
        target = state.target or before.target or state.mode
        told = {"element": element, "step": step, "before": str(before.mode)}
        self._archive.note("mode", who, **told, target=str(target), why=state.why)
        self._modes.put(element, state)
        by = f" by user {who.uid}" if who is not None else ""
        reason = f": {state.why}" if state.why else ""
        log.info(
            *("element %s: mode %s to %s: %s%s%s", element, before.mode, target, step, by, reason),
            extra=about(element=element),
        )
        self._wake.set()

    # ---------------------------------------------------------------------------- carrying out

    async def run(self) -> None:
        """Take what is under way further, until cancelled."""
        told = ""
        while True:
            self._wake = trio.Event()
            try:
                is_busy = await self._look()
                told = ""
            except (StateError, sqlite3.Error) as exc:
                is_busy = True
                if str(exc) != told:
                    log.warning("a change of mode goes on later: %s", exc, extra=about(exc))
                told = str(exc)
            except Exception:  # the mount goes on, and so does the change after the next start
                log.exception("changes of modes are not carried out any more because of this")
                return
            self._looked.set()
            self._looked = trio.Event()
            with trio.move_on_after(LOOK_S if is_busy else float("inf")):
                await self._wake.wait()

    async def _look(self) -> bool:
        """One look at each element; whether there is anything to wait for."""
        preparing = [e for e, s in self._modes.states.items() if s.phase is Phase.PREPARING]
        self._hurry(bool(preparing))
        for element in preparing:
            await self._drain(element)
        for element, state in list(self._modes.states.items()):
            if state.phase is not Phase.PREPARING and not state.is_recorded:
                await self._record(element, state)
        return any(s.target or not s.is_recorded for s in self._modes.states.values())

    def _hurry(self, is_wanted: bool) -> None:
        """Nothing waits for settling while an element is drained."""
        if is_wanted != self._hurries:
            self._link.change_hurry(1 if is_wanted else -1)
            self._hurries = is_wanted

    async def _drain(self, element: str) -> None:
        """Step 2, if it can be taken."""
        takes_new = not self._modes.takers
        path = self._archive.database.path
        look = partial(read_concerning, path, element, takes_new=takes_new)
        self._pending[element] = await trio.to_thread.run_sync(look)
        if self._pending[element]:
            return
        # The last look and the step are one, and what waits for more of its kind is in the log.
        self._contents.let_go_of_unmapped()
        self._contents.seal_closed()
        self._archive.changes.touches.record_all()
        state = self._modes.states[element]
        connection = self._archive.database.connection
        left = count_concerning(connection, element, takes_new=not self._modes.takers)
        if state.phase is Phase.PREPARING and not left and not self._writers(element):
            self._put(element, drained(state, now_ns=now_ns()), "commit", None)
            crash_point("mode.committing")

    def _writers(self, element: str) -> list[Node]:
        """What somebody has open for writing that the element has, or is to have."""
        takes_new = not self._modes.takers
        return [node for node in self._contents.written() if self._is_of(node, element, takes_new)]

    def _is_of(self, node: Node, element: str, takes_new: bool) -> bool:
        copies = self._archive.index.copies(node.ino)
        return any(copy.element == element for copy in copies) or (takes_new and not copies)

    async def _record(self, element: str, state: ModeState) -> None:
        """Steps 3 and 4."""
        if self._archive.read_only:
            return
        try:
            await trio.to_thread.run_sync(self._archive.database.sync_log)
        except OSError as exc:
            raise StateError(self._archive.database.path, f"cannot be flushed: {exc}") from exc
        text = render_mode_record(element, state).decode()
        error = await self._link.record_mode(element, text)
        if error is not None:
            if self._errors.get(element) != error:
                log.warning("the mode is not on the element yet: %s", error)
            self._errors[element] = error
        elif self._modes.states[element] is state:
            self._errors.pop(element, None)
            self._put(element, recorded(state, now_ns=now_ns()), "settle", None)
            crash_point("mode.settled")


def _shown(moment_ns: int | None) -> str | None:
    return None if moment_ns is None else timestamp(moment_ns / 1e9)
