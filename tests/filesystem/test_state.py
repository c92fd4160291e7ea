"""Transactions: what a commit that fails leaves, what the log merges, what the database refuses."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from artstorefs.core.crash_points import VARIABLE
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.state.database import Database, connect_read_only
from artstorefs.state.index import ROOT_INO
from artstorefs.state.log import Assignment, Removal
from artstorefs.state.node import Node
from artstorefs.state.outcomes import Stored
from artstorefs.state.row_sums import wrong_row_sums
from artstorefs.state.schema import FIRST_REMOVAL_ID

from .element_tree import read_element
from .workbench import DIRECTORY, ME, Workbench


def whole(bench: Workbench) -> list[Any]:
    """Every row of the database."""
    tables = ("nodes", "names", "copies", "log", "settings")
    return [bench.archive.database.execute(f"SELECT * FROM {t}").fetchall() for t in tables]


@contextmanager
def commit_fails(bench: Workbench) -> Iterator[None]:
    """The disk of the state directory is full: COMMIT raises."""
    database = bench.archive.database
    real = database.execute

    def execute(sql: str, *parameters: Any) -> Any:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return real(sql, *parameters)

    database.execute = execute
    try:
        yield
    finally:
        database.execute = real


CHANGES: dict[str, Callable[[Workbench, Node, Node], object]] = {
    "create": lambda b, d, f: b.tree.create(ROOT_INO, b"new", 0o100644, ME),
    "mkdir": lambda b, d, f: b.tree.create(d.ino, b"new", DIRECTORY, ME),
    "symlink": lambda b, d, f: b.tree.symlink(d.ino, b"new", b"target", ME),
    "link": lambda b, d, f: b.tree.link(f.ino, d.ino, b"new", ME),
    "unlink of one of two": lambda b, d, f: b.unlink(b"f"),
    "unlink": lambda b, d, f: b.unlink(b"g"),
    "rename": lambda b, d, f: b.rename(b"f", b"x", to=d.ino),
    "rename over": lambda b, d, f: b.rename(b"f", b"g"),
    "rename of a directory": lambda b, d, f: b.rename(b"d", b"y", to=ROOT_INO),
    "exchange": lambda b, d, f: b.rename(b"d", b"f", flags=2),
    "setxattr": lambda b, d, f: b.xattrs.set(f, b"user.k", b"v", 0, ME),
    "access": lambda b, d, f: b.archive.changes.access_time(f, 99),
    "content opened": lambda b, d, f: b.archive.changes.content_opened(f, f.content + 1, 0),
    "content sealed": lambda b, d, f: b.archive.changes.content_sealed(f, 0),
}


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("change", CHANGES)
async def test_failed_commit_changes_nothing(bench: Workbench, change: str, pending: bool) -> None:
    directory = bench.make(b"d", mode=DIRECTORY)
    file = await bench.write(b"f", b"content")
    other = await bench.write(b"g", b"other")
    bench.tree.link(file.ino, directory.ino, b"l", ME)
    if not pending:
        await bench.drain()
    nodes = [directory, file, other, bench.tree.node(ROOT_INO)]
    before = whole(bench), [node.values() for node in nodes]
    waiting = [bench.archive.log.is_waiting(node.ino) for node in nodes]
    with commit_fails(bench), pytest.raises(sqlite3.OperationalError):
        CHANGES[change](bench, directory, file)
    assert (whole(bench), [node.values() for node in nodes]) == before
    assert [bench.archive.log.is_waiting(node.ino) for node in nodes] == waiting
    CHANGES[change](bench, directory, file)
    if change.startswith("content"):
        bench.is_sound = False  # the spool has nothing of it
    else:
        await bench.drain()


async def test_failed_commit_of_an_outcome_changes_nothing(bench: Workbench) -> None:
    node = await bench.write(b"f", b"content")
    await bench.send()
    stored = [Stored(**values) for values in bench.carry()["stored"]]
    before, values = whole(bench), node.values()
    with commit_fails(bench), pytest.raises(sqlite3.OperationalError):
        bench.archive.outcomes.apply(stored, [], [])
    assert (whole(bench), node.values()) == (before, values)
    assert bench.archive.log.is_waiting(node.ino)
    assert bench.archive.outcomes.apply(stored, [], []) == []
    assert not bench.archive.log.is_waiting(node.ino)
    assert bench.archive.outcomes.apply(stored, [], []) == []  # told twice


async def test_failed_seal_leaves_the_content_for_the_next_start(bench: Workbench) -> None:
    node = bench.tree.create(ROOT_INO, b"f", 0o100644, ME, open_content=True)
    handle = bench.contents.created(node, 1, 0)
    await bench.contents.write(handle, 0, b"content")
    with commit_fails(bench), pytest.raises(sqlite3.OperationalError):
        bench.contents.release(handle)
    assert not bench.contents.is_held(node.ino)
    bench.restart()
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    assert await bench.content(found) == b"content"


# ----------------------------------------------------------------------------------- the log


async def test_intents_on_one_file_are_one_row(bench: Workbench) -> None:
    """SEMANTICS: ELEM-4"""
    node = await bench.write(b"f", b"content")
    for number in range(5):
        bench.xattrs.set(node, b"user.k", b"%d" % number, 0, ME)
        bench.rename(b"f%d" % (number - 1) if number else b"f", b"f%d" % number)
    rows = bench.archive.database.execute(
        "SELECT operation, status FROM log WHERE ino = ?", (node.ino,)
    ).fetchall()
    assert rows == [("file_create", "pending")]


async def test_a_change_after_the_answer_is_an_update(bench: Workbench) -> None:
    node = await bench.write(b"f", b"content")
    await bench.send()
    answer = bench.carry()
    bench.xattrs.set(node, b"user.k", b"v", 0, ME)
    bench.answer(answer)
    row = bench.archive.database.execute(
        "SELECT operation, status, data FROM log WHERE ino = ?", (node.ino,)
    ).fetchone()
    assert row == ("file_update", "pending", None)


def test_texts_of_the_log_are_read_back() -> None:
    assignment = Assignment("main", "2026/x", 3, False)
    assert Assignment.from_json(assignment.to_json()) == assignment
    removal = Removal(7, [["main", "k"]], ["7.1"], [8, 2])
    assert Removal.from_json(removal.to_json()) == removal


async def test_summary(bench: Workbench) -> None:
    await bench.drain()
    summary = bench.archive.log.summary()
    assert summary == {"intents": 0, "bytes": 0, "oldest_age_s": None, "failed": 0}
    node = await bench.write(b"f", b"content")
    bench.archive.outcomes.refuse(node.ino, "no element")
    summary = bench.archive.log.summary()
    assert summary["intents"] == 2  # the file and the root directory
    assert (summary["bytes"], summary["failed"]) == (7, 1)
    assert summary["oldest_age_s"] >= 0
    assert [failure.error for failure in bench.archive.log.failures()] == ["no element"]
    await bench.drain()
    assert bench.archive.log.failures() == []


async def test_log_of_an_earlier_release_is_numbered_by_node(bench: Workbench) -> None:
    """It had counted all intents; so a number may be that of another's node."""
    nodes = [await bench.write(b"%d" % number, b"content") for number in range(3)]
    await bench.drain()
    for number in (2, 0, 1):
        bench.xattrs.set(nodes[number], b"user.k", b"v", 0, ME)
    bench.unlink(b"1")
    await bench.send()
    execute = bench.archive.database.execute
    intents = "SELECT ino, operation, data FROM log WHERE ino IS NOT NULL ORDER BY created_ns"
    removals = "SELECT data FROM log WHERE ino IS NULL ORDER BY id"
    before = [execute(query).fetchall() for query in (intents, removals)]
    assert [len(rows) for rows in before] == [3, 1]
    execute("UPDATE log SET id = -id")
    order = [row[0] for row in execute("SELECT id FROM log ORDER BY created_ns").fetchall()]
    for number, old in enumerate(order, ROOT_INO):
        execute("UPDATE log SET id = ? WHERE id = ?", (number, old))
    execute("CREATE UNIQUE INDEX log_of_node ON log (ino) WHERE ino IS NOT NULL")
    bench.restart()
    execute = bench.archive.database.execute
    assert [execute(query).fetchall() for query in (intents, removals)] == before
    assert execute("SELECT count(*) FROM log WHERE id = ino").fetchone()[0] == 3
    assert execute("SELECT count(*) FROM log WHERE id >= 1 << 62").fetchone()[0] == 1
    assert not execute("SELECT 1 FROM sqlite_schema WHERE name = 'log_of_node'").fetchone()
    bench.unlink(b"2")
    await bench.drain()
    assert set(read_element(bench.root)) == {b"/", b"/0"}


