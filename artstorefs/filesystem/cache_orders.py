"""What people order of the read cache: bring a tree into it, keep it there, throw it out.

An order walks a file, or a directory with all that is below, as the index has it, and looks at
what an element over a network holds; what lies on this machine needs no cache. What is **pinned**
is brought, and marked so that it is never evicted. A pass over all pins, now and then, brings what
is new or has changed below them, and takes the mark from what is not there any more:

    1  each block below a pin, or of recalled content, is marked, and its last use set to now; what
       is not there below a pin is brought
    2  whatever else is marked, and was used before the pass began, loses its mark

Cut off between them, too much is marked until the next pass.
"""

import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

import trio

from artstorefs.core.block_list import BlockList, has_block_list
from artstorefs.core.errors import ArtStoreFSError, StateError
from artstorefs.core.modes import Operation
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.errors import CacheFull, FilesystemError
from artstorefs.filesystem.read_cache import ReadCache
from artstorefs.filesystem.source import ContentSource
from artstorefs.filesystem.walking import files_below
from artstorefs.state.cache import PINNED, Place
from artstorefs.state.index import Copy
from artstorefs.state.node import ContentState, Node
from artstorefs.state.pins import Pins

AT_ONCE = 8
"""Files that an order brings at a time, and blocks of each; readers come before it."""

PIN_ATTEMPTS = 3
"""A block may be evicted for another one between its fetch and its mark."""

SHOWN_ERRORS = 100


class NotPinned(FilesystemError):
    """Only what was pinned itself can be let go of."""

    reason = "is not pinned; artstorefs cache shows what is"


class StillPinned(FilesystemError):
    """What is pinned would be brought again at once."""

    reason = "is pinned; --unpin it first"


@dataclass(slots=True)
class Outcome:
    """What an order has done so far."""

    files: int = 0
    """Files that an element over a network holds."""
    bytes: int = 0
    """Of them that were fetched, or dropped, by this order."""
    failed: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)

    def to_message(self) -> dict[str, Any]:
        return asdict(self)


