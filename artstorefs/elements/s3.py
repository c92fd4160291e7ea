"""A bucket of an S3 server, or a part of one, as an element.

Owns the meaning of keys in a bucket: a key of the element is `prefix` + key there, with nothing
encoded, so that any S3 client sees what `FORMAT.md` describes. How the bucket is reached is in
`s3_connection.py` and, for small objects, `s3_quick.py`, what failures mean in `s3_errors.py`,
reading in `s3_reading.py`, staging and barriers in `s3_changes.py`, large objects in
`s3_multipart.py`. One process writes to an element.

The steps of a change, and what a kill after each leaves:

    step  what                                            a kill after it leaves
    1     large objects: their parts are sent (`put`)     an upload that the next `put` goes on with
    2     the element is checked to be still there        the same
    3     the changes are carried out, in runs            some of them, each whole and durable

S3 answers a write once it is durable, so there is nothing to flush. `put` recognises what an
earlier attempt has stored: by the server's SHA-256, by the ETag of the same parts, or by reading it
back. What is tried for the first time is not looked for: two requests carry a small file, one for
the object and one for its attr.json.

**Absent** is said only when archive.json was there just after, the same as ever: a bucket that was
deleted, emptied or mistaken for another answers like one in which the object never was.
"""

import hashlib
import io
import logging
import os
import threading
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import BinaryIO, Final, TypeVar

from artstorefs.core.errors import (
    ElementDenied,
    ElementError,
    ElementUnavailable,
    KeyInvalid,
    ObjectAbsent,
    ObjectDamaged,
    ObjectExists,
)
from artstorefs.core.log_fields import about
from artstorefs.elements import s3_multipart
from artstorefs.elements.breaker import Breaker
from artstorefs.elements.gauges import LockSupport
from artstorefs.elements.interface import (
    ARCHIVE_KEY,
    OVER_A_NETWORK,
    OWN_DIRECTORY,
    TEMPORARY_PREFIX,
    Capacity,
    ObjectStat,
    check_key,
    check_prefix,
    check_writable_key,
)
from artstorefs.elements.regular import open_regular
from artstorefs.elements.s3_changes import (
    KEPT_BYTES,
    Action,
    Change,
    ChangeFailed,
    Staged,
    carry_out,
)
from artstorefs.elements.s3_connection import S3Connection
from artstorefs.elements.s3_errors import S3Trouble, Trouble, element_error
from artstorefs.elements.s3_locks import ObjectLock
from artstorefs.elements.s3_reading import (
    STREAM_BYTES,
    Head,
    Piece,
    S3Stream,
    fetch,
    head,
    list_page,
    look,
    mark,
    modified_ns,
)
from artstorefs.elements.s3_settings import KEY_BYTES_MAX, S3Settings

log = logging.getLogger(__name__)

ABANDONED_AFTER: Final = timedelta(days=7)
"""An upload of parts that nobody has completed for so long is not gone on with any more: what waits
in a log is tried every minute."""

ARCHIVE_DOCUMENT_BYTES: Final = 65_536
"""More than any archive.json has."""

_Answer = TypeVar("_Answer")


