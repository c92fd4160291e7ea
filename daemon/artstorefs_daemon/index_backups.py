"""Backups of the index while it is in use: when one is due, and how old the newest is."""

import logging
import time

from artstorefs.core.log_fields import about
from artstorefs.state.backup import BackupFailed, make_backup, newest_age_s
from artstorefs.state.database import Database

log = logging.getLogger(__name__)

FIRST_BACKUP_S = 60.0
"""After the start, which has enough to do."""

BACKUP_LOOK_S = 60.0
"""How often it is looked whether a backup is due, which another start may have made too."""


class IndexBackups:
    """`back_up` and `report` block, and are for a thread. Times are of any monotonic clock."""

    def __init__(self, database: Database, state_dir: str, interval_s: float) -> None:
        """No backup is ever due where `interval_s` is 0."""
        self._database = database
        self._state_dir = state_dir
        self._interval_s = interval_s
        self._next_look_s = 0.0
        self._backed_up: tuple[int, ...] | None = None

    def begin(self, now_s: float) -> None:
        """Of the waiting for the first."""
        self._next_look_s = now_s + min(self._interval_s, FIRST_BACKUP_S)

    def is_to_be_looked_at(self, now_s: float) -> bool:
        """Whether it is time for `back_up`; then not again for a while."""
        if not self._interval_s or now_s < self._next_look_s:
            return False
        self._next_look_s = now_s + min(self._interval_s, BACKUP_LOOK_S)
        return True

    def back_up(self) -> None:
        """A backup of the index, if the newest is old enough and something has changed since. What
        fails is tried again: the log is the place to say so, and nothing else stops for it."""
        age_s = newest_age_s(self._state_dir)
        changes = self._database.log_position()
        if (age_s is not None and age_s < self._interval_s) or changes == self._backed_up:
            return
        try:
            started = time.monotonic()
            path = make_backup(self._database.path, self._state_dir)
            self._backed_up = changes
            told = ("backup %s made in %.1f s", path, time.monotonic() - started)
            log.info(*told, extra=about(path=str(path)))
        except BackupFailed as exc:
            log.warning("no backup of the index could be made: %s", exc, extra=about(exc))

    def report(self) -> dict[str, float | bool | None]:
        """`backup` of `status`."""
        try:
            age_s = newest_age_s(self._state_dir)
        except OSError as exc:  # what fails there is told as the state directory's error
            log.debug("the backups cannot be looked at: %s", exc)
            age_s = None
        is_current = self._database.log_position() == self._backed_up
        return {"age_s": age_s, "interval_s": self._interval_s, "is_current": is_current}
