"""Fetches blocks and block lists from elements over a network into the read cache.

Of the transfer process, in threads of its own: uploads never hold up a reader, nor does one element
that does not answer hold up those of another. What arrives is verified before it is stored, and is
asked for a second time if it is wrong; the mount process verifies it again whenever it reads it.

At most a block is in the memory of each thread. Nothing is remembered: what a process that dies
has not answered is asked of the next one.
"""

import errno
import hashlib
import itertools
import logging
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO, Final

from artstorefs.core import naming
from artstorefs.core.block_list import (
    BLOCK_BYTES,
    BlockList,
    block_list_hash,
    list_size,
    parse_block_list,
)
from artstorefs.core.errors import (
    DocumentInvalid,
    ElementError,
    ElementUnavailable,
    ObjectAbsent,
    ObjectDamaged,
)
from artstorefs.core.log_fields import about
from artstorefs.elements.interface import Element
from artstorefs.state.cache import WHOLE, CacheFiles, Place, charged_bytes, encode_list
from artstorefs.state.fetch import Failure, FetchAnswer, FetchJob, FetchKind

log = logging.getLogger(__name__)

THREADS: Final = 4
"""For each element, begun with the first fetch: blocks of 4 MiB fill a line of 10 Gbit/s with a
round trip of 10 ms; an element keeps a few connections."""

