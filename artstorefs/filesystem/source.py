"""Where the content of a file comes from: the elements that hold a copy, or the spool.

Every copy is tried before a read fails. What the blocks of the content must be is learned from the
first of these that is right:

    `checksum`             of an object of one block or less
    the block list         beside a copy, whose SHA-256 is `posix.blocks`
    the object, hashed     whole, in a thread: of objects without a list, and where it is damaged

What lies on an element over a network comes by way of the read cache (`read_cache.py`), lists too;
nothing here talks to such an element.

From then on `VerifiedContent` reads block by block. A list that took reading a whole object is kept
in memory for the next opening of the same content, whichever element it then comes from.

Content that waits in the spool is read in the same way once it has been summed (`spool_sums.py`):
the row of the index has what its blocks must be.
"""

import errno
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable

import trio

from artstorefs.core import naming
from artstorefs.core.block_list import (
    BlockList,
    block_list_hash,
    has_block_list,
    list_size,
    parse_block_list,
)
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import DocumentInvalid, ElementError, ObjectAbsent, StateError
from artstorefs.core.log_fields import about
from artstorefs.elements.hashing import hash_blocks
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.errors import ContentDamaged, ContentUnreachable, CopyDamaged
from artstorefs.filesystem.neighbours import Neighbours
from artstorefs.filesystem.pages import PageReader
from artstorefs.filesystem.read_cache import ReadCache, Send
from artstorefs.filesystem.verified import BlockCache, VerifiedContent
from artstorefs.state.cache import CacheFiles
from artstorefs.state.fetch import FetchJob, Urgency
from artstorefs.state.index import Copy
from artstorefs.state.node import ContentState, Node
from artstorefs.state.spool_sums import SpoolSum

log = logging.getLogger(__name__)

COPY_BYTES = 8 << 20

QUICK_LIST_BYTES = 128 << 10
"""Block lists up to this size, of objects up to 8 GiB, are checked at once; longer ones, which are
to be hashed and parsed and may come from the disk, in a thread."""

KNOWN_LISTS_BYTES = 16 << 20
"""Room for the block lists of objects that have none of their own: 2 TiB of objects."""


