"""The format of block lists, and the hashing that makes them."""

import hashlib
import os
from pathlib import Path

import pytest

from artstorefs.core.block_list import (
    BLOCK_BYTES,
    BLOCK_BYTES_LIMIT,
    BlockList,
    block_list_hash,
    has_block_list,
    list_size,
    parse_block_list,
    render_block_list,
)
from artstorefs.core.errors import DocumentInvalid
from artstorefs.elements.hashing import hash_blocks

HEX = "ab" * 32
VALID = (
    f"artstorefs-blocks/1\nobject_bytes 4194305\nblock_bytes 4194304\nsha256\n{HEX}\n{HEX}\n"
).encode()


def made_of(object_bytes: int, block_bytes: int = BLOCK_BYTES) -> BlockList:
    count = -(-object_bytes // block_bytes)
    return BlockList(object_bytes, block_bytes, os.urandom(32 * count))


@pytest.mark.parametrize(
    ("object_bytes", "block_bytes"),
    [
        (BLOCK_BYTES + 1, BLOCK_BYTES),
        (2 * BLOCK_BYTES, BLOCK_BYTES),
        (100 * BLOCK_BYTES - 1, BLOCK_BYTES),
        (40_000 * BLOCK_BYTES + 17, BLOCK_BYTES),  # more lines than are parsed at once
        (5 * BLOCK_BYTES_LIMIT, BLOCK_BYTES_LIMIT),
        (3 * BLOCK_BYTES, BLOCK_BYTES + 12345),
    ],
)
def test_what_is_rendered_is_parsed(object_bytes: int, block_bytes: int) -> None:
    blocks = made_of(object_bytes, block_bytes)
    text = render_block_list(blocks)
    assert parse_block_list(text, "x") == blocks
    assert len(text) <= list_size(object_bytes)
    assert block_list_hash(text) == hashlib.sha256(text).digest()
    end = 0
    for index in range(len(blocks)):
        offset, length = blocks.span(index)
        assert (offset, 0 < length <= block_bytes) == (end, True)
        end += length
    assert end == object_bytes


def test_size_of_the_list_of_the_largest_file() -> None:
    """SEMANTICS: DATA-2"""
    assert list_size(1 << 44) < 300 << 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"blocks/1", b"blocks/2"),
        (b"artstorefs", b"Artstorefs"),
        (b"4194305", b"04194305"),
        (b"4194305", b"0"),
        (b"4194305", b"-4194305"),
        (b"4194305", b"4194304"),  # one block, two lines
        (b"4194305", b"9999999999999999999"),
        (b"object_bytes 4194305", b"object_bytes  4194305"),
        (b"block_bytes 4194304", b"block_bytes 4194303"),
        (b"block_bytes 4194304", b"block_bytes 1"),
        (b"block_bytes 4194304", b"block_bytes 67108865"),
        (b"\n", b"\r\n"),
        (b"ab", b"AB"),
        (b"ab", b"zz"),
        (b"abab", b"ab\nb"),
        (b"abab", b" bab"),
        (b"abab", b"ab\xff\xff"),
        (VALID[-66:], VALID[-65:]),
        (VALID[-1:], b""),
        (VALID, b""),
        (VALID, VALID + b"\n"),
        (VALID, VALID + VALID[-65:]),
        (VALID, VALID[:-1]),
        (VALID, VALID[:-65]),
        (VALID, VALID[:40]),
    ],
)
def test_what_is_not_a_block_list_is_refused(old: bytes, new: bytes) -> None:
    assert len(parse_block_list(VALID, "x")) == 2
    with pytest.raises(DocumentInvalid, match="here"):
        parse_block_list(VALID.replace(old, new), "here")


def test_every_flipped_bit_is_refused_or_is_another_list() -> None:
    good = parse_block_list(VALID, "x")
    for position in range(len(VALID)):
        for bit in range(8):
            flipped = bytearray(VALID)
            flipped[position] ^= 1 << bit
            try:
                assert parse_block_list(bytes(flipped), "x") != good
            except DocumentInvalid:
                continue


@pytest.mark.parametrize(
    "size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 13_000_001]
)
def test_hashes_of_a_file(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.write(data)
    with open(path, "rb") as file:
        sha256, blocks = hash_blocks(file.fileno())
    assert sha256 == hashlib.sha256(data).digest()
    assert blocks.object_bytes == size
    assert len(blocks) == max(1, -(-size // BLOCK_BYTES))
    if has_block_list(size):
        for index in range(len(blocks)):
            offset, length = blocks.span(index)
            part = data[offset : offset + length]
            assert blocks.digest(index) == hashlib.sha256(part).digest()
        assert parse_block_list(render_block_list(blocks), "x") == blocks
    else:
        assert blocks.digests == sha256
