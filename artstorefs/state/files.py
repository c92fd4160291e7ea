"""The files of the index in the state directory, as files: which there are, are they whole, what
is put in whose place. Used while nobody has the database open.

    state.db, state.db-wal, state.db-shm   the index, as SQLite has it
    state.db.running                       there from the first opening to the clean end
    state.db.damaged                       somebody met damage while it was in use
    state.db.new                           an index that a rebuild is filling
    backup/index-YYYYMMDDTHHMMSSZ.db       online backups, see `backup`
    aside/YYYYMMDDTHHMMSSZ/                indexes that were replaced; only a person removes them

`examine` is cheap after a clean end: the header, the schema, and the ends of each table. After any
other end the index is read whole (`PRAGMA quick_check`). A kill cannot hurt it, but a power cut on
a disk that lies about flushes can.

A read that fails once is no damage, though SQLite calls it that (EIO becomes SQLITE_CORRUPT): to
give an index up is to give up what no element has. So what is found wrong is looked for a second
time, and after damage was met in use the index is good if all of it is (`PRAGMA integrity_check`).
"""

import logging
import os
import sqlite3
import time
from contextlib import closing, suppress
from enum import Enum

from artstorefs.core.crash_points import crash_point
from artstorefs.core.log_fields import about
from artstorefs.elements import durable
from artstorefs.state.database import DAMAGED_SUFFIX, RUNNING_SUFFIX, connect_read_only
from artstorefs.state.index import ROOT_INO
from artstorefs.state.schema import SCHEMA_VERSION

log = logging.getLogger(__name__)

INDEX = "state.db"
NEW_INDEX = "state.db.new"
BACKUPS = "backup"
ASIDE = "aside"

_SQLITE_FILES = ("", "-wal", "-shm")
_HEADER = b"SQLite format 3\0"
_TABLES = ("nodes", "names", "copies", "log", "settings")


class Look(Enum):
    """How much of an index is read."""

    ENDS = "the first and last rows of each table"
    PAGES = "quick_check"
    EVERYTHING = "integrity_check"


def examine(directory: str) -> str | None:
    """Why the index of this state directory cannot be used as it is; None if it can, "" if there
    has never been one."""
    path = os.path.join(directory, INDEX)
    ended_cleanly = not os.path.exists(path + RUNNING_SUFFIX)
    if not os.path.exists(path):
        known = [name for name in (path + "-wal", path + RUNNING_SUFFIX) if os.path.exists(name)]
        if os.path.isdir(os.path.join(directory, BACKUPS)):
            known += os.listdir(os.path.join(directory, BACKUPS))
        return f"{INDEX} is missing" if known else ""
    if not ended_cleanly and not os.path.exists(path + "-wal"):
        return f"{INDEX}-wal, with the newest changes, is missing"
    if os.path.exists(path + DAMAGED_SUFFIX):
        problem = problem_of(path, Look.EVERYTHING)
        if problem is None:
            told = ("%s: damage was met in use, but all of it reads well now: it is used", path)
            log.warning(*told, extra=about(path=str(path)))
            os.unlink(path + DAMAGED_SUFFIX)
        return problem
    return problem_of(path, Look.ENDS if ended_cleanly else Look.PAGES)


def problem_of(path: str, look: Look) -> str | None:
    """What is wrong with an index, also when looked for again; None if nothing is, as far as was
    looked. Its log, if it has one, counts as a part of it."""
    return _look_once(path, look) and _look_once(path, look)


def _look_once(path: str, look: Look) -> str | None:
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                return f"{name} is no database"
        with closing(connect_read_only(path)) as connection:
            return _problem(connection, look)
    except (OSError, sqlite3.Error) as exc:
        return f"{name}: {exc}"