async def test_numbers_of_removals_are_never_those_of_nodes(bench: Workbench) -> None:
    for _ in range(2):
        await bench.write(b"f", b"content")
        await bench.drain()
        bench.unlink(b"f")
        bench.restart()
    ids = bench.archive.database.execute(
        "SELECT id FROM log WHERE operation = 'file_delete' ORDER BY id"
    ).fetchall()
    assert [number > FIRST_REMOVAL_ID for (number,) in ids] == [True]
    await bench.drain()


# ------------------------------------------------------------------------------- the database


def test_database_of_another_release_is_refused(tmp_path: Any) -> None:
    path = str(tmp_path / "state.db")
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError, match="schema version 99"):
        Database(path)


async def test_rows_of_an_earlier_release_have_no_checksum(bench: Workbench) -> None:
    """They are not judged, and get one with their next change."""
    await bench.write(b"f", b"content")
    node = await bench.write(b"g", b"content")
    execute = bench.archive.database.execute
    execute("ALTER TABLE nodes DROP COLUMN sum")
    bench.close()
    assert bench.fsck().findings == []
    bench.open()
    execute = bench.archive.database.execute
    assert execute("SELECT count(*) FROM nodes WHERE sum IS NOT NULL").fetchone() == (0,)
    await bench.attributes.change(bench.tree.node(node.ino), AttributeChange(mode=0o600), ME)
    assert execute("SELECT ino FROM nodes WHERE sum IS NOT NULL").fetchall() == [(node.ino,)]
    assert list(wrong_row_sums(execute)) == []


