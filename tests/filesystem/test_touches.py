"""A directory's times after a new entry: at once for whoever asks, and in the index with whatever
is committed next, or, if nothing was, from the entries at the next start."""

import sqlite3
from typing import Any

import pytest

from artstorefs.core.errors import StateError
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.filesystem.errors import NameExists
from artstorefs.state.index import ROOT_INO
from artstorefs.state.log import Log
from artstorefs.state.node import Node
from artstorefs.state.row_sums import wrong_row_sums
from artstorefs.state.touches import ENTRIES_MAX

from .element_tree import read_element
from .workbench import DIRECTORY, ME, Workbench


class Asked:
    """How often somebody was asked to record what waits."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
async def directory(bench: Workbench) -> Node:
    """On a bench whose touches wait, and where nothing is pending."""
    made = bench.make(b"d", mode=DIRECTORY)
    await bench.drain()
    bench.archive.changes.touches.added = Asked()
    return made


def recorded(bench: Workbench, node: Node) -> tuple[int, int, int]:
    """Times and revision in the index, as another process sees them."""
    row: tuple[int, int, int] = bench.archive.database.execute(
        "SELECT mtime_ns, ctime_ns, revision FROM nodes WHERE ino = ?", (node.ino,)
    ).fetchone()
    return row


def shown(node: Node) -> tuple[int, int, int]:
    return node.mtime_ns, node.ctime_ns, node.revision


def asked(bench: Workbench) -> int:
    added = bench.archive.changes.touches.added
    assert isinstance(added, Asked)
    return added.times


async def test_times_are_shown_at_once_and_recorded_with_the_next_change(
    bench: Workbench, directory: Node
) -> None:
    before = shown(directory)
    children = [bench.make(b"%d" % number, directory.ino) for number in range(3)]
    assert shown(directory) == (children[2].created_ns, children[2].created_ns, before[2] + 3)
    assert recorded(bench, directory) == before
    assert asked(bench) == 3
    bench.xattrs.set(children[0], b"user.k", b"v", 0, ME)
    assert recorded(bench, directory) == shown(directory)
    assert bench.archive.log.is_waiting(directory.ino)
    assert list(wrong_row_sums(bench.archive.database.execute)) == []
    await bench.drain()
    assert read_element(bench.root)[b"/d"].posix["mtime_ns"] == directory.mtime_ns


async def test_nothing_else_comes(bench: Workbench, directory: Node) -> None:
    bench.make(b"new", directory.ino)
    bench.archive.changes.touches.record_all()
    assert recorded(bench, directory) == shown(directory)
    assert directory.ino in bench.archive.log.waiting_nodes()
    position = bench.archive.database.log_position()
    bench.archive.changes.touches.record_all()
    assert bench.archive.database.log_position() == position, "there was nothing to record"


async def test_no_more_than_a_start_looks_at_wait(bench: Workbench, directory: Node) -> None:
    other = bench.make(b"other", mode=DIRECTORY)
    for number in range(ENTRIES_MAX):
        bench.make(b"%d" % number, (directory, other)[number % 2].ino)
    waited = [recorded(bench, node) for node in (directory, other)]
    assert waited != [shown(directory), shown(other)]
    bench.make(b"one more", directory.ino)
    assert [recorded(bench, node) for node in (directory, other)] == [
        shown(directory),
        shown(other),
    ]


async def test_killed_before_it_was_recorded(bench: Workbench, directory: Node) -> None:
    """SEMANTICS: DUR-1"""
    other = bench.make(b"other", mode=DIRECTORY)
    for number in range(ENTRIES_MAX - 1):
        bench.make(b"%d" % number, directory.ino)
    last = bench.make(b"last", other.ino)
    times = [(node.mtime_ns, node.ctime_ns) for node in (directory, other)]
    bench.restart()
    found = [bench.tree.node(node.ino) for node in (directory, other)]
    assert [(node.mtime_ns, node.ctime_ns) for node in found] == times
    assert [shown(node) for node in found] == [recorded(bench, node) for node in found]
    assert found[1].mtime_ns == last.created_ns
    revisions = [node.revision for node in found]
    bench.restart()
    assert [bench.tree.node(node.ino).revision for node in found] == revisions
    await bench.drain()
    tree = read_element(bench.root)
    carried = [tree[path].posix["mtime_ns"] for path in (b"/d", b"/other")]
    assert carried == [times[0][0], times[1][0]]


async def test_what_was_set_after_the_entry_came_stays(bench: Workbench, directory: Node) -> None:
    """As `cp -a` and rsync do it. SEMANTICS: DUR-1"""
    bench.make(b"new", directory.ino)
    await bench.attributes.change(directory, AttributeChange(mtime_ns=-5), ME)
    assert recorded(bench, directory) == shown(directory)
    bench.restart()
    assert bench.tree.node(directory.ino).mtime_ns == -5


async def test_clock_that_was_set_back(
    bench: Workbench, directory: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry could not tell a start of the change: it is recorded at once."""
    monkeypatch.setattr("artstorefs.filesystem.tree.now_ns", lambda: directory.ctime_ns)
    bench.make(b"same moment", directory.ino)
    assert recorded(bench, directory) == shown(directory)
    monkeypatch.setattr("artstorefs.filesystem.tree.now_ns", lambda: 1000)
    bench.make(b"long ago", directory.ino)
    assert recorded(bench, directory) == shown(directory) == (1000, 1000, directory.revision)


