"""The content of open files: where reads come from and writes go to.

An inode that is open has one `OpenFile`, shared by all its descriptors, so that everybody sees the
same bytes. It holds one of these, or nothing yet:

    a descriptor of the spool file   of content written here; also on, once an element has it
    `VerifiedContent`                of content that an element held when it was opened
    both                             of content that waits and has been summed: reads are verified

Writing needs the content OPEN in the spool (`_make_writable`). Content that has been assigned to an
element never changes again, so a writer then gets a copy with the next version; the transfer
process goes on with the old one undisturbed. Only that step suspends, and the reads and writes that
have to wait for a disk; a plain write is one `pwrite`, or none of ours: what begins in the spool is
written by the kernel itself where it can do that (`passthrough.py`).
"""

import logging
import os
import stat
from collections.abc import Callable

import trio

from artstorefs.core.crash_points import crash_point
from artstorefs.core.modes import Operation
from artstorefs.elements.durable import fallocate, written_anew
from artstorefs.filesystem.archive import Archive, now_ns
from artstorefs.filesystem.closing import Closing
from artstorefs.filesystem.errors import (
    ContentDamaged,
    FileTooLarge,
    NodeGone,
    NotAllocatable,
    SpoolFull,
)
from artstorefs.filesystem.handing_over import HandingOver
from artstorefs.filesystem.open_file import (
    ACCESS_MODE,
    ALLOCATE_MODES,
    FALLOC_FL_PUNCH_HOLE,
    FILE_LIMIT_BYTES,
    Handle,
    OpenFile,
    allocated_bytes,
    store,
)
from artstorefs.filesystem.pages import REQUEST_BYTES
from artstorefs.filesystem.passthrough import Kernel, NoPassthrough, Passthrough, is_written
from artstorefs.filesystem.source import ContentSource
from artstorefs.filesystem.spool_budget import SpoolBudget
from artstorefs.filesystem.spool_sums import SpoolSums
from artstorefs.filesystem.syncing import sync_content
from artstorefs.filesystem.xattr import without_privileges
from artstorefs.state.node import ContentState, Node
from artstorefs.state.spool import spool_name
from artstorefs.state.spool_sums import SpoolSum

log = logging.getLogger(__name__)