class CacheOrders:
    """Of one mount. Each order suspends often, and may be cancelled anywhere."""

    def __init__(self, archive: Archive, source: ContentSource) -> None:
        self._archive = archive
        self._source = source
        self._cache: ReadCache = source.read_cache
        self.pins = Pins(str(archive.configuration.state_dir))
        self._pinning = trio.Lock()
        self.recalled: Callable[[], Iterable[Node]] = lambda: ()
        """What is kept because it was recalled; who sees to recalls sets it, and `lost`."""
        self.lost: Callable[[Node], None] = lambda node: None

    # -------------------------------------------------------------------------------- orders

    async def warm(self, node: Node, outcome: Outcome) -> None:
        """Bring all content below `node` into the cache."""
        await self._bring_all(node, outcome, pinned=False)

    async def pin(self, node: Node, outcome: Outcome) -> None:
        """The same, and it stays there from now on. Raises StateError."""
        async with self._pinning:
            if node.file_id not in self.pins.inos:
                self.pins.inos[node.file_id] = node.ino
                try:
                    await self._save_pins()
                except StateError:
                    del self.pins.inos[node.file_id]
                    raise
            await self._bring_all(node, outcome, pinned=True)

    async def unpin(self, node: Node, outcome: Outcome) -> None:
        """What is below `node` may be evicted again, unless another pin says otherwise."""
        async with self._pinning:
            if node.file_id not in self.pins.inos:
                raise NotPinned(self._archive.index.path(node.ino))
            ino = self.pins.inos.pop(node.file_id)
            try:
                await self._save_pins()
            except StateError:
                self.pins.inos[node.file_id] = ino
                raise
        await self.keep_pinned(outcome)

    async def drop(self, node: Node, outcome: Outcome) -> None:
        """Throw out all content below `node` that is not pinned."""
        if self._is_below_a_pin(node):
            raise StillPinned(self._archive.index.path(node.ino))
        async with aclosing(self._files_below(node)) as files:
            async for _, copies in files:
                dropped = await trio.to_thread.run_sync(self._drop_one, copies[0])
                outcome.bytes += dropped
                outcome.files += 1

    async def keep_pinned(self, outcome: Outcome) -> None:
        """One pass over everything that is pinned."""
        async with self._pinning:
            began_ns = time.time_ns()
            for node in self._pinned_nodes():
                await self._bring_all(node, outcome, pinned=True, leaves_archived=True)
            for node in self.recalled():
                if not await self._keep(node):
                    self.lost(node)
            if not outcome.failed:
                await trio.to_thread.run_sync(self._unmark, began_ns)

    async def summary(self) -> dict[str, Any]:
        """What the cache holds; CONTROL.md describes it."""
        room = self._cache.room
        use = await trio.to_thread.run_sync(room.scan)
        index = self._archive.index
        pins = [index.path(node.ino) for node in self._pinned_nodes()]
        return {
            "path": self._cache.files.directory,
            "bytes": room.used_bytes,
            "limit_bytes": room.limit_bytes,
            "files": use.files,
            "blocks": use.blocks,
            "pinned_bytes": use.pinned_bytes,
            "fetching": self._cache.fetching,
            "fetched": self._cache.requests,
            "pins": sorted(path.decode(errors="backslashreplace") for path in pins),
        }

    # --------------------------------------------------------------------------------- steps

    async def _save_pins(self) -> None:
        try:
            await trio.to_thread.run_sync(self.pins.save)
        except OSError as exc:
            raise StateError(self.pins.path, exc.strerror or str(exc)) from exc

    def _pinned_nodes(self) -> list[Node]:
        """What is pinned and still there. In an index that was rebuilt it has another number."""
        nodes = []
        for file_id, ino in list(self.pins.inos.items()):
            node = self._archive.index.node(ino)
            if node is None or node.file_id != file_id:
                found = self._archive.index.ino_of(file_id)
                node = None if found is None else self._archive.index.node(found)
            if node is not None:
                nodes.append(node)
                self.pins.inos[file_id] = node.ino
        return nodes

    def _is_below_a_pin(self, node: Node) -> bool:
        index = self._archive.index
        pinned = {found.ino for found in self._pinned_nodes()}
        ino: int = node.ino
        while ino not in pinned:
            entry = index.first_name(ino)
            if entry is None:
                return False
            ino = entry.parent
        return True

    async def bring_recalled(self, node: Node) -> None:
        """Bring all of the content of a file, whatever its mode says, verify it whole, and have it
        stay. Raises CopyDamaged, CacheFull, ElementError and what `ContentSource.block_list`
        does; several of them in a group."""
        copies = self._far_copies(node)
        if copies:  # else it is on this machine
            await self._bring_file(node, copies, Outcome(), pinned=True)
            if has_block_list(copies[0].size):
                await self._cache.require_whole(copies[0])

    async def _keep(self, node: Node) -> bool:
        """Whether all of the content of a file is still there; marked again."""
        copies = self._far_copies(node)
        if not copies:
            return True
        copy = copies[0]
        if has_block_list(copy.size):
            blocks = await self._cache.cached_list(copy)
            if blocks is None or not await self._mark(Place(_content(copy), None, False)):
                return False
        else:
            blocks = BlockList.whole(copy.size, _content(copy))
        for index in range(len(blocks)):
            if not await self._mark(self._cache.place(copy, blocks, index)):
                return False
        return True

    async def _bring_all(
        self, node: Node, outcome: Outcome, *, pinned: bool, leaves_archived: bool = False
    ) -> None:
        """A few files at a time, and a few blocks of each. `leaves_archived`: what is archived is
        passed over, and no error."""
        slots = trio.Semaphore(AT_ONCE)

        async def bring(file: Node, copies: list[Copy]) -> None:
            try:
                self._archive.require(Operation.READ, file)
                await self._bring_file(file, copies, outcome, pinned)
                outcome.files += 1
            except* ArtStoreFSError as group:
                _note(outcome, self._archive.index.path(file.ino), group)
            finally:
                slots.release()

        async with trio.open_nursery() as nursery, aclosing(self._files_below(node)) as files:
            async for file, copies in files:
                if leaves_archived and self._archive.guard.is_archived(file):
                    continue
                await slots.acquire()
                nursery.start_soon(bring, file, copies)

    async def _bring_file(
        self, node: Node, copies: list[Copy], outcome: Outcome, pinned: bool
    ) -> None:
        if not pinned and outcome.bytes > self._cache.room.limit_bytes:
            raise CacheFull(node.ino)  # it would throw out what it has brought itself
        copy, blocks = copies[0], await self._source.block_list(node, copies)
        indexes = iter(range(len(blocks)))

        async def bring() -> None:
            for index in indexes:
                place = self._cache.place(copy, blocks, index)
                for _ in range(PIN_ATTEMPTS):
                    brought = await self._cache.bring(copy, blocks, index)
                    outcome.bytes += brought
                    if not pinned or await self._mark(place):
                        break
                else:
                    raise CacheFull(node.ino)

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(blocks))):
                nursery.start_soon(bring)
        if pinned and len(blocks) > 1:
            await self._mark(Place(_content(copy), None, False))

    async def _mark(self, place: Place) -> bool:
        return await trio.to_thread.run_sync(self._cache.room.pin, place)

    def _drop_one(self, copy: Copy) -> int:
        freed = self._cache.files.remove_content(_content(copy))
        self._cache.room.dropped(freed)
        return freed

    def _unmark(self, began_ns: int) -> None:
        for found in self._cache.files.scan():
            if found.is_pinned and found.used_ns < began_ns:
                self._cache.files.set_mark(found.place, PINNED, on=False)

    async def _files_below(self, node: Node) -> AsyncGenerator[tuple[Node, list[Copy]], None]:
        """Files whose content an element over a network holds, and their copies."""
        async with aclosing(files_below(self._archive.index, node)) as files:
            async for file in files:
                if copies := self._far_copies(file):
                    yield file, copies

    def _far_copies(self, node: Node) -> list[Copy]:
        """Copies of content that no element on this machine has; otherwise none."""
        if node.content_state != ContentState.ARCHIVED:
            return []
        copies = self._source.current_copies(node)
        return copies if copies and self._cache.is_far(copies[0]) else []


def _content(copy: Copy) -> bytes:
    assert copy.sha256 is not None
    return copy.sha256


def _note(outcome: Outcome, path: bytes, group: BaseExceptionGroup[ArtStoreFSError]) -> None:
    """Remember why a file was not brought: the first reason of those of its blocks."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    outcome.failed += 1
    if len(outcome.errors) < SHOWN_ERRORS:
        shown = path.decode(errors="backslashreplace")
        outcome.errors.append({"path": shown, "error": str(error)})