ATTEMPTS: Final = 2
"""At what arrives damaged: once may be the line, twice is what the element has."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

Answered = Callable[[int, FetchAnswer], None]


class _Damaged(Exception):
    """What arrived is not what it must be; the text says how."""


class Fetching:
    """`request` is called by one thread, and answered by another through `answered`."""

    def __init__(
        self, open_element: Callable[[str], Element], files: CacheFiles, answered: Answered
    ) -> None:
        """`open_element` makes an element by its id, for the threads of this element together."""
        self._open_element = open_element
        self._files = files
        self._answered = answered
        self._jobs: dict[int, FetchJob] = {}
        self._queues: dict[str, queue.PriorityQueue[tuple[int, int, int]]] = {}
        self._order = itertools.count()

    def request(self, number: int, job: FetchJob | None, urgency: int) -> None:
        """Have a job carried out. Without a job: that of this number is so urgent; nothing if it
        has been begun."""
        if job is None:
            job = self._jobs.get(number)
            if job is None:
                return
        else:
            self._jobs[number] = job
        if job.element not in self._queues:
            try:
                self._queues[job.element] = self._begin(job.element)
            except ElementError as exc:
                self._answered(number, FetchAnswer(failure=Failure.UNAVAILABLE, reason=exc.reason))
                return
        self._queues[job.element].put((urgency, next(self._order), number))

    def _begin(self, element_id: str) -> "queue.PriorityQueue[tuple[int, int, int]]":
        waiting: queue.PriorityQueue[tuple[int, int, int]] = queue.PriorityQueue()
        element = self._open_element(element_id)
        for _ in range(THREADS):
            threading.Thread(target=self._work, args=(element, waiting), daemon=True).start()
        return waiting

    def _work(self, element: Element, waiting: "queue.PriorityQueue[tuple[int, int, int]]") -> None:
        while True:
            _, _, number = waiting.get()
            job = self._jobs.pop(number, None)
            if job is None:
                continue
            try:
                answer = fetch(element, job, self._files)
            except Exception:  # the other readers go on
                told = about(element=job.element, key=job.key)
                log.exception("a fetch of %s failed", job.key, extra=told)
                reason = "internal error, see the daemon's log"
                answer = FetchAnswer(failure=Failure.UNAVAILABLE, reason=reason)
            self._answered(number, answer)


def fetch(element: Element, job: FetchJob, files: CacheFiles) -> FetchAnswer:
    """Carry out one job; every failure that can be expected is an answer. Blocks."""
    reason = ""
    for _ in range(1 if job.kind is FetchKind.CHECK else ATTEMPTS):
        try:
            return _CARRY_OUT[job.kind](element, job, files)
        except ObjectAbsent as exc:
            return FetchAnswer(failure=Failure.ABSENT, reason=exc.reason)
        except ObjectDamaged as exc:
            reason = exc.reason
        except ElementError as exc:
            return FetchAnswer(failure=Failure.UNAVAILABLE, reason=exc.reason)
        except _Damaged as exc:
            reason = str(exc)
        except DocumentInvalid as exc:
            reason = exc.reason
    return FetchAnswer(failure=Failure.DAMAGED, reason=reason)


def _block(element: Element, job: FetchJob, files: CacheFiles) -> FetchAnswer:
    is_last = job.offset + job.length == job.size
    # one byte more shows an object that is too long
    data = element.read(job.key, job.offset, job.length + is_last)
    if len(data) > job.length:
        raise _Damaged(f"has more than the {job.size} bytes that are right")
    if len(data) < job.length:
        raise _Damaged(f"has {job.offset + len(data)} bytes, {job.size} are right")
    if hashlib.sha256(data).hexdigest() != job.digest:
        raise _Damaged("does not have its SHA-256")
    return _stored(files, job, job.place, data)


def _list(element: Element, job: FetchJob, files: CacheFiles) -> FetchAnswer:
    key = naming.blocks_key(job.key)
    data = element.read(key, 0, list_size(job.size) + 1)
    if block_list_hash(data).hex() != job.digest:
        raise _Damaged("does not have the SHA-256 that attr.json says")
    blocks = parse_block_list(data, key)
    if blocks.object_bytes != job.size:
        raise _Damaged("is that of an object of another size")
    return _stored(files, job, job.place, encode_list(blocks))


def _hash(element: Element, job: FetchJob, files: CacheFiles) -> FetchAnswer:
    """Read the whole object; with its blocks, where there is room for them."""
    content = bytes.fromhex(job.content)
    stored: dict[Place, int] = {}
    try:
        blocks = _hash_stream(element, job, files, stored)
    except BaseException:
        for place in stored:
            files.remove(place)
        raise
    place = Place(content, None, False)
    answer = _stored(files, job, place, encode_list(blocks))
    if answer.data is None:
        files.set_mark(place, WHOLE)
    return replace(answer, stored=answer.stored + sum(stored.values()))


def _hash_stream(
    element: Element, job: FetchJob, files: CacheFiles, stored: dict[Place, int]
) -> BlockList:
    """The list of an object that proves right; `stored` gets what the cache has taken of it."""
    content = bytes.fromhex(job.content)
    whole = hashlib.sha256()
    digests = bytearray()
    size = 0
    keep = job.keep and job.length > 0
    with element.open_read(job.key) as stream:
        while block := _read(element, job.key, stream, min(BLOCK_BYTES, job.size + 1 - size)):
            whole.update(block)
            place = Place(content, size // BLOCK_BYTES, False)
            digests += hashlib.sha256(block).digest()
            size += len(block)
            if keep:
                answer = _stored(files, job, place, block)
                keep = answer.data is None
                stored[place] = answer.stored
    if size != job.size:
        found = f"{size} bytes" if size < job.size else f"more than {job.size} bytes"
        raise _Damaged(f"has {found}, {job.size} are right")
    if whole.digest() != content:
        raise _Damaged("does not have its SHA-256")
    return BlockList(size, BLOCK_BYTES, bytes(digests))


def _check(element: Element, job: FetchJob, files: CacheFiles) -> FetchAnswer:
    """Hash all blocks that the cache has of a content, one after the other. What is missing by now
    is nothing to say about, nor is a block that the disk of the cache has damaged."""
    content = bytes.fromhex(job.content)
    blocks = files.read_list(content, job.size)
    if blocks is None:
        return FetchAnswer()
    whole = hashlib.sha256()
    size = 0
    for index in itertools.count():
        if size >= job.size:
            break
        descriptor = files.open(Place(content, index, False))
        if descriptor is None:
            return FetchAnswer()
        with os.fdopen(descriptor, "rb") as file:
            block = file.read(blocks.block_bytes + 1)
        if hashlib.sha256(block).digest() != blocks.digest(index):
            return FetchAnswer()
        whole.update(block)
        size += len(block)
    if whole.digest() != content:
        raise _Damaged("has the blocks of its list, and not its SHA-256")
    files.set_mark(Place(content, None, False), WHOLE)
    return FetchAnswer()


_CARRY_OUT: Final = {
    FetchKind.BLOCK: _block,
    FetchKind.LIST: _list,
    FetchKind.HASH: _hash,
    FetchKind.CHECK: _check,
}


def _stored(files: CacheFiles, job: FetchJob, place: Place, data: bytes) -> FetchAnswer:
    """The answer after storing; a cache that cannot be written to must not fail a read."""
    if not job.keep:
        return FetchAnswer(data=data)
    try:
        files.store(place, data)
    except OSError as exc:
        if exc.errno not in _FULL:
            path = files.path(place)
            told = ("the cache takes nothing: %s: %s", path, exc.strerror)
            log.warning(*told, extra=about(exc, path=path))
        return FetchAnswer(data=data, is_full=exc.errno in _FULL)
    return FetchAnswer(stored=charged_bytes(len(data)))


def _read(element: Element, key: str, stream: BinaryIO, length: int) -> bytes:
    """`length` bytes, fewer only at the end."""
    try:
        return stream.read(length) if length else b""
    except OSError as exc:
        raise ElementUnavailable(element.id, key, exc.strerror or str(exc)) from exc
