"""Large objects on S3: parts that are sent while they are staged, and go on after a kill.

An upload in parts is S3's own staging: nothing is seen under the key until it is completed. So the
state of an upload is on the server alone, and nothing of it is kept here:

    a kill during          leaves on the server      the next `send` of the same key
    sending of part N      parts 1 … N-1             finds them, sends N and those after it
    completing             the object, or all parts  the element finds the object, or sends nothing

A part that is there is taken for ours only if its size and its MD5 (its ETag) are those of our own
bytes; otherwise it is sent anew, over it. Where ETags are no MD5 (encryption with a key of KMS) and
the server tells no SHA-256 of its parts, everything is sent again.
"""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Event, Semaphore
from typing import TYPE_CHECKING, Final

from artstorefs.elements.s3_connection import S3Connection
from artstorefs.elements.s3_errors import S3Trouble, Trouble
from artstorefs.elements.s3_settings import PARTS_MAX

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        ListMultipartUploadsOutputTypeDef,
        ListPartsOutputTypeDef,
        PartTypeDef,
    )

_ALIGNMENT_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """An upload that is on the server and not completed; `key` is that in the bucket."""

    key: str
    upload_id: str
    initiated: datetime


@dataclass(slots=True)
class Upload:
    """An upload all of whose parts are on the server."""

    key: str
    upload_id: str
    sha256: str
    """Of the bytes that were read and sent, 64 hex digits."""
    etag: str
    """What the ETag of the object will be, where the server makes ETags as Amazon does."""
    parts: "list[CompletedPartTypeDef]" = field(default_factory=list)


