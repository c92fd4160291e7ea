"""Online backups of the index: `backup/index-YYYYMMDDTHHMMSSZ.db` in the state directory.

A backup is one moment of the index, copied by SQLite's own backup interface while the daemon goes
on writing, read whole once (`PRAGMA quick_check`) and only then given its name, durably. What lies
under such a name is therefore a whole index, unless its disk has damaged it since.

It is for an index that is damaged, not for going back in time: the elements know what has happened
since. So the newest one counts, those before it are for the case that it is damaged as well, and a
day of hours covers a damage that nobody noticed for a night. Of a large index (0.6 GB for a million
nodes) that would be too much, so all of them together have a limit, and two are kept in any case.
"""

import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress

from artstorefs.elements import durable
from artstorefs.state.files import BACKUPS, Look, problem_of

KEPT = 24
KEPT_BYTES = 2 << 30
KEPT_MIN = 2

_PREFIX, _SUFFIX = "index-", ".db"
_TEMPORARY = "index.tmp"


class BackupFailed(Exception):
    """No backup was made; the ones before are there. `str()` is one line."""


def make_backup(database: str, state_directory: str) -> str:
    """Make one, remove what is too old; returns its path. Blocks, for a thread of its own: the
    copying and checking hold no lock of the interpreter, and none that a writer waits for.

    No checkpoint that restarts the log may run meanwhile: it would wait for us, and writers for it.
    """
    directory = os.path.join(state_directory, BACKUPS)
    durable.make_directories_durably(directory)
    temporary = os.path.join(directory, _TEMPORARY)
    try:
        _remove(temporary)
        if shutil.disk_usage(directory).free < 2 * os.path.getsize(database):
            raise BackupFailed("too little room on the disk of the state directory")
        _copy(database, temporary)
        problem = problem_of(temporary, Look.PAGES)
        if problem:
            raise BackupFailed(problem)
        path = os.path.join(directory, time.strftime("index-%Y%m%dT%H%M%SZ.db", time.gmtime()))
        durable.rename_durably(temporary, path)
    except (OSError, sqlite3.Error) as exc:
        raise BackupFailed(str(exc)) from exc
    finally:
        with suppress(OSError):
            _remove(temporary)
    _prune(directory)
    return path


def backups(state_directory: str) -> list[str]:
    """Paths of all backups, the newest first."""
    directory = os.path.join(state_directory, BACKUPS)
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    good = [n for n in names if n.startswith(_PREFIX) and n.endswith(_SUFFIX)]
    return [os.path.join(directory, name) for name in sorted(good, reverse=True)]


def newest_age_s(state_directory: str) -> float | None:
    """Age of the newest backup; None if there is none."""
    found = backups(state_directory)
    return max(0.0, time.time() - os.stat(found[0]).st_mtime) if found else None


def _copy(database: str, target: str) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(copy)  # in one step: a copy in steps starts anew at each write
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, no log beside it
    descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(directory: str) -> None:
    total = 0
    for number, path in enumerate(backups(os.path.dirname(directory))):
        total += os.path.getsize(path)
        if number >= KEPT or (number >= KEPT_MIN and total > KEPT_BYTES):
            os.unlink(path)


def _remove(path: str) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.unlink(path + suffix)