class S3Element:
    """The `Element` in a bucket. See `interface.py` for the contract."""

    kind = "s3"

    def __init__(
        self,
        id: str,
        settings: S3Settings,
        *,
        capacity_bytes: int | None = None,
        breaker: Breaker | None = None,
        requested: Callable[[str], None] | None = None,
        locks: LockSupport | None = None,
    ) -> None:
        """Asks nothing of the server: an unreachable element opens and fails at its first use.

        `capacity_bytes` is what the archive may use; a bucket itself tells no size. `breaker` and
        `requested` are as `S3Connection` has them, `locks` is what is known of Object Lock.
        """
        self.id = id
        self.capabilities = replace(OVER_A_NETWORK, at_once=settings.concurrency)
        self._settings = settings
        self._connection = S3Connection(settings, breaker, requested)
        self._object_lock = ObjectLock(id, self._connection, locks or LockSupport())
        self._capacity_bytes = capacity_bytes
        self._staged = Staged()
        self._barrier_lock = threading.Lock()
        self._uploads: set[str] = set()
        self._archive_etag = ""
        self._archive_document: bytes | None = None

    def initialize(self) -> None:
        """Check that an empty bucket, or prefix, is here, or an element. Idempotent.

        Makes no bucket: whose it is and how it is kept is for a person to decide. `ElementDenied`
        if other things lie there.
        """
        prefix = self._settings.prefix
        page = self._asked("", partial(list_page, self._connection, prefix, None))
        first = next((one["Key"] for one in page.get("Contents", [])), None)
        own = f"{prefix}{OWN_DIRECTORY}/"
        if first is None or first.startswith(own):
            return
        try:
            self.stat(ARCHIVE_KEY)
        except ObjectAbsent:
            reason = f"{self._settings.where}: {first} is there; give an empty bucket or prefix"
            raise ElementDenied(self.id, "", reason) from None

    # ------------------------------------------------------------------------------ changes

    def put(
        self,
        key: str,
        source_path: str,
        *,
        size_bytes: int,
        sha256: str | None = None,
        is_first: bool = False,
    ) -> None:
        """Stage a new object; one above the threshold is sent now, in parts."""
        check_writable_key(self.id, key)
        name = self._name(key)
        source = open_regular(source_path)
        try:
            found = os.fstat(source).st_size
            if found != size_bytes:
                reason = f"the source has {found} bytes, not {size_bytes}"
                raise ObjectDamaged(self.id, key, reason)
            change = Change(Action.CREATE, key, name, size_bytes, sha256 or "")
            if not is_first and self._is_occupied(change, source):
                if change.action is Action.CONFIRM:
                    self._staged.append(change)
            elif size_bytes >= self._settings.multipart_threshold:
                self._stage_parts(change, source)
            else:
                self._stage_content(change, source)
        finally:
            os.close(source)

    def replace(self, key: str, data: bytes) -> None:
        """Stage a document."""
        check_writable_key(self.id, key)
        name = self._name(key)
        digest = hashlib.sha256(data).hexdigest()
        self._staged.append(Change(Action.REPLACE, key, name, len(data), digest, data))

    def remove(self, key: str) -> None:
        """Stage a removal, also of an upload of parts for this key, if one was begun."""
        self._staged.append(Change(Action.REMOVE, key, self._name(key)))

    def barrier(self) -> Mapping[str, int]:
        """Carry out what is staged, by the steps in the header of this file."""
        with self._barrier_lock:
            batch = self._staged.take()
            if not batch:
                return {}
            try:
                self._check_present(reads=False)
                if any(change.key == ARCHIVE_KEY for change in batch):
                    self._archive_etag, self._archive_document = "", None
                carry_out(self._connection, batch, self._is_ours, self._abandon)
                replaced = [one for one in batch if one.action is Action.REPLACE and one.etag]
                return {one.key: mark(one.etag) for one in replaced}
            except ChangeFailed as exc:
                raise self._error(exc.change.key, exc.trouble, reads=False) from exc
            finally:
                for change in batch:
                    change.close()
                    if change.upload is not None:
                        self._uploads.discard(change.upload.upload_id)

    # -------------------------------------------------------------------------------- reads

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A ranged GET, checked where all of the object is read."""
        name = self._name(key)
        if length == 0:
            self.stat(key)
            return b""
        piece = self._asked(key, lambda: fetch(self._connection, name, offset, length))
        if key == ARCHIVE_KEY and len(piece.data) == piece.object_bytes and not self._archive_etag:
            self._archive_etag, self._archive_document = piece.etag, piece.data
        return piece.data

    def open_read(self, key: str) -> BinaryIO:
        """A stream that asks for a few MiB at a time; without a descriptor."""
        name = self._name(key)

        def fetch_piece(offset: int, length: int, etag: str | None) -> Piece:
            return self._asked(key, lambda: fetch(self._connection, name, offset, length, etag))

        return io.BufferedReader(S3Stream(fetch_piece), STREAM_BYTES)

    def stat(self, key: str) -> ObjectStat:
        """A HEAD."""
        name = self._name(key)
        found = self._asked(key, lambda: look(self._connection, name))
        if key == ARCHIVE_KEY and not self._archive_etag:
            self._archive_etag = found.etag
        return ObjectStat(key, found.size_bytes, found.modified_ns, etag_mark=mark(found.etag))

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """ListObjectsV2, page by page. Empty objects whose key ends with "/" stand for directories
        to some tools, and are not shown."""
        check_prefix(self.id, prefix)
        for found in self._listed(prefix):
            is_directory = found.key.endswith("/") and not found.size_bytes
            if not is_directory and not found.key.startswith(TEMPORARY_PREFIX):
                yield found
        self._check_present(reads=True)

    def leftovers(self) -> Iterator[ObjectStat]:
        """Uploads of parts that nobody will complete: their object is there, or they are old. Their
        size is 0: the server does not tell it. Younger ones are gone on with by the next `put`."""
        yield from self._listed(TEMPORARY_PREFIX)
        limit = datetime.now(UTC) - ABANDONED_AFTER
        prefix = self._settings.prefix
        found = self._asked("", lambda: [*s3_multipart.find_uploads(self._connection, prefix)])
        for upload in found:
            key = upload.key.removeprefix(prefix)
            if upload.upload_id in self._uploads or not self._is_key(TEMPORARY_PREFIX + key):
                continue
            if upload.initiated < limit or self._look_up(key, upload.key) is not None:
                begun_ns = modified_ns(upload.initiated)
                yield ObjectStat(TEMPORARY_PREFIX + key, 0, begun_ns)

    def capacity(self) -> Capacity:
        """What the configuration allows; a bucket has no size. How much is used the index knows."""
        self._check_present(reads=True)
        return Capacity(self._capacity_bytes, self._capacity_bytes, None, None)

    def can_lock(self) -> bool:
        """Whether the bucket has Object Lock, and is to be told."""
        return self._asked("", self._object_lock.is_there)

    def lock(self, key: str, until_ns: int) -> None:
        """As `s3_locks.py` has it."""
        self._asked(key, partial(self._object_lock.extend, self._name(key), until_ns))

    def close(self) -> None:
        """Give up what is staged, and the connections."""
        for change in self._staged.take():
            change.close()
            if change.upload is not None:
                self._give_up(change.upload.key, change.upload.upload_id)
        self._connection.close()

    # ------------------------------------------------------------------------------- staging

    def _is_occupied(self, change: Change, source: int) -> bool:
        """Whether the key holds something, or is staged to. If that is just what is to be put, the
        change becomes a CONFIRM, or is staged already; `ObjectExists` if it is anything else."""
        key, size_bytes, sha256 = change.key, change.size_bytes, change.sha256
        staged = self._staged.latest(key)
        if staged is not None:
            if staged.action is Action.REMOVE:
                return False
            if not sha256 or not staged.stores(size_bytes, sha256):
                raise ObjectExists(self.id, key)
            return True
        there = self._look_up(key, change.name)
        if there is None:
            return False
        if not sha256 or not self._holds(key, change.name, there, change, source):
            raise ObjectExists(self.id, key)
        change.action = Action.CONFIRM
        return True

    def _stage_content(self, change: Change, source: int) -> None:
        change.descriptor = os.dup(source)
        try:
            data = change.content()
            self._check_source(change, len(data), hashlib.sha256(data).hexdigest())
        except BaseException:
            change.close()
            raise
        if len(data) <= KEPT_BYTES:
            change.close()
            change.data = data
        self._staged.append(change)

    def _stage_parts(self, change: Change, source: int) -> None:
        self._check_present(reads=False)
        try:
            upload = s3_multipart.send(self._connection, change.name, source, change.size_bytes)
        except S3Trouble as exc:
            raise self._error(change.key, exc, reads=False) from exc
        try:
            self._check_source(change, os.fstat(source).st_size, upload.sha256)
        except ObjectDamaged:
            self._give_up(change.name, upload.upload_id)
            raise
        change.action, change.upload = Action.COMPLETE, upload
        self._uploads.add(upload.upload_id)
        self._staged.append(change)

    def _check_source(self, change: Change, size_bytes: int, sha256: str) -> None:
        """That what was read is what was announced; then its SHA-256 is known for certain."""
        if size_bytes != change.size_bytes:
            reason = f"the source has {size_bytes} bytes, not {change.size_bytes}"
            raise ObjectDamaged(self.id, change.key, reason)
        if change.sha256 not in ("", sha256):
            raise ObjectDamaged(self.id, change.key, "the source has another SHA-256")
        change.sha256 = sha256

    def _is_ours(self, change: Change) -> bool:
        """Whether the key of a change that found it taken holds just what it was to put."""
        there = self._look_up(change.key, change.name)
        return there is not None and self._holds(
            change.key, change.name, there, change, change.descriptor
        )

    def _holds(self, key: str, name: str, there: Head, change: Change, source: int) -> bool:
        """Whether an object that is there has size and SHA-256 of a change."""
        if there.size_bytes != change.size_bytes:
            return False
        if there.sha256 is not None:
            return b64decode(there.sha256).hex() == change.sha256
        etag = there.etag.strip('"')
        if change.upload is not None and change.upload.etag == etag:
            return True
        if "-" in etag and source >= 0:
            wanted = self._settings.part_size
            hashes = s3_multipart.file_hashes(source, change.size_bytes, wanted)
            if hashes == (change.sha256, etag):
                return True
        with self.open_read(key) as stream:
            try:
                digest = hashlib.sha256()
                while data := stream.read(STREAM_BYTES):
                    digest.update(data)
            except OSError as exc:
                raise ElementUnavailable(self.id, key, exc.strerror or str(exc)) from exc
        return digest.hexdigest() == change.sha256

    # --------------------------------------------------------------------- uploads of parts

    def _abandon(self, removals: Iterable[Change]) -> None:
        """Give up the uploads of parts for keys that are removed. S3Trouble."""
        prefix = self._settings.prefix
        names = {prefix + change.key.removeprefix(TEMPORARY_PREFIX) for change in removals}
        for upload in list(s3_multipart.find_uploads(self._connection, prefix)):
            if upload.key in names and upload.upload_id not in self._uploads:
                s3_multipart.abort(self._connection, upload.key, upload.upload_id)

    def _give_up(self, name: str, upload_id: str) -> None:
        self._uploads.discard(upload_id)
        try:
            s3_multipart.abort(self._connection, name, upload_id)
        except S3Trouble as exc:
            log.warning(
                *("element %s: %s: parts stay there for now: %s", self.id, name, exc.reason),
                extra=about(exc, element=self.id, key=name),
            )

    # ------------------------------------------------------------------ what lies under a key

    def _name(self, key: str) -> str:
        """The key in the bucket."""
        check_key(self.id, key)
        name = self._settings.prefix + key
        if len(name.encode()) > KEY_BYTES_MAX:
            reason = f"has more than {KEY_BYTES_MAX} bytes with the prefix; use a shorter prefix"
            raise KeyInvalid(self.id, key, reason)
        return name

    def _is_key(self, key: str) -> bool:
        try:
            check_key(self.id, key)
        except KeyInvalid:
            return False
        return True

    def _look_up(self, key: str, name: str) -> Head | None:
        """What lies under a key before something is put there; None where there is nothing, which
        nobody relies on: what is put there has to find the key free again."""
        try:
            return head(self._connection, name)
        except S3Trouble as exc:
            if exc.trouble is Trouble.ABSENT:
                return None
            raise self._error(key, exc, reads=False) from exc

    def _listed(self, prefix: str) -> Iterator[ObjectStat]:
        start = self._settings.prefix + prefix
        token: str | None = None
        while True:
            page = self._asked("", partial(list_page, self._connection, start, token))
            for found in page.get("Contents", []):
                key = found["Key"].removeprefix(self._settings.prefix)
                changed_ns = modified_ns(found["LastModified"])
                yield ObjectStat(key, found["Size"], changed_ns, etag_mark=mark(found["ETag"]))
            following = page.get("NextContinuationToken")
            if not page.get("IsTruncated"):
                return
            if not following or following == token:
                reason = f"{self._settings.where}: the listing does not go on; see the server's log"
                raise ElementUnavailable(self.id, prefix, reason)
            token = following

    def _check_present(self, *, reads: bool) -> None:
        """Raise `ElementUnavailable` if the element is not there: its archive.json, if it has ever
        been seen, as it was then, else at least the bucket."""
        name = self._settings.prefix + ARCHIVE_KEY
        try:
            self._check_archive_document(look(self._connection, name).etag)
            return
        except S3Trouble as exc:
            if exc.trouble not in (Trouble.ABSENT, Trouble.DENIED):
                raise self._error("", exc, reads=reads, whole=True) from exc
        try:
            fetch(self._connection, name, 0, 1)  # unlike a HEAD, it says what is wrong
        except S3Trouble as exc:
            if exc.trouble is not Trouble.ABSENT:
                raise self._error("", exc, reads=reads, whole=True) from exc
            if self._archive_etag:
                reason = f"{self._settings.where}: {name} is gone; is this still the right place?"
                raise ElementUnavailable(self.id, "", reason) from exc

    def _check_archive_document(self, etag: str) -> None:
        """That archive.json is the one that was seen first: the ETag tells, and where that is
        another one, as of a copy, the document itself. S3Trouble, ElementUnavailable."""
        if self._archive_etag in ("", etag):
            self._archive_etag = etag
            return
        name = self._settings.prefix + ARCHIVE_KEY
        piece = fetch(self._connection, name, 0, ARCHIVE_DOCUMENT_BYTES)
        if piece.data == self._archive_document:
            self._archive_etag = piece.etag
            return
        reason = "put it back, or unmount and mount if it is right"
        where = self._settings.where
        raise ElementUnavailable(self.id, "", f"{where}: {name} is another one now; {reason}")

    # -------------------------------------------------------------------------------- errors

    def _asked(self, key: str, request: Callable[[], _Answer]) -> _Answer:
        """The answer to a request that reads; raises the `ElementError` of its trouble."""
        try:
            return request()
        except S3Trouble as exc:
            raise self._error(key, exc, reads=True) from exc

    def _error(
        self, key: str, trouble: S3Trouble, *, reads: bool, whole: bool | None = None
    ) -> ElementError:
        """The error for a trouble. Asks, where it makes a difference, whether it is that of the one
        object or of the whole element."""
        kind = trouble.trouble
        if whole is None:
            whole = kind is Trouble.CREDENTIALS
            if kind is Trouble.DENIED or (kind is Trouble.ABSENT and reads):
                try:
                    self._check_present(reads=reads)
                except ElementError as exc:
                    return exc
        if kind is Trouble.EXISTS and reads:
            reason = f"{self._settings.where}: the object was changed while it was read"
            return ElementUnavailable(self.id, key, reason)
        return element_error(self.id, key, trouble, whole=whole, reads=reads)
