"""Who sums content that waits in the spool, so that a bit that flips there is found.

Mostly content is carried before it is worth summing. What has waited for a while, because an
element is away, is synced, hashed and recorded (`artstorefs.state.spool_sums`), each file once:

    1  synced      like fsync(2) does it: or a power cut could leave the row, and not the content
    2  hashed      block by block in a thread, each block after a look whether the file still waits
    3  recorded    in one transaction with others, if it still waits and nobody may be writing it

Nobody is told of these steps, so any of them may be cut off: the next start sums what has no row.
A file that changes its state meanwhile is given up, and comes again with its next seal. One that
cannot be read, or has not its size, is marked as damaged.
"""

import errno
import logging
import os
from collections.abc import Callable

import trio

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ArtStoreFSError
from artstorefs.core.log_fields import about
from artstorefs.elements.hashing import BlockHasher
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.source import ContentSource
from artstorefs.state.copies import has_content
from artstorefs.state.node import ContentState, Node
from artstorefs.state.spool_sums import SpoolSum

log = logging.getLogger(__name__)

SUM_AFTER_S = float(os.environ.get("ARTSTOREFS_SUM_AFTER_S", "10"))
"""How long content rests in the spool before it is summed: carrying takes a second or two. A test
that has no time for that sets another."""

REST_BYTES_PER_S = 100 << 20
"""A large file has to rest a second longer for each of these bytes: it is read whole, and once more
when somebody goes on writing it, so that one which is appended to every minute is not."""

LARGE_BYTES = 64 << 20
"""From this size on a file waits for its turn among few others."""

RECORDED_AT_ONCE = 64
"""Sums in a transaction: it takes half a millisecond."""

LOOKS_AT_ONCE = 1000
"""Files that are looked at in one go, which takes a millisecond if they have all been carried."""

