"""What is open goes from one daemon to the next: without a kernel, in each state of the content."""

import pytest

from artstorefs.state.node import ContentState

from .element_tree import read_element
from .test_content import NEW, OLD, STATES, bring_to
from .workbench import Workbench


@pytest.mark.parametrize("state", STATES)
async def test_descriptors_of_content_in_each_state(bench: Workbench, state: str) -> None:
    node = await bring_to(bench, state)
    reader, writer = await bench.open_file(node), await bench.open_file(node)
    reader, writer = bench.hand_over(reader, writer)
    assert bytes(await bench.contents.read(reader, 0, len(OLD))) == OLD
    await bench.contents.write(writer, 3, NEW)
    reader, writer = bench.hand_over(reader, writer)
    expected = OLD[:3] + NEW + OLD[6:]
    assert bytes(await bench.contents.read(reader, 0, len(OLD))) == expected
    node = reader.file.node
    assert (node.content_state, node.size) == (ContentState.OPEN, len(OLD))
    for handle in (reader, writer):
        bench.contents.release(handle)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == expected
    assert bench.budget.used_bytes == 0


async def test_times_are_those_that_were_seen_before(bench: Workbench) -> None:
    node = await bring_to(bench, "sealed")
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, NEW)
    seen = node.size, node.mtime_ns, node.ctime_ns
    (handle,) = bench.hand_over(handle)
    node = handle.file.node
    assert (node.size, node.mtime_ns, node.ctime_ns) == seen
    bench.contents.release(handle)


async def test_file_that_may_be_mapped_is_not_sealed_by_its_close(bench: Workbench) -> None:
    """One that was opened again, and could not be bound: the spool was full, say."""
    handle = await bench.open_file(await bring_to(bench, "sealed"))
    await bench.contents.write(handle, 0, NEW)
    handle.file.is_mapped = True
    (handle,) = bench.hand_over(handle)
    bench.contents.release(handle)
    assert handle.file.node.content_state == ContentState.OPEN
    assert not bench.contents.let_go_of_unmapped()
    assert handle.file.node.content_state == ContentState.SEALED
