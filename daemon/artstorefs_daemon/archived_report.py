"""`archived` of `status`: how much of each element is archived, asked for, and back for a time."""

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import trio

from artstorefs.core.log_fields import about
from artstorefs.core.modes import ElementMode
from artstorefs.filesystem.archive import Archive
from artstorefs.state.archived import Archived, read_archived

log = logging.getLogger(__name__)

LOOK_S = 10.0
"""Between two looks at least."""

SHARE = 0.02
"""Of the time that is spent with looks at most: each takes a second or two for a million files."""

WAIT_S = 0.3
"""For a look that is under way; then the answer is that of the look before. Who watches over the
daemon has it answer within three seconds."""


class ArchivedReport:
    """Of one mount. `run` looks, when somebody wants to know."""

    def __init__(self, archive: Archive, note_damage: Callable[[BaseException], bool]) -> None:
        self._archive = archive
        self._note_damage = note_damage
        self._found: list[Archived] = []
        self._next_s = float("-inf")
        self._asked = trio.Event()
        self._looked = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._asked.wait()
            begun_s = trio.current_time()
            await self._look()
            now_s = trio.current_time()
            self._next_s = now_s + max(LOOK_S, (now_s - begun_s) / SHARE)
            self._asked = trio.Event()
            self._looked.set()
            self._looked = trio.Event()

    async def describe(self) -> list[dict[str, Any]]:
        """As the protocol has it, of the last look."""
        if trio.current_time() >= self._next_s:
            looked = self._looked
            self._asked.set()
            with trio.move_on_after(WAIT_S):
                await looked.wait()
        now_ns = time.time_ns()
        return [_described(one, now_ns) for one in self._found]

    async def _look(self) -> None:
        path = self._archive.database.path
        states = self._archive.modes.states.items()
        closed = [element for element, state in states if state.mode is ElementMode.AR]
        try:
            self._found = await trio.to_thread.run_sync(partial(read_archived, path, closed))
        except sqlite3.Error as exc:  # `status` has to tell of that, and must not fail for it
            if not self._note_damage(exc):
                log.warning("what is archived is counted later: %s", exc, extra=about(exc))


def _described(one: Archived, now_ns: int) -> dict[str, Any]:
    values = asdict(one)
    since_ns = values.pop("oldest_ns")
    age_s = None if since_ns is None else max(0.0, (now_ns - since_ns) / 1e9)
    return {**values, "oldest_recall_age_s": age_s}
