"""Files of several blocks: stored, damaged on the element, read as a program reads them."""

import errno
import hashlib
import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

from artstorefs.core import naming
from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ArtStoreFSError, errno_of
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .workbench import FILE, ME, Workbench

SIZE = 2 * BLOCK_BYTES + 1_000_003
BLOCKS = 3
REQUEST = 1 << 20


DATA = random.Random(5).randbytes(SIZE)


async def store(bench: Workbench, data: bytes, name: bytes = b"f") -> Node:
    """A file that the element has, written in requests as the kernel sends them."""
    node = await write_waiting(bench, data, name)
    await bench.drain()
    return node


async def write_waiting(bench: Workbench, data: bytes, name: bytes = b"f") -> Node:
    """The same, in the spool only."""
    handle = bench.contents.created(
        bench.tree.create(ROOT_INO, name, FILE, ME, open_content=True), os.O_WRONLY, 0
    )
    for start in range(0, len(data), REQUEST):
        await bench.contents.write(handle, start, data[start : start + REQUEST])
    bench.contents.release(handle)
    return handle.file.node


def object_path(bench: Workbench, node: Node) -> Path:
    return bench.root / bench.archive.index.copies(node.ino)[0].key


def list_path(bench: Workbench, node: Node) -> Path:
    return bench.root / naming.blocks_key(bench.archive.index.copies(node.ino)[0].key)


def lists_on(bench: Workbench) -> list[str]:
    return list(filter(naming.is_blocks, bench.keys()))


def objects_on(bench: Workbench) -> list[str]:
    """With their sidecars and block lists."""
    return list(itertools.filterfalse(naming.is_record, bench.keys()))


def check_lists(root: Path) -> None:
    """Every attr.json names the block list that is there."""
    for sidecar in root.rglob("*.attr.json"):
        text = Path(str(sidecar).removesuffix(".attr.json") + ".blocks").read_bytes()
        document = json.loads(sidecar.read_bytes())
        assert hashlib.sha256(text).hexdigest() == document["posix"]["blocks"]


def overwrite(path: Path, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(data)


def flip(path: Path, position: int) -> None:
    """One bit; the file stays the same inode, as a failing disk has it."""
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


def requests(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, REQUEST):
        yield start, min(REQUEST, size - start)


async def read_parts(bench: Workbench, node: Node) -> dict[int, bytes | int]:
    """Each request of a sequential reader: what it got, or the errno."""
    handle = await bench.open_file(node, os.O_RDONLY)
    parts: dict[int, bytes | int] = {}
    for start, length in requests(node.size):
        try:
            parts[start] = bytes(await bench.contents.read(handle, start, length))
        except (ArtStoreFSError, OSError) as exc:
            parts[start] = errno_of(exc)
    bench.contents.release(handle)
    return parts


def blocks_that_failed(parts: dict[int, bytes | int], data: bytes) -> set[int]:
    """Checks every byte that was served; the blocks that were refused, all of each."""
    failed, served = set(), set()
    for start, part in parts.items():
        if isinstance(part, int):
            assert part == errno.EIO
            failed.add(start // BLOCK_BYTES)
        else:
            assert part == data[start : start + REQUEST], f"wrong bytes at {start}"
            served.add(start // BLOCK_BYTES)
    assert not failed & served
    return failed


def error_of(bench: Workbench, node: Node) -> str:
    return bench.xattrs.get(node, b"user.artstore.error").decode()
