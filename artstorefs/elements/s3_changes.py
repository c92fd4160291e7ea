"""What an S3 element has staged, and how a barrier carries it out.

Small content is kept in memory, larger content as an open descriptor of its source, and what is
sent in parts is on the server already (`s3_multipart.py`), so a source may be removed once it is
staged. Changes are carried out in runs: all stores that follow one another together, `concurrency`
at a time, then all removals that follow those, in one request for up to 1,000 keys. Changes of one
key stay in order.
"""

import enum
import hashlib
import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from artstorefs.elements import s3_multipart
from artstorefs.elements.s3_connection import S3Connection
from artstorefs.elements.s3_errors import S3Trouble, Trouble, trouble_of
from artstorefs.elements.s3_multipart import Upload
from artstorefs.elements.s3_quick import QuickWay
from artstorefs.elements.s3_reading import SHA256_METADATA

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef

KEPT_BYTES: Final = 128 << 10
"""Content up to this size is kept in memory until the barrier, 16 MiB of a full batch."""

REMOVED_AT_ONCE: Final = 1000
"""Amazon S3, DeleteObjects: keys of one request."""


class Action(enum.Enum):
    """What the barrier does with a staged change."""

    CREATE = "send the content to the key, which must be free"
    COMPLETE = "make an object of the parts that are on the server; the key must be free"
    REPLACE = "send the content over whatever the key holds"
    CONFIRM = "nothing: the key holds the object already"
    REMOVE = "remove what the key holds"


@dataclass(slots=True)
class Change:
    """One staged change; `key` is that of the element, `name` that in the bucket.

    The content is `data`, or can be read from `descriptor`, which this owns.
    """

    action: Action
    key: str
    name: str
    size_bytes: int = 0
    sha256: str = ""
    data: bytes | None = None
    descriptor: int = -1
    etag: str = ""
    """What the server has called the content that it got."""
    upload: Upload | None = None

    def stores(self, size_bytes: int, sha256: str) -> bool:
        """Whether this change puts, or finds, exactly this object under its key."""
        return (self.size_bytes, self.sha256) == (size_bytes, sha256)

    def content(self) -> bytes:
        """What is to be sent. OSError if its source cannot be read."""
        if self.data is not None:
            return self.data
        data = os.pread(self.descriptor, self.size_bytes, 0)
        while len(data) < self.size_bytes and (
            more := os.pread(self.descriptor, self.size_bytes - len(data), len(data))
        ):
            data += more
        return data

    def close(self) -> None:
        """Let the source go. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Staged:
    """The staged changes of one element. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batch: list[Change] = []
        self._latest: dict[str, Change] = {}

    def latest(self, key: str) -> Change | None:
        """What was last staged for `key` and waits for a barrier."""
        return self._latest.get(key)

    def append(self, change: Change) -> None:
        """Stage one more."""
        with self._lock:
            self._batch.append(change)
            self._latest[change.key] = change

    def take(self) -> list[Change]:
        """The staged changes in order; the list starts anew."""
        with self._lock:
            batch, self._batch, self._latest = self._batch, [], {}
            return batch


class ChangeFailed(Exception):
    """A change of a batch could not be carried out."""

    def __init__(self, change: Change, trouble: S3Trouble) -> None:
        super().__init__(trouble.reason)
        self.change = change
        self.trouble = trouble


def carry_out(
    connection: S3Connection,
    batch: list[Change],
    is_ours: Callable[[Change], bool],
    abandon: Callable[[Iterable[Change]], None],
) -> None:
    """Carry out the changes, in runs as described above. Raises ChangeFailed for the first failure,
    when what was under way with it has ended.

    `is_ours` says whether a key that is taken holds what the change puts; `abandon` gives up what
    is on its way to keys that are removed.
    """
    for is_removal, run in groupby(batch, lambda change: change.action is Action.REMOVE):
        if is_removal:
            removals = list({change.key: change for change in run}.values())
            _remove(connection, removals)
            _attempt(removals[0], partial(abandon, removals))
        else:
            _store(connection, list(run), is_ours)


def _attempt(change: Change, work: Callable[[], None]) -> None:
    try:
        work()
    except S3Trouble as exc:
        raise ChangeFailed(change, exc) from exc


# ---------------------------------------------------------------------------------- stores


