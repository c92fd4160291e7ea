"""Reading objects of a bucket: ranges, heads, and a stream over a whole object.

Keys here are those in the bucket. Everything raises `S3Trouble`, the stream `OSError`.

What is checked of what arrives: that it is the range that was asked for, and all of it. Where all
of an object arrives at once, also that it is what the server has a hash of: the SHA-256 that we
sent with it, the server's own SHA-256, or its MD5. One that fits is enough, because another program
may have written the object and kept our header. Ranges have no hash on S3; whoever reads blocks of
a large object has a block list.
"""

import errno
import hashlib
import io
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from artstorefs.core.errors import ElementError
from artstorefs.elements.s3_connection import S3Connection
from artstorefs.elements.s3_errors import S3Trouble, Trouble
from artstorefs.elements.s3_quick import NotThisWay, QuickWay

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
    )
    from obstore import GetResult

SHA256_METADATA: Final = "sha256"
"""The user metadata `x-amz-meta-sha256`: 64 hex digits, of each object that is sent in one part."""

STREAM_BYTES: Final = 8 << 20
"""What a stream asks for at once: a second of a slow line, and few requests of a fast one."""

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MD5_ETAG: Final = re.compile(r"[0-9a-f]{32}")
_SECOND_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Head:
    """What the server tells of an object. `sha256`: its own, base64, of the whole; else None."""

    size_bytes: int
    modified_ns: int
    etag: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of an object, and what the object is."""

    data: bytes
    object_bytes: int
    etag: str


def modified_ns(moment: datetime) -> int:
    """The time of the last change; S3 tells whole seconds."""
    return int(moment.timestamp()) * _SECOND_NS


def mark(etag: str) -> int:
    """`ObjectStat.mark` of the content with this ETag, which every answer has: also the one to a
    PUT, which does not tell the time."""
    return int.from_bytes(hashlib.sha256(etag.strip('"').encode()).digest()[:8]) >> 1


def head(connection: S3Connection, key: str) -> Head:
    """What the server knows of an object. Trouble.ABSENT also for a missing bucket."""
    bucket = connection.settings.bucket
    return connection.run(
        lambda client: _head(client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED"))
    )


def look(connection: S3Connection, key: str) -> Head:
    """The same, perhaps without the SHA-256."""
    bucket = connection.settings.bucket

    def look_quickly(way: QuickWay) -> Head:
        found = way.head(key)
        changed_ns = modified_ns(found["last_modified"])
        return Head(found["size"], changed_ns, found["e_tag"] or "", None)

    return connection.run(
        lambda client: _head(client.head_object(Bucket=bucket, Key=key)), look_quickly
    )


def fetch(
    connection: S3Connection, key: str, offset: int, length: int, etag: str | None = None
) -> Piece:
    """`length` bytes (at least 1) from `offset`, fewer only where the object ends.

    With `etag`, Trouble.EXISTS if the object is another one by now.
    """

    def request(client: "S3Client") -> Piece:
        wanted = f"bytes={offset}-{offset + length - 1}"
        bucket = connection.settings.bucket
        if etag is None:
            answer = client.get_object(Bucket=bucket, Key=key, Range=wanted)
        else:
            answer = client.get_object(Bucket=bucket, Key=key, Range=wanted, IfMatch=etag)
        return _piece(answer, offset, length, connection.settings.where)

    def request_quickly(way: QuickWay) -> Piece:
        return _quick_piece(*way.get(key, offset, length, etag), offset, length)

    try:
        return connection.run(request, request_quickly)
    except S3Trouble as exc:
        if exc.trouble is Trouble.RANGE:  # the object is there, and ends before
            return Piece(b"", offset, etag or "")
        raise


def list_page(
    connection: S3Connection, prefix: str, token: str | None
) -> "ListObjectsV2OutputTypeDef":
    """One page of a listing, from `token` on, the first one without."""
    bucket = connection.settings.bucket
    if token is None:
        return connection.run(lambda client: client.list_objects_v2(Bucket=bucket, Prefix=prefix))
    return connection.run(
        lambda client: client.list_objects_v2(Bucket=bucket, Prefix=prefix, ContinuationToken=token)
    )


def _head(answer: "HeadObjectOutputTypeDef") -> Head:
    etag = answer["ETag"]
    changed_ns = modified_ns(answer["LastModified"])
    return Head(answer["ContentLength"], changed_ns, etag, _full_sha256(answer))


def _full_sha256(answer: "HeadObjectOutputTypeDef | GetObjectOutputTypeDef") -> str | None:
    """The server's SHA-256 of all of the object; that of an object in parts is one of hashes."""
    told = answer.get("ChecksumSHA256")
    return None if told is None or "-" in told or "-" in answer["ETag"] else told