class ContentSource:
    """Opens archived content. Suspends where a disk or a large hash may take its time."""

    def __init__(self, archive: Archive, send: Send | None = None) -> None:
        """`send` tells the transfer process what to fetch; of no use where all elements are local
        directories."""
        self._archive = archive
        configuration = archive.configuration
        self.read_cache = ReadCache(
            CacheFiles(str(configuration.cache_dir)),
            configuration.cache_max,
            self._is_far,
            send or _send_nowhere,
            self._report_copy,
        )
        self._neighbours = Neighbours(
            archive.index, self._fetch_ahead, self.read_cache.ahead_bytes()
        )
        self._pages = PageReader()
        self._cache = BlockCache()
        self._known_lists: OrderedDict[bytes, BlockList] = OrderedDict()
        self._hashing: dict[bytes, trio.Lock] = {}
        self._hashers = trio.CapacityLimiter(2)  # not those of blocks, for which programs wait less

    async def open(self, node: Node) -> VerifiedContent:
        """The current content of an ARCHIVED node, to be closed by the caller.

        Raises ContentDamaged when copies were read and none was right, ContentUnreachable when
        none could be read at all; both are EIO to the program that reads. ContentArchived is
        EREMOTE: it was not recalled, or not in time.
        """
        guard = self._archive.guard
        if guard.is_archived(node) and not guard.is_online(node):
            await guard.bring(node)
        copies = self.current_copies(node)
        damaged = False
        while copies:
            try:
                _check_whose(node, copies[0])
                far = self._is_far(copies[0])
                descriptor = None if far else await self._open_copy(copies[0])
                break
            except CopyDamaged as exc:
                damaged = True
                self._report(node, copies[0], str(exc.subject))
            except ElementError as exc:
                log.warning("%s", exc, extra=self._archive.about(node, exc))
                if isinstance(exc, ObjectAbsent) and self._stays(copies[0]):
                    self._make_again(node, copies[0], "is not there")
            del copies[0]
        else:
            raise ContentDamaged(node.ino) if damaged else ContentUnreachable(node.ino)
        try:
            blocks = await self.block_list(node, copies)
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            raise
        if descriptor is None:
            self._neighbours.opened(node)
        return VerifiedContent(
            *(node.ino, blocks, copies, descriptor, self._cache, self._pages, self._open_copy),
            lambda copy, reason: self._report(node, copy, reason),
            *(self.read_cache, lambda known: self._further_copies(node, known)),
        )

    def _fetch_ahead(self, nodes: Iterable[Node]) -> None:
        """Small files that will be wanted soon, as far as they are on elements over a network."""
        for node in nodes:
            copies = self.current_copies(node)
            if copies and copies[0].sha256 is not None and self._is_far(copies[0]):
                blocks = BlockList.whole(copies[0].size, copies[0].sha256)
                self.read_cache.fetch_ahead(copies[0], blocks, [0])

    def current_copies(self, node: Node) -> list[Copy]:
        """What holds the content of `node`, by the index: same version, same size and SHA-256; what
        is best to be read first."""
        copies: list[Copy] = []
        for copy in self._archive.index.copies(node.ino):
            if copy.content != node.content or copy.is_record or copy.sha256 is None:
                continue
            if copy.element not in self._archive.elements:
                log.warning(
                    *("%s: element %s is not in the configuration", copy.key, copy.element),
                    extra=self._archive.about(node, element=copy.element, key=copy.key),
                )
            elif not copies or (copy.size, copy.sha256) == (copies[0].size, copies[0].sha256):
                copies.append(copy)
        # those that stay before those that are to be removed, then near ones before far ones
        return sorted(copies, key=lambda copy: (copy.leaves_ns is not None, self._is_far(copy)))

    def _further_copies(self, node: Node, known: list[Copy]) -> list[Copy]:
        """Copies of the content that these are of, made since they were looked up."""
        content, places = known[0], {(copy.element, copy.key) for copy in known}
        return [
            copy
            for copy in self.current_copies(node)
            if (copy.element, copy.key) not in places
            and (copy.size, copy.sha256) == (content.size, content.sha256)
        ]

    def _is_far(self, copy: Copy) -> bool:
        """Whether a copy is where only the transfer process goes: on an element over a network, or
        on a medium that need not be there."""
        element = self._archive.elements[copy.element]
        return not element.capabilities.local_path or self._archive.offline.has(copy)

    async def _open_copy(self, copy: Copy) -> int:
        """A descriptor of a near copy of the right size."""
        with self._archive.elements[copy.element].open_read(copy.key) as stream:
            descriptor = os.dup(stream.fileno())
        found = os.fstat(descriptor).st_size
        if found != copy.size:
            os.close(descriptor)
            raise CopyDamaged(f"has {found} bytes, {copy.size} are right")
        return descriptor

    def _report(self, node: Node, copy: Copy, reason: str) -> None:
        if not self._stays(copy):
            return
        archive, place = self._archive, (copy.element, copy.key)
        archive.damage.found(node, f"element {copy.element}: {copy.key}: {reason}", place)
        self._make_again(node, copy, reason)

    def _stays(self, copy: Copy) -> bool:
        """Whether it is still to be there: not of a file that has been moved since."""
        return any(
            (known.element, known.key) == (copy.element, copy.key) and known.leaves_ns is None
            for known in self._archive.index.copies(copy.ino)
        )

    def _make_again(self, node: Node, copy: Copy, reason: str) -> None:
        """Have a bad copy replaced, if another element has the content."""
        archive = self._archive
        if archive.read_only or node.content_state != ContentState.ARCHIVED:
            return
        try:
            if archive.outcomes.copy_lost(node, copy, reason):
                told = archive.about(node, element=copy.element, key=copy.key)
                log.warning("%s: is made again from another element", copy.key, extra=told)
        except StateError as exc:  # the next reader finds it again
            told = archive.about(node, exc, element=copy.element, key=copy.key)
            log.warning("%s: is not made again yet: %s", copy.key, exc, extra=told)

    def _report_copy(self, copy: Copy, reason: str) -> None:
        node = self._archive.index.node(copy.ino)
        if node is not None:
            self._report(node, copy, reason)

    # ---------------------------------------------------------------------------- block lists

    async def block_list(self, node: Node, copies: list[Copy]) -> BlockList:
        """What the blocks of the content must be. ContentDamaged when no copy tells."""
        size, sha256 = copies[0].size, copies[0].sha256
        assert sha256 is not None
        if not has_block_list(size):
            return BlockList.whole(size, sha256)
        known = self._known_list(sha256)
        if known is not None:
            return known
        for copy in copies:
            blocks = await self._stored_list(node, copy)
            if blocks is not None:
                return blocks
        lock = self._hashing.setdefault(sha256, trio.Lock())
        try:
            async with lock:  # readers of one content wait for one hash
                return self._known_list(sha256) or await self._hash_copies(node, copies)
        finally:
            if not lock.statistics().tasks_waiting:
                self._hashing.pop(sha256, None)

    async def _stored_list(self, node: Node, copy: Copy) -> BlockList | None:
        """The list beside a copy, if it has one and it is the one that attr.json means."""
        try:
            if self._is_far(copy):
                return await self.read_cache.block_list(copy)
            if copy.blocks is None:
                return None
            if list_size(copy.size) <= QUICK_LIST_BYTES:
                return self._read_list(copy)
            return await trio.to_thread.run_sync(self._read_list, copy)
        except ObjectAbsent:
            self._report(node, copy, "block list: is not there")
        except (CopyDamaged, DocumentInvalid) as exc:
            reason = exc.reason if isinstance(exc, DocumentInvalid) else str(exc.subject)
            self._report(node, copy, f"block list: {reason}")
        except ElementError as exc:
            if not self._is_far(copy):  # else the cache has told
                log.warning("%s", exc, extra=about(exc))
        return None

    def _read_list(self, copy: Copy) -> BlockList:
        key = naming.blocks_key(copy.key)
        data = self._archive.elements[copy.element].read(key, 0, list_size(copy.size) + 1)
        if block_list_hash(data) != copy.blocks:
            raise CopyDamaged("does not have the SHA-256 that attr.json says")
        blocks = parse_block_list(data, key)
        if blocks.object_bytes != copy.size:
            raise CopyDamaged("is that of an object of another size")
        return blocks

    async def _hash_copies(self, node: Node, copies: list[Copy]) -> BlockList:
        damaged = False
        for copy in copies:
            try:
                sha256, blocks = await self._hash_copy(copy)
            except ElementError as exc:
                if not self._is_far(copy):
                    log.warning("%s", exc, extra=self._archive.about(node, exc))
                continue
            except (CopyDamaged, OSError) as exc:
                damaged = True
                self._report(node, copy, _reason(exc))
                continue
            if sha256 == copy.sha256 and blocks.object_bytes == copy.size:
                self._remember(sha256, blocks)
                return blocks
            damaged = True
            self._report(node, copy, "does not have its SHA-256")
        raise ContentDamaged(node.ino) if damaged else ContentUnreachable(node.ino)

    async def _hash_copy(self, copy: Copy) -> tuple[bytes, BlockList]:
        if self._is_far(copy):
            assert copy.sha256 is not None
            return copy.sha256, await self.read_cache.hashed_list(copy)
        descriptor = await self._open_copy(copy)
        try:
            return await trio.to_thread.run_sync(hash_blocks, descriptor, limiter=self._hashers)
        finally:
            os.close(descriptor)

    def _known_list(self, sha256: bytes) -> BlockList | None:
        if sha256 not in self._known_lists:
            return None
        self._known_lists.move_to_end(sha256)
        return self._known_lists[sha256]

    def _remember(self, sha256: bytes, blocks: BlockList) -> None:
        lists = self._known_lists
        lists[sha256] = blocks
        while sum(len(known.digests) for known in lists.values()) > KNOWN_LISTS_BYTES:
            lists.popitem(last=False)

    # ----------------------------------------------------------------------------- the spool

    async def read_at(self, descriptor: int, offset: int, length: int) -> bytes | memoryview:
        """`length` bytes of a spool file, which it has; suspends only if the disk has to be asked.

        A memoryview is good until the next suspension of the caller (see `PageReader`).
        """
        data = self._pages.read(descriptor, offset, length)
        if data is not None:
            return data
        own = os.dup(descriptor)  # a writer may have the caller's closed before the thread begins
        try:
            return await trio.to_thread.run_sync(os.pread, own, length, offset)
        finally:
            os.close(own)

    def open_spooled(self, node: Node) -> tuple[int, VerifiedContent | None]:
        """A descriptor of content in the spool, -1 if nothing has been written yet, and, if it has
        been summed, what verifies it; both to be closed by the caller. Raises as `open_sealed`."""
        try:
            descriptor = self._archive.spool.open(node.ino, node.content, write=False)
        except FileNotFoundError:
            if node.content_state == ContentState.OPEN and node.size == 0:
                return -1, None
            raise
        known = self._archive.index.spool_sum(node)
        try:
            return descriptor, self.open_sealed(node, known, descriptor) if known else None
        except BaseException:
            os.close(descriptor)
            raise

    def open_sealed(self, node: Node, known: SpoolSum, descriptor: int) -> VerifiedContent:
        """The SEALED content of `node`, which has been summed; `descriptor` of its spool file stays
        the caller's. Raises ContentDamaged where the size alone, or the sum itself, is wrong."""
        path = self._archive.spool.path(node.ino, node.content)

        def report(_: Copy, reason: str) -> None:
            self._archive.damage.found(node, f"spool file {path}: {reason}", ("", path))

        # as if the spool were an element with the only copy
        copy = Copy(
            *(node.ino, "", path, False, node.revision, node.content),
            *(node.size, known.sha256, None, 0, 0),
        )
        blocks = known.block_list()
        found = os.fstat(descriptor).st_size
        if blocks is None or known.size != node.size:
            report(copy, "its sum in the index contradicts itself")
            raise ContentDamaged(node.ino)
        if found != node.size:
            report(copy, f"has {found} bytes, {node.size} were written")
            raise ContentDamaged(node.ino)
        return VerifiedContent(
            *(node.ino, blocks, [copy], os.dup(descriptor), self._cache, self._pages),
            *(self._open_copy, report),
        )

    async def check_sealed(self, node: Node, known: SpoolSum) -> None:
        """Raise ContentDamaged, after marking the file, unless the spool has what was summed."""
        descriptor = self._archive.spool.open(node.ino, node.content, write=False)
        try:
            content = self.open_sealed(node, known, descriptor)
            try:
                for index in range(len(content)):
                    await content.block(index, ahead=True)
            finally:
                content.close()
        finally:
            os.close(descriptor)

    async def copy_to_spool(self, node: Node, version: int, known: SpoolSum | None) -> int:
        """Bring content that must not change any more into a new spool file, durably. `known` says
        what it must be if it waits in the spool and has been summed.

        Returns its descriptor, for reading and writing. The copy is verified, and synced, before
        the caller records that it is the content, so that no damage becomes the truth, and a power
        cut cannot leave the record without it.
        """
        target = self._archive.spool.create(node.ino, version)
        try:
            if node.content_state == ContentState.SEALED:
                await self._copy_sealed(node, target, known)
            else:
                await self._copy_verified(node, await self.open(node), target)
            await trio.to_thread.run_sync(os.fsync, target)
            await trio.to_thread.run_sync(self._archive.spool.sync_directory)
        except BaseException:
            os.close(target)
            raise
        crash_point("copy.spooled")
        return target

    async def _copy_sealed(self, node: Node, target: int, known: SpoolSum | None) -> None:
        source = self._archive.spool.open(node.ino, node.content, write=False)
        try:
            if known is not None:
                await self._copy_verified(node, self.open_sealed(node, known, source), target)
            else:
                await trio.to_thread.run_sync(_copy_all, source, target, node.size)
        finally:
            os.close(source)

    async def _copy_verified(self, node: Node, content: VerifiedContent, target: int) -> None:
        """Block by block out of the buffers that were verified; the next is hashed meanwhile.
        Closes `content`."""
        try:
            offset = 0
            for index in range(len(content)):
                block = await content.block(index, ahead=True)
                await trio.to_thread.run_sync(_write_at, target, block, offset)
                offset += len(block)
        finally:
            content.close()
        if offset != node.size:
            raise ContentDamaged(node.ino)


def _check_whose(node: Node, copy: Copy) -> None:
    """Raise CopyDamaged if the index, damaged itself, has another file's copy for `node`."""
    file_id = naming.object_file_id(copy.key)
    if copy.size != node.size or (file_id is not None and file_id.bytes != node.file_id):
        raise CopyDamaged("is the copy of another file, by the index")


def _send_nowhere(number: int, job: FetchJob | None, urgency: Urgency) -> None:
    raise AssertionError("an element over a network, and no transfer process")


def _reason(exc: CopyDamaged | OSError) -> str:
    return str(exc.subject) if isinstance(exc, CopyDamaged) else exc.strerror or str(exc)


def _write_at(target: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, offset)
        view = view[written:]
        offset += written


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
