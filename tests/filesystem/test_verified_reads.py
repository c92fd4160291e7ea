"""Wrong bytes are never served as right ones: damage of every kind, in every place, in every copy.

A damaged file gives the right bytes or EIO. Each case is read by a reader of its own after a new
opening, because what has been verified since the opening is not asked of the disk again.
"""

import errno
import json
import os
import random
from pathlib import Path

import pytest
import trio

from artstorefs.core import naming
from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ArtStoreFSError, errno_of
from artstorefs.elements.local import LocalElement
from artstorefs.filesystem import source, verified
from artstorefs.filesystem.source import ContentSource
from artstorefs.filesystem.verified import BlockCache
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .element_tree import read_element
from .large_files import (
    BLOCKS,
    DATA,
    REQUEST,
    SIZE,
    blocks_that_failed,
    error_of,
    flip,
    list_path,
    object_path,
    overwrite,
    read_parts,
    requests,
    store,
)
from .workbench import Workbench


@pytest.fixture
async def bench(bench: Workbench) -> Workbench:
    """These tests do damage, and leave it."""
    bench.is_sound = False
    return bench


@pytest.fixture
def data() -> bytes:
    return DATA


# --------------------------------------------------------------------------------- damaged blocks


@pytest.mark.parametrize(
    ("position", "block"),
    [(0, 0), (BLOCK_BYTES - 1, 0), (BLOCK_BYTES + 77, 1), (SIZE - 1, BLOCKS - 1)],
)
async def test_flip_in_a_block(
    bench: Workbench, data: bytes, position: int, block: int, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: DATA-3, XATTR-3"""
    node = await store(bench, data)
    path = object_path(bench, node)
    flip(path, position)
    assert blocks_that_failed(await read_parts(bench, node), data) == {block}
    key = bench.archive.index.copies(node.ino)[0].key
    expected = f"element main: {key}: block {block + 1} of {BLOCKS}: does not have its SHA-256"
    assert error_of(bench, node) == expected
    assert sum(expected in record.getMessage() for record in caplog.records) == 1
    flip(path, position)
    assert blocks_that_failed(await read_parts(bench, node), data) == set()


async def test_lesson_05_right_size_wrong_bytes(bench: Workbench, data: bytes) -> None:
    """Zeros, or the text of an error, in a file of the right size. SEMANTICS: DATA-3"""
    for number, wrong in enumerate((bytes(SIZE), b"<Error/>".ljust(SIZE), data[1:] + b"x")):
        node = await store(bench, data, b"f%d" % number)
        path = object_path(bench, node)
        overwrite(path, wrong)
        assert path.stat().st_size == SIZE
        assert blocks_that_failed(await read_parts(bench, node), data) == set(range(BLOCKS))


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, SIZE - 1, SIZE + 1])
async def test_object_of_another_size(bench: Workbench, data: bytes, size: int) -> None:
    """SEMANTICS: DATA-3"""
    node = await store(bench, data)
    os.truncate(object_path(bench, node), size)
    assert blocks_that_failed(await read_parts(bench, node), data) == set(range(BLOCKS))
    assert f"has {size} bytes, {SIZE} are right" in error_of(bench, node)


async def test_object_that_is_cut_off_while_it_is_read(bench: Workbench, data: bytes) -> None:
    """SEMANTICS: DATA-3"""
    node = await store(bench, data)
    handle = await bench.open_file(node, os.O_RDONLY)
    assert await bench.contents.read(handle, 0, REQUEST) == data[:REQUEST]
    os.truncate(object_path(bench, node), BLOCK_BYTES + 5)
    start = 2 * REQUEST
    assert await bench.contents.read(handle, start, REQUEST) == data[start : start + REQUEST]
    for start in (BLOCK_BYTES, 2 * BLOCK_BYTES):
        with pytest.raises(ArtStoreFSError) as refused:
            await bench.contents.read(handle, start, 4096)
        assert errno_of(refused.value) == errno.EIO
    bench.contents.release(handle)


async def test_small_objects(bench: Workbench, data: bytes) -> None:
    """SEMANTICS: DATA-3"""
    for size in (1, 4096, 128 << 10, (128 << 10) + 1, BLOCK_BYTES):
        node = await store(bench, data[:size], b"f%d" % size)
        assert blocks_that_failed(await read_parts(bench, node), data[:size]) == set()
        flip(object_path(bench, node), size // 2)
        assert blocks_that_failed(await read_parts(bench, node), data[:size]) == {0}
        assert "block 1 of 1" in error_of(bench, node)


# -------------------------------------------------------------------- lists that cannot be trusted


def damage_list(path: Path, kind: str) -> None:
    text = path.read_bytes()
    if kind == "flipped":
        flip(path, len(text) // 2)
    elif kind == "short":
        os.truncate(path, len(text) - 65)
    elif kind == "long":
        with open(path, "ab") as file:
            file.write(text[-65:])
    elif kind == "empty":
        os.truncate(path, 0)
    else:
        path.unlink()


@pytest.mark.parametrize("kind", ["flipped", "short", "long", "empty", "missing"])
async def test_damaged_list_of_a_good_object(bench: Workbench, data: bytes, kind: str) -> None:
    """The object is verified whole, and is right; the file is marked. SEMANTICS: DATA-3"""
    node = await store(bench, data)
    damage_list(list_path(bench, node), kind)
    assert blocks_that_failed(await read_parts(bench, node), data) == set()
    assert ": block list: " in error_of(bench, node)
    flip(object_path(bench, node), 2 * BLOCK_BYTES)  # its blocks are known by now
    assert blocks_that_failed(await read_parts(bench, node), data) == {2}


async def test_damaged_list_of_a_damaged_object(bench: Workbench, data: bytes) -> None:
    """SEMANTICS: DATA-3"""
    node = await store(bench, data)
    damage_list(list_path(bench, node), "flipped")
    flip(object_path(bench, node), 2 * BLOCK_BYTES)
    assert blocks_that_failed(await read_parts(bench, node), data) == set(range(BLOCKS))


async def test_valid_list_of_a_lie(bench: Workbench, data: bytes) -> None:
    """Object and list are exchanged for others that fit each other: attr.json knows better."""
    node = await store(bench, data)
    other = await store(bench, bytes(SIZE), b"other")
    for path_of in (object_path, list_path):
        target = path_of(bench, node)
        target.unlink()
        os.link(path_of(bench, other), target)
    assert blocks_that_failed(await read_parts(bench, node), data) == set(range(BLOCKS))


@pytest.mark.parametrize("damaged", [False, True])
async def test_object_without_a_list(bench: Workbench, data: bytes, damaged: bool) -> None:
    """ArtStore's own: verified whole before its first byte is served. SEMANTICS: DATA-3"""
    node = await store(bench, data)
    bench.archive.database.execute("UPDATE copies SET blocks = NULL WHERE ino = ?", (node.ino,))
    list_path(bench, node).unlink()
    if damaged:
        flip(object_path(bench, node), SIZE - 1)
        assert blocks_that_failed(await read_parts(bench, node), data) == set(range(BLOCKS))
        assert error_of(bench, node).endswith("does not have its SHA-256")
    else:
        assert blocks_that_failed(await read_parts(bench, node), data) == set()
        flip(object_path(bench, node), SIZE - 1)
        assert blocks_that_failed(await read_parts(bench, node), data) == {BLOCKS - 1}


async def test_whole_object_is_hashed_once_for_all_readers(
    bench: Workbench, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await store(bench, data)
    bench.archive.database.execute("UPDATE copies SET blocks = NULL WHERE ino = ?", (node.ino,))
    hashed = []
    real = source.hash_blocks
    monkeypatch.setattr(source, "hash_blocks", lambda fd: hashed.append(fd) or real(fd))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(_read_alone, bench, node, data)
    assert await read_parts(bench, node)
    assert len(hashed) == 1


async def _read_alone(bench: Workbench, node: Node, data: bytes) -> None:
    content = await bench.contents._source.open(node)
    assert await content.read(5, 10) == data[5:15]
    content.close()


@pytest.mark.parametrize("size", [1000, SIZE])
async def test_wrong_hash_in_attr_json(bench: Workbench, data: bytes, size: int) -> None:
    """Found at a rebuild. With a list that is right in it, attr.json contradicts itself, and the
    list decides; without, nothing is served. SEMANTICS: DATA-3"""
    node = await store(bench, data[:size])
    sidecar = bench.root / naming.sidecar_key(bench.archive.index.copies(node.ino)[0].key)
    document = json.loads(sidecar.read_bytes())
    document["checksum"] = "0" * 64
    if size == SIZE:
        del document["posix"]["blocks"]
    sidecar.unlink()
    sidecar.write_text(json.dumps(document))
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        (bench.base / "state" / name).unlink(missing_ok=True)
    bench.restart()
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    parts = await read_parts(bench, found)
    assert blocks_that_failed(parts, data) == set(range(-(-size // BLOCK_BYTES)))


# ------------------------------------------------------------------------------------ other copies


def add_second_copy(bench: Workbench, node: Node) -> Path:
    """The same object and list on another element, as a copies policy would make them."""
    root = bench.base / "second"
    LocalElement.initialize(str(root))
    first = bench.archive.index.copies(node.ino)[0]
    for key in (first.key, naming.blocks_key(first.key)):
        if (bench.root / key).exists():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes((bench.root / key).read_bytes())
    bench.archive.elements = {
        **bench.archive.elements,
        "second": LocalElement("second", str(root)),
    }
    bench.archive.database.execute(
        "INSERT INTO copies SELECT ino, 'second', key, is_record, revision, content, size, sha256,"
        " blocks, seen_size, seen_modified_ns, NULL, NULL, NULL FROM copies WHERE ino = ?",
        (node.ino,),
    )
    return root / first.key


async def test_damaged_block_comes_from_another_copy(bench: Workbench, data: bytes) -> None:
    """SEMANTICS: DATA-3"""
    node = await store(bench, data)
    second = add_second_copy(bench, node)
    flip(object_path(bench, node), BLOCK_BYTES)
    flip(second, 2 * BLOCK_BYTES)
    assert blocks_that_failed(await read_parts(bench, node), data) == set()
    assert "element main" in error_of(bench, node)
    flip(second, BLOCK_BYTES + 100)
    assert blocks_that_failed(await read_parts(bench, node), data) == {1}


@pytest.mark.parametrize("trouble", ["missing", "short", "both lists", "unreachable"])
async def test_copy_that_cannot_be_used_is_left_for_another(
    bench: Workbench, data: bytes, trouble: str
) -> None:
    """SEMANTICS: DATA-3"""
    node = await store(bench, data)
    second = add_second_copy(bench, node)
    path = object_path(bench, node)
    if trouble == "missing":
        path.unlink()
    elif trouble == "short":
        os.truncate(path, 100)
    elif trouble == "both lists":
        damage_list(list_path(bench, node), "missing")
        damage_list(Path(naming.blocks_key(str(second))), "flipped")
        flip(path, 0)
    else:
        del bench.archive.elements["main"]  # type: ignore[attr-defined]
    assert blocks_that_failed(await read_parts(bench, node), data) == set()


async def test_copy_of_an_older_content_is_not_served(bench: Workbench) -> None:
    """Of an element that was away while the file was written anew, and is the first by name.
    SEMANTICS: DATA-3"""
    node = await store(bench, b"before")
    add_second_copy(bench, node)
    await bench.write(b"f", b"behind")
    await bench.drain()
    second = bench.archive.elements["second"]
    bench.archive.elements = {**bench.archive.elements, "away": second}
    bench.archive.database.execute("UPDATE copies SET element = 'away' WHERE element = 'second'")
    assert [copy.element for copy in bench.archive.index.copies(node.ino)] == ["away", "main"]
    assert await bench.content(node) == b"behind"


# ---------------------------------------------------------------------------------- how it is read


async def test_random_requests(bench: Workbench, data: bytes) -> None:
    """Any offset and length, over the borders of blocks, with a cache that is too small for two."""
    node = await store(bench, data)
    bench.contents._source._cache = BlockCache(BLOCK_BYTES)
    handle = await bench.open_file(node, os.O_RDONLY)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    for _ in range(300):
        length = chosen.choice((1, 4096, 5000, 70_000, REQUEST))
        offset = chosen.choice((chosen.randrange(SIZE), chosen.randrange(1, BLOCKS) * BLOCK_BYTES))
        offset = max(0, offset - chosen.randrange(length))
        assert await bench.contents.read(handle, offset, length) == data[offset : offset + length]
    bench.contents.release(handle)


async def test_readers_of_one_block_share_its_verification(
    bench: Workbench, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await store(bench, data)
    handle = await bench.open_file(node, os.O_RDONLY)
    offsets = []
    real = verified.read_verified

    def counted(descriptor: int, offset: int, length: int, digest: bytes) -> bytes:
        offsets.append(offset)
        return real(descriptor, offset, length, digest)

    monkeypatch.setattr(verified, "read_verified", counted)

    async def read(start: int) -> None:
        part = bytes(await bench.contents.read(handle, start, 100_000))
        assert part == data[start : start + 100_000]

    async with trio.open_nursery() as nursery:
        for start in (0, 5, 1_000_000, 2 * BLOCK_BYTES - 100_000) * 3:
            nursery.start_soon(read, start)
    assert sorted(set(offsets)) == sorted(offsets)
    bench.contents.release(handle)


async def test_close_while_others_are_verified(bench: Workbench, data: bytes) -> None:
    """Descriptors outlive the reads that use them, and do not outlive them for long."""
    node = await store(bench, data)

    def open_objects() -> int:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        path = str(object_path(bench, node))
        return sum(os.path.lexists(link) and os.readlink(link) == path for link in links)

    before = open_objects()
    content = await bench.contents._source.open(node)
    async with trio.open_nursery() as nursery:
        for start, length in requests(SIZE):
            nursery.start_soon(content.read, start, length)
        await trio.lowlevel.checkpoint()
        content.close()
    for running in list(content._running.values()):
        await running.done.wait()
    assert open_objects() == before
    assert bench.contents._source._cache._used_bytes == 0


async def test_blocks_are_forgotten_when_their_file_is_closed(bench: Workbench) -> None:
    """They are found by the place of the open file in memory, which the next one may have."""
    node = await store(bench, b"content")
    content = await bench.contents._source.open(node)
    assert await content.read(0, 7) == b"content"
    assert bench.contents._source._cache._used_bytes == 7
    content.close()
    assert bench.contents._source._cache._used_bytes == 0


async def test_block_that_leaves_memory_is_verified_again(
    bench: Workbench, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the kernel then has the wrong bytes in its pages. SEMANTICS: DATA-3"""
    node = await store(bench, data)
    contents = ContentSource(bench.archive)
    contents._cache = BlockCache(0)  # only the block that was read last stays
    content = await contents.open(node)
    assert await content.read(0, 10) == data[:10]
    assert await content.read(BLOCK_BYTES, 10) == data[BLOCK_BYTES : BLOCK_BYTES + 10]
    flip(object_path(bench, node), 3)
    monkeypatch.setattr(contents._pages, "read", lambda *_: None)  # the disk has to be asked
    for _ in range(2):
        with pytest.raises(ArtStoreFSError):
            await content.read(0, 10)
        monkeypatch.undo()
    content.close()


# ------------------------------------------------------------------------- content that is changed


@pytest.mark.parametrize("size", [5000, SIZE])
async def test_damaged_content_is_not_brought_back_to_be_changed(
    bench: Workbench, data: bytes, size: int
) -> None:
    """SEMANTICS: DATA-7"""
    node = await store(bench, data[:size])
    path = object_path(bench, node)
    flip(path, size - 1)
    handle = await bench.open_file(node)
    with pytest.raises(ArtStoreFSError) as refused:
        await bench.contents.write(handle, 0, b"NEW")
    assert errno_of(refused.value) == errno.EIO
    assert bench.spool_files() == {}
    assert bench.budget.used_bytes == 0
    flip(path, size - 1)
    await bench.contents.write(handle, 0, b"NEW")
    bench.contents.release(handle)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == b"NEW" + data[3:size]
    with pytest.raises(ArtStoreFSError):
        error_of(bench, node)  # the mark was of the content before


async def test_content_is_brought_back_from_the_copies_that_are_right(
    bench: Workbench, data: bytes
) -> None:
    """SEMANTICS: DATA-7"""
    node = await store(bench, data)
    flip(add_second_copy(bench, node), 0)
    flip(object_path(bench, node), SIZE - 1)
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, b"NEW")
    assert list(bench.spool_files().values()) == [b"NEW" + data[3:]]
    bench.contents.release(handle)
