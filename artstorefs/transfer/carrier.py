"""The work of the transfer process: carry nodes to elements, and take away what is done with.

A batch is carried out in the steps of `artstorefs.state.outcomes`:

    1. sync SQLite's log: from here on the elements may know what the state directory knows
    2. put every object, and the block list of a large one, then one barrier: they are durable,
       nothing refers to them yet; over a network a few at a time, for each put and each stat is a
       wait for an answer; what another element is to lose is read back from here on, and hashed
    3. write every attr.json, node record and link record, then one barrier
    4. have objects locked that are retained, of elements that lock (`state/locks.py`)
    5. report what is stored; the mount process commits it
    6. removals, see `removals.py`

Every step can be repeated. A failure of one node, or of one element, concerns nothing else.
"""

import hashlib
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import BinaryIO

from artstorefs.core import naming
from artstorefs.core.block_list import (
    BlockList,
    block_list_hash,
    has_block_list,
    render_block_list,
)
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import (
    ArtStoreFSError,
    ElementDenied,
    ElementError,
    ElementFull,
    ObjectAbsent,
    ObjectDamaged,
)
from artstorefs.core.log_fields import about
from artstorefs.elements.hashing import hash_file
from artstorefs.elements.interface import Element
from artstorefs.elements.quarantine import Quarantine
from artstorefs.state.copies import has_content
from artstorefs.state.index import Copy
from artstorefs.state.node import ContentState
from artstorefs.state.outcomes import Failed, Stored
from artstorefs.state.reader import Reader, Snapshot
from artstorefs.state.spool import Spool
from artstorefs.transfer.documents import (
    Accounts,
    Content,
    attributes_document,
    link_record,
    node_record,
)
from artstorefs.transfer.jobs import NOT_CONFIGURED, BatchResult, RemoveJob, StoreJob
from artstorefs.transfer.observe import is_changed, observe
from artstorefs.transfer.reading import read_document, read_link_record
from artstorefs.transfer.removals import Remover

log = logging.getLogger(__name__)

DOWNLOAD_BYTES = 4 << 20
"""Read and written at a time where one element's content becomes another's."""

SMALL_BYTES = 1 << 20
"""What is larger is put alone: it is read into memory, or sent in parts that go together."""


@dataclass(slots=True)
class _Carried:
    """A node on its way through the steps."""

    job: StoreJob
    snapshot: Snapshot
    content: Content | None
    source: str | None = None
    """Path of the file that is to be put, if one is."""
    block_list: bytes | None = None
    document_key: str = ""
    document_size: int = 0
    document_mark: int | None = None
    """What the element has said of the document when it got it."""
    is_wrong: bool = False
    """The element does not give back what it got."""
    is_kept: bool = False
    """No lock is wanting, as far as the element locks anything."""
    locked_ns: int | None = None
    """Until when it has locked the object, if it has now."""


