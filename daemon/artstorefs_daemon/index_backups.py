"""Backups of the index while it is in use: when one is due, and how old the newest is."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import trio

from artstorefs.core.log_fields import about
from artstorefs.state.backup import (
    BackupFailed,
    backups,
    bytes_under_way,
    make_backup,
    newest_age_s,
)
from artstorefs.state.database import Database
from artstorefs_daemon.element_reports import timestamp

log = logging.getLogger(__name__)

FIRST_BACKUP_S = 60.0
"""After the start, which has enough to do."""

BACKUP_LOOK_S = 60.0
"""How often it is looked whether a backup is due, which another start may have made too."""


class IndexBackups:
    """`back_up` and `report` block, and are for a thread. Times are of any monotonic clock."""

    def __init__(self, database: Database, state_dir: str, interval_s: Callable[[], float]) -> None:
        """`interval_s` is asked each time; no backup is due while it is 0."""
        self._database = database
        self._state_dir = state_dir
        self._interval_s = interval_s
        self._next_look_s = 0.0
        self._backed_up: tuple[int, ...] | None = None
        self.turn = trio.Lock()
        """Of who makes one, or a checkpoint: one that restarts the log would wait for a backup that
        reads, and every writer for it."""

    def begin(self, now_s: float) -> None:
        """Of the waiting for the first."""
        self._next_look_s = now_s + min(self._interval_s(), FIRST_BACKUP_S)

    def is_to_be_looked_at(self, now_s: float) -> bool:
        """Whether it is time for `back_up`; then not again for a while."""
        interval_s = self._interval_s()
        if not interval_s or now_s < self._next_look_s:
            return False
        self._next_look_s = now_s + min(interval_s, BACKUP_LOOK_S)
        return True

    def back_up(self) -> None:
        """A backup of the index, if the newest is old enough and something has changed since. What
        fails is tried again: the log is the place to say so, and nothing else stops for it."""
        age_s = newest_age_s(self._state_dir)
        changes = self._database.log_position()
        if (age_s is not None and age_s < self._interval_s()) or changes == self._backed_up:
            return
        try:
            self._make(changes)
        except BackupFailed as exc:
            log.warning("no backup of the index could be made: %s", exc, extra=about(exc))

    def _make(self, changes: tuple[int, ...]) -> str:
        started = time.monotonic()
        path = make_backup(self._database.path, self._state_dir)
        self._backed_up = changes
        told = ("backup %s made in %.1f s", path, time.monotonic() - started)
        log.info(*told, extra=about(path=path))
        return path

    async def make(self) -> dict[str, Any]:
        """A backup of now, because somebody asks for it, as the protocol has it: the newest, if
        nothing has changed since. Raises BackupFailed."""
        async with self.turn:
            return await trio.to_thread.run_sync(self._make_if_needed)

    def _make_if_needed(self) -> dict[str, Any]:
        changes = self._database.log_position()
        found = backups(self._state_dir) if changes == self._backed_up else []
        path = found[0] if found else self._make(changes)
        status = os.stat(path)
        return {
            "path": path,
            "bytes": status.st_size,
            "made_at": timestamp(status.st_mtime),
            "is_new": not found,
        }

    def progress(self) -> dict[str, Any]:
        """How far the one is that is being made."""
        total = os.stat(self._database.path).st_size
        return {"bytes": min(bytes_under_way(self._state_dir), total), "bytes_total": total}

    def report(self) -> dict[str, float | bool | None]:
        """`backup` of `status`."""
        try:
            age_s = newest_age_s(self._state_dir)
        except OSError as exc:  # what fails there is told as the state directory's error
            log.debug("the backups cannot be looked at: %s", exc)
            age_s = None
        is_current = self._database.log_position() == self._backed_up
        return {"age_s": age_s, "interval_s": self._interval_s(), "is_current": is_current}