def test_kill_while_the_tables_are_made(tmp_path: Path) -> None:
    """All tables or none: with some of them no later start could make the rest."""
    path = str(tmp_path / "state.db")
    program = "import sys; from artstorefs.state.database import Database; Database(sys.argv[1])"
    killed = subprocess.run(
        [sys.executable, "-c", program, path],
        env={**os.environ, VARIABLE: "database.tables_written"},
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    database = Database(path)
    assert database.execute("SELECT 1 FROM nodes").fetchone() is None
    database.close()
    Database(path).close()


def test_transactions_and_checkpoints(tmp_path: Any) -> None:
    path = str(tmp_path / "state.db")
    database = Database(path)
    reader = connect_read_only(path)
    with database.transaction():
        database.set_setting("a", "1")
        assert reader.execute("SELECT count(*) FROM settings").fetchone() == (0,)
    assert reader.execute("SELECT count(*) FROM settings").fetchone() == (1,)
    with suppress(ValueError), database.transaction():
        database.set_setting("a", "2")
        raise ValueError
    assert database.setting("a") == "1"
    assert database.setting("b") is None
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM settings")
    database.checkpoint()
    database.sync_log()
    assert database.log_bytes() > 0
    reader.close()
    database.close()
    again = Database(path)
    assert again.setting("a") == "1"
    again.close()
