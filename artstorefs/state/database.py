"""The SQLite database of an archive's state directory: transactions, checkpoints. Its tables are in
`schema.py`.

Invariants
    * One connection writes, from one thread. A change of the tree and its log records are one
      transaction, committed before the system call returns.
    * `synchronous=NORMAL`: a committed transaction survives the death of the process. It survives
      a power cut once `sync_log` has returned: SQLite's own write-ahead log is an ordinary file
      whose frames carry checksums, so syncing that file makes every transaction before it durable,
      and that can be done from any thread, or from another process, without holding up the loop.
    * Automatic checkpoints are off, because they would run inside somebody's system call;
      `checkpoint` runs in a thread with a connection of its own.
    * What SQLite cannot write is a StateError, a full disk a StateFull, and nothing has changed.

Only `artstorefs.state` uses this module's SQL interface.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import StateError, StateFull
from artstorefs.core.log_fields import about
from artstorefs.elements import durable
from artstorefs.state.audit import Audit
from artstorefs.state.reserve import Reserve
from artstorefs.state.schema import SCHEMA_VERSION, bring_up_to_date, create_tables
from artstorefs.state.sqlite_log import gathering_vfs

log = logging.getLogger(__name__)

PAGE_BYTES = 2048
"""A change writes six or seven pages, whole, into the log. With 4 KiB a file that is made takes
25 KB of it, and 1.15 times as long; with 1 KiB the tables are deeper, and it takes longer again. An
index of an earlier release keeps its 4 KiB."""

CHECKPOINT_BYTES = 8 << 20
"""Size of the SQLite log from which a checkpoint is worth its fsyncs."""

RESTART_BYTES = 64 << 20
"""Size from which a checkpoint may hold up writers for some milliseconds to start the log anew."""

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
"""Extended result codes for "no room": SQLite also makes an index of its log beside it."""

_UNWRITABLE = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY}
)
"""Primary result codes (sqlite.org/rescode.html) for a disk that does not do as it is told."""

RUNNING_SUFFIX = ".running"
"""Of a file beside the database while it is in use: whoever finds it knows that the end was not a
clean one, and that there has to be a log."""

DAMAGED_SUFFIX = ".damaged"
"""Of a file beside the database once damage was met in it; the next start looks at all of it."""

BUSY_TIMEOUT_S = 10.0
"""How long a statement waits for a restarting checkpoint; a checkpoint of 64 MiB takes 0.2 s."""


_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Database:
    """The writing connection. Not thread-safe, except `sync_log` and `checkpoint`."""

    def __init__(self, path: str, reserve: Reserve | None = None) -> None:
        """Raises StateError when the database cannot be opened or made."""
        self.path = path
        self.reserve = reserve
        self._flush_failed = False
        self._transaction = Transaction(self)
        self._lone_transaction = Transaction(self, is_lone=True)
        self.deferred: Deferred | None = None
        self.audit: Audit | None = None
        with translated(path):
            self._open(path)

    def _open(self, path: str) -> None:
        self.connection = _connect(path, gathering_vfs())
        self.execute = self.connection.execute
        version = self.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            create_tables(self.connection)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(
                f"{path}: schema version {version}, this release knows {SCHEMA_VERSION}"
            )
        bring_up_to_date(self.connection)
        with self.transaction():
            pass  # makes the log file if it is not there, which `sync_log` needs open
        self._log_fd = os.open(path + "-wal", os.O_RDONLY | os.O_CLOEXEC)
        # The log's name becomes durable with it: SQLite leaves that to its first sync of the log.
        durable.write_file_durably(path + RUNNING_SUFFIX, b"")

    def transaction(self, *, is_lone: bool = False) -> "Transaction":
        """For `with`: one transaction, committed at the end, rolled back by any exception. The
        block never awaits. It begins with what was deferred, unless it `is_lone`.

        Raises StateError when it cannot be committed.
        """
        return self._lone_transaction if is_lone else self._transaction

    def roll_back(self) -> None:
        if self.connection.in_transaction:
            try:
                self.execute("ROLLBACK")
            except sqlite3.Error as exc:
                told = ("%s: a transaction could not be rolled back: %s", self.path, exc)
                log.error(*told, extra=about(exc, path=self.path))

    def require_room(self) -> None:
        """Raise StateFull while what room there is belongs to changes that make some."""
        if self.reserve is not None and not self.reserve.hold():
            raise StateFull(self.path, "its disk is full")

    def sync_log(self) -> None:
        """Make every committed transaction survive a power cut, its records in the audit log
        before it. Blocks; any thread may call it.

        After a failure the log's pages pass for clean and may be on no disk, so everything in it
        is carried into the database file, durably, before the next success.
        """
        if self.audit is not None:
            self.audit.sync()
        if self._flush_failed:
            self._carry_log_over()
        try:
            os.fdatasync(self._log_fd)
        except OSError:
            self._flush_failed = True
            raise

    def _carry_log_over(self) -> None:
        with translated(self.path), closing(_connect(self.path)) as connection:
            busy, pages, carried = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        if busy or pages != carried:
            raise StateError(self.path, "a flush of the log failed; it is not yet made good")
        self._flush_failed = False

    def log_bytes(self) -> int:
        """Size of SQLite's log file; `checkpoint` is due from CHECKPOINT_BYTES."""
        return os.fstat(self._log_fd).st_size

    def log_position(self) -> tuple[int, ...]:
        """Differs from an earlier answer if anything was committed since. Any thread may ask."""
        files = (os.stat(self.path), os.fstat(self._log_fd))
        return tuple(n for file in files for n in (file.st_size, file.st_mtime_ns))

    def checkpoint(self) -> None:
        """Carry SQLite's log into the database file. Blocks; for a thread of its own. Raises
        StateError when that cannot be done now, which does no harm but that the log grows.

        Of a log that has grown large, what can be carried beside writers goes first: beginning it
        anew holds them up, and then only for what they have added meanwhile.
        """
        starts_anew = self.log_bytes() >= RESTART_BYTES
        with translated(self.path), closing(_connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if starts_anew:
                connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def setting(self, key: str) -> str | None:
        row = self.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_setting(self, key: str, value: str) -> None:
        """Inside a transaction of the caller."""
        self.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """A clean end. The file that says otherwise goes first: without it a log is fine."""
        if self.audit is not None:
            self.audit.close()
        os.close(self._log_fd)
        with suppress(FileNotFoundError):
            os.unlink(self.path + RUNNING_SUFFIX)
        self.connection.close()

    def note_damage(self, exc: sqlite3.Error) -> bool:
        """Whether `exc` says that the file is damaged. Then the next start looks at all of it,
        and takes a backup, or what the elements say, in its place."""
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
            return False
        with suppress(OSError):
            durable.write_file_durably(self.path + DAMAGED_SUFFIX, f"{exc}\n".encode())
        return True


class Deferred(Protocol):
    """What waits for the next transaction that comes, and is committed with it."""

    def write(self) -> None:
        """Inside the transaction, before anything else."""

    def committed(self) -> None:
        """What was written, if anything, is in the database."""

    def rolled_back(self) -> None:
        """It is not."""


class Transaction:
    """What `Database.transaction` returns: always the same, there is one at a time. No generator:
    each change of the tree comes through here."""

    __slots__ = ("_database", "_is_lone")

    def __init__(self, database: Database, *, is_lone: bool = False) -> None:
        self._database = database
        self._is_lone = is_lone

    def __enter__(self) -> None:
        database = self._database
        try:
            if database.connection.in_transaction:  # an earlier one that could not be rolled back
                database.execute("ROLLBACK")
            database.execute("BEGIN IMMEDIATE")
            if not self._is_lone and database.deferred is not None:
                database.deferred.write()
        except BaseException as exc:
            self._roll_back(exc)
            raise

    def __exit__(self, _: object, exc: BaseException | None, traceback: object) -> None:
        if exc is not None:
            self._roll_back(exc)
            return
        try:
            crash_point("transaction.written")
            if self._database.audit is not None:
                self._database.audit.write()
            self._database.execute("COMMIT")
        except BaseException as failure:
            self._roll_back(failure)
            raise
        if self._database.audit is not None:
            self._database.audit.committed()
        if not self._is_lone and self._database.deferred is not None:
            self._database.deferred.committed()

    def _roll_back(self, cause: BaseException) -> None:
        """Raises the StateError for `cause`, if it is one of SQLite's."""
        self._database.roll_back()
        if self._database.audit is not None:
            self._database.audit.rolled_back()
        if self._database.deferred is not None:
            self._database.deferred.rolled_back()
        if isinstance(cause, sqlite3.Error):
            translated_cause = state_error(self._database.path, cause)
            if translated_cause is not cause:
                raise translated_cause from cause


def state_error(path: str, exc: sqlite3.Error) -> Exception:
    """The StateError for what a disk has done to SQLite; a bug of ours stays what it is."""
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _FULL:
        return StateFull(path, "its disk is full")
    if code & 0xFF in _UNWRITABLE:
        return StateError(path, f"{exc} ({exc.sqlite_errorname})")
    return exc


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise the StateError for an error of SQLite in the block."""
    try:
        yield
    except sqlite3.Error as exc:
        raise state_error(path, exc) from exc


def connect_read_only(path: str) -> sqlite3.Connection:
    """A connection of another process, which sees committed transactions and writes nothing."""
    connection = sqlite3.connect(
        f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    return connection


def _connect(path: str, vfs: str | None = None) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?vfs={vfs}" if vfs else path,
        uri=vfs is not None,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_S,
        cached_statements=256,
    )
    execute: Any = connection.execute
    execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a database that is made now
    execute("PRAGMA journal_mode = WAL").fetchone()
    execute("PRAGMA synchronous = NORMAL")
    execute("PRAGMA wal_autocheckpoint = 0")
    execute("PRAGMA cache_size = -65536")  # 64 MiB: the hot part of a million nodes
    execute("PRAGMA temp_store = MEMORY")
    return connection
