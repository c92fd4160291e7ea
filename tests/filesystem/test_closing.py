"""Content between the close of its last writer and its seal, which comes a moment later."""

import os

import pytest

from artstorefs.core.errors import StateFull
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.filesystem.closing import CLOSED_AT_ONCE
from artstorefs.state.node import ContentState, Node
from artstorefs.state.spool import spool_name

from .element_tree import read_element
from .workbench import ME, Workbench

EARLIER_NS = 1_000_000_000_123_456_789


@pytest.fixture
def closed(bench: Workbench) -> list[None]:
    """Grows with each call of `closed_one`; `bench` does not seal by itself from here on."""
    told: list[None] = []
    bench.close()
    bench.open(closed_one=lambda: told.append(None))
    return told


async def test_seal_comes_with_those_of_other_files_in_one_transaction(
    bench: Workbench, closed: list[None]
) -> None:
    nodes = [await bench.write(b"%d" % number, b"content") for number in range(5)]
    empty = await bench.write(b"empty", b"")
    assert {node.content_state for node in [*nodes, empty]} == {ContentState.OPEN}
    assert bench.xattrs.get(empty, b"user.artstore.state") == b"pending"
    assert len(closed) == 6
    commits: list[str] = []
    bench.archive.database.connection.set_trace_callback(
        lambda statement: commits.append(statement) if statement == "COMMIT" else None
    )
    bench.contents.seal_closed()
    assert {node.content_state for node in nodes} == {ContentState.SEALED}
    assert empty.content_state == ContentState.EMPTY
    assert commits == ["COMMIT"]
    assert not bench.contents._files
    await bench.drain()
    assert read_element(bench.root)[b"/3"].content == b"content"
    assert bench.budget.used_bytes == 0
    assert bench.spool_files() == {}


async def test_nothing_waits_for_more_than_so_many(bench: Workbench, closed: list[None]) -> None:
    nodes = [await bench.write(b"%d" % number, b"content") for number in range(CLOSED_AT_ONCE)]
    assert {node.content_state for node in nodes} == {ContentState.SEALED}
    assert len(closed) == CLOSED_AT_ONCE - 1


async def test_file_opened_again_is_sealed_by_its_next_close(
    bench: Workbench, closed: list[None]
) -> None:
    node = await bench.write(b"f", b"one")
    version = node.content
    handle = await bench.open_file(node)
    bench.contents.seal_closed()
    assert node.content_state == ContentState.OPEN
    await bench.contents.write(handle, 3, b"two")
    bench.contents.release(handle)
    bench.contents.seal_closed()
    assert (node.content_state, node.content) == (ContentState.SEALED, version)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == b"onetwo"
    assert bench.budget.used_bytes == 0


async def test_reader_that_comes_meanwhile_keeps_reading(
    bench: Workbench, closed: list[None]
) -> None:
    node = await bench.write(b"f", b"content")
    handle = await bench.open_file(node, os.O_RDONLY)
    bench.contents.seal_closed()
    assert node.content_state == ContentState.SEALED
    await bench.drain()
    assert bytes(await bench.contents.read(handle, 0, 100)) == b"content"
    bench.contents.release(handle)
    assert await bench.content(node) == b"content"


async def test_kill_before_the_seal_loses_nothing(bench: Workbench, closed: list[None]) -> None:
    node = await bench.write(b"f", b"content")
    times = AttributeChange(mode=0o640, atime_ns=EARLIER_NS, mtime_ns=EARLIER_NS + 1)
    await bench.attributes.change(node, times, ME)
    bench.restart()
    node = _found(bench, b"f")
    assert node.content_state == ContentState.SEALED
    assert (node.atime_ns, node.mtime_ns) == (EARLIER_NS, EARLIER_NS + 1)
    assert (node.size, node.mode & 0o7777) == (7, 0o640)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == b"content"


async def test_times_set_before_the_seal_are_there_after_it(
    bench: Workbench, closed: list[None]
) -> None:
    node = await bench.write(b"f", b"content")
    await bench.attributes.change(node, AttributeChange(mtime_ns=EARLIER_NS), ME)
    bench.contents.seal_closed()
    bench.restart()
    assert _found(bench, b"f").mtime_ns == EARLIER_NS


@pytest.mark.parametrize("end", ["sealed", "killed"])
async def test_file_removed_before_the_seal_leaves_nothing(
    bench: Workbench, closed: list[None], end: str
) -> None:
    node = await bench.write(b"f", b"content")
    name = spool_name(node.ino, node.content)
    bench.unlink(b"f")
    assert bench.archive.index.node(node.ino) is None
    assert name in bench.spool_files()
    if end == "sealed":
        bench.contents.seal_closed()
        assert not bench.contents._files
    else:
        bench.restart()
    await bench.drain()
    assert bench.spool_files() == {}
    assert read_element(bench.root).keys() == {b"/"}
    assert bench.budget.used_bytes == 0


async def test_one_of_two_names_removed_before_the_seal(
    bench: Workbench, closed: list[None]
) -> None:
    node = await bench.write(b"f", b"content")
    bench.tree.link(node.ino, 1, b"g", ME)
    bench.unlink(b"f")
    bench.contents.seal_closed()
    assert node.content_state == ContentState.SEALED
    await bench.drain()
    assert read_element(bench.root)[b"/g"].content == b"content"


async def test_seal_on_a_full_disk_comes_later(
    bench: Workbench, closed: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: FULL-2"""

    def full(*arguments: object) -> None:
        raise StateFull("state.db", "its disk is full")

    node = await bench.write(b"f", b"content")
    with monkeypatch.context() as patch:
        patch.setattr(bench.archive.changes, "contents_sealed", full)
        bench.contents.seal_closed()
        assert node.content_state == ContentState.OPEN
        assert await bench.content(node) == b"content"
    bench.contents.record_closed()
    assert node.content_state == ContentState.SEALED
    bench.contents.seal_closed()
    await bench.drain()
    assert bench.budget.used_bytes == 0


def _found(bench: Workbench, name: bytes) -> Node:
    node = bench.tree.lookup(1, name)
    assert node is not None
    return node