class Contents:
    """All open files. One trio task at a time changes an `OpenFile` across a suspension, by its
    lock; everything else runs between two suspensions."""

    def __init__(
        self,
        archive: Archive,
        source: ContentSource,
        budget: SpoolBudget,
        attributes_changed: Callable[[int], None],
        kernel: Kernel | None = None,
        closed_one: Callable[[], None] | None = None,
    ) -> None:
        """`attributes_changed` tells the kernel that what it knows of an inode is not so.
        `closed_one` has somebody call `seal_closed` soon; without it close(2) seals by itself."""
        self._archive = archive
        self._attributes_changed = attributes_changed
        self._source = source
        self._budget = budget
        self._files: dict[int, OpenFile] = {}
        self._passthrough = Passthrough(kernel or NoPassthrough(), budget)
        self.sums = SpoolSums(archive, source, self.is_written, self._summed)
        self._closing = Closing(archive, budget, self._files, closed_one, self.sums.sealed)
        now = self._make_writable_now
        self.handing_over = HandingOver(archive.index, self._files, self._passthrough, now)
        self.mapped_one: Callable[[], None] = lambda: None  # has `let_go_of_unmapped` called
        archive.guard.is_written = self.is_written

    def is_held(self, ino: int) -> bool:
        """Whether somebody has it open, or mapped."""
        return (file := self._files.get(ino)) is not None and (file.handles > 0 or file.is_mapped)

    def is_written(self, ino: int) -> bool:
        """Whether somebody writes it, or may."""
        return (file := self._files.get(ino)) is not None and file.is_busy

    def written(self) -> list[Node]:
        """The nodes of all files that somebody writes, or may."""
        return [file.node for file in self._files.values() if file.is_busy]

    def held_node(self, ino: int) -> Node | None:
        """The node of an open file, also when it has no name any more."""
        return file.node if (file := self._files.get(ino)) else None

    # ---------------------------------------------------------------------- open and close

    def created(self, node: Node, flags: int, uid: int) -> Handle:
        """The handle of a file that `Tree.create` has just made with `open_content`."""
        handle = self._handle(node, flags, uid)
        handle.file.version = node.content
        if not handle.needs_us:  # else, or where none is at hand, it is bound as others are
            path = self._archive.spool.path(node.ino, node.content)
            self._passthrough.make_bound(handle.file, path, self._replace_descriptor)
        self._choose_way(handle)
        return handle

    async def open(self, node: Node, flags: int, uid: int, *, may_wait: bool = False) -> Handle:
        """open(2); O_TRUNC empties the file. Suspends only for O_TRUNC. `may_wait`: for reading of
        what has to be recalled first."""
        changes = flags & ACCESS_MODE != os.O_RDONLY or flags & os.O_TRUNC
        if not may_wait:
            self._archive.require(Operation.CHANGE_CONTENT if changes else Operation.READ, node)
        if node.content_state == ContentState.EMPTY and node.size:
            raise ContentDamaged(node.ino)  # a bit of its row in the index is another one
        handle = self._handle(node, flags, uid)
        try:
            if flags & os.O_TRUNC:
                await self._truncate(handle.file, 0)
                self._drop_privileges(handle)  # the kernel leaves that of O_TRUNC to us
            self._choose_way(handle)
        except BaseException:
            self.release(handle)
            raise
        return handle

    def _choose_way(self, handle: Handle) -> None:
        """Decide which way the reads and writes of a new descriptor take: from the page cache to
        the spool file without us, from the page cache to us, or straight to us. The kernel mixes
        the first with the second for no file."""
        file = handle.file
        if not file.backing and not file.cached_handles:
            begins = file.handles == 1 and handle.may_write and not handle.needs_us
            if begins or file.is_mapped:
                self._bind(handle)
        if file.backing:
            file.may_be_mapped |= handle.may_map_writable
        elif not handle.passes_cache_by:
            handle.is_cached = True
            file.cached_handles += 1
        if handle.may_write and not file.is_watched:
            self._passthrough.watch(file)

    def _bind(self, handle: Handle) -> None:
        """Content that is OPEN, as that of an empty file opened to be written anew becomes."""
        state = handle.file.node.content_state
        begins_anew = state == ContentState.EMPTY and handle.flags & os.O_TRUNC
        if state != ContentState.OPEN and not begins_anew:
            return
        try:
            if self._make_writable_now(handle.file, truncate=False):
                self._passthrough.bind(handle.file)
        except OSError as exc:  # a full disk, which the first write will speak of
            told = self._archive.about(handle.file.node, exc)
            log.info("inode %d is not bound: %s", handle.file.node.ino, exc, extra=told)

    def _handle(self, node: Node, flags: int, uid: int) -> Handle:
        """NodeGone for a file that nobody had open as its last name went: its content went too.
        Whoever has looked its path up before that has it looked up again by the kernel."""
        if node.nlink == 0 and not self.is_held(node.ino):
            raise NodeGone(node.ino)
        file = self._files.get(node.ino)
        if file is None:
            file = self._files[node.ino] = OpenFile(node)
        handle = Handle(file, flags, uid)
        file.handles += 1
        if handle.may_write:
            file.writers += 1
        return handle

    def release(self, handle: Handle) -> None:
        """close(2) of the last descriptor of a description. The last writer seals the content,
        or, if the kernel writes it, the last of all; who also lets a file without names go."""
        file = handle.file
        file.handles -= 1
        file.cached_handles -= handle.is_cached
        if handle.may_write:
            file.writers -= 1
        if file.handles == 0 and file.backing:
            self._passthrough.unbind(file)
            if file.may_be_mapped and file.node.nlink > 0:
                self._attributes_changed(file.node.ino)  # a mapping's times are news to the kernel
                file.is_mapped = self._is_mapped(file)
                if file.is_mapped:
                    self.mapped_one()
        self._let_go(file, handle.uid)

    def _let_go(self, file: OpenFile, uid: int) -> None:
        """Seal and forget what nobody writes or has open any more."""
        if file.is_watched and file.writers == 0 and file.backing == 0:
            self._passthrough.unwatch(file)
        if file.is_busy:
            return
        if file.writable:
            self._settle_charge(file)
        self._closing.close(file, uid)

    def seal_closed(self) -> None:
        """Seal what was closed lately, see `closing.py`."""
        self._closing.seal_closed()

    def _is_mapped(self, file: OpenFile) -> bool:
        """Whether somebody but us has, or may have, the spool file open for writing."""
        try:
            reading = self._archive.spool.open(file.node.ino, file.node.content, write=False)
            try:
                file.drop_descriptor()
                return is_written(reading)
            finally:
                os.close(reading)
                self._make_writable_now(file, truncate=False)
        except OSError as exc:
            told = self._archive.about(file.node, exc)
            log.warning("inode %d is sealed later: %s", file.node.ino, exc, extra=told)
            return True

    def let_go_of_unmapped(self) -> bool:
        """Seal what was mapped, or written by a program that outlived a daemon, and is no more;
        whether there is anything left that is."""
        for file in [file for file in self._files.values() if file.is_mapped]:
            if file.handles == 0:
                file.is_mapped = self._is_mapped(file)
                self._passthrough.refresh(file)
                self._let_go(file, file.node.uid)
        return any(file.is_mapped for file in self._files.values())

    def refresh(self, node: Node) -> None:
        """Bring size and times of an OPEN node up to date with what the kernel has written."""
        file = self._files.get(node.ino)
        if file is not None and (file.backing or file.is_mapped):
            self._passthrough.refresh(file)

    async def admit(self, ino: int) -> bool:
        """Whether a file that has used up its allowance of the spool may be written further."""
        file = self._files.get(ino)
        return file is None or not file.backing or await self._passthrough.admit(file)

    def capability_changed(self, node: Node) -> None:
        """`security.capability` was set or removed."""
        file = self._files.get(node.ino)
        if file is not None and file.is_watched:
            self._passthrough.watch(file)

    def record_closed(self) -> None:
        """Try again what could not be recorded, see `closing.py`."""
        self._closing.record()

    def _settle_charge(self, file: OpenFile) -> None:
        """From now on the spool file counts with the blocks that it has."""
        allocated = allocated_bytes(file.descriptor)
        self._budget.close(file.node.ino, file.version, file.charged_bytes, allocated)
        file.charged_bytes = 0

    # -------------------------------------------------------------------------------- read

    async def read(self, handle: Handle, offset: int, size: int) -> bytes | memoryview:
        """Up to `size` bytes at `offset`; fewer only at the end of the file."""
        file, node = handle.file, handle.file.node
        self.refresh(node)
        is_open = file.descriptor >= 0 or file.archived is not None
        if not is_open or (file.version != node.content and not file.writable):
            async with file.lock:
                await self._make_readable(file)
        length = min(size, node.size - offset, REQUEST_BYTES)
        if length > 0 and file.archived is not None:
            return await file.archived.read(offset, length)
        if file.descriptor < 0 or length <= 0:
            return b""
        return await self._source.read_at(file.descriptor, offset, length)

    async def _make_readable(self, file: OpenFile) -> None:
        node = file.node
        is_open = file.descriptor >= 0 or file.archived is not None
        if (is_open and file.version == node.content) or node.content_state == ContentState.EMPTY:
            return
        file.drop_descriptor()
        if node.content_state in (ContentState.OPEN, ContentState.SEALED):
            file.descriptor, file.archived = self._source.open_spooled(node)
        else:
            file.archived = await self._source.open(node)
        file.version = node.content

    def _summed(self, node: Node, known: SpoolSum) -> None:
        """Who has content open that has just been summed reads verified blocks from now on."""
        file = self._files.get(node.ino)
        if file is not None and file.descriptor >= 0 and file.version == node.content:
            file.version = -1
            file.archived = self._source.open_sealed(node, known, file.descriptor)
            file.version = node.content

    # ------------------------------------------------------------------------------- write

    async def write(self, handle: Handle, offset: int, data: bytes) -> int:
        """All of `data` at `offset`, or as much as there was room for, which is not nothing."""
        file, node = handle.file, handle.file.node
        if not file.writable:
            await self._make_writable(file, truncate=False)
        self.refresh(node)
        if node.xattrs is not None or node.mode & (stat.S_ISUID | stat.S_ISGID):
            self._drop_privileges(handle)
        end = offset + len(data)
        if end > FILE_LIMIT_BYTES:
            raise FileTooLarge(node.ino)
        growth = min(end - node.size, len(data))
        if growth > 0:
            if not self._budget.take(growth):
                await self._budget.wait(growth, node.ino)
            file.charged_bytes += growth
        try:
            written = await self._store(file, data, offset)
        except BaseException:
            if growth > 0:
                file.charged_bytes -= growth
                self._budget.release(growth)
            raise
        crash_point("write.spooled")
        node.mtime_ns = node.ctime_ns = now_ns()
        node.size = max(node.size, offset + written)
        return written

    async def _store(self, file: OpenFile, data: bytes, offset: int) -> int:
        """A full disk is waited for like the spool's own limit."""
        deadline_s = self._budget.deadline_s()
        while (written := await store(file.descriptor, data, offset)) is None:
            await self._budget.wait_for_disk(deadline_s, file.node.ino)
            if not file.writable:  # others have closed or cut it off meanwhile
                await self._make_writable(file, truncate=False)
        return written

    def _drop_privileges(self, handle: Handle) -> None:
        """For what goes through the page cache the kernel has done so before."""
        node = handle.file.node
        mode, xattrs = without_privileges(node, handle.uid)
        if (mode, xattrs) == (node.mode, node.xattrs):
            return
        with self._archive.changes.attributes(node, now_ns(), handle.uid):
            node.mode = mode
            node.xattrs = xattrs
        self._attributes_changed(node.ino)

    async def truncate(self, node: Node, size: int, uid: int) -> None:
        """Cut off, or grow by a hole; the caller has asked whether that is allowed."""
        handle = self._handle(node, os.O_WRONLY, uid)
        try:
            await self._truncate(handle.file, size)
        finally:
            self.release(handle)

    async def _truncate(self, file: OpenFile, size: int) -> None:
        node = file.node
        if size > FILE_LIMIT_BYTES:
            raise FileTooLarge(node.ino)
        if node.content_state == ContentState.EMPTY and size == 0:
            with self._archive.changes.attributes(node, now_ns(), node.uid):
                node.mtime_ns = now_ns()
            return
        if not file.writable or size == 0:
            await self._make_writable(file, truncate=size == 0)
        os.ftruncate(file.descriptor, size)
        if size == 0:
            written_anew(file.descriptor)
        node.mtime_ns = node.ctime_ns = now_ns()
        node.size = size

    def allocate(self, handle: Handle, mode: int, offset: int, length: int) -> None:
        """fallocate(2): room ahead, holes, zeroes. What an element holds would have to be copied
        first, which cannot be waited for here: NotAllocatable, and programs write instead."""
        file, node = handle.file, handle.file.node
        if mode not in ALLOCATE_MODES or file.is_locked:
            raise NotAllocatable(node.ino)
        if offset + length > FILE_LIMIT_BYTES:
            raise FileTooLarge(node.ino)
        if not self._make_writable_now(file, truncate=False):
            raise NotAllocatable(node.ino)
        before = allocated_bytes(file.descriptor)
        if not mode & FALLOC_FL_PUNCH_HOLE and not self._budget.has_room(length):
            raise SpoolFull(node.ino)
        fallocate(file.descriptor, mode, offset, length)
        growth = allocated_bytes(file.descriptor) - before
        self._budget.charge(growth)
        file.charged_bytes += growth
        node.mtime_ns = node.ctime_ns = now_ns()
        node.size = os.fstat(file.descriptor).st_size
        self._passthrough.remember_times(file)

    def set_times(self, node: Node) -> None:
        """Let the OPEN spool file carry the time just set, where a crash would look for it."""
        file = self._files.get(node.ino)
        if node.content_state == ContentState.OPEN and file is not None and file.writable:
            os.utime(file.descriptor, ns=(node.atime_ns, node.mtime_ns))
            self._passthrough.remember_times(file)

    async def _make_writable(self, file: OpenFile, *, truncate: bool) -> None:
        """Content OPEN, descriptor on its spool file. Suspends only for content to be copied."""
        if not file.is_locked and self._make_writable_now(file, truncate):
            return
        async with file.lock:
            known = self._archive.index.spool_sum(file.node)
            if self._make_writable_now(file, truncate):
                return
            if known is not None:
                await self.sums.forget(file.node, known)
            if not self._make_writable_now(file, truncate):
                await self._copy_for_writing(file, known)

    async def _copy_for_writing(self, file: OpenFile, known: SpoolSum | None) -> None:
        """A copy of content that must not change, as the next version; it needs room as well."""
        node = file.node
        size, version = node.size, node.content + 1
        if not self._budget.take(size):
            await self._budget.wait(size, node.ino)
        try:
            descriptor = await self._source.copy_to_spool(node, version, known)
            self._reopen(file, descriptor, version, size)
        except BaseException:
            self._archive.spool.remove(spool_name(node.ino, version))
            self._budget.release(size)
            raise
        file.charged_bytes += size

    def _make_writable_now(self, file: OpenFile, truncate: bool) -> bool:
        """The same where nothing has to be copied; whether that is so."""
        node = file.node
        state = node.content_state
        spool = self._archive.spool
        if file.writable:
            return True
        if state == ContentState.OPEN:
            descriptor = spool.open_or_create(node.ino, node.content)
            file.unsynced_name = True
            self._replace_descriptor(file, descriptor)
        elif state == ContentState.SEALED and self.sums.may_change(node):
            descriptor = spool.open(node.ino, node.content, write=True)
            self._reopen(file, descriptor, node.content, node.size)
        elif state == ContentState.EMPTY or truncate:
            version = node.content + 1
            self._reopen(file, spool.create(node.ino, version), version, 0)
            file.unsynced_name = True
        else:
            return False
        return True

    def _reopen(self, file: OpenFile, descriptor: int, version: int, size: int) -> None:
        node = file.node
        try:
            # Of OPEN content a start takes the times of the spool file; nothing is written yet.
            os.utime(descriptor, ns=(node.atime_ns, node.mtime_ns))
            self._archive.changes.content_opened(node, version, size)
        except BaseException:
            os.close(descriptor)
            raise
        self.sums.content_opened(file.node.ino)
        self._replace_descriptor(file, descriptor)

    def _replace_descriptor(self, file: OpenFile, descriptor: int) -> None:
        file.drop_descriptor()
        file.descriptor = descriptor
        file.version = file.node.content
        file.writable = True
        file.charged_bytes += self._budget.reopen(file.node.ino, file.version)

    # -------------------------------------------------------------------------------- sync

    async def fsync(self, handle: Handle) -> None:
        """fsync(2): content, size, times, names and attributes survive a power cut."""
        file = handle.file
        if file.node.content_state in (ContentState.OPEN, ContentState.SEALED):
            if file.descriptor < 0 or file.version != file.node.content:
                async with file.lock:
                    await self._make_readable(file)  # others may have written and closed it
            if file.descriptor >= 0:
                await sync_content(self._archive, file)
        await self.sync_tree()

    async def sync_tree(self) -> None:
        """fsync(2) of a directory: every change of the tree so far survives a power cut."""
        await trio.to_thread.run_sync(self._archive.database.sync_log)

    def seal_written(self, handle: Handle) -> bool:
        """For `durability = "element"`: seal what has been written although writers go on.
        Whether the file waits for an element."""
        file = handle.file
        if file.writable:
            self._settle_charge(file)
        self._closing.seal([(file, handle.uid)])
        return file.node.nlink > 0 and self._archive.log.is_waiting(file.node.ino)
