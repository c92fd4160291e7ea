"""Moves content of elements in mode ar to where they keep what is archived, in the background.

One batch at a time for each element that has settled in that mode. The transfer process copies and
verifies it (`transfer/take_offline.py`); what it answers is committed here, in one transaction with
the removals of what the element still has. What is recalled, or asked for, stays until then.

A kill at any step leaves nothing to be undone: `RECOVERY.md`, "Content that goes offline".
"""

import logging
import sqlite3
from collections.abc import Mapping
from functools import partial
from typing import Any

import trio

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.core.mode_changes import Phase
from artstorefs.core.modes import ElementMode
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.recalling import Prepared
from artstorefs.state.index import Copy
from artstorefs.state.offline import read_candidates, read_stale, read_standing
from artstorefs.state.recalls import read_waiting
from artstorefs.transfer.take_offline import OfflineJob
from artstorefs_daemon.transfer_link import BATCH_BYTES, BATCH_NODES, TransferLink

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks whether the medium is there, while something waits for it."""

FAILED_PAUSE_S = 60.0
"""Until an object that could not be moved is tried again: a person has to do something about it."""

SHOWN_ERRORS = 100


class Offlining:
    """`run` does it, until cancelled."""

    def __init__(self, archive: Archive, link: TransferLink) -> None:
        self._archive = archive
        self._link = link
        places = {one.id: _place(one) for one in archive.configuration.elements}
        self.media = {name: place for name, place in places.items() if place is not None}
        """Where elements keep what is archived, in words; of those that have such a place."""
        self._after = dict.fromkeys(self.media, 0)
        self._errors: dict[str, str] = {}
        self._failures: dict[tuple[str, int], str] = {}
        self._wake = trio.Event()
        archive.modes.changed = self.wake

    def wake(self) -> None:
        """There may be something to be moved: a mode has changed, a recall is over."""
        self._wake.set()

    async def run(self) -> None:
        """Of an archive without media nothing."""
        if not self.media or self._archive.read_only:
            return
        await self.forget_stale()
        while True:
            self._wake = trio.Event()
            pause_s = float("inf")
            for element in self.media:
                pause_s = min(pause_s, await self._look(element))
            with trio.move_on_after(pause_s):
                await self._wake.wait()

    async def forget_stale(self) -> None:
        """What is offline of files that are gone is of no use to anybody."""
        try:
            stale = await trio.to_thread.run_sync(read_stale, self._archive.database.path)
            self._archive.offline.forget(stale)
        except (StateError, sqlite3.Error) as exc:
            log.warning("what is offline is looked through later: %s", exc, extra=about(exc))

    async def _look(self, element: str) -> float:
        """Move some of what is to be moved; seconds until the next look."""
        try:
            return await self._move_some(element) if self._is_due(element) else float("inf")
        except (StateError, sqlite3.Error) as exc:
            log.warning("content is moved offline later: %s", exc, extra=about(exc))
        except Exception:  # the mount goes on
            log.exception("content is moved offline later because of this")
        return FAILED_PAUSE_S

    def _is_due(self, element: str) -> bool:
        state = self._archive.modes.states[element]
        return (state.mode, state.phase) == (ElementMode.AR, Phase.SETTLED)

    async def _move_some(self, element: str) -> float:
        """One batch; seconds until there may be more to be done."""
        copies = await self._batch(element)
        if not copies:
            self._after[element] = 0  # from now on what has failed comes again
            has_failed = any(name == element for name, _ in self._failures)
            return FAILED_PAUSE_S if has_failed else float("inf")
        jobs = [_job(copy).to_message() for copy in copies]
        result = await self._link.ask("offline", element, jobs=jobs)
        for ino, reason in result["failed"]:
            self._note_failure(element, ino, reason)
        done = set(result["done"])
        moved = [copy for copy in copies if copy.ino in done]
        if moved:
            near = self._archive.elements[element].capabilities.local_path
            self._archive.offline.taken(moved, removes=near)
        for copy in moved:
            self._failures.pop((element, copy.ino), None)
        self._note_error(element, result["error"])
        if result["error"] is not None:
            return LOOK_S
        self._after[element] = copies[-1].ino
        return 0.0

    async def _batch(self, element: str) -> list[Copy]:
        """The next that are to go, with not too many bytes together."""
        path, after = self._archive.database.path, self._after[element]
        look = partial(read_candidates, path, element, after, BATCH_NODES)
        batch: list[Copy] = []
        size = 0
        for copy in await trio.to_thread.run_sync(look):
            if batch and size + copy.size > BATCH_BYTES:
                break
            batch.append(copy)
            size += copy.size
        return batch

    def _note_error(self, element: str, error: str | None) -> None:
        if error is None:
            self._errors.pop(element, None)
        elif self._errors.get(element) != error:
            told = about(element=element)
            log.warning("content waits to be moved offline: %s", error, extra=told)
            self._errors[element] = error

    def _note_failure(self, element: str, ino: int, reason: str) -> None:
        if self._failures.get((element, ino)) != reason:
            log.error("inode %d stays on element %s: %s", ino, element, reason)
            self._failures[element, ino] = reason

    # ----------------------------------------------------------------------------- requests

    async def prepare(self, element: str) -> str | None:
        """Make an empty directory the medium of an element; why it cannot be that, or None."""
        error: str | None = (await self._link.ask("prepare_medium", element))["error"]
        if error is None:
            log.info("the medium of element %s is prepared", element, extra=about(element=element))
            self.wake()
        return error

    async def prepare_recall(self, element: str, keys: list[str], days: float) -> Prepared:
        """Have an element keep objects at hand; what it says of them."""
        if element not in self.media:
            return Prepared(set(keys), {})
        answer = await self._link.ask("recall", element, keys=keys, days=days)
        return Prepared(set(answer["ready"]), answer["failed"], answer["error"])

    async def describe(self, element: str) -> dict[str, Any]:
        """As the protocol has it."""
        path = self._archive.database.path
        standing = await trio.to_thread.run_sync(partial(read_standing, path, element))
        failures = [(ino, text) for (name, ino), text in self._failures.items() if name == element]
        return {
            "element": element,
            "place": self.media[element],
            "files": standing.offline_files,
            "bytes": standing.offline_bytes,
            "left_files": standing.files,
            "left_bytes": standing.bytes,
            "error": self._errors.get(element),
            "errors": [
                {"path": self._path(ino), "error": text} for ino, text in failures[:SHOWN_ERRORS]
            ],
        }

    async def describe_wanted(self, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
        """`wanted` of the status: elements, and why what was asked of them waits."""
        if not wanted:
            return []
        found = await trio.to_thread.run_sync(read_waiting, self._archive.database.path)
        waiting = {one.element: one for one in found}
        return [
            {
                "element": element,
                "place": self.media.get(element, ""),
                "files": waiting[element].files,
                "bytes": waiting[element].bytes,
                "reason": reason,
            }
            for element, reason in wanted.items()
            if element in waiting
        ]

    def _path(self, ino: int) -> str:
        return self._archive.index.path(ino).decode(errors="backslashreplace")


def _place(configuration: ElementConfiguration) -> str | None:
    if configuration.archive_storage_class is not None:
        return f"{configuration.place}, class {configuration.archive_storage_class}"
    return None if configuration.offline_path is None else str(configuration.offline_path)


def _job(copy: Copy) -> OfflineJob:
    assert copy.sha256 is not None
    blocks = copy.blocks.hex() if copy.blocks else None
    return OfflineJob(copy.ino, copy.key, copy.size, copy.sha256.hex(), blocks)