def _problem(connection: sqlite3.Connection, look: Look) -> str | None:
    execute = connection.execute
    version = execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not execute("SELECT 1 FROM sqlite_master").fetchone():
        return None  # a start that was killed before it had made the tables
    if version > SCHEMA_VERSION:
        return None  # of a later release, which `Database` refuses
    if look is not Look.ENDS:
        found = execute(f"PRAGMA {look.value}(1)").fetchone()[0]
        if found != "ok":
            return str(found).splitlines()[-1]
    for table in _TABLES:
        execute(f"SELECT * FROM {table} LIMIT 1").fetchone()
    for table, key in (("nodes", "ino"), ("names", "id"), ("log", "id")):
        execute(f"SELECT * FROM {table} ORDER BY {key} DESC LIMIT 1").fetchone()
    execute("SELECT * FROM copies ORDER BY ino DESC LIMIT 1").fetchone()
    has_nodes = execute("SELECT 1 FROM nodes LIMIT 1").fetchone()
    if has_nodes and not execute("SELECT 1 FROM nodes WHERE ino = ?", (ROOT_INO,)).fetchone():
        return "the root directory has no row"
    return None


def root_id(directory: str) -> bytes | None:
    """The file_id of the root, which is the id of the archive, in an index that `examine` found
    good; None if it holds nothing."""
    return root_id_at(os.path.join(directory, INDEX))


def root_id_at(path: str) -> bytes | None:
    """The same of an index, or a backup of one. Raises sqlite3.Error if it cannot be read."""
    query = "SELECT file_id FROM nodes WHERE ino = ?"
    with closing(connect_read_only(path)) as connection:
        try:
            row = connection.execute(query, (ROOT_INO,)).fetchone()
        except sqlite3.OperationalError:  # no tables yet
            return None
        return row[0] if row else None


def pending_changes(directory: str) -> int:
    """Intents, and content in the spool that has none yet, of an index that is good."""
    path = os.path.join(directory, INDEX)
    with closing(connect_read_only(path)) as connection:
        execute = connection.execute
        if not execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone():
            return 0
        intents = execute("SELECT count(*) FROM log").fetchone()[0]
        content = execute(
            "SELECT count(*) FROM nodes WHERE content_state IN (2, 3)"
            " AND ino NOT IN (SELECT ino FROM log WHERE ino IS NOT NULL)"
        ).fetchone()[0]
        return int(intents) + int(content)


def put_aside(directory: str) -> str | None:
    """Move the index out of the way, whatever state it is in; returns where it is now.

    state.db goes first: a crash right after leaves a log without an index, which `examine` finds.
    The other way round it would leave an index that is older than it seems.
    """
    path = os.path.join(directory, INDEX)
    there = [suffix for suffix in _SQLITE_FILES if os.path.lexists(path + suffix)]
    if not there:
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = os.path.join(directory, ASIDE, stamp)
    number = 0
    while os.path.exists(target):
        number += 1
        target = os.path.join(directory, ASIDE, f"{stamp}-{number}")
    durable.make_directories_durably(target)
    for suffix in there:
        durable.rename_durably(path + suffix, os.path.join(target, INDEX + suffix))
    return target


def install(directory: str, new: str, *, keep_old: bool) -> str | None:
    """Put a whole, durable index in place of the archive's, atomically.

    An old one that is good (`keep_old`) is closed first, which leaves it without a log of its own,
    and gets a second name in `aside`; returns that name. Crash after each step:
        1  log carried into the old index     the old one is the index
        2  second name for the old one        the same, with a harmless second name
        3  rename of the new one over it      the new one is the index
    """
    path = os.path.join(directory, INDEX)
    kept = None
    if keep_old and os.path.exists(path):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal"):
            raise OSError(f"{path}-wal is in use")
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(path + suffix)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = os.path.join(directory, ASIDE, stamp)
        durable.make_directories_durably(target)
        kept = os.path.join(target, INDEX)
        with suppress(FileNotFoundError):
            os.unlink(kept)
        os.link(path, kept)
        durable.fsync_directory(target)
    else:
        put_aside(directory)
    forget_damage(directory)
    crash_point("rebuild.old_index_aside")
    durable.rename_durably(new, path)
    crash_point("rebuild.committed")
    return kept


def forget_damage(directory: str) -> None:
    """The index is a new one: what was known of the old one does not hold for it."""
    for suffix in (RUNNING_SUFFIX, DAMAGED_SUFFIX):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, INDEX + suffix))
