"""Blocks of content that elements over a network hold, by way of the cache on this machine.

What the cache has is read, and verified, here; what it does not have is asked of the transfer
process, which puts it there. The mount process itself never talks to such an element.

    block wanted → in the cache, right     → served
                 → in the cache, wrong     → removed, and as if it had not been there
                 → not there               → room is taken → fetched → in the cache, see above
                                           → no room, no disk → fetched and served from memory

Who wants what is being fetched already waits for that. A fetch belongs to none of its waiters, so
that it goes on when one is interrupted. No reader waits longer than `FETCH_LIMIT_S`.
"""

import hashlib
import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from artstorefs.core.block_list import BlockList
from artstorefs.core.errors import ElementError, ElementUnavailable, ObjectAbsent
from artstorefs.core.log_fields import about
from artstorefs.filesystem.errors import CacheFull, CopyDamaged
from artstorefs.filesystem.pages import PageReader
from artstorefs.filesystem.verified import QUICK_BYTES, read_verified
from artstorefs.state.cache import (
    WHOLE,
    CacheFiles,
    Place,
    charged_bytes,
    charged_list_bytes,
    decode_list,
)
from artstorefs.state.cache_room import CacheRoom
from artstorefs.state.fetch import Failure, FetchAnswer, FetchJob, FetchKind, Urgency
from artstorefs.state.index import Copy

log = logging.getLogger(__name__)

FETCH_LIMIT_S = 90.0
"""How long a reader waits for a fetch: an element that is there, and slow, brings a block in less;
one that does not answer is given up by the transfer process after about a minute."""

LOAD_WAIT_S = 2.0
"""How long the first fetches wait until the cache is counted; in a cache of millions of files that
takes longer, and they do without it."""

AHEAD_FETCHES_MAX = 32
"""Fetches that nobody waits for yet, of all files together: more would only be in the way."""

OPEN_FILES_MAX = 256
"""Files of the cache that stay open, because their pages have been verified: a GiB that can be read
at random without being hashed again; a process has 1,024 descriptors, often."""

READ_ATTEMPTS = 3
"""A block may be evicted, or thrown away, between its fetch and its reading. The last attempt does
without the cache."""

Send = Callable[[int, FetchJob | None, Urgency], None]
"""Tell the transfer process of a job under a number, or, without a job, that it is more urgent."""

Report = Callable[[Copy, str], None]
"""Told what is wrong with a copy."""


@dataclass(slots=True, eq=False)
class _Fetch:
    """A job that is under way, and what became of it."""

    number: int
    copy: Copy
    job: FetchJob
    urgency: Urgency
    is_sent: bool = False
    answered: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)
    answer: FetchAnswer | None = None


