"""Objects of a bucket in a cold storage class: how they get there, and how they can be read again.

    warm ──copied onto itself, with the class──► cold ──RestoreObject──► restoring ──► restored ─┐
                                                   ▲                        its days are over     │
                                                   └─────────────────────────────────────────────┘

What an object is HEAD tells: `StorageClass`, and `Restore` while there is a temporary copy, or one
is being made (Amazon S3 API reference, HeadObject, RestoreObject). Nothing is kept here. Only
objects are moved; attr.json and block lists are small, and are read all the time.

A copy onto itself is one step of the server: the object is as it was before, or has the new class.
One above 5 GiB is copied in parts, and a kill leaves an upload that nobody completes, like those of
`s3_multipart.py`. The size is compared before, and the ETag named in the request, so that nobody
else's object is taken for it. In a bucket with versions the copy is a new one, and the old one
stays; a lock that the old one has (Object Lock, `s3_locks.py`) the new one gets with the copy.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import ClientError

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import ElementError, ObjectAbsent, ObjectDamaged
from artstorefs.elements.s3_connection import S3Connection
from artstorefs.elements.s3_errors import S3Trouble, Trouble, element_error
from artstorefs.elements.s3_opening import settings_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

_Answer = TypeVar("_Answer")

COPY_BYTES_MAX: Final = 5 << 30
"""Amazon S3, CopyObject: what is larger is copied in parts."""

PART_BYTES: Final = 1 << 30

COLD: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Classes that nothing can be read from without RestoreObject."""

_LOCK: Final = ("ObjectLockMode", "ObjectLockRetainUntilDate")

_ONGOING: Final = re.compile(r'ongoing-request="(true|false)"')


@unique
class Temperature(StrEnum):
    """What can be done with an object now."""

    WARM = "warm"
    COLD = "cold"
    RESTORING = "restoring"
    RESTORED = "restored"

    @property
    def is_readable(self) -> bool:
        return self in (Temperature.WARM, Temperature.RESTORED)


@dataclass(frozen=True, slots=True)
class _Found:
    """What HEAD tells of an object."""

    size: int
    etag: str
    storage_class: str
    metadata: dict[str, str]
    temperature: Temperature
    lock: dict[str, Any]
    """Of Object Lock, as arguments of a request: a copy has none by itself."""


