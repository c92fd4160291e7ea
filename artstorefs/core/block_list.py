"""The block list of an object, `NAME.blocks`: a SHA-256 of each of its blocks, so that a part of a
large object can be verified without reading all of it.

Plain text of lines of the same length behind four that say what it is, for somebody with `dd` and
`sha256sum` and nothing else:

    artstorefs-blocks/1
    object_bytes 9000000
    block_bytes 4194304
    sha256
    <64 hexadecimal digits of the block at 0>
    <64 hexadecimal digits of the block at 4194304>
    <64 hexadecimal digits of the rest, from 8388608 on>

Valid: ASCII, every line ended by a line feed, numbers without leading zeros, small letters, exactly
as many lines as the object has blocks. So a list has one form, and its own SHA-256, which stands in
`posix.blocks` of the attr.json, can be told from the object alone. Text takes twice the room of
bytes, which is 65 bytes for 4 MiB: a hundredth of a thousandth.

An object of one block or less has no list: its `checksum` is that of its block (`whole`).
"""

import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from artstorefs.core.errors import DocumentInvalid

BLOCK_BYTES: Final = 4 << 20
"""Of the lists that we write: 2 ms of hashing, so a read that needs one byte waits for no more."""

BLOCK_BYTES_LIMIT: Final = 64 << 20
"""Of lists that we read: a block is held in memory while it is verified."""

DIGEST_BYTES: Final = 32

_LINE_BYTES: Final = 2 * DIGEST_BYTES + 1
_LINES_AT_ONCE: Final = 1 << 14
_HEADER_LIMIT_BYTES: Final = 128
_HEADER = re.compile(
    rb"artstorefs-blocks/1\nobject_bytes ([1-9][0-9]{0,18})\nblock_bytes ([1-9][0-9]{0,18})\n"
    rb"sha256\n"
)


@dataclass(frozen=True, slots=True)
class BlockList:
    """What each block of an object must be. `digests`: 32 bytes a block, one after the other."""

    object_bytes: int
    block_bytes: int
    digests: bytes

    @classmethod
    def whole(cls, object_bytes: int, sha256: bytes) -> Self:
        """The list of an object of one block: its own SHA-256."""
        assert object_bytes <= BLOCK_BYTES
        return cls(object_bytes, BLOCK_BYTES, sha256)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.digests) // DIGEST_BYTES

    def digest(self, index: int) -> bytes:
        """The SHA-256 of block `index`."""
        return self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    def span(self, index: int) -> tuple[int, int]:
        """Offset and length of block `index`; the last one may be shorter than the others."""
        offset = index * self.block_bytes
        return offset, min(self.block_bytes, self.object_bytes - offset)


def has_block_list(object_bytes: int) -> bool:
    """Whether we give an object of this size a block list."""
    return object_bytes > BLOCK_BYTES


def count_blocks(object_bytes: int, block_bytes: int) -> int:
    """Number of blocks; the last one may be short."""
    return -(-object_bytes // block_bytes)


def list_size(object_bytes: int) -> int:
    """Bytes of the longest valid list of an object: that of the smallest blocks that we read."""
    return _HEADER_LIMIT_BYTES + _LINE_BYTES * count_blocks(object_bytes, BLOCK_BYTES)


def render_block_list(blocks: BlockList) -> bytes:
    """The content of `NAME.blocks`."""
    header = (
        f"artstorefs-blocks/1\nobject_bytes {blocks.object_bytes}\n"
        f"block_bytes {blocks.block_bytes}\nsha256\n"
    )
    parts = [header.encode()]
    step = _LINES_AT_ONCE * DIGEST_BYTES
    for start in range(0, len(blocks.digests), step):
        part = blocks.digests[start : start + step]
        parts.append(binascii.hexlify(part, "\n", DIGEST_BYTES) + b"\n")
    return b"".join(parts)


def block_list_hash(rendered: bytes) -> bytes:
    """What `posix.blocks` says of a list, as bytes."""
    return hashlib.sha256(rendered).digest()


def parse_block_list(data: bytes, where: str) -> BlockList:
    """The list in a `NAME.blocks`. Raises DocumentInvalid, with `where`, unless it is valid."""
    header = _HEADER.match(data[:_HEADER_LIMIT_BYTES])
    if header is None:
        raise DocumentInvalid(where, "does not begin as a block list does")
    object_bytes, block_bytes = int(header[1]), int(header[2])
    if not BLOCK_BYTES <= block_bytes <= BLOCK_BYTES_LIMIT:
        reason = f"has blocks of {block_bytes} bytes, not {BLOCK_BYTES} to {BLOCK_BYTES_LIMIT}"
        raise DocumentInvalid(where, reason)
    count = count_blocks(object_bytes, block_bytes)
    if len(data) != header.end() + count * _LINE_BYTES:
        reason = f"has {len(data)} bytes, {count} blocks take {header.end() + count * _LINE_BYTES}"
        raise DocumentInvalid(where, reason)
    digests = bytearray()
    step = _LINES_AT_ONCE * _LINE_BYTES
    for start in range(header.end(), len(data), step):
        digests += _digests_of(data[start : start + step], where)
    return BlockList(object_bytes, block_bytes, bytes(digests))


def _digests_of(lines: bytes, where: str) -> bytes:
    """The digests of some whole lines, if they are what we would have written."""
    try:
        digests = binascii.unhexlify(lines.replace(b"\n", b""))
    except binascii.Error:
        digests = b""
    # hexlify counts its groups from the end, which is the same here: all of them are whole
    if binascii.hexlify(digests, "\n", DIGEST_BYTES) + b"\n" != lines:
        raise DocumentInvalid(where, "has a line that is not a SHA-256 in 64 digits")
    return digests
