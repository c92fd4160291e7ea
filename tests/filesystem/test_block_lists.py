"""Block lists on an element: made, kept, and removed with their objects, whatever is cut off."""

import hashlib

import pytest

from artstorefs.core import naming
from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.state.index import ROOT_INO

from .element_tree import read_element
from .large_files import (
    DATA,
    REQUEST,
    SIZE,
    blocks_that_failed,
    check_lists,
    flip,
    list_path,
    lists_on,
    object_path,
    objects_on,
    read_parts,
    store,
)
from .workbench import Workbench


@pytest.fixture
def data() -> bytes:
    return DATA


async def test_large_object_has_a_block_list_and_small_one_has_none(
    bench: Workbench, data: bytes
) -> None:
    for name, size in ((b"a", 1), (b"b", BLOCK_BYTES), (b"c", BLOCK_BYTES + 1), (b"d", SIZE)):
        await store(bench, data[:size], name)
    found = read_element(bench.root)  # checks each list
    assert [found[name].content for name in (b"/a", b"/c", b"/d")] == [
        *(data[:1], data[: BLOCK_BYTES + 1], data),
    ]
    lists = lists_on(bench)
    assert len(lists) == 2
    assert {naming.listed_object(key) for key in lists} < set(bench.keys())


async def test_metadata_change_keeps_the_list_and_new_content_has_another(
    bench: Workbench, data: bytes
) -> None:
    node = await store(bench, data)
    before = lists_on(bench)
    bench.rename(b"f", b"g")
    await bench.drain()
    assert lists_on(bench) == before
    assert read_element(bench.root)[b"/g"].posix["blocks"] is not None
    await bench.contents.truncate(node, BLOCK_BYTES + 5, 0)
    await bench.drain()
    after = lists_on(bench)
    assert len(after) == 1
    assert after != before
    await bench.contents.truncate(node, 5, 0)
    await bench.drain()
    assert not lists_on(bench)
    assert read_element(bench.root)[b"/g"].content == data[:5]


async def test_removal_takes_the_list_along(bench: Workbench, data: bytes) -> None:
    await store(bench, data)
    bench.unlink(b"f")
    await bench.drain()
    assert not objects_on(bench)


async def test_rebuilt_index_reads_by_the_lists(bench: Workbench, data: bytes) -> None:
    """SEMANTICS: ELEM-6, DATA-3"""
    await store(bench, data)
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        (bench.base / "state" / name).unlink(missing_ok=True)
    bench.restart()
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    copy = bench.archive.index.copies(node.ino)[0]
    assert copy.blocks == hashlib.sha256(list_path(bench, node).read_bytes()).digest()
    flip(object_path(bench, node), 5)
    assert blocks_that_failed(await read_parts(bench, node), data) == {0}


# --------------------------------------------------------------------------- a crash at each step


@pytest.mark.parametrize("cut", range(12))
async def test_process_that_ends_at_each_call_to_the_element(
    bench: Workbench, data: bytes, cut: int
) -> None:
    """New content over old: at every call the element has the old or the new, each with its list,
    and attr.json never names a list that is not there. SEMANTICS: ELEM-2"""
    node = await store(bench, data[: BLOCK_BYTES + 1])
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, b"NEW")
    bench.contents.release(handle)
    calls: list[str] = []

    class Killed(BaseException):
        pass

    def before(name: str, key: str) -> None:
        calls.append(f"{name} {key.rpartition('.')[2] if name in {'put', 'replace'} else ''}")
        if len(calls) > cut:
            raise Killed

    bench.before = before
    killed = False
    try:
        await bench.drain()
    except Killed:
        killed = True
    bench.before = None
    new = b"NEW" + data[3 : BLOCK_BYTES + 1]
    check_lists(bench.root)
    bench.restart()
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == new
    assert len(lists_on(bench)) == 1
    assert killed == (cut < len(calls))


async def test_list_of_an_abandoned_attempt_is_removed_with_its_object(
    bench: Workbench, data: bytes
) -> None:
    """The object and its list are stored, then the file goes before attr.json is written."""
    await store(bench, b"")
    handle = await bench.open_file(bench.make(b"g"))
    await bench.contents.write(handle, 0, data[:REQUEST])
    await bench.contents.write(handle, BLOCK_BYTES, data[:REQUEST])
    bench.contents.release(handle)
    await bench.send()

    class Killed(BaseException):
        pass

    def before(name: str, key: str) -> None:
        if name == "replace" and key.endswith(".attr.json"):
            raise Killed

    bench.before = before
    with pytest.raises(Killed):
        bench.carry()
    bench.before = None
    assert lists_on(bench)
    bench.restart()
    bench.unlink(b"g")
    await bench.drain()
    assert not objects_on(bench)