class ColdStore:
    """That of one element; as thread-safe as its connection. Every call blocks, and raises
    ElementError."""

    def __init__(
        self,
        element: str,
        connection: S3Connection,
        storage_class: str,
        tier: str,
        *,
        copy_bytes_max: int = COPY_BYTES_MAX,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._element = element
        self._connection = connection
        self._class = storage_class
        self._tier = tier
        self._copy_bytes_max = copy_bytes_max
        self._part_bytes = part_bytes

    def make_cold(self, key: str, size: int) -> None:
        """Have an object of this size in the class; one that is there already stays as it is."""
        found = self._look(key)
        if found.size != size:
            raise ObjectDamaged(self._element, key, f"has {found.size} bytes, {size} are right")
        if found.storage_class == self._class:
            return
        if size > self._copy_bytes_max:
            self._asked(key, lambda: self._copy_in_parts(key, found))
        else:
            self._asked(key, lambda: self._copy(key, found))
        after = self._look(key)
        if (after.size, after.storage_class) != (size, self._class):
            reason = f"is in class {after.storage_class} after the copy, not in {self._class}"
            raise ElementError(self._element, key, reason)

    def temperature(self, key: str) -> Temperature:
        """What can be done with an object now."""
        return self._look(key).temperature

    def restore(self, key: str, days: float) -> Temperature:
        """Have a copy of a cold object made that can be read for at least so many days; what can be
        done with it now. Asking again while that is under way changes nothing."""
        temperature = self.temperature(key)
        if temperature is Temperature.COLD:
            self._asked(key, lambda: self._begin_restoring(key, max(1, math.ceil(days))))
            return self.temperature(key)
        return temperature

    def close(self) -> None:
        """Let the connections go."""
        self._connection.close()

    # -------------------------------------------------------------------------------- requests

    def _name(self, key: str) -> str:
        return self._connection.settings.prefix + key

    def _look(self, key: str) -> _Found:
        bucket, name = self._connection.settings.bucket, self._name(key)
        return self._asked(
            key,
            lambda: self._connection.run(
                lambda client: _found(client.head_object(Bucket=bucket, Key=name))
            ),
        )

    def _copy(self, key: str, found: _Found) -> None:
        settings, name = self._connection.settings, self._name(key)
        arguments: dict[str, Any] = settings.new_object | {"StorageClass": self._class}
        if found.lock:  # what is locked has to come with a checksum
            arguments |= found.lock | {"ChecksumAlgorithm": "SHA256"}
        self._connection.run(
            lambda client: client.copy_object(
                Bucket=settings.bucket,
                Key=name,
                CopySource={"Bucket": settings.bucket, "Key": name},
                CopySourceIfMatch=found.etag,
                MetadataDirective="COPY",
                **arguments,
            )
        )

    def _copy_in_parts(self, key: str, found: _Found) -> None:
        settings, name = self._connection.settings, self._name(key)
        arguments: dict[str, Any] = settings.new_object | {"StorageClass": self._class} | found.lock
        made = self._connection.run(
            lambda client: client.create_multipart_upload(
                Bucket=settings.bucket, Key=name, Metadata=found.metadata, **arguments
            )
        )
        upload = made["UploadId"]
        try:
            starts = range(0, found.size, self._part_bytes)
            parts = [
                {"PartNumber": number, "ETag": self._copy_part(name, upload, number, start, found)}
                for number, start in enumerate(starts, 1)
            ]
            self._connection.run(
                lambda client: client.complete_multipart_upload(
                    Bucket=settings.bucket,
                    Key=name,
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                )
            )
        except BaseException:
            self._connection.run(
                lambda client: client.abort_multipart_upload(
                    Bucket=settings.bucket, Key=name, UploadId=upload
                )
            )
            raise

    def _copy_part(self, name: str, upload: str, number: int, start: int, found: _Found) -> str:
        bucket = self._connection.settings.bucket
        end = min(start + self._part_bytes, found.size) - 1
        answer = self._connection.run(
            lambda client: client.upload_part_copy(
                Bucket=bucket,
                Key=name,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": bucket, "Key": name},
                CopySourceIfMatch=found.etag,
                CopySourceRange=f"bytes={start}-{end}",
            )
        )
        return answer["CopyPartResult"]["ETag"]

    def _begin_restoring(self, key: str, days: int) -> None:
        bucket, name = self._connection.settings.bucket, self._name(key)
        wanted: dict[str, Any] = {"Days": days, "GlacierJobParameters": {"Tier": self._tier}}

        def request(client: "S3Client") -> None:
            try:
                client.restore_object(Bucket=bucket, Key=name, RestoreRequest=wanted)  # type: ignore[arg-type]
            except ClientError as exc:
                if exc.response.get("Error", {}).get("Code") != "RestoreAlreadyInProgress":
                    raise

        self._connection.run(request)

    def _asked(self, key: str, request: Callable[[], _Answer]) -> _Answer:
        try:
            return request()
        except S3Trouble as exc:
            if exc.trouble is Trouble.ABSENT:
                raise ObjectAbsent(self._element, key) from exc
            raise element_error(self._element, key, exc, whole=False, reads=False) from exc


def _found(answer: "HeadObjectOutputTypeDef") -> _Found:
    storage_class = answer.get("StorageClass", "STANDARD")
    ongoing = _ONGOING.search(answer.get("Restore", ""))
    if storage_class not in COLD:
        temperature = Temperature.WARM
    elif ongoing is None:
        temperature = Temperature.COLD
    else:
        temperature = Temperature.RESTORING if ongoing[1] == "true" else Temperature.RESTORED
    return _Found(
        *(answer["ContentLength"], answer["ETag"], storage_class),
        *(answer.get("Metadata", {}), temperature),
        {name: answer[name] for name in _LOCK if name in answer},
    )


def open_cold_store(configuration: ElementConfiguration) -> ColdStore | None:
    """The cold store of an element, if it has one. Asks nothing."""
    if configuration.archive_storage_class is None:
        return None
    connection = S3Connection(settings_of(configuration))
    return ColdStore(
        *(configuration.id, connection, configuration.archive_storage_class),
        configuration.restore_tier,
    )
