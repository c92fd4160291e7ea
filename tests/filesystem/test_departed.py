"""Calls that reach a file after its last name has gone, which nobody has open: a program had looked
its path up before another removed it. ESTALE has the kernel look the path up again (path_openat and
retry_estale in Linux), which finds nothing, or what has the name now.
"""

import os
import stat
from collections.abc import Awaitable, Callable

import pytest

from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.filesystem.errors import NodeGone
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .element_tree import read_element
from .test_content import STATES, bring_to
from .workbench import ME, Workbench

Call = Callable[[Workbench, Node], Awaitable[object]]


def _changed(**fields: int) -> Call:
    return lambda bench, node: bench.attributes.change(node, AttributeChange(**fields), ME)


def _opened(flags: int) -> Call:
    return lambda bench, node: bench.contents.open(node, flags, 0)


CALLS: dict[str, Call] = {
    "truncate": _changed(size=3),
    "truncate to nothing": _changed(size=0),
    "open to read": _opened(os.O_RDONLY),
    "open to write": _opened(os.O_RDWR),
    "open and empty": _opened(os.O_RDWR | os.O_TRUNC),
}


async def remove(bench: Workbench, state: str) -> Node:
    """A file that had content in this state, and has no name any more."""
    node = bench.make(b"f") if state == "empty" else await bring_to(bench, state)
    bench.tree.unlink(ROOT_INO, b"f", ME)
    return bench.tree.node(node.ino)


async def expect_nothing(bench: Workbench) -> None:
    """No trace of the file, anywhere."""
    while bench.sent:
        bench.answer(bench.carry())
    await bench.drain()
    assert bench.budget.used_bytes == 0
    assert [name for name in os.listdir(bench.archive.spool.directory) if name[0] != "."] == []
    assert read_element(bench.root).keys() == {b"/"}


@pytest.mark.parametrize("state", ["empty", *STATES])
@pytest.mark.parametrize("call", CALLS)
async def test_content_of_a_file_that_has_gone_is_stale(
    bench: Workbench, state: str, call: str
) -> None:
    """SEMANTICS: NAME-5"""
    node = await remove(bench, state)
    with pytest.raises(NodeGone):
        await CALLS[call](bench, node)
    await expect_nothing(bench)


@pytest.mark.parametrize("state", ["empty", *STATES])
async def test_change_of_a_file_that_has_gone_is_seen_and_recorded_nowhere(
    bench: Workbench, state: str
) -> None:
    """It was made just before the removal, as far as anybody can tell. The log had an intent of a
    file that was not there."""
    node = await remove(bench, state)
    await _changed(mode=0o600, mtime_ns=5)(bench, node)
    bench.xattrs.set(node, b"user.k", b"v", 0, ME)
    assert stat.S_IMODE(bench.tree.node(node.ino).mode) == 0o600
    assert bench.xattrs.get(node, b"user.k") == b"v"
    await expect_nothing(bench)


async def test_directory_that_has_gone_can_be_changed(bench: Workbench) -> None:
    """A working directory that is removed, say."""
    directory = bench.make(b"d", mode=stat.S_IFDIR | 0o755)
    bench.tree.rmdir(ROOT_INO, b"d", ME)
    await _changed(mode=0o700)(bench, bench.tree.node(directory.ino))
    assert stat.S_IMODE(bench.tree.node(directory.ino).mode) == 0o700
    await expect_nothing(bench)
