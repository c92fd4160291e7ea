"""Moves objects of a local element to its medium, in the transfer process.

    step  what                                             a crash after it leaves
    1     copied to the medium, flushed                    both; the same is found there again
    2     read back there, from the disk, and hashed       the same
    3     offline.json on the element, flushed             the same
    4     answered; the mount process commits it,          both; the removal is carried out
          with the removal of the object in the log
    5     removed from the element (`removals.py`)         the medium alone

Nothing is removed that was not read back right in the same batch. attr.json and records stay.
Every step can be repeated; an object that only the medium has, as after a rebuild of the index, is
read back like the others.
"""

import os
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from artstorefs.core import naming
from artstorefs.core.block_list import block_list_hash, list_size
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import (
    ElementError,
    ElementFull,
    ElementUnavailable,
    ObjectAbsent,
    ObjectDamaged,
)
from artstorefs.core.offline_record import OfflineRecord, render_offline_record
from artstorefs.elements.hashing import hash_blocks
from artstorefs.elements.interface import Element
from artstorefs.elements.offline import Medium
from artstorefs.elements.os_errors import translated

_FOR_ALL = (ElementUnavailable, ElementFull)
"""What concerns the whole batch, and not one object of it."""


@dataclass(frozen=True, slots=True)
class OfflineJob:
    """An object, with what its attr.json says of it; hashes as hex digits."""

    ino: int
    key: str
    size: int
    sha256: str
    blocks: str | None

    def to_message(self) -> list[Any]:
        return [self.ino, self.key, self.size, self.sha256, self.blocks]


@dataclass(slots=True)
class OfflineResult:
    """What became of a batch: inode numbers of what the medium has, those that failed, each with
    the reason, and what has gone wrong with all others."""

    done: list[int] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    error: str | None = None

    def to_message(self) -> dict[str, Any]:
        return {"done": self.done, "failed": self.failed, "error": self.error}


def take_offline(
    element: Element, path: str, medium: Medium, jobs: Iterable[OfflineJob]
) -> OfflineResult:
    """Steps 1 to 3, for objects of `element`, whose directory is `path`. Blocks."""
    result = OfflineResult()
    try:
        with medium.opened() as target:
            _take(element, path, medium, target, list(jobs), result)
    except (ElementError, OSError) as exc:
        result.done = []
        result.error = str(exc)
    return result


def _take(
    element: Element,
    path: str,
    medium: Medium,
    target: Element,
    jobs: list[OfflineJob],
    result: OfflineResult,
) -> None:
    for left in target.leftovers():  # of a process that was killed while it copied
        target.remove(left.key)
    copied = [job for job in jobs if _copy(element, path, target, job, result)]
    target.barrier()
    crash_point("offline.copied")
    right = [job for job in copied if _is_right(target, job, result)]
    target.barrier()  # what was not is removed again
    if not right:
        return
    crash_point("offline.verified")
    _tell(element, medium, target)
    crash_point("offline.told")
    result.done = [job.ino for job in right]


def _copy(
    element: Element, path: str, target: Element, job: OfflineJob, result: OfflineResult
) -> bool:
    """Step 1 of one object, staged; whether it is to be read back."""
    blocks = naming.blocks_key(job.key)
    try:
        with suppress(ObjectAbsent):  # then the medium alone has it, or nobody
            element.stat(job.key)
            source = os.path.join(path, job.key)
            target.put(job.key, source, size_bytes=job.size, sha256=job.sha256)
        if job.blocks is not None:
            with suppress(ObjectAbsent):
                target.replace(blocks, element.read(blocks, 0, list_size(job.size) + 1))
    except _FOR_ALL:
        raise
    except (ElementError, OSError) as exc:
        result.failed.append((job.ino, str(exc)))
        return False
    return True


def _is_right(target: Element, job: OfflineJob, result: OfflineResult) -> bool:
    """Step 2 of one object. What is wrong is taken away again, and tried anew another time."""
    try:
        with closing(target.open_read(job.key)) as stream, translated(target.id, job.key):
            descriptor = stream.fileno()
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # so that the disk answers
            sha256, hashes = hash_blocks(descriptor)
        if (hashes.object_bytes, sha256.hex()) != (job.size, job.sha256):
            raise ObjectDamaged(target.id, job.key, "does not have its size and SHA-256")
        _check_block_list(target, job)
    except ObjectAbsent:
        result.failed.append((job.ino, f"{job.key}: neither the element nor its medium has it"))
        return False
    except _FOR_ALL:
        raise
    except ElementError as exc:
        target.remove(job.key)
        result.failed.append((job.ino, str(exc)))
        return False
    return True


def _check_block_list(target: Element, job: OfflineJob) -> None:
    if job.blocks is None:
        return
    key = naming.blocks_key(job.key)
    data = target.read(key, 0, list_size(job.size) + 1)
    if block_list_hash(data).hex() != job.blocks:
        raise ObjectDamaged(target.id, key, "does not have the SHA-256 that attr.json says")


def _tell(element: Element, medium: Medium, target: Element) -> None:
    """Step 3, once."""
    with suppress(ObjectAbsent):
        element.stat(naming.OFFLINE_KEY)
        return
    record = OfflineRecord(
        element_id=element.id,
        medium_id=target.id,
        place=medium.path,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    element.replace(naming.OFFLINE_KEY, render_offline_record(record))
    element.barrier()
