"""Where the content of an archived file comes from: the elements that hold a copy.

Every copy is tried before a read fails; size and, up to `VERIFIED_BYTES`, SHA-256 are checked
before a byte is served. A copy that is not what attr.json says is never served.
"""

import errno
import hashlib
import logging
import os

import trio

from artstorefs.core.errors import ElementError
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.errors import ContentDamaged, ContentUnreachable
from artstorefs.state.index import Copy
from artstorefs.state.node import ContentState, Node

log = logging.getLogger(__name__)

VERIFIED_BYTES = 4 << 20
"""Objects up to one block are hashed whole when they are opened: 3 ms at most."""

QUICK_BYTES = 128 << 10
"""Hashing up to this size takes 0.1 ms, less than changing threads twice is worth."""

COPY_BYTES = 8 << 20

REQUEST_BYTES = 1 << 20
"""The largest READ request (FUSE_MAX_MAX_PAGES of libfuse 3)."""

SHARED_BYTES = 64 << 10
"""From this size on a fresh buffer for each read, filled with zeros first, would cost a third of
the time of reading."""


class ContentSource:
    """Opens archived content. Suspends where a disk or a large hash may take its time."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._buffer = bytearray(REQUEST_BYTES)

    async def open(self, node: Node) -> int:
        """A descriptor for reading the current content of an ARCHIVED node.

        Raises ContentDamaged when copies were read and none was right, ContentUnreachable when
        none could be read at all; both are EIO to the program that reads.
        """
        damaged = False
        for copy in self._archive.index.copies(node.ino):
            if copy.content != node.content or copy.is_record:
                continue
            if copy.element not in self._archive.elements:
                log.warning("%s: element %s is not in the configuration", copy.key, copy.element)
                continue
            try:
                return await self._open_copy(copy)
            except ContentDamaged:
                damaged = True
                log.error("%s on element %s is damaged", copy.key, copy.element)
            except ElementError as exc:
                log.warning("%s", exc)
        raise ContentDamaged(node.ino) if damaged else ContentUnreachable(node.ino)

    async def _open_copy(self, copy: Copy) -> int:
        element = self._archive.elements[copy.element]
        with element.open_read(copy.key) as stream:
            descriptor = os.dup(stream.fileno())
        try:
            if os.fstat(descriptor).st_size != copy.size:
                raise ContentDamaged(copy.key)
            if copy.size <= QUICK_BYTES:
                _verify(descriptor, copy)
            elif copy.size <= VERIFIED_BYTES:
                await trio.to_thread.run_sync(_verify, descriptor, copy)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    async def read_at(self, descriptor: int, offset: int, length: int) -> bytes | memoryview:
        """`length` bytes, which the file has; suspends only if the disk has to be asked.

        A memoryview is of the one buffer that all reads share: it is good until the next
        suspension of the caller, which is long enough to reply.
        """
        view = memoryview(self._buffer)[:length]
        try:
            if os.preadv(descriptor, [view], offset, os.RWF_NOWAIT) == length:
                return view if length >= SHARED_BYTES else bytes(view)
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
        return await trio.to_thread.run_sync(os.pread, descriptor, length, offset)

    async def copy_to_spool(self, node: Node, version: int) -> int:
        """Bring content that must not change any more into a new spool file, durably.

        Returns its descriptor, for reading and writing. The copy is synced before the caller
        records that it is the content, so that a power cut cannot leave the record without it.
        """
        if node.content_state == ContentState.SEALED:
            source = self._archive.spool.open(node.ino, node.content, write=False)
        else:
            source = await self.open(node)
        try:
            target = self._archive.spool.create(node.ino, version)
            try:
                await trio.to_thread.run_sync(_copy_all, source, target, node.size)
                await trio.to_thread.run_sync(self._archive.spool.sync_directory)
            except BaseException:
                os.close(target)
                raise
        finally:
            os.close(source)
        return target


def _verify(descriptor: int, copy: Copy) -> None:
    if copy.sha256 is None:
        return
    data = os.pread(descriptor, copy.size + 1, 0)
    if len(data) != copy.size or hashlib.sha256(data).digest() != copy.sha256:
        raise ContentDamaged(copy.key)


def _copy_all(source: int, target: int, size: int) -> None:
    copied = 0
    while copied < size:
        count = min(COPY_BYTES, size - copied)
        try:
            moved = os.copy_file_range(source, target, count, copied, copied)
        except OSError:  # across filesystems that the kernel does not copy between
            moved = os.pwrite(target, os.pread(source, count, copied), copied)
        if moved == 0:
            raise OSError(errno.EIO, "source is shorter than it should be")
        copied += moved
    os.fsync(target)