def part_bytes(size_bytes: int, wanted_bytes: int) -> int:
    """The size of the parts of an object: what is wanted, or what at most 10,000 parts need."""
    least = -(-size_bytes // PARTS_MAX)
    return max(wanted_bytes, -(-least // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES)


def composite_etag(digests: list[bytes]) -> str:
    """The ETag of an object in parts, from the MD5 of each."""
    return f"{_md5(b''.join(digests)).hexdigest()}-{len(digests)}"


def file_hashes(descriptor: int, size_bytes: int, wanted_bytes: int) -> tuple[str, str]:
    """SHA-256 of a file, 64 hex digits, and the ETag that it would have if it was sent in parts by
    us. Blocks."""
    step = part_bytes(size_bytes, wanted_bytes)
    whole = hashlib.sha256()
    digests = []
    for offset in range(0, size_bytes, step):
        data = _read(descriptor, step, offset)
        whole.update(data)
        digests.append(_md5(data).digest())
    return whole.hexdigest(), composite_etag(digests)


def find_uploads(connection: S3Connection, prefix: str) -> Iterator[Found]:
    """Uploads that were begun and not completed, of keys that start with `prefix` (all of it: the
    element's own prefix too). Raises S3Trouble."""
    bucket = connection.settings.bucket
    key_marker = id_marker = ""
    while True:
        page = connection.run(
            partial(_list_uploads, bucket=bucket, prefix=prefix, after=(key_marker, id_marker))
        )
        for one in page.get("Uploads", []):
            if one["Key"].startswith(prefix):
                yield Found(one["Key"], one["UploadId"], one["Initiated"])
        following = (page.get("NextKeyMarker", ""), page.get("NextUploadIdMarker", ""))
        if not page.get("IsTruncated"):
            return
        if following == (key_marker, id_marker):
            reason = f"{connection.settings.where}: the list of uploads does not go on; see its log"
            raise S3Trouble(Trouble.UNREACHABLE, reason)
        key_marker, id_marker = following


def abort(connection: S3Connection, key: str, upload_id: str) -> None:
    """Give up an upload, and the room of its parts. Idempotent. Raises S3Trouble."""
    try:
        connection.run(
            lambda client: client.abort_multipart_upload(
                Bucket=connection.settings.bucket, Key=key, UploadId=upload_id
            )
        )
    except S3Trouble as exc:
        if exc.trouble not in (Trouble.NO_UPLOAD, Trouble.ABSENT):
            raise


def send(connection: S3Connection, key: str, descriptor: int, size_bytes: int) -> Upload:
    """Send what the server does not have yet of the parts of an open file, `size_bytes` long.

    `concurrency` parts at a time, each read once: the bytes that are hashed are those that are
    sent. At most `concurrency` + 1 parts are in memory. Raises S3Trouble; what was sent stays
    there for the next time.
    """
    settings = connection.settings
    upload_id, there = _begin(connection, key)
    step = part_bytes(size_bytes, settings.part_size)
    whole = hashlib.sha256()
    digests: list[bytes] = []
    sending: list[Future[CompletedPartTypeDef]] = []
    room, failed = Semaphore(settings.concurrency), Event()
    with ThreadPoolExecutor(settings.concurrency, "parts") as pool:
        for number, offset in enumerate(range(0, size_bytes, step), 1):
            data = _read(descriptor, step, offset)
            whole.update(data)
            digests.append(_md5(data).digest())
            room.acquire()
            if failed.is_set():
                break
            part = _Part(connection, key, upload_id, number, data, digests[-1], room, failed)
            sending.append(pool.submit(part.send, there.get(number)))
    parts = [one.result() for one in sending]
    return Upload(key, upload_id, whole.hexdigest(), composite_etag(digests), parts)


def complete(connection: S3Connection, upload: Upload) -> None:
    """Make an object of an upload; the key must be free. Raises S3Trouble."""
    connection.run(
        lambda client: client.complete_multipart_upload(
            Bucket=connection.settings.bucket,
            Key=upload.key,
            UploadId=upload.upload_id,
            IfNoneMatch="*",
            MultipartUpload={"Parts": upload.parts},
        )
    )


@dataclass(frozen=True, slots=True)
class _Part:
    connection: S3Connection
    key: str
    upload_id: str
    number: int
    data: bytes
    md5: bytes
    room: Semaphore
    failed: Event

    def send(self, there: "PartTypeDef | None") -> "CompletedPartTypeDef":
        try:
            sha256 = b64encode(hashlib.sha256(self.data).digest()).decode()
            if there is not None and self._is_there(there, sha256):
                return self._completed(there["ETag"], sha256)
            answer = self.connection.run(
                lambda client: client.upload_part(
                    Bucket=self.connection.settings.bucket,
                    Key=self.key,
                    UploadId=self.upload_id,
                    PartNumber=self.number,
                    Body=self.data,
                    ContentMD5=b64encode(self.md5).decode(),
                    ChecksumSHA256=sha256,
                )
            )
            return self._completed(answer["ETag"], sha256)
        except BaseException:
            self.failed.set()
            raise
        finally:
            self.room.release()

    def _is_there(self, there: "PartTypeDef", sha256: str) -> bool:
        if there.get("Size") != len(self.data):
            return False
        told = there.get("ChecksumSHA256")
        return told == sha256 if told else there.get("ETag", "").strip('"') == self.md5.hex()

    def _completed(self, etag: str, sha256: str) -> "CompletedPartTypeDef":
        return {"PartNumber": self.number, "ETag": etag, "ChecksumSHA256": sha256}


def _begin(connection: S3Connection, key: str) -> "tuple[str, dict[int, PartTypeDef]]":
    """The upload to go on with, and its parts by number: the newest one there is, or a new one."""
    found = sorted(
        (one for one in find_uploads(connection, key) if one.key == key),
        key=lambda one: one.initiated,
    )
    for old in found[:-1]:
        abort(connection, key, old.upload_id)
    if found:
        upload_id = found[-1].upload_id
        return upload_id, {part["PartNumber"]: part for part in _parts(connection, key, upload_id)}
    settings = connection.settings
    made = connection.run(
        lambda client: client.create_multipart_upload(
            Bucket=settings.bucket, Key=key, ChecksumAlgorithm="SHA256", **settings.new_object
        )
    )
    return made["UploadId"], {}


def _parts(connection: S3Connection, key: str, upload_id: str) -> "Iterator[PartTypeDef]":
    bucket = connection.settings.bucket
    marker = 0
    while True:
        page = connection.run(
            partial(_list_parts, bucket=bucket, key=key, upload_id=upload_id, after=marker)
        )
        yield from page.get("Parts", [])
        following = page.get("NextPartNumberMarker", 0)
        if not page.get("IsTruncated") or following <= marker:
            return  # a list that ends early only means that more is sent
        marker = following


def _list_uploads(
    client: "S3Client", *, bucket: str, prefix: str, after: tuple[str, str]
) -> "ListMultipartUploadsOutputTypeDef":
    return client.list_multipart_uploads(
        Bucket=bucket, Prefix=prefix, KeyMarker=after[0], UploadIdMarker=after[1]
    )


def _list_parts(
    client: "S3Client", *, bucket: str, key: str, upload_id: str, after: int
) -> "ListPartsOutputTypeDef":
    return client.list_parts(Bucket=bucket, Key=key, UploadId=upload_id, PartNumberMarker=after)


def _read(descriptor: int, length: int, offset: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while len(data) < length and (
        more := os.pread(descriptor, length - len(data), offset + len(data))
    ):
        data += more
    return data


def _md5(data: bytes) -> "hashlib._Hash":
    return hashlib.md5(data, usedforsecurity=False)
