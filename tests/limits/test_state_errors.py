"""What SQLite cannot write, without a disk: by its own limit of pages, and by hooks."""

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.core.errors import StateError, StateFull, errno_of
from artstorefs.state.database import Database
from artstorefs.state.node import ContentState
from artstorefs.state.reserve import STEPS, Reserve, ReserveState

from ..filesystem.workbench import FILE, ME, Workbench


@pytest.fixture
def clock() -> MockClock:
    """pytest-trio runs the test on it: time passes only when the test says so."""
    return MockClock()


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> Workbench:
    return Workbench(tmp_path)


def fill(bench: Workbench) -> None:
    """No page more for the database, and nothing in reserve."""
    database = bench.archive.database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")


def make_room(bench: Workbench) -> None:
    bench.archive.database.execute("PRAGMA max_page_count = 1000000")


def make_names(bench: Workbench) -> int:
    """Until that is refused; how many were made."""
    for number in range(10_000):
        try:
            bench.make(f"a name of some length {number:06}".encode())
        except StateFull as exc:
            assert errno_of(exc) == errno.ENOSPC  # noqa: PT017
            return number
    raise AssertionError("nothing was refused")


async def test_full_database_is_enospc_and_changes_nothing(bench: Workbench) -> None:
    """SEMANTICS: FULL-1"""
    fill(bench)
    made = make_names(bench)
    assert len(bench.tree.children(1, 0, 100_000)) == made
    root = bench.tree.node(1)
    before = root.values()
    with pytest.raises(StateFull):
        bench.make(b"x" * 200)
    assert root.values() == before
    make_room(bench)
    bench.make(b"x" * 200)
    await bench.drain()


async def test_file_closed_while_nothing_can_be_recorded_is_sealed_later(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: FULL-2"""
    node = bench.tree.create(1, b"f", FILE, ME, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    await bench.contents.write(handle, 0, b"content")
    gone = bench.tree.create(1, b"gone", FILE, ME, open_content=True)
    gone_handle = bench.contents.created(gone, os.O_WRONLY, 0)
    await bench.contents.write(gone_handle, 0, b"content")
    bench.unlink(b"gone")
    with monkeypatch.context() as patch:
        patch.setattr(bench.archive.changes, "contents_sealed", full)
        patch.setattr(bench.archive.changes, "purge", full)
        bench.contents.release(handle)
        bench.contents.release(gone_handle)
        assert node.content_state == ContentState.OPEN
        assert await bench.content(node) == b"content"
        with pytest.raises(StateFull):
            bench.contents.record_closed()
    bench.contents.record_closed()
    assert node.content_state == ContentState.SEALED
    assert bench.archive.index.node(gone.ino) is None
    await bench.drain()
    assert node.content_state == ContentState.ARCHIVED
    assert bench.spool_files() == {}
    assert bench.budget.used_bytes == 0


def full(*arguments: Any, **named: Any) -> None:
    raise StateFull("state.db", "its disk is full")


async def test_answers_of_the_elements_wait_until_they_can_be_recorded(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: FULL-2"""
    node = await bench.write(b"f", b"content")
    with monkeypatch.context() as patch:
        patch.setattr(bench.archive.outcomes, "assign", full)
        await bench.send()
        assert not bench.sent
        assert "full" in bench.link.state_error
        assert bench.link.schedule.retrying == bench.link.schedule.pending > 0
    bench.link.schedule.try_again_now()
    await bench.send()
    answer = bench.carry()
    with monkeypatch.context() as patch:
        patch.setattr(bench.archive.outcomes, "apply", full)
        with pytest.raises(StateFull):
            bench.answer(answer)
        assert node.content_state == ContentState.SEALED
    bench.answer(answer)
    assert node.content_state == ContentState.ARCHIVED
    await bench.drain()
    assert bench.link.state_error == ""


def failing_once(database: Database, statement: str) -> Callable[..., Any]:
    execute = database.connection.execute
    left = [statement]

    def once(text: str, *arguments: Any) -> Any:
        if text in left:
            left.remove(text)
            raise sqlite3.OperationalError("disk I/O error")
        return execute(text, *arguments)

    return once


def cut_off(database: Database) -> None:
    with database.transaction():
        database.set_setting("a", "1")
        raise ValueError("ours")


def test_transaction_that_cannot_be_rolled_back_is_rolled_back_by_the_next(tmp_path: Path) -> None:
    """SEMANTICS: FULL-1"""
    database = Database(str(tmp_path / "state.db"))
    database.execute = failing_once(database, "ROLLBACK")  # type: ignore[assignment]
    with pytest.raises(ValueError, match="ours"):
        cut_off(database)
    assert database.connection.in_transaction
    with database.transaction():
        database.set_setting("b", "2")
    assert (database.setting("a"), database.setting("b")) == (None, "2")
    database.close()


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StateError, match=r"state\.db: unable to open"):
        Database(str(tmp_path / "state.db"))


def test_reserve_is_given_up_in_steps_and_held_again(tmp_path: Path) -> None:
    """SEMANTICS: FULL-2, FULL-3"""
    reserve = Reserve(str(tmp_path))
    reserve.start()
    path = tmp_path / "reserve"
    assert reserve.state is ReserveState.HELD
    assert path.stat().st_blocks * 512 >= reserve.size_bytes
    sizes = [path.stat().st_size]
    while reserve.give_up():
        sizes.append(path.stat().st_size)
    assert sizes == [reserve.size_bytes * part // STEPS for part in range(STEPS, 0, -1)]
    assert reserve.state is ReserveState.GIVEN_UP
    assert reserve.hold()
    assert path.stat().st_blocks * 512 >= reserve.size_bytes