_BUSY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing about a file; it is tried again."""


class SpoolSums:
    """Of the mount process. One task sums; the rest is told here and does not suspend."""

    def __init__(
        self,
        archive: Archive,
        source: ContentSource,
        is_written: Callable[[int], bool],
        summed: Callable[[Node, SpoolSum], None],
    ) -> None:
        """`is_written` says of an inode number whether somebody may be writing its content;
        `summed` is told of what has been recorded."""
        self._archive = archive
        self._source = source
        self._is_written = is_written
        self._summed = summed
        self._due_small: dict[int, float] = {}
        """When each small file that rests is due; the next one is always the first."""
        self._due_large: dict[int, float] = {}
        self._under_way = 0
        """Inode number of what is being hashed; 0 if nothing is, or it has been opened again."""
        self._unrecorded: dict[int, SpoolSum] = {}

    # ------------------------------------------------------------------- what waits, and rests

    def load(self) -> None:
        """At the start: whatever waits begins to rest."""
        for ino, size in self._archive.index.sealed_sizes():
            self._rest(ino, size)

    def sealed(self, node: Node) -> None:
        """The content of `node` waits from now on, unless there is none."""
        if node.content_state == ContentState.SEALED:
            self._rest(node.ino, node.size)

    def _rest(self, ino: int, size: int) -> None:
        self._due_small.pop(ino, None)
        self._due_large.pop(ino, None)
        due_s = trio.current_time() + SUM_AFTER_S
        if size < LARGE_BYTES:
            self._due_small[ino] = due_s
        else:
            self._due_large[ino] = due_s + size / REST_BYTES_PER_S

    def content_opened(self, ino: int) -> None:
        """Its content may change: what is being found out about it is worth nothing."""
        self._unrecorded.pop(ino, None)
        if self._under_way == ino:
            self._under_way = 0

    def may_change(self, node: Node) -> bool:
        """Whether SEALED content may be changed in place: it is on its way to no element, and
        nothing says what it has to be."""
        return not self._is_carried(node) and self._archive.index.spool_sum(node) is None

    def _is_carried(self, node: Node) -> bool:
        """Whether an element has the content, by a link perhaps, or may have it by now."""
        archive = self._archive
        if archive.log.assignment(node.ino) is not None:
            return True
        return any(has_content(copy, node) for copy in archive.index.copies(node.ino))

    async def forget(self, node: Node, known: SpoolSum) -> None:
        """Verify content that has been summed, and let it be changed in place; not if it is on its
        way to an element: it is copied then, which verifies it too. Raises ContentDamaged, so that
        no damage becomes the truth.

        In place, because a copy takes room, of which a spool that waits for long has little, and
        more time. The row is durably gone before anything is written: a power cut that took the
        record of the change, and not the change, would have good content taken for damaged.
        """
        if self._is_carried(node):
            return
        await self._source.check_sealed(node, known)
        is_content = self._archive.index.spool_sum(node) == known
        if not is_content or self._is_carried(node):
            return
        self._archive.changes.sum_dropped(node)
        self.sealed(node)  # for the case that the change does not come after all
        try:
            await trio.to_thread.run_sync(self._archive.database.sync_log)
        except OSError:
            self._archive.changes.contents_summed([known])
            raise

    def _take_due(self, now_s: float) -> int:
        """An inode number that is due, 0 if none is."""
        for ino, due_s in self._due_small.items():
            if due_s > now_s:
                break
            del self._due_small[ino]
            return ino
        for ino, due_s in self._due_large.items():
            if due_s <= now_s:
                del self._due_large[ino]
                return ino
        return 0

    # ---------------------------------------------------------------------------------- sums

    async def sum_waiting(self) -> None:
        """Sum all that waits now, however short. Raises StateError, see `sum_due`."""
        self._archive.database.require_room()
        self._record()
        for ino, _ in self._archive.index.sealed_sizes():
            await self._sum(ino)
            if len(self._unrecorded) >= RECORDED_AT_ONCE:
                self._record()
        self._record()

    async def sum_due(self) -> bool:
        """Sum some of what has rested; whether there may be more of it.

        Raises StateError when nothing can be recorded now. Then nothing more is hashed before the
        next call has recorded what has been.
        """
        self._archive.database.require_room()
        self._record()
        now_s = trio.current_time()
        ino = 0
        for _ in range(LOOKS_AT_ONCE):
            ino = self._take_due(now_s)
            if ino and self._archive.log.is_waiting(ino):  # mostly it has been carried by now
                await self._sum(ino)
            if not ino or len(self._unrecorded) >= RECORDED_AT_ONCE:
                break
        self._record()
        return ino > 0

    async def _sum(self, ino: int) -> None:
        node = self._archive.index.node(ino)
        if node is None or node.content_state != ContentState.SEALED or node.nlink == 0:
            return
        if self._archive.index.spool_sum(node) is not None:
            return
        if self._is_written(ino):
            self.sealed(node)
            return
        version = node.content
        path = self._archive.spool.path(ino, version)
        self._under_way = ino
        try:
            found = await self._hash(node, path)
        except OSError as exc:
            if exc.errno in _BUSY:
                log.warning("%s is summed later: %s", path, exc, extra=about(exc, path=path))
                self.sealed(node)
            elif self._is_under_way(node, version):
                self._archive.damage.found(
                    node, f"spool file {path}: {exc.strerror or exc}", ("", path)
                )
        else:
            if found is not None and self._is_under_way(node, version):
                self._unrecorded[ino] = found
        finally:
            self._under_way = 0

    def _is_under_way(self, node: Node, version: int) -> bool:
        """Whether what is being hashed is still the content of `node`, and waits."""
        is_content = node.content == version and node.content_state == ContentState.SEALED
        return self._under_way == node.ino and is_content and node.nlink > 0

    async def _hash(self, node: Node, path: str) -> SpoolSum | None:
        """The sum of the content; None for content that does not wait any more, or is damaged."""
        version, size = node.content, node.size
        descriptor = self._archive.spool.open(node.ino, version, write=False)
        try:
            if not await self._sync(node, descriptor):
                return None
            hasher = BlockHasher(size)
            buffer = bytearray(min(size, BLOCK_BYTES))
            while self._is_under_way(node, version) and hasher.size_bytes < size:
                if not await trio.to_thread.run_sync(hasher.add, descriptor, buffer):
                    break
            if not self._is_under_way(node, version):
                return None
            found = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if found != size or hasher.size_bytes != size:
            reason = f"has {found} bytes, {size} were written"
            self._archive.damage.found(node, f"spool file {path}: {reason}", ("", path))
            return None
        return SpoolSum.of(node.ino, version, *hasher.result())

    async def _sync(self, node: Node, descriptor: int) -> bool:
        """Whether the content is on the disk; else `status` says so until an element has it."""
        version = node.content
        try:
            await trio.to_thread.run_sync(self._archive.spool.sync_content, os.dup(descriptor))
        except OSError as exc:
            told = ("spool file of inode %d: a flush failed: %s", node.ino, exc)
            log.error(*told, extra=self._archive.about(node, exc))
            if self._is_under_way(node, version):
                self._archive.outcomes.refuse(node.ino, f"a flush of its content failed: {exc}")
            return False
        return True

    def _record(self) -> None:
        """Commit what is still so. Raises StateError, and it is tried again."""
        sums: list[tuple[Node, SpoolSum]] = []
        for ino, one in list(self._unrecorded.items()):
            node = self._archive.index.node(ino)
            is_sealed = node is not None and node.content_state == ContentState.SEALED
            if node is None or not is_sealed or node.content != one.content or not node.nlink:
                del self._unrecorded[ino]
            elif self._is_written(ino):
                del self._unrecorded[ino]
                self.sealed(node)
            else:
                sums.append((node, one))
        if not sums:
            return
        crash_point("contents.summed")
        self._archive.changes.contents_summed([one for _, one in sums])
        self._unrecorded.clear()
        for node, one in sums:
            try:
                self._summed(node, one)
            except (ArtStoreFSError, OSError) as exc:  # its next read meets it again
                told = self._archive.about(node, exc)
                log.error("spool file of inode %d: %s", node.ino, exc, extra=told)
