"""Object Lock of a bucket: the server itself keeps what is retained from everybody's hands.

What a lock is set on is the version of the object that is there (a bucket with Object Lock has
versions): neither can be removed before its time, though a plain DELETE hides it behind a marker.
A lock is only ever made later. One that is there in the mode COMPLIANCE stays in that; one that
ends later than what is asked for stays as it is. So to repeat it changes nothing.

Whether a bucket has Object Lock is asked once in a process. A server that does not know the
question, or does not answer it to us, counts as one without, which the log says.
"""

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from artstorefs.core.log_fields import about
from artstorefs.elements.gauges import LockSupport
from artstorefs.elements.s3_connection import S3Connection
from artstorefs.elements.s3_errors import S3Trouble, Trouble

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_UNKNOWN_CALL: Final = frozenset({405, 501})
_RIGHTS: Final = "s3:PutObjectRetention and s3:GetObjectRetention are needed for it"


class ObjectLock:
    """That of the bucket of one element. Everything blocks, and raises S3Trouble."""

    def __init__(self, element: str, connection: S3Connection, support: LockSupport) -> None:
        self._element = element
        self._connection = connection
        self._support = support

    def is_there(self) -> bool:
        """Whether the bucket has it, and is to be told."""
        if self._connection.settings.object_lock is None:
            self._support.is_there = False
        if self._support.is_there is None:
            with self._support.asking:
                if self._support.is_there is None:
                    self._support.is_there = self._ask()
        return self._support.is_there

    def extend(self, name: str, until_ns: int) -> None:
        """Have an object locked until then: a HEAD, and what it lacks. `name`: in the bucket."""
        settings = self._connection.settings
        bucket, until = settings.bucket, _date(until_ns)
        found = self._connection.run(lambda client: client.head_object(Bucket=bucket, Key=name))
        mode = found.get("ObjectLockMode")
        locked_until = found.get("ObjectLockRetainUntilDate") if mode else None
        wanted = settings.object_lock if mode != "COMPLIANCE" else mode
        if wanted is None:
            reason = f"{settings.where}: is not to be told to lock anything"
            raise S3Trouble(Trouble.DENIED, reason)
        if locked_until is not None:
            if mode == wanted and until <= locked_until:
                return
            until = max(until, locked_until)
        version: dict[str, Any] = {}
        if "VersionId" in found:  # the one that was looked at, whoever else writes there
            version["VersionId"] = found["VersionId"]
        try:
            self._connection.run(
                lambda client: client.put_object_retention(
                    Bucket=bucket,
                    Key=name,
                    Retention={"Mode": wanted, "RetainUntilDate": until},
                    **version,
                )
            )
        except S3Trouble as exc:
            if exc.trouble is not Trouble.DENIED:
                raise
            reason = f"cannot be locked until {until:%Y-%m-%d %H:%M:%S}: {exc.reason}; {_RIGHTS}"
            raise S3Trouble(Trouble.DENIED, reason) from exc

    def _ask(self) -> bool:
        settings, told = self._connection.settings, about(element=self._element)
        try:
            is_there = self._connection.run(lambda client: _is_enabled(client, settings.bucket))
        except S3Trouble as exc:
            if exc.trouble is Trouble.DENIED:
                line = (
                    "element %s: whether its bucket has Object Lock is not to be known, so that "
                    "it counts as one without: %s; give these credentials the right "
                    's3:GetBucketObjectLockConfiguration, or set object_lock = "off"'
                )
                log.warning(line, self._element, exc.reason, extra=told)
                return False
            if exc.trouble is not Trouble.ABSENT:
                raise
            is_there = False
        how = f"locks what is retained ({settings.object_lock})" if is_there else "has none"
        log.info("element %s: Object Lock: the bucket %s", self._element, how, extra=told)
        return is_there


def _is_enabled(client: "S3Client", bucket: str) -> bool:
    try:
        answer = client.get_object_lock_configuration(Bucket=bucket)
    except ClientError as exc:
        code = exc.response.get("Error", {}).get("Code", "")
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status in _UNKNOWN_CALL or code == "NotImplemented":
            return False
        raise
    return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"


def _date(until_ns: int) -> datetime:
    """S3 has whole seconds; the next one, so that nothing ends earlier than we say."""
    return datetime.fromtimestamp(min(-(-until_ns // 10**9), _LAST_SECOND), UTC)
