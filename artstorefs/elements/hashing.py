"""SHA-256 of an open file, of all of it and of each block, in one pass over its bytes.

Two hashes of each byte on one core would take twice the time of one. hashlib lets go of the GIL,
so a second thread hashes the blocks while this one hashes the whole.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from artstorefs.core.block_list import BLOCK_BYTES, DIGEST_BYTES, BlockList, has_block_list

_CHUNK_BYTES = 1 << 20


def hash_blocks(descriptor: int) -> tuple[bytes, BlockList]:
    """SHA-256 of a whole file, which must not change meanwhile, and its block list. Blocks.

    The size is that of the list: the bytes that were read, whatever the file's is by then.
    """
    if not has_block_list(os.fstat(descriptor).st_size):
        sha256, size = _hash_whole(descriptor)
        if not has_block_list(size):
            return sha256, BlockList.whole(size, sha256)
    whole = hashlib.sha256()
    digests = bytearray()
    buffer = bytearray(BLOCK_BYTES)
    size = 0
    with ThreadPoolExecutor(1, "blocks") as second:
        while length := _read_block(descriptor, buffer, size):
            block = memoryview(buffer)[:length]
            digest = second.submit(_sha256, block)
            whole.update(block)
            digests += digest.result()
            size += length
    return whole.digest(), BlockList(size, BLOCK_BYTES, bytes(digests))


class BlockHasher:
    """The same for whoever reads the file in pieces, to do something else between two of them."""

    def __init__(self, expected_bytes: int) -> None:
        """`expected_bytes`: size of the file; of one block it is hashed once, and not twice."""
        self.size_bytes = 0
        self._has_list = has_block_list(expected_bytes)
        self._whole = hashlib.sha256()
        self._digests = bytearray()

    def add(self, descriptor: int, buffer: bytearray) -> int:
        """Read and hash the next block. `buffer` has BLOCK_BYTES, or all that is expected. Bytes
        read; 0 at the end of the file. Blocks."""
        length = _read_block(descriptor, buffer, self.size_bytes)
        with memoryview(buffer)[:length] as block:
            self._whole.update(block)
            if self._has_list and length:
                self._digests += _sha256(block)
        self.size_bytes += length
        return length

    def result(self) -> tuple[bytes, BlockList]:
        """SHA-256 of all that was added, which is as much as was expected, and its block list."""
        sha256 = self._whole.digest()
        if not self._has_list:
            return sha256, BlockList.whole(self.size_bytes, sha256)
        return sha256, BlockList(self.size_bytes, BLOCK_BYTES, bytes(self._digests))


def hash_file(path: str) -> tuple[str, BlockList]:
    """SHA-256 of a file, as hexadecimal digits, and its block list, which knows the size. Blocks;
    OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sha256, blocks = hash_blocks(descriptor)
    finally:
        os.close(descriptor)
    return sha256.hex(), blocks


def _hash_whole(descriptor: int) -> tuple[bytes, int]:
    whole = hashlib.sha256()
    size = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, size):
        whole.update(chunk)
        size += len(chunk)
    return whole.digest(), size


def _read_block(descriptor: int, buffer: bytearray, offset: int) -> int:
    """Fill the buffer from `offset`; bytes read, fewer only at the end of the file."""
    length = 0
    with memoryview(buffer) as view:
        while length < len(buffer):
            count = os.preadv(descriptor, [view[length:]], offset + length)
            if count == 0:
                break
            length += count
    return length


def _sha256(data: memoryview) -> bytes:
    digest = hashlib.sha256(data).digest()
    assert len(digest) == DIGEST_BYTES
    return digest
