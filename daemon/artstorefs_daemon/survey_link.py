"""Looks at the elements for what others have changed: asked for here, done by the transfer process,
taken over part by part while it goes on (`recovery/survey.py`, `recovery/additions.py`).

One look at a time. Who asks while one is under way gets the next, which begins after the question.
A look that ends with its transfer process is begun anew; what it had found is known by then.
"""

import contextlib
import logging
import math
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol
from uuid import UUID

import trio

from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Archive
from artstorefs.recovery.additions import Additions
from artstorefs.recovery.survey import Part, Survey, Vanished
from artstorefs.state.log import Removal
from artstorefs.transfer.jobs import MessageInvalid

log = logging.getLogger(__name__)

SHOWN_ERRORS = 100

EntryCame = Callable[[int, bytes], None]
"""Is told of a name that is new in a directory, by its inode number, and not by the kernel."""


class Wire(Protocol):
    """The transfer process, as far as a look needs it."""

    @property
    def pid(self) -> int: ...
    async def wait_connected(self) -> None: ...
    async def wait_progress(self, limit_s: float) -> None: ...
    async def tell(self, message: dict[str, Any]) -> None: ...


class SurveyLink:
    """`run` is a task of the mount process; `last` is the answer of `rescan`, {} before the first
    look has ended."""

    def __init__(self, archive: Archive, wire: Wire, entry_came: EntryCame) -> None:
        self._archive = archive
        self._wire = wire
        self._entry_came = entry_came
        self.last: dict[str, Any] = {}
        self.bad_documents: list[str] = []
        self.seen = 0
        """Documents that the look under way has seen."""
        self._wanted, self._begun, self._done = 0, 0, 0
        self._asked = trio.Event()
        self._additions: Additions | None = None
        self._changed = 0
        self._added = 0
        self._to_acknowledge = 0

    # ------------------------------------------------------------------------------- asking

    def ask(self) -> int:
        """Have a look begun that begins after this; its number."""
        self._wanted = max(self._wanted, self._begun + 1)
        self._asked.set()
        return self._begun + 1

    def ask_if_incomplete(self) -> None:
        """An element is there again: it may be one that could not be looked through."""
        if self.last.get("errors"):
            self.ask()

    async def look(self) -> AsyncGenerator[int, None]:
        """Ask, and wait for the end; yields how many documents were seen, now and then."""
        number = self.ask()
        while self._done < number:
            yield self.seen if self._begun >= number else 0
            await self._wire.wait_progress(0.25)

    async def wait_first(self) -> None:
        """Until the elements have been looked through once since the start."""
        while self._done == 0:
            await self._wire.wait_progress(1.0)

    # ------------------------------------------------------------------------------- the task

    async def run(self) -> None:
        """A look at the start, whenever somebody asks, and every `rescan_interval_s`."""
        self.ask()
        while True:
            while self._done < self._wanted:
                await self._carry_out()
            self._asked = trio.Event()
            interval_s = self._archive.configuration.rescan_interval_s or math.inf
            with trio.move_on_after(interval_s) as waiting:
                await self._asked.wait()
            if waiting.cancelled_caught:
                self.ask()

    async def _carry_out(self) -> None:
        number = self.begin()
        asked = 0
        while self._done < number:
            await self._wire.wait_connected()
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                if asked != self._wire.pid:  # not yet, or the one that was asked has ended
                    asked, self._to_acknowledge = self._wire.pid, 0
                    await self._wire.tell({"survey": number})
                while self._to_acknowledge:
                    self._to_acknowledge -= 1
                    await self._wire.tell({"survey_taken": number})
            await self._wire.wait_progress(1.0)

    def begin(self) -> int:
        """Remember how the tree is now; the number of the look."""
        self._begun += 1
        self._additions = Additions(self._archive)
        self.seen = self._changed = self._added = 0
        return self._begun

    # ----------------------------------------------------------------------------- answers

    def note_removal(self, removal: Removal) -> None:
        """An element is told of this: the look may have seen it before."""
        if self._additions is not None:
            self._additions.note_removal(removal)

    def take(self, message: dict[str, Any]) -> None:
        """A part, or the end, of a look. Raises StateError, and can be given it again then."""
        if message["survey"] != self._begun or self._additions is None:
            return
        try:
            if "part" in message:
                part, end = Part.from_message(message["part"]), None
            else:
                part, end = Part(), Survey.from_message(message["end"])
        except (KeyError, TypeError, ValueError) as exc:
            raise MessageInvalid(f"no part of a survey: {exc!r}") from exc
        if end is not None:
            self._take_end(end)
            return
        entries = self._additions.add(part.found)  # which finds nothing new when it comes again
        for entry in entries:
            self._entry_came(entry.parent.ino, entry.name)
        self._added += sum(entry.copy is not None for entry in entries)
        self._archive.offline.forget(part.returned)
        self._changed += self._archive.outcomes.observe(part.observed)
        self.seen = part.seen
        self._to_acknowledge += 1

    def _take_end(self, found: Survey) -> None:
        self._additions = None
        self._done = self._begun
        self.last = {
            "seen": found.seen,
            "changed": self._changed,
            "added": self._added,
            "unknown": found.unknown,
            "vanished": found.vanished,
            "quarantined": found.quarantined,
            "errors": found.errors,
            "gone": [self._gone(one) for one in found.gone[:SHOWN_ERRORS]],
        }
        self.bad_documents = [reason for _, reason in found.unreadable]
        for key, reason in found.unreadable:
            log.error("%s is not taken over: %s", key, reason, extra=about(key=key))
        for key in found.unknown_keys:
            log.warning("%s is of no file that is known; a rebuild would show it", key)
        for one in found.gone:
            told = about(element=one.element, key=one.key)
            log.warning("element %s: %s is not there any more", one.element, one.key, extra=told)
        for error in found.errors:
            log.warning("an element could not be looked through: %s", error)

    def _gone(self, one: Vanished) -> dict[str, Any]:
        node = self._archive.index.node(one.ino)
        return {
            "path": self._archive.index.path(one.ino).decode(errors="backslashreplace"),
            "file_id": str(UUID(bytes=node.file_id)) if node is not None else "",
            "error": f"element {one.element}: {one.key} is not there any more",
            "since": None,
        }
