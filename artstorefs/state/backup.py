"""Online backups of the index: `backup/index-YYYYMMDDTHHMMSSZ.db` in the state directory.

A backup is one moment of the index, copied by SQLite's own backup interface while the daemon goes
on writing, read whole once (`PRAGMA quick_check`) and only then given its name, durably. What lies
under such a name is therefore a whole index, unless its disk has damaged it since.

It is for an index that is damaged, not for going back in time: the elements know what has happened
since. So the newest one counts, those before it are for the case that it is damaged as well, and a
day of hours covers a damage that nobody noticed for a night. Of a large index (0.6 GB for a million
nodes) that would be too much, so all of them together have a limit, and two are kept in any case.

They lie on the disk of the index. A copy elsewhere, `index-YYYYMMDDTHHMMSSZ-NAME.db`, is for the
loss of that disk: put into `backup/` of a new state directory it is what the next start takes, and
brings up to date from the elements, without reading every document again.
"""

import os
import re
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing, suppress
from secrets import token_hex

from artstorefs.core.errors import ArtStoreFSError
from artstorefs.elements import durable
from artstorefs.state.files import BACKUPS, INDEX, Look, problem_of

KEPT = 24
KEPT_BYTES = 2 << 30
KEPT_MIN = 2

_PREFIX, _SUFFIX = "index-", ".db"
_TEMPORARY = "index.tmp"
_STAMP = r"\d{8}T\d{6}Z"
_NAME = re.compile(rf"{_PREFIX}{_STAMP}{re.escape(_SUFFIX)}")

CHUNK_BYTES = 1 << 20

LEFT_S = 86_400.0
"""After so long a temporary of a copy is what a kill has left, and nobody's work."""


class BackupFailed(ArtStoreFSError):
    """No backup was made; the ones before are there."""


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


def unchanged_since_backup(state_directory: str) -> str | None:
    """Path of the newest backup, if the index of an archive that is not in use has not changed
    since; else None. Raises OSError."""
    found = backups(state_directory)
    if not found:
        return None
    changed_ns = 0
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            status = os.stat(os.path.join(state_directory, INDEX + suffix))
            changed_ns = max(changed_ns, status.st_mtime_ns)
    return found[0] if os.stat(found[0]).st_mtime_ns > changed_ns else None


def bytes_under_way(state_directory: str) -> int:
    """How much of the backup that is being made there is."""
    try:
        return os.stat(os.path.join(state_directory, BACKUPS, _TEMPORARY)).st_size
    except OSError:
        return 0


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


# ------------------------------------------------------------------------------ copies elsewhere


def copy_backup(
    state_directory: str,
    name: str,
    directory: str,
    archive: str,
    on_progress: Callable[[int, int], None],
) -> str:
    """Have the backup of this name in another directory, readable for its user alone; its path
    there. One that is there already stays as it is. `on_progress`: bytes, and of how many.

    The state directory is another user's, who may be nobody's friend: what is no backup's name is
    refused, and no link followed. Raises BackupFailed.
    """
    if not _NAME.fullmatch(name):
        raise BackupFailed(f"{name} is no name of a backup")
    path = os.path.join(directory, f"{name.removesuffix(_SUFFIX)}-{archive}{_SUFFIX}")
    if os.path.exists(path):
        return path
    original = os.path.join(state_directory, BACKUPS, name)
    try:
        source = os.open(original, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        reason = f"{exc.strerror}; root and the user of the daemon can"
        raise BackupFailed(f"{original} cannot be read: {reason}") from exc
    temporary = os.path.join(directory, f".{_PREFIX}{archive}-{token_hex(8)}.tmp")
    try:
        _copy_durably(source, temporary, on_progress)
        durable.rename_durably(temporary, path)
    except OSError as exc:
        with suppress(OSError):
            os.unlink(temporary)
        raise BackupFailed(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        os.close(source)
    return path


def prune_copies(directory: str, archive: str, keep: int | None) -> list[str]:
    """Remove what kills have left, and, with `keep`, all copies of an archive but the newest; those
    that are gone. Those of other archives, and all else, stay. Raises OSError."""
    temporary = re.compile(rf"\.{_PREFIX}{re.escape(archive)}-[0-9a-f]{{16}}\.tmp")
    copy = re.compile(rf"{_PREFIX}{_STAMP}-{re.escape(archive)}{re.escape(_SUFFIX)}")
    names = os.listdir(directory)
    for name in filter(temporary.fullmatch, names):
        path = os.path.join(directory, name)
        if time.time() - os.stat(path).st_mtime > LEFT_S:
            os.unlink(path)
    copies = sorted(filter(copy.fullmatch, names), reverse=True)
    gone = [] if keep is None else [os.path.join(directory, name) for name in copies[keep:]]
    for path in gone:
        os.unlink(path)
    return gone


def _copy_durably(source: int, target: str, on_progress: Callable[[int, int], None]) -> None:
    status = os.fstat(source)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("the backup is no ordinary file")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(target, flags, 0o600)
    try:
        done = 0
        while data := os.read(source, CHUNK_BYTES):
            durable.write_all(descriptor, data)
            done += len(data)
            on_progress(done, status.st_size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
