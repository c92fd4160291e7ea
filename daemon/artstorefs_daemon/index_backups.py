"""The backups of the index that a mount makes, now and then, if anything has changed."""

import logging
import time

from artstorefs.core.log_fields import about
from artstorefs.state.backup import BackupFailed, make_backup, newest_age_s
from artstorefs.state.database import Database

log = logging.getLogger(__name__)


class IndexBackups:
    """Of the archive whose state directory is `state_dir`."""

    def __init__(self, database: Database, state_dir: str) -> None:
        self._database = database
        self._state_dir = state_dir
        self._backed_up: tuple[int, ...] | None = None

    @property
    def is_current(self) -> bool:
        """Whether nothing has changed since the last one that this mount has made."""
        return self._database.log_position() == self._backed_up

    def make_if_due(self, interval_s: float) -> None:
        """A backup, if the newest is old enough and something has changed since. What fails is
        tried again: the log is the place to say so, and nothing else stops for it. Blocks; any
        thread may call it."""
        age_s = newest_age_s(self._state_dir)
        changes = self._database.log_position()
        if (age_s is not None and age_s < interval_s) or changes == self._backed_up:
            return
        try:
            started = time.monotonic()
            path = make_backup(self._database.path, self._state_dir)
            self._backed_up = changes
            told = ("backup %s made in %.1f s", path, time.monotonic() - started)
            log.info(*told, extra=about(path=str(path)))
        except BackupFailed as exc:
            log.warning("no backup of the index could be made: %s", exc, extra=about(exc))