class ReadCache:
    """Of one mount. `load` is awaited once; nothing is put into the cache before it has ended."""

    def __init__(
        self,
        files: CacheFiles,
        limit_bytes: int,
        is_far: Callable[[Copy], bool],
        send: Send,
        report: Report,
    ) -> None:
        """`is_far` says of a copy whether its element is one over a network."""
        self.files = files
        self.is_far = is_far
        self.room = CacheRoom(files, limit_bytes)
        self.requests = 0
        """Fetches that the transfer process was asked for."""
        self._send = send
        self._report = report
        self._pages = PageReader()
        self._hashers = trio.CapacityLimiter(2)
        self._numbers = itertools.count(1)
        self._fetches: dict[tuple[str, str, int], _Fetch] = {}
        self._by_number: dict[int, _Fetch] = {}
        self._open: OrderedDict[Place, int] = OrderedDict()
        self._loaded = trio.Event()
        self._evicting = trio.Lock()
        self._told: dict[str, str] = {}
        self._damaged: set[tuple[str, str]] = set()
        """Element and key of objects whose blocks are right, and whose whole is not."""

    async def load(self) -> None:
        """Count what is there. The disk may be slow, and hold millions of files."""
        await trio.to_thread.run_sync(self.room.load)
        self._loaded.set()

    async def wait_loaded(self) -> None:
        """Until `load` has ended."""
        await self._loaded.wait()

    async def change_limit(self, limit_bytes: int) -> None:
        """From now on; what is too much then goes at once, but for what is pinned."""
        self.room.limit_bytes = limit_bytes
        if self._loaded.is_set():
            await self._make_room(0)

    def close(self) -> None:
        """Let all descriptors go."""
        while self._open:
            os.close(self._open.popitem()[1])

    # ------------------------------------------------------------------------------- blocks

    def has(self, copy: Copy, blocks: BlockList, index: int) -> bool:
        """Whether the cache has a block, right or wrong."""
        return self.files.is_there(_place(copy, blocks, index))

    def from_pages(
        self, copy: Copy, blocks: BlockList, index: int, start: int, length: int
    ) -> bytes | memoryview | None:
        """A part of a block that was verified and is in the kernel's memory; None if it may not be.
        A memoryview is good until the next suspension of the caller."""
        place = _place(copy, blocks, index)
        descriptor = self._open.get(place)
        if descriptor is None:
            return None
        self._open.move_to_end(place)
        with suppress(OSError):  # the verification meets it again, and can fetch
            return self._pages.read(descriptor, start, length)
        return None

    async def block(
        self, copy: Copy, blocks: BlockList, index: int, urgency: Urgency = Urgency.READ
    ) -> bytes:
        """A verified block. Raises CopyDamaged, or ElementError when it cannot be had now."""
        job = _block_job(copy, blocks, index)
        self._require_whole(copy)
        with trio.move_on_after(FETCH_LIMIT_S):
            for left in range(READ_ATTEMPTS - 1, -1, -1):
                block = await self._read(job)
                if block is not None:
                    return block
                answer = await self._fetched(copy, replace(job, keep=left > 0), urgency)
                if answer.data is not None:
                    await self._require_right(answer.data, job)
                    return answer.data
        reason = f"has not arrived within {FETCH_LIMIT_S:.0f} s"
        late = ElementUnavailable(copy.element, copy.key, reason)
        self._tell(copy.element, str(late))
        raise late

    def fetch_ahead(self, copy: Copy, blocks: BlockList, indexes: Iterable[int]) -> None:
        """Have blocks fetched that will be wanted soon, as far as there are not too many."""
        ahead = sum(one.urgency is Urgency.AHEAD for one in self._fetches.values())
        for index in itertools.islice(indexes, max(0, AHEAD_FETCHES_MAX - ahead)):
            if self.room.disk_is_full:
                return
            if not self.has(copy, blocks, index):
                self._begin(copy, _block_job(copy, blocks, index), Urgency.AHEAD)

    async def bring(self, copy: Copy, blocks: BlockList, index: int) -> int:
        """Have a block in the cache; bytes that were fetched for it, 0 if it was there. Raises as
        `block`, and CacheFull; waits as long as it takes."""
        if self.has(copy, blocks, index):
            return 0
        job = _block_job(copy, blocks, index)
        try:
            answer = await self._fetched(copy, job, Urgency.WARM)
        except CopyDamaged as exc:
            self._report(copy, f"block {index + 1} of {len(blocks)}: {exc.subject!s}")
            raise
        if answer.data is not None:
            raise CacheFull(copy.key)
        return job.length

    @property
    def fetching(self) -> int:
        """How much is being fetched now."""
        return len(self._fetches)

    def place(self, copy: Copy, blocks: BlockList, index: int) -> Place:
        """Where the cache has a block."""
        return _place(copy, blocks, index)

    def ahead_bytes(self) -> int:
        """How far ahead of its readers a cache of this size may be filled: so that it does not
        evict what they have not got to yet."""
        return self.room.limit_bytes // 8

    async def _read(self, job: FetchJob) -> bytes | None:
        """A block out of the cache, verified; None if it is not there, or is wrong and removed."""
        place = job.place
        descriptor = self.files.open(place)
        if descriptor is None:
            return None
        digest = bytes.fromhex(job.digest)
        try:
            if job.length <= QUICK_BYTES:
                block = read_verified(descriptor, 0, job.length, digest)
            else:
                block = await trio.to_thread.run_sync(
                    partial(read_verified, descriptor, 0, job.length, digest),
                    limiter=self._hashers,
                )
        except (CopyDamaged, OSError) as exc:
            os.close(descriptor)
            reason = exc.subject if isinstance(exc, CopyDamaged) else exc.strerror
            path = self.files.path(place)
            told = ("cache: %s %s; it is fetched again", path, reason)
            log.warning(*told, extra=about(exc, path=path))
            self.forget(place)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        self.files.mark_used(descriptor)
        self._remember(place, descriptor)
        return block

    def forget(self, place: Place) -> None:
        """Remove a file of the cache, if it is there."""
        self._close_one(place)
        self.room.dropped(self.files.remove(place))

    def _remember(self, place: Place, descriptor: int) -> None:
        self._close_one(place)
        self._open[place] = descriptor
        if len(self._open) > OPEN_FILES_MAX:
            os.close(self._open.popitem(last=False)[1])

    def _close_one(self, place: Place) -> None:
        descriptor = self._open.pop(place, None)
        if descriptor is not None:
            os.close(descriptor)

    async def _require_right(self, data: bytes, job: FetchJob) -> None:
        digest = await trio.to_thread.run_sync(_digest, data, limiter=self._hashers)
        if digest != job.digest:
            raise CopyDamaged("does not have its SHA-256")

    # -------------------------------------------------------------------------------- lists

    async def block_list(self, copy: Copy) -> BlockList | None:
        """The list of content of several blocks that the cache has, or the element beside the
        object; None if there is none. Raises CopyDamaged, DocumentInvalid, ElementError."""
        known = await self.cached_list(copy)
        if known is not None or copy.blocks is None:
            return known
        job = replace(_object_job(copy, FetchKind.LIST), digest=copy.blocks.hex())
        return await self._fetched_list(copy, job)

    async def hashed_list(self, copy: Copy) -> BlockList:
        """The list of an object that has none, made by reading it whole. Raises as `block_list`."""
        job = replace(_object_job(copy, FetchKind.HASH), length=copy.size)
        return await self._fetched_list(copy, job, limited=False)

    async def cached_list(self, copy: Copy) -> BlockList | None:
        assert copy.sha256 is not None
        return await trio.to_thread.run_sync(self.files.read_list, copy.sha256, copy.size)

    async def _fetched_list(self, copy: Copy, job: FetchJob, *, limited: bool = True) -> BlockList:
        """Hashing a large object takes as long as it takes, and its reader can be interrupted."""
        limit_s = FETCH_LIMIT_S if limited else float("inf")
        with trio.move_on_after(limit_s):
            for keep in (True, False):
                answer = await self._fetched(copy, replace(job, keep=keep), Urgency.READ)
                if answer.data is not None:
                    return await trio.to_thread.run_sync(decode_list, answer.data)
                content = bytes.fromhex(job.content)
                blocks = await trio.to_thread.run_sync(self.files.read_list, content, job.size)
                if blocks is not None:
                    return blocks
        raise ElementUnavailable(job.element, job.key, "its block list has not arrived in time")

    # ------------------------------------------------------------------------------ fetches

    async def _fetched(self, copy: Copy, job: FetchJob, urgency: Urgency) -> FetchAnswer:
        """What became of a job, one's own or the same of somebody else. Raises its failure."""
        while True:
            running = self._begin(copy, job, urgency)
            await running.done.wait()
            answer = running.answer
            if answer is None or answer.failure is not Failure.NO_ROOM:
                break
            if urgency is not Urgency.READ:  # else it was begun for somebody who does not wait
                raise CacheFull(job.key)
        if answer is None:
            reason = "was not fetched: the mount is ending, or its log says why"
            raise ElementUnavailable(job.element, job.key, reason)
        if answer.failure is None:
            self._works_again(running.job.element)
            return answer
        if answer.failure is Failure.DAMAGED:
            raise CopyDamaged(answer.reason)
        error: ElementError = ElementUnavailable(job.element, job.key, answer.reason)
        if answer.failure is Failure.ABSENT:
            error = ObjectAbsent(job.element, job.key)
        self._tell(job.element, str(error))
        raise error

    def _begin(self, copy: Copy, job: FetchJob, urgency: Urgency) -> _Fetch:
        running = self._fetches.get(job.name)
        if running is None:
            running = _Fetch(next(self._numbers), copy, job, urgency)
            self._fetches[job.name] = running
            trio.lowlevel.spawn_system_task(self._carry_out, running)
        elif urgency < running.urgency:
            running.urgency = urgency
            if running.is_sent:
                self._send(running.number, None, urgency)
        return running

    async def _carry_out(self, running: _Fetch) -> None:
        """In a task of its own, which ends with the answer."""
        taken = 0
        try:
            with trio.move_on_after(LOAD_WAIT_S):
                await self._loaded.wait()
            taken = await self._take_room(running)
            if running.urgency is not Urgency.READ and _needs_room(running.job):
                running.answer = FetchAnswer(failure=Failure.NO_ROOM)
                return
            self._by_number[running.number] = running
            self.requests += 1
            running.is_sent = True
            self._send(running.number, running.job, running.urgency)
            await running.answered.wait()
        except Exception:  # nobody waits for this task, and it must not end the mount
            log.exception("a fetch has failed")
        finally:
            stored = running.answer.stored if running.answer else 0
            self.room.settle(taken, stored)
            if running.answer and running.answer.is_full:
                self.room.found_full_disk(taken)
            self._by_number.pop(running.number, None)
            del self._fetches[running.job.name]
            running.done.set()
            if stored and running.job.kind is FetchKind.BLOCK:
                self._check_if_complete(running.copy, running.job)

    async def _take_room(self, running: _Fetch) -> int:
        """Room for what a job stores; without any it is answered from memory."""
        job = running.job
        if not job.keep or job.kind is FetchKind.CHECK:
            return 0
        if not self._loaded.is_set():
            running.job = replace(job, keep=False)
            return 0
        if job.kind is FetchKind.HASH and job.size > self.room.limit_bytes // 2:
            job = running.job = replace(job, length=0)  # the list alone
        size = _charge(job)
        if self.room.take(size):
            return size
        if await self._make_room(size):
            return size
        running.job = replace(job, keep=False)
        return 0

    async def _make_room(self, size_bytes: int) -> bool:
        """Take room by evicting; whether there was enough to evict."""
        async with self._evicting:
            is_taken, gone = await trio.to_thread.run_sync(self.room.make_room, size_bytes)
        for place in gone:
            self._close_one(place)  # only then the disk has the room
        return is_taken

    def answered(self, number: int, answer: FetchAnswer) -> None:
        """What the transfer process says of a job; of one that is not under way it is nothing."""
        running = self._by_number.get(number)
        if running is not None:
            running.answer = answer
            running.answered.set()

    def unanswered(self) -> list[tuple[int, FetchJob, Urgency]]:
        """What a transfer process that begins has to be told."""
        return [(one.number, one.job, one.urgency) for one in self._by_number.values()]

    # ------------------------------------------------------------------------ the whole content

    def _check_if_complete(self, copy: Copy, job: FetchJob) -> None:
        """Have content hashed whole, once, when the last of its blocks has come, for whomever."""
        if job.blocks == 1 or self.files.count_blocks(job.place.content) < job.blocks:
            return
        if not self.files.has_mark(Place(job.place.content, None, False), WHOLE):
            trio.lowlevel.spawn_system_task(self._check_whole, copy)

    async def _check_whole(self, copy: Copy) -> None:
        job = replace(_object_job(copy, FetchKind.CHECK), keep=False)
        if job.name in self._fetches:
            return
        try:
            await self._fetched(copy, job, Urgency.WARM)
        except CopyDamaged as exc:
            self._damaged.add((copy.element, copy.key))
            self._report(copy, str(exc.subject))
        except ElementError:
            told = about(element=copy.element, key=copy.key)
            log.debug("%s: is hashed whole another time", copy.key, extra=told)

    async def require_whole(self, copy: Copy) -> None:
        """Have content of several blocks hashed whole, all of which the cache has; CopyDamaged if
        it is not right, ElementUnavailable if that cannot be said now."""
        place = Place(bytes.fromhex(_object_job(copy, FetchKind.CHECK).content), None, False)
        if not await trio.to_thread.run_sync(self.files.has_mark, place, WHOLE):
            job = replace(_object_job(copy, FetchKind.CHECK), keep=False)
            await self._fetched(copy, job, Urgency.WARM)
            if not await trio.to_thread.run_sync(self.files.has_mark, place, WHOLE):
                reason = "a part of it has left the cache meanwhile"
                raise ElementUnavailable(copy.element, copy.key, reason)

    def _require_whole(self, copy: Copy) -> None:
        if (copy.element, copy.key) in self._damaged:
            raise CopyDamaged("has the blocks of its list, and not its SHA-256")

    # -------------------------------------------------------------------------------- words

    def _tell(self, element: str, reason: str) -> None:
        """One line for an element that does not answer, and not one for each read."""
        if element not in self._told:
            told = about(element=element)
            log.warning("%s; reading from it fails until it answers", reason, extra=told)
        self._told[element] = reason

    def _works_again(self, element: str) -> None:
        if self._told.pop(element, None) is not None:
            log.info("element %s answers again", element, extra=about(element=element))


def _needs_room(job: FetchJob) -> bool:
    """Whether a job has found no room, without which it is worth nothing unless somebody waits."""
    return job.kind is FetchKind.BLOCK and not job.keep


def _place(copy: Copy, blocks: BlockList, index: int) -> Place:
    assert copy.sha256 is not None
    return Place(copy.sha256, index, len(blocks) == 1)


def _object_job(copy: Copy, kind: FetchKind) -> FetchJob:
    assert copy.sha256 is not None
    return FetchJob(kind, copy.element, copy.key, copy.sha256.hex(), copy.size)


def _block_job(copy: Copy, blocks: BlockList, index: int) -> FetchJob:
    offset, length = blocks.span(index)
    job = _object_job(copy, FetchKind.BLOCK)
    digest = blocks.digest(index).hex()
    return replace(
        job, index=index, blocks=len(blocks), offset=offset, length=length, digest=digest
    )


def _charge(job: FetchJob) -> int:
    """What the files that a job stores count with, at most."""
    is_block = job.kind is FetchKind.BLOCK
    return charged_bytes(job.length) + (0 if is_block else charged_list_bytes(job.size))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