class Carrier:
    """One for each thread, with element objects of its own: their staging is not shared."""

    def __init__(
        self,
        reader: Reader,
        sync_log: Callable[[], None],
        elements: Mapping[str, Element],
        spool: Spool,
        accounts: Accounts,
        quarantine: Quarantine,
    ) -> None:
        self._reader = reader
        self._sync_log = sync_log
        self._elements = elements
        self._spool = spool
        self._accounts = accounts
        self._remover = Remover(elements, spool, quarantine)

    def carry(self, number: int, store: list[StoreJob], remove: list[RemoveJob]) -> BatchResult:
        """Carry out one batch. Blocks. Every job is in the result exactly once, but for what was
        stored and could not be locked: that has failed as well."""
        result = BatchResult(number)
        self._sync_log()
        crash_point("log.synced")
        carried = [item for job in store if (item := self._look_at(job, result))]
        carried.sort(key=self._at_once)
        carried = self._succeeded(carried, self._put, result)
        carried = self._barrier(carried, result)
        if carried:
            crash_point("objects.durable")
        carried = self._verified(carried, result)
        carried = [item for item in carried if self._write_documents(item, result)]
        carried = self._barrier(carried, result)
        if carried:
            crash_point("documents.durable")
        self._succeeded([item for item in carried if item.job.lock_ns], self._lock, result)
        told = [item for item in carried if item.is_kept or not item.job.lock_only]
        self._succeeded(told, partial(self._report, result), result)
        if remove:
            self._remover.remove(remove, result)
        crash_point("batch.carried")
        log.debug(
            "batch %d: %d stored, %d removed, %d failed, %d dropped",
            *(number, len(result.stored), len(result.removed), len(result.failed)),
            len(result.dropped),
        )
        return result

    # ------------------------------------------------------------------------------- store

    def _look_at(self, job: StoreJob, result: BatchResult) -> _Carried | None:
        """What a job is about, its content hashed; None where there is nothing to be told, or that
        failed, which is reported."""
        try:
            snapshot = self._reader.snapshot(job.ino, job.element)
        except sqlite3.DatabaseError as exc:  # of this row: the others are carried
            result.failed.append(_failure(job, exc))
            return None
        if snapshot is None or snapshot.node.content != job.content:
            result.dropped.append(job.ino)
            return None
        if job.element not in self._elements:
            unknown = ElementDenied(job.element, "", NOT_CONFIGURED)
            result.failed.append(_failure(job, unknown))
            return None
        try:
            if job.lock_only:
                return self._described(job, snapshot)
            if self._changed_by_others(job, snapshot, result):
                result.dropped.append(job.ino)
                return None
            item = self._described(job, snapshot)
        except (ArtStoreFSError, OSError) as exc:
            result.failed.append(_failure(job, exc))
            return None
        if item.content is None and not job.is_record:
            result.dropped.append(job.ino)
            return None
        return item

    def _succeeded(
        self, items: list[_Carried], work: Callable[[_Carried], None], result: BatchResult
    ) -> list[_Carried]:
        """Do it for each; those for which it did not fail, which is reported. Small ones are done
        together, as far as that is worth it to their element."""

        def attempt(item: _Carried) -> ArtStoreFSError | OSError | None:
            try:
                work(item)
            except (ArtStoreFSError, OSError) as exc:
                return exc
            return None

        succeeded = []
        for at_once, some in groupby(items, self._at_once):
            group = list(some)
            if min(at_once, len(group)) > 1:
                with ThreadPoolExecutor(at_once, "carries") as pool:
                    errors = list(pool.map(attempt, group))
            else:
                errors = [attempt(item) for item in group]
            for item, error in zip(group, errors, strict=True):
                if error is None:
                    succeeded.append(item)
                else:
                    result.failed.append(_failure(item.job, error))
        return succeeded

    def _at_once(self, item: _Carried) -> int:
        if item.content is not None and item.content.size > SMALL_BYTES:
            return 1
        return self._elements[item.job.element].capabilities.at_once

    def _changed_by_others(self, job: StoreJob, snapshot: Snapshot, result: BatchResult) -> bool:
        """Whether a rewrite would lose what somebody else has written into the document; then the
        mount process takes that over first. Raises DocumentError for one that cannot be read:
        what it was is for a person to see, so it is not written over."""
        copy = snapshot.copy_on(job.element)
        if copy is None and not job.is_record:
            return False  # a new object has a new key
        element = self._elements[job.element]
        key = copy.key if copy else job.key
        key = key if naming.is_record(key) else naming.sidecar_key(key)
        try:
            stat = element.stat(key)
        except ObjectAbsent:
            if copy is not None and not (job.upload or job.is_record):
                _require_object(element, copy.key)
            return False  # nothing there to lose
        if copy is None:
            read_document(element, key)
            return False  # ours, written before a kill
        if not is_changed(stat, copy):
            return False
        observed = observe(element, stat, copy, self._reader, self._accounts)
        if observed is None:
            return False
        result.observed.append(observed)
        return True

    def _described(self, job: StoreJob, snapshot: Snapshot) -> _Carried:
        """The content that the element has, or is to get; none for a record, nor where what the
        job speaks of is not so any more."""
        item = _Carried(job, snapshot, None)
        if job.is_record:
            return item
        node = snapshot.node
        if not job.upload:
            copy = snapshot.copy_on(job.element)
            if copy is not None and copy.sha256 is not None and copy.key == job.key:
                blocks = copy.blocks.hex() if copy.blocks else None
                item.content = Content(copy.key, copy.size, copy.sha256.hex(), blocks)
        elif node.content_state == ContentState.ARCHIVED:
            self._copy_content(item)
        elif node.content_state == ContentState.SEALED:
            self._describe_spooled(item)
        return item

    def _describe_spooled(self, item: _Carried) -> None:
        job, snapshot, node = item.job, item.snapshot, item.snapshot.node
        path = self._spool.path(job.ino, job.content)
        sha256, hashes = hash_file(path)
        size = hashes.object_bytes
        if size != node.size:
            reason = f"spool file {path} has {size} bytes, {node.size} were written"
            raise ObjectDamaged(job.element, job.key, reason)
        known = snapshot.spool_sum
        if known is not None and known.sha256.hex() != sha256:
            reason = f"spool file {path} is damaged: it has not the SHA-256 that it had before"
            raise ObjectDamaged(job.element, job.key, reason)
        _describe(item, path, sha256, hashes)

    def _put(self, item: _Carried) -> None:
        """Stage the content of a file that was just hashed, with its block list."""
        job, content = item.job, item.content
        if item.source is None or content is None:
            return
        element = self._elements[job.element]
        element.put(
            job.key,
            item.source,
            size_bytes=content.size,
            sha256=content.sha256,
            is_first=job.is_first,
        )
        crash_point("object.staged")
        if item.block_list is not None:
            element.replace(naming.blocks_key(job.key), item.block_list)
            crash_point("block_list.staged")

    def _verified(self, carried: list[_Carried], result: BatchResult) -> list[_Carried]:
        """Those that their element gives back as it got them, as far as that is to be seen. What it
        does not is removed: nothing refers to it yet, and it would stand in the way of the next."""
        right = self._succeeded(carried, self._verify, result)
        for item in carried:
            if not item.is_wrong or not item.job.upload:
                continue
            element = self._elements[item.job.element]
            try:
                element.remove(naming.blocks_key(item.job.key))
                element.remove(item.job.key)
                element.barrier()
            except ElementError as exc:  # the next attempt finds it there, and says so
                told = about(exc, element=element.id, key=item.job.key)
                log.warning(
                    "%s: is wrong, and cannot be removed: %s", item.job.key, exc, extra=told
                )
        return right

    def _verify(self, item: _Carried) -> None:
        """Raise ObjectDamaged unless the element gives back what a job that is to be verified says
        it has."""
        if not item.job.verify or item.content is None:
            return
        element, digest = self._elements[item.job.element], hashlib.sha256()
        with element.open_read(item.job.key) as stream:
            if element.capabilities.local_path:  # from the disk, as far as that is to be had
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while data := stream.read(DOWNLOAD_BYTES):
                digest.update(data)
        if digest.hexdigest() != item.content.sha256:
            item.is_wrong = True
            reason = "does not give back what it was given"
            raise ObjectDamaged(element.id, item.job.key, reason)

    def _copy_content(self, item: _Carried) -> None:
        """Stage content that other elements have: by way of a file in the spool, verified there.
        Raises the error of the last that was tried, ObjectDamaged where there is none."""
        job = item.job
        reason = "no element has its content"
        error: ElementError | OSError = ObjectDamaged(job.element, job.key, reason)
        for copy in self._sources(job, item.snapshot):
            path = self._spool.temporary_path(job.ino)
            try:
                with os.fdopen(self._spool.create_temporary(job.ino), "wb") as target:
                    _download(self._elements[copy.element], copy.key, target)
                crash_point("copy.passing")
                sha256, hashes = hash_file(path)
                if copy.sha256 is None or sha256 != copy.sha256.hex():
                    reason = "does not have its SHA-256, so that no copy is made of it"
                    raise ObjectDamaged(copy.element, copy.key, reason)
                _describe(item, path, sha256, hashes)
                self._put(item)
                item.source = None  # it is gone
                return
            except (ElementError, OSError) as exc:
                error = exc
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)
        raise error

    def _sources(self, job: StoreJob, snapshot: Snapshot) -> list[Copy]:
        """Copies of the content on other elements, near ones first."""
        found = [
            copy
            for copy in snapshot.copies
            if copy.element in self._elements
            and copy.element != job.element
            and has_content(copy, snapshot.node)
        ]
        return sorted(
            found, key=lambda copy: not self._elements[copy.element].capabilities.local_path
        )

    def _write_documents(self, item: _Carried, result: BatchResult) -> bool:
        """Stage the documents of one node; False when that failed, which is reported."""
        job = item.job
        if job.lock_only:
            return True
        element = self._elements[job.element]
        try:
            if item.content is not None:
                item.document_key = naming.sidecar_key(job.key)
                document = attributes_document(
                    item.snapshot, item.content, self._accounts, time.time_ns()
                )
            else:
                item.document_key = job.key
                document = node_record(item.snapshot, self._accounts)
            element.replace(item.document_key, document)
            crash_point("document.staged")
            item.document_size = len(document)
            for link in item.snapshot.links:
                before = read_link_record(element, link.record_key)
                record = link_record(item.snapshot.node, link, before)
                element.replace(link.record_key, record)
                crash_point("link_record.staged")
        except (ArtStoreFSError, ValueError) as exc:
            result.failed.append(_failure(job, exc))
            return False
        return True

    def _barrier(self, carried: list[_Carried], result: BatchResult) -> list[_Carried]:
        """Make what is staged durable; what an element failed to keep is reported and dropped."""
        broken: dict[str, ElementError] = {}
        marks: dict[str, Mapping[str, int]] = {}
        for name in {item.job.element for item in carried}:
            try:
                marks[name] = self._elements[name].barrier()
            except ElementError as exc:
                broken[name] = exc
        kept = []
        for item in carried:
            error = broken.get(item.job.element)
            if error is None:
                item.document_mark = marks[item.job.element].get(item.document_key)
                kept.append(item)
            else:
                result.failed.append(_failure(item.job, error))
        return kept

    def _lock(self, item: _Carried) -> None:
        """Have an element that locks objects keep one that is retained. What fails is tried again,
        and holds up nothing else of the node."""
        job = item.job
        element = self._elements[job.element]
        if element.can_lock():
            element.lock(job.key, job.lock_ns)
            crash_point("object.locked")
            item.locked_ns = job.lock_ns
        item.is_kept = True

    def _report(self, result: BatchResult, item: _Carried) -> None:
        job, node, content = item.job, item.snapshot.node, item.content
        links = [link.name.id for link in item.snapshot.links]
        if job.lock_only:
            there = item.snapshot.copy_on(job.element)
            assert there is not None
            result.stored.append(Stored.of_copy(there, links, item.locked_ns))
            return
        mark = item.document_mark
        if mark is None:
            seen = self._elements[job.element].stat(item.document_key)
            if seen.size_bytes != item.document_size:
                reason = "changed while it was written"
                raise ObjectDamaged(job.element, item.document_key, reason)
            mark = seen.mark
        result.stored.append(
            Stored(
                ino=job.ino,
                element=job.element,
                key=job.key,
                is_record=job.is_record,
                revision=node.revision,
                content=job.content,
                size=content.size if content else 0,
                sha256=content.sha256 if content else None,
                blocks=content.blocks if content else None,
                seen_size=item.document_size,
                seen_modified_ns=mark,
                links=links,
                locked_ns=item.locked_ns,
            )
        )


