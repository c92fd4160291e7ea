"""SQLite's log, gathered: whatever a transaction does, once it is committed any other connection,
and any copy of the files, has it; before that nobody has anything of it."""

import os
import random
import resource
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from artstorefs.state.sqlite_log import gathering_vfs

from ..power.load import new_seed

PAGE_BYTES = 2048


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?vfs={gathering_vfs()}", uri=True, isolation_level=None
    )
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "an index, 100 % odd?#.db"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path)
    connection.execute("CREATE TABLE t (key INTEGER PRIMARY KEY, value BLOB)")
    connection.execute("CREATE INDEX by_value ON t (value)")
    yield connection
    connection.close()


Rows = dict[int, bytes]


def rows_of(connection: sqlite3.Connection) -> Rows:
    return dict(connection.execute("SELECT key, value FROM t").fetchall())


def rows_of_a_copy(path: Path, place: Path) -> Rows:
    """As after a kill: database and log as they are, opened by SQLite's own VFS, and sound."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for suffix in ("", "-wal"):
        if os.path.exists(f"{path}{suffix}"):
            shutil.copyfile(f"{path}{suffix}", place / f"copy{suffix}")
    with closing(sqlite3.connect(place / "copy")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return rows_of(connection)


def log_writes(connection: sqlite3.Connection, statement: str, value: tuple[object, ...]) -> int:
    """System calls that write, of this process, while the statement is carried out."""

    def count() -> int:
        told = Path("/proc/self/io").read_text().split()
        return int(told[told.index("syscw:") + 1])

    before = count()
    connection.execute(statement, value)
    return count() - before


def test_a_transaction_is_one_write(writer: sqlite3.Connection) -> None:
    statement = "INSERT INTO t VALUES (?, ?)"
    writer.execute(statement, (1, b"begins the log"))
    pages = os.urandom(8 * PAGE_BYTES)
    assert log_writes(writer, statement, (2, pages)) == 1


def test_every_commit_is_there_for_everybody_and_nothing_before_it(
    path: Path, writer: sqlite3.Connection, tmp_path: Path
) -> None:
    """Random transactions, some larger than the cache of pages, rolled back or committed, between
    checkpoints of all kinds. No savepoints, which the program has none of: with them and a cache
    that is too small SQLite 3.40 itself leaves a log of which a copy lacks the last commits."""
    seed = new_seed()
    print("seed", seed)
    chance = random.Random(seed)
    writer.execute("PRAGMA cache_size = 20")  # pages go to the log before the transaction ends
    committed: Rows = {}
    reader, checkpointer = sqlite3.connect(path), sqlite3.connect(path, isolation_level=None)
    for number in range(120):
        rows = dict(committed)
        writer.execute("BEGIN IMMEDIATE")
        for _ in range(chance.choice((1, 3, 60))):
            change(writer, rows, chance)
        assert rows_of(writer) == rows
        if number % 10 == 0:
            assert rows_of(reader) == committed
            assert rows_of_a_copy(path, tmp_path / "copy") == committed
        if chance.random() < 0.2:
            writer.execute("ROLLBACK")
        else:
            writer.execute("COMMIT")
            committed = rows
        assert rows_of(reader) == committed
        if number % 10 == 5:
            assert rows_of_a_copy(path, tmp_path / "copy") == committed
        if chance.random() < 0.1:
            kind = chance.choice(("PASSIVE", "FULL", "RESTART", "TRUNCATE"))
            checkpointer.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
            assert rows_of(reader) == committed
    reader.close()
    checkpointer.close()


def change(writer: sqlite3.Connection, rows: Rows, chance: random.Random) -> None:
    key = chance.randrange(200)
    if chance.random() < 0.2:
        writer.execute("DELETE FROM t WHERE key = ?", (key,))
        rows.pop(key, None)
        return
    value = chance.randbytes(chance.choice((10, 100, 3000, 20_000)))
    writer.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, value))
    rows[key] = value


def test_page_that_the_log_has_already_is_written_in_its_place(
    path: Path, writer: sqlite3.Connection, tmp_path: Path
) -> None:
    """A page that went to the log early and is changed again: SQLite writes it over, and then the
    checksums of all frames after it, the last of which ends the transaction."""
    writer.execute("PRAGMA cache_size = 10")
    writer.execute("BEGIN IMMEDIATE")
    for round in range(3):
        for key in range(100):
            value = bytes([round]) * 1500
            writer.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, value))
    writer.execute("COMMIT")
    expected = dict.fromkeys(range(100), b"\x02" * 1500)
    with closing(sqlite3.connect(path)) as reader:
        assert rows_of(reader) == expected
    assert rows_of_a_copy(path, tmp_path / "copy") == expected


def test_disk_that_is_full_is_said_by_the_commit(path: Path, writer: sqlite3.Connection) -> None:
    """And the next transaction is as if that one had never been."""
    writer.execute("INSERT INTO t VALUES (1, x'01')")
    size = os.path.getsize(f"{path}-wal")
    limit = _limit_files(size + 3 * PAGE_BYTES)
    try:
        with pytest.raises(sqlite3.OperationalError):
            writer.execute("INSERT INTO t VALUES (2, ?)", (os.urandom(20 * PAGE_BYTES),))
    finally:
        _limit_files(limit)
    assert not writer.in_transaction
    writer.execute("INSERT INTO t VALUES (3, x'03')")
    with closing(sqlite3.connect(path)) as reader:
        assert rows_of(reader) == {1: b"\1", 3: b"\3"}


def _limit_files(size_bytes: int) -> int:
    """Let no file of this process grow beyond that (setrlimit(2)); the limit before."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    return soft
