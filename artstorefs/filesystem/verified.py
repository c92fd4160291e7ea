"""Reading archived content so that no byte is served before its block has been verified.

What counts as right is one `BlockList` of the content, itself verified, for all its copies. A block
is read and hashed in a thread, and **served out of the buffer that was hashed**: what the disk or
another program does to the object meanwhile cannot come between. The buffers of all files together
are few (`BlockCache`), and whoever reads the same block shares one verification.

A block that has been verified since the file was opened, and whose buffer is gone, is served from
the kernel's cache of the object's pages, which is where its bytes were hashed. Once the disk would
have to be asked again, the block is verified again: bytes from a disk are never served unhashed.

A block that is wrong in one copy is taken from the next; the blocks around it are not concerned.

A copy is *near*, and has a descriptor of the whole content, or it is *far*, on an element over a
network: its blocks come one by one, and verified, by way of the read cache (`read_cache.py`).
"""

import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import trio

from artstorefs.core.block_list import BlockList
from artstorefs.core.errors import ElementError
from artstorefs.core.log_fields import about
from artstorefs.filesystem.errors import ContentDamaged, ContentUnreachable, CopyDamaged
from artstorefs.filesystem.pages import PageReader
from artstorefs.filesystem.read_ahead import ReadAhead
from artstorefs.state.index import Copy

log = logging.getLogger(__name__)

QUICK_BYTES = 128 << 10
"""Hashing up to this size takes 0.1 ms, less than changing threads twice is worth."""

CACHE_BYTES = 32 << 20
"""Verified blocks that are kept for the requests that follow: a program reads a block of 4 MiB in
requests of 1 MiB at most, and the next block is verified meanwhile."""

SEQUENTIAL_GAP_BYTES = 2 << 20
"""The kernel sends the requests of one sequential reader several at a time, in any order."""

OpenCopy = Callable[[Copy], Awaitable[int]]
"""A descriptor of a copy of the right size. Raises CopyDamaged, ElementError."""

Report = Callable[[Copy, str], None]
"""Told what is wrong with a copy."""

Further = Callable[[list[Copy]], list[Copy]]
"""Copies of the same content that are not among these."""


class FarBlocks(Protocol):
    """Blocks of copies on elements over a network; the read cache."""

    def is_far(self, copy: Copy) -> bool:
        """Whether the element of a copy is one over a network."""

    def has(self, copy: Copy, blocks: BlockList, index: int) -> bool:
        """Whether a block is on this machine, right or wrong."""

    async def block(self, copy: Copy, blocks: BlockList, index: int) -> bytes:
        """A verified block. Raises CopyDamaged, ElementError."""

    def from_pages(
        self, copy: Copy, blocks: BlockList, index: int, start: int, length: int
    ) -> bytes | memoryview | None:
        """A part of a verified block, as `PageReader.read` has it."""

    def fetch_ahead(self, copy: Copy, blocks: BlockList, indexes: Iterable[int]) -> None:
        """Have blocks brought to this machine."""

    def ahead_bytes(self) -> int:
        """How far ahead of a reader at most."""


class BlockCache:
    """The verified blocks of all open files, the least recently used one dropped first.

    `hashers` bounds what is being verified, and held in memory for it, at a time.
    """

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self.hashers = trio.CapacityLimiter(2)
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._blocks: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def get(self, owner: int, index: int) -> bytes | None:
        block = self._blocks.get((owner, index))
        if block is not None:
            self._blocks.move_to_end((owner, index))
        return block

    def put(self, owner: int, index: int, block: bytes) -> None:
        self.drop(owner, index)
        self._blocks[owner, index] = block
        self._used_bytes += len(block)
        while self._used_bytes > self._limit_bytes and len(self._blocks) > 1:
            _, old = self._blocks.popitem(last=False)
            self._used_bytes -= len(old)

    def drop(self, owner: int, index: int) -> None:
        block = self._blocks.pop((owner, index), None)
        if block is not None:
            self._used_bytes -= len(block)

    def drop_all(self, owner: int) -> None:
        """Drop what an open file has here; a handful of entries are looked at."""
        for key in [key for key in self._blocks if key[0] == owner]:
            self.drop(*key)


@dataclass(slots=True)
class _Verification:
    """A block of one copy that is being read and hashed, and who waits for it."""

    done: trio.Event = field(default_factory=trio.Event)
    block: bytes | None = None
    error: Exception | None = None


