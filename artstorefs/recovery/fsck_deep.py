"""Reading and hashing every object, in order, by a few threads, no faster than asked for.

hashlib lets go of the interpreter's lock, so threads hash side by side, and while one waits for the
disk another hashes. Results come in the order of the keys, which makes the place to go on from one
key. Block lists are compared with the SHA-256 that attr.json has for them.
"""

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from artstorefs.core import naming
from artstorefs.core.errors import ElementError, ObjectAbsent
from artstorefs.elements.interface import Element
from artstorefs.elements.os_errors import element_error
from artstorefs.recovery.fsck_findings import Finding, FindingClass
from artstorefs.recovery.fsck_progress import Progress
from artstorefs.recovery.fsck_survey import ElementSurvey, Sidecar

CHUNK_BYTES = 1 << 20
THREADS_MAX = 4
"""More do not make a disk faster, and the machine has other things to do."""

AHEAD = 8
"""Objects under way for each thread: small ones must not wait for the turn of a large one."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """What reading an object has given. `problem` is None if it is what attr.json says."""

    size: int
    kind: FindingClass | None = None
    problem: str | None = None


class Throttle:
    """At most so many bytes a second, over all threads; None is no limit."""

    def __init__(self, bytes_per_s: int | None) -> None:
        self._rate = bytes_per_s
        self._lock = threading.Lock()
        self._free_s = time.monotonic()

    def take(self, size: int) -> None:
        """Wait until `size` more bytes may be read."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_s = max(now, self._free_s) + size / self._rate
            wait = self._free_s - now
        time.sleep(wait)


Watch = Callable[[int, int], None]
"""Told of every object that is done: objects, and bytes of this run."""


def check_objects(
    survey: ElementSurvey, progress: Progress, throttle: Throttle, watch: Watch
) -> Iterator[Finding]:
    """Hash what no earlier run has. An error of reading ends it: `survey.incomplete` says why."""
    element = survey.element
    work = [item for item in survey.objects() if not progress.is_done(element.id, item[0])]
    threads = min(THREADS_MAX, os.cpu_count() or 1)
    queue: deque[tuple[str, Sidecar, Future[Hashed]]] = deque()
    pending = iter(work)
    with ThreadPoolExecutor(threads, "fsck") as pool:
        try:
            while True:
                while len(queue) < threads * AHEAD and (item := next(pending, None)):
                    queue.append((*item, pool.submit(hash_object, survey.source, *item, throttle)))
                if not queue:
                    return
                key, sidecar, future = queue.popleft()
                try:
                    hashed = future.result()
                except ObjectAbsent:
                    continue  # removed since it was listed
                except ElementError as exc:
                    survey.incomplete = str(exc)
                    return
                progress.hashed(element.id, key, hashed.size, good=hashed.problem is None)
                watch(1, hashed.size)
                if hashed.kind is not None:
                    yield _finding(survey, key, sidecar, hashed)
        finally:
            for *_, future in queue:
                future.cancel()


def _finding(survey: ElementSurvey, key: str, sidecar: Sidecar, hashed: Hashed) -> Finding:
    assert hashed.kind is not None
    assert hashed.problem is not None
    where = naming.blocks_key(key) if hashed.kind is FindingClass.BLOCK_LIST else key
    return Finding(
        *(hashed.kind, hashed.problem, survey.element.id, where, sidecar.file_id),
        concerns=frozenset([sidecar.file_id]),
        seen={name: survey.stats.get(name) for name in (key, naming.sidecar_key(key))},
    )


def hash_object(element: Element, key: str, sidecar: Sidecar, throttle: Throttle) -> Hashed:
    """Read one object, and its block list. Raises ElementError if it cannot be read."""
    digest = hashlib.sha256()
    size = 0
    try:
        with element.open_read(key) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                throttle.take(len(chunk))
                digest.update(chunk)
                size += len(chunk)
    except OSError as exc:
        raise element_error(element.id, key, exc) from exc
    if digest.digest() != sidecar.sha256:
        detail = f"has SHA-256 {digest.hexdigest()}, {sidecar.sha256.hex()} is right"
        return Hashed(size, FindingClass.WRONG_HASH, detail)
    if sidecar.blocks is not None:
        return _check_block_list(element, key, sidecar.blocks, size)
    return Hashed(size)


def _check_block_list(element: Element, key: str, sha256: bytes, size: int) -> Hashed:
    """The list is right if it is the one that attr.json means: that was made from the object, and
    a second list of the same object with another SHA-256 does not exist."""
    digest = hashlib.sha256()
    try:
        with element.open_read(naming.blocks_key(key)) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except ObjectAbsent:
        return Hashed(size)  # the survey has said so
    except OSError as exc:
        raise element_error(element.id, naming.blocks_key(key), exc) from exc
    if digest.digest() == sha256:
        return Hashed(size)
    return Hashed(size, FindingClass.BLOCK_LIST, "has not the SHA-256 that attr.json says")