def _piece(answer: "GetObjectOutputTypeDef", offset: int, length: int, where: str) -> Piece:
    data = answer["Body"].read()
    match = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    if match is None:
        raise S3Trouble(Trouble.UNREACHABLE, f"{where}: the server ignores ranges; see its log")
    first, last, size = map(int, match.groups())
    if first != offset or last != min(offset + length, size) - 1 or len(data) != last - first + 1:
        raise S3Trouble(
            Trouble.PASSING, f"{where}: the answer was cut off; another attempt may succeed"
        )
    if len(data) == size and not _is_right(answer, data):
        reason = f"{where}: what arrived does not have the hash that the server has for it"
        raise S3Trouble(Trouble.GARBLED, reason)
    return Piece(data, size, answer["ETag"])


def _quick_piece(answer: "GetResult", data: bytes, offset: int, length: int) -> Piece:
    """What obstore has brought, if there is no doubt about it; else boto3 fetches it again, and
    says what is wrong."""
    size, etag = answer.meta["size"], answer.meta["e_tag"] or ""
    end = min(offset + length, size)
    if tuple(answer.range) != (offset, end) or len(data) != end - offset:
        raise NotThisWay(tried=False)
    if len(data) == size:
        sha256 = hashlib.sha256(data).hexdigest()
        if answer.attributes.get(SHA256_METADATA) != sha256:
            raise NotThisWay(tried=False)
    return Piece(data, size, etag)


def _is_right(answer: "GetObjectOutputTypeDef", data: bytes) -> bool:
    """Whether all the bytes of an object fit one of the hashes that came with them."""
    sha256 = hashlib.sha256(data)
    hashes = [(answer["Metadata"].get(SHA256_METADATA), sha256.hexdigest())]
    hashes.append((_full_sha256(answer), b64encode(sha256.digest()).decode()))
    etag = answer["ETag"].strip('"')
    if _MD5_ETAG.fullmatch(etag) and answer.get("ServerSideEncryption") in (None, "AES256"):
        hashes.append((etag, hashlib.md5(data, usedforsecurity=False).hexdigest()))
    told = [(is_to_be, is_now) for is_to_be, is_now in hashes if is_to_be is not None]
    return not told or any(is_to_be == is_now for is_to_be, is_now in told)


class S3Stream(io.RawIOBase):
    """A whole object from its beginning on, a few MiB at a time.

    The first piece is here when this is made. Later ones are those of the same object or an
    `OSError`: an object that is removed meanwhile is gone for its readers too, if it is larger
    than one piece.
    """

    def __init__(self, fetch_piece: Callable[[int, int, str | None], Piece]) -> None:
        """`fetch_piece` takes offset, length and ETag; it raises ElementError."""
        super().__init__()
        self._fetch = fetch_piece
        first = fetch_piece(0, STREAM_BYTES, None)
        self._etag, self._object_bytes = first.etag, first.object_bytes
        self._piece = memoryview(first.data)
        self._next_offset = len(first.data)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]
        """Some bytes, 0 at the end. OSError for whatever the element says."""
        if not self._piece and self._next_offset < self._object_bytes:
            try:
                piece = self._fetch(self._next_offset, STREAM_BYTES, self._etag)
            except ElementError as exc:
                raise OSError(errno.EIO, str(exc)) from exc
            self._piece = memoryview(piece.data)
            self._next_offset += len(piece.data)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count