class VerifiedContent:
    """The content of one open file. Made by `ContentSource`; closed once, by who opened it."""

    def __init__(
        self,
        ino: int,
        blocks: BlockList,
        copies: list[Copy],
        descriptor: int | None,
        cache: BlockCache,
        pages: PageReader,
        open_copy: OpenCopy,
        report: Report,
        far: FarBlocks | None = None,
        further: Further = lambda known: [],
    ) -> None:
        """`descriptor` is that of the first copy, None if it is far; it is closed with this. The
        others are opened when they are needed. `far`: where there may be far copies. `further` is
        asked when all copies have failed: the file may have been moved since it was opened."""
        self._ino = ino
        self._blocks = blocks
        self._copies = copies
        self._cache = cache
        self._pages = pages
        self._open_copy = open_copy
        self._report = report
        self._descriptors = {} if descriptor is None else {0: descriptor}
        self._far = far
        self._further = further
        self._read_ahead: ReadAhead | None = None
        if far is not None and far.is_far(copies[0]):
            self._read_ahead = ReadAhead(blocks.block_bytes, len(blocks), far.ahead_bytes())
        self._verified = bytearray(-(-len(blocks) // 8))  # a bit for each block of the first copy
        self._running: dict[tuple[int, int], _Verification] = {}
        self._reported: set[tuple[int, int]] = set()
        self._next_offset = -(1 << 62)  # the first request alone is no sequence
        self._users = 0
        self._closed = False

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    def close(self) -> None:
        """Let the descriptors go, when the reads that are under way have ended."""
        self._closed = True
        self._cache.drop_all(id(self))
        self._close_if_unused()

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """`length` bytes, which the content has. Suspends unless the memory has them.

        Raises ContentDamaged when copies were read and none was right, ContentUnreachable when
        none could be read at all; both are EIO to the program that reads.
        """
        if offset + length > self._blocks.object_bytes:
            raise ContentDamaged(self._ino)  # the index knows of more than the object has
        self._users += 1
        try:
            parts: list[bytes | memoryview] = []
            end = offset + length
            is_sequential = abs(offset - self._next_offset) <= SEQUENTIAL_GAP_BYTES
            self._next_offset = end
            while offset < end:
                index, start = divmod(offset, self._blocks.block_bytes)
                count = min(end - offset, self._blocks.block_bytes - start)
                part = await self._part(index, start, count, is_sequential)
                if count == length:
                    return part
                parts.append(bytes(part))  # the view may be of a buffer that the next part uses
                offset += count
            return b"".join(parts)
        finally:
            self._users -= 1
            self._close_if_unused()

    async def block(self, index: int, *, ahead: bool = False) -> bytes:
        """A whole verified block; `ahead`: the next one will be wanted too."""
        block = self._cache.get(id(self), index)
        if ahead:
            self._fetch_ahead(index, self._blocks.block_bytes, is_sequential=True)
            self._verify_ahead(index + 1)
        if block is not None:
            return block
        damaged = False
        position = 0
        while position < len(self._copies):
            try:
                return await self._from_copy(position, index)
            except CopyDamaged as exc:
                damaged = True
                self._report_once(position, index, str(exc.subject))
            except OSError as exc:
                damaged = True
                self._report_once(position, index, exc.strerror or str(exc))
            except ElementError as exc:
                if not self._is_far(position):  # else the cache has told
                    log.warning("%s", exc, extra=about(exc))
            position += 1
            if position == len(self._copies):
                self._copies += self._further(self._copies)
        raise ContentDamaged(self._ino) if damaged else ContentUnreachable(self._ino)

    # ------------------------------------------------------------------------------- parts

    async def _part(
        self, index: int, start: int, length: int, is_sequential: bool
    ) -> bytes | memoryview:
        if self._cache.get(id(self), index) is None and self._is_verified(index):
            view = self._from_pages(index, start, length)
            if view is not None:
                return view
        self._fetch_ahead(index, length, is_sequential=is_sequential)
        if is_sequential:
            self._verify_ahead(index + 1)
        block = await self.block(index)
        return memoryview(block)[start : start + length]

    def _from_pages(self, index: int, start: int, length: int) -> bytes | memoryview | None:
        """Of a block that has been verified; None if the disk would have to be asked."""
        if self._far is not None and self._is_far(0):
            return self._far.from_pages(self._copies[0], self._blocks, index, start, length)
        offset = self._blocks.span(index)[0] + start
        with suppress(OSError):  # the verification meets it again, and has other copies
            return self._pages.read(self._descriptors[0], offset, length)
        return None

    def _is_verified(self, index: int) -> bool:
        return bool(self._verified[index >> 3] & 1 << (index & 7))

    # ------------------------------------------------------------------------ verification

    def _verify_ahead(self, index: int) -> None:
        """Begin with a block that will be wanted, as far as it can be done at once."""
        if index >= len(self._blocks) or self._is_verified(index):
            return
        if self._far is not None and self._is_far(0):
            if not self._far.has(self._copies[0], self._blocks, index):
                return
        elif 0 not in self._descriptors:
            return
        if self._cache.get(id(self), index) is None:
            self._verification(0, index)

    def _fetch_ahead(self, index: int, length: int, *, is_sequential: bool) -> None:
        """Have the blocks of a far copy fetched that will be wanted."""
        if self._far is not None and self._read_ahead is not None:
            wanted = self._read_ahead.wanted(index, length, is_sequential=is_sequential)
            self._far.fetch_ahead(self._copies[0], self._blocks, wanted)

    def _is_far(self, position: int) -> bool:
        return self._far is not None and self._far.is_far(self._copies[position])

    async def _from_copy(self, position: int, index: int) -> bytes:
        """The block out of one copy, verified; shared with whoever wants the same now."""
        if not self._is_far(position):
            await self._see_to_open(position)
        if position == 0:  # what is read now is in the kernel's pages, also if it proves wrong
            self._verified[index >> 3] &= ~(1 << (index & 7))
        offset, length = self._blocks.span(index)
        if length <= QUICK_BYTES and position in self._descriptors:
            descriptor = self._descriptors[position]
            block = read_verified(descriptor, offset, length, self._blocks.digest(index))
            self._keep(position, index, block)
            return block
        running = self._verification(position, index)
        await running.done.wait()
        if running.error is not None:
            raise running.error
        if running.block is None:
            raise ContentUnreachable(self._ino)  # the mount is ending
        return running.block

    def _verification(self, position: int, index: int) -> _Verification:
        running = self._running.get((position, index))
        if running is None:
            descriptor = None
            if not self._is_far(position):
                descriptor = os.dup(self._descriptors[position])  # it may outlive this object
            running = self._running[position, index] = _Verification()
            trio.lowlevel.spawn_system_task(self._verify, position, index, descriptor, running)
        return running

    async def _verify(
        self, position: int, index: int, descriptor: int | None, running: _Verification
    ) -> None:
        """In a task of its own, so that it goes on for the others when one of its waiters is
        interrupted. Ends by itself: it reads one block."""
        offset, length = self._blocks.span(index)
        digest = self._blocks.digest(index)
        try:
            if descriptor is None:
                assert self._far is not None
                block = await self._far.block(self._copies[position], self._blocks, index)
            else:
                block = await trio.to_thread.run_sync(
                    partial(read_verified, descriptor, offset, length, digest),
                    limiter=self._cache.hashers,
                )
            self._keep(position, index, block)
            running.block = block
        except Exception as exc:
            running.error = exc
        finally:
            if descriptor is not None:
                os.close(descriptor)
            del self._running[position, index]
            running.done.set()

    def _keep(self, position: int, index: int, block: bytes) -> None:
        if self._closed:
            return
        if position == 0:
            self._verified[index >> 3] |= 1 << (index & 7)
        self._cache.put(id(self), index, block)

    # ----------------------------------------------------------------------------- copies

    async def _see_to_open(self, position: int) -> None:
        """Open a copy that is not open yet; the first one always is."""
        if position not in self._descriptors:
            descriptor = await self._open_copy(self._copies[position])
            if position in self._descriptors:  # another reader was faster
                os.close(descriptor)
            else:
                self._descriptors[position] = descriptor

    def _report_once(self, position: int, index: int, reason: str) -> None:
        if (position, index) not in self._reported:
            self._reported.add((position, index))
            count = len(self._blocks)
            self._report(self._copies[position], f"block {index + 1} of {count}: {reason}")

    def _close_if_unused(self) -> None:
        if self._closed and not self._users:
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()


def read_verified(descriptor: int, offset: int, length: int, digest: bytes) -> bytes:
    """`length` bytes whose SHA-256 is `digest`, else CopyDamaged. Blocks."""
    data = os.pread(descriptor, length, offset)
    while len(data) < length and (
        more := os.pread(descriptor, length - len(data), offset + len(data))
    ):
        data += more
    if len(data) != length:
        raise CopyDamaged("is shorter than it must be")
    if hashlib.sha256(data).digest() != digest:
        raise CopyDamaged("does not have its SHA-256")
    return data