async def test_directory_in_a_directory_is_recorded_at_once(
    bench: Workbench, directory: Node
) -> None:
    """Its parent's number of links has no other witness."""
    bench.make(b"file", directory.ino)
    bench.make(b"below", directory.ino, DIRECTORY)
    assert recorded(bench, directory) == shown(directory)


async def test_entry_that_goes_again_takes_its_directory_along(
    bench: Workbench, directory: Node
) -> None:
    bench.make(b"new", directory.ino)
    bench.unlink(b"new", directory.ino)
    assert recorded(bench, directory) == shown(directory)
    bench.make(b"new", directory.ino)
    bench.rename(b"new", b"elsewhere", parent=directory.ino)
    assert recorded(bench, directory) == shown(directory)
    bench.make(b"new", directory.ino)
    bench.unlink(b"new", directory.ino)
    bench.tree.rmdir(ROOT_INO, b"d", ME)
    assert recorded(bench, bench.tree.node(ROOT_INO)) == shown(bench.tree.node(ROOT_INO))
    assert bench.archive.index.node(directory.ino) is None
    await bench.drain()


async def test_directory_that_waits_is_not_read_anew(bench: Workbench, directory: Node) -> None:
    """However many other nodes were used since."""
    bench.make(b"new", directory.ino)
    expected, ino = shown(directory), directory.ino
    del directory
    bench.archive.index._recent.clear()
    assert shown(bench.tree.node(ino)) == expected


@pytest.mark.parametrize("statement", ["UPDATE nodes", "COMMIT"])
async def test_what_could_not_be_recorded_waits_for_the_next(
    bench: Workbench, directory: Node, statement: str
) -> None:
    new = bench.make(b"new", directory.ino)
    before, expected = recorded(bench, directory), shown(directory)
    database = bench.archive.database
    execute = database.execute

    def fails(sql: str, *parameters: Any) -> Any:
        if sql.startswith(statement):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            error.sqlite_errorname = "SQLITE_IOERR"
            raise error
        return execute(sql, *parameters)

    touches = bench.archive.changes.touches
    database.execute = touches._execute = fails
    with pytest.raises(StateError):
        bench.xattrs.set(new, b"user.k", b"v", 0, ME)
    with pytest.raises(StateError):
        touches.record_all()
    database.execute = touches._execute = execute
    assert recorded(bench, directory) == before
    assert shown(directory) == expected
    assert not bench.archive.log.is_waiting(directory.ino)
    touches.record_all()
    assert recorded(bench, directory) == expected
    assert directory.ino in Log(database).waiting_nodes()
    await bench.drain()


async def test_entry_that_could_not_be_made_touches_nothing(
    bench: Workbench, directory: Node
) -> None:
    bench.make(b"first", directory.ino)
    expected = shown(directory)
    with pytest.raises(NameExists):
        bench.make(b"first", directory.ino)
    assert shown(directory) == expected
    bench.archive.changes.touches.record_all()
    assert recorded(bench, directory) == expected