def _require_object(element: Element, key: str) -> None:
    """Raise ObjectDamaged where somebody has removed a file with its attr.json: another one would
    speak of nothing."""
    try:
        element.stat(key)
    except ObjectAbsent:
        raise ObjectDamaged(
            element.id, key, "its object is gone, and so is its attr.json"
        ) from None


def _describe(item: _Carried, path: str, sha256: str, hashes: BlockList) -> None:
    """Of what `item` is to carry: the file at `path`, which was just hashed."""
    size, blocks = hashes.object_bytes, None
    item.source = path
    if has_block_list(size):
        item.block_list = render_block_list(hashes)
        blocks = block_list_hash(item.block_list).hex()
    item.content = Content(item.job.key, size, sha256, blocks)


def _download(element: Element, key: str, target: BinaryIO) -> None:
    """Write the content of an object to an open file."""
    with element.open_read(key) as source:
        shutil.copyfileobj(source, target, DOWNLOAD_BYTES)


def _failure(job: StoreJob, exc: BaseException) -> Failed:
    """`refused` when waiting alone will not help."""
    if isinstance(exc, OSError) and not isinstance(exc, ArtStoreFSError):
        text = f"{exc.strerror or exc}: {exc.filename}" if exc.filename else str(exc)
    else:
        text = str(exc)
    told = about(exc, element=job.element, key=job.key)
    log.warning("inode %d is not stored yet: %s", job.ino, text, extra=told)
    refused = not isinstance(exc, ElementError) or isinstance(
        exc, ElementDenied | ElementFull | ObjectDamaged
    )
    return Failed(job.ino, text, refused)