def _store(connection: S3Connection, run: list[Change], is_ours: Callable[[Change], bool]) -> None:
    by_key: dict[str, list[Change]] = {}
    for change in run:
        by_key.setdefault(change.key, []).append(change)

    def store_key(changes: list[Change]) -> None:
        for change in changes:
            _attempt(change, partial(_store_one, connection, change, is_ours))

    if len(by_key) == 1:
        store_key(run)
        return
    with ThreadPoolExecutor(connection.settings.concurrency, "stores") as pool:
        running = [pool.submit(store_key, changes) for changes in by_key.values()]
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _store_one(connection: S3Connection, change: Change, is_ours: Callable[[Change], bool]) -> None:
    """Carry out one change. A key that is taken by what we wanted to put there is as good: then it
    is the reply to an earlier attempt that was lost."""
    try:
        match change.action:
            case Action.CREATE:
                _send(connection, change, {"IfNoneMatch": "*"})
            case Action.REPLACE:
                _send(connection, change, {})
            case Action.COMPLETE:
                assert change.upload is not None
                s3_multipart.complete(connection, change.upload)
    except S3Trouble as exc:
        taken = exc.trouble in (Trouble.EXISTS, Trouble.NO_UPLOAD)
        if not (taken and change.action is not Action.REPLACE and is_ours(change)):
            raise


def _send(connection: S3Connection, change: Change, condition: dict[str, Any]) -> None:
    try:
        data = change.content()
    except OSError as exc:
        reason = f"its source cannot be read: {exc.strerror or exc}"
        raise S3Trouble(Trouble.GARBLED, reason) from exc
    sha256 = hashlib.sha256(data)
    where = connection.settings.where
    if sha256.hexdigest() != change.sha256:
        raise S3Trouble(Trouble.GARBLED, "its source has changed since it was staged")
    checksum = b64encode(sha256.digest()).decode()
    metadata = {SHA256_METADATA: change.sha256}

    def put(client: "S3Client") -> str:
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        answer = client.put_object(
            Bucket=connection.settings.bucket,
            Key=change.name,
            Body=data,
            ContentMD5=b64encode(md5).decode(),
            ChecksumSHA256=checksum,
            Metadata=metadata,
            **connection.settings.new_object,
            **condition,
        )
        if answer.get("ChecksumSHA256", checksum) != checksum:
            raise S3Trouble(Trouble.GARBLED, f"{where}: what is stored there is not what was sent")
        return answer["ETag"]

    def put_quickly(way: QuickWay) -> str:
        return way.put(change.name, data, metadata, is_new=bool(condition))

    change.etag = connection.run(put, put_quickly)


# -------------------------------------------------------------------------------- removals


def _remove(connection: S3Connection, removals: list[Change]) -> None:
    for start in range(0, len(removals), REMOVED_AT_ONCE):
        part = removals[start : start + REMOVED_AT_ONCE]
        together = [change for change in part if _fits_xml(change.name)]
        for change in part:
            if change not in together:
                _attempt(change, partial(_remove_one, connection, change))
        if together:
            _attempt(together[0], partial(_remove_many, connection, together))


def _fits_xml(name: str) -> bool:
    """Whether a key survives the XML that DeleteObjects sends: control characters do not."""
    return name.isprintable()


def _remove_one(connection: S3Connection, change: Change) -> None:
    bucket = connection.settings.bucket
    connection.run(lambda client: client.delete_object(Bucket=bucket, Key=change.name))


def _remove_many(connection: S3Connection, removals: list[Change]) -> None:
    answer = connection.run(
        lambda client: client.delete_objects(
            Bucket=connection.settings.bucket,
            Delete={"Objects": [{"Key": change.name} for change in removals], "Quiet": True},
        )
    )
    for error in _failures(answer.get("Errors", [])):
        raise error_of(connection, error)


def _failures(errors: "list[ErrorTypeDef]") -> "Iterator[ErrorTypeDef]":
    """Errors of single keys, but for those that say that nothing was there."""
    return (error for error in errors if error.get("Code") != "NoSuchKey")


def error_of(connection: S3Connection, error: "ErrorTypeDef") -> S3Trouble:
    """The trouble of one key of a DeleteObjects, as if it had been the answer to a request."""
    from botocore.exceptions import ClientError

    answer: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 0, "HTTPHeaders": {}}}
    found = trouble_of(ClientError(answer, "DeleteObjects"), connection.settings.where)
    if found.trouble is Trouble.DENIED:
        return S3Trouble(found.trouble, f"{found.reason}; it may be locked there (Object Lock)")
    return found
