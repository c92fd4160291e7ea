"""What went wrong at an S3 server, in the words and classes of this program: one table.

A failure is a `Trouble` (what kind) with one line for a person (what, where, what to do). Which
class of error it becomes depends on who asked: see `element_error`. Codes are those of the S3 API
reference, "Error responses"; a HEAD has no body, so there the HTTP status stands for the code.
"""

import enum
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    ConnectTimeoutError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from urllib3.exceptions import HTTPError

from artstorefs.core.errors import (
    ElementDenied,
    ElementError,
    ElementFull,
    ElementUnavailable,
    KeyInvalid,
    ObjectAbsent,
    ObjectDamaged,
    ObjectExists,
)
from artstorefs.core.redaction import redacted


class Trouble(enum.Enum):
    """Kinds of failure, by what can be done about them."""

    ABSENT = "nothing is under the key, or the bucket is missing: HEAD does not say which"
    EXISTS = "a condition did not hold: something is under the key"
    NO_UPLOAD = "the multipart upload is not there any more"
    RANGE = "the range begins behind the end of the object"
    PASSING = "the server or the way to it fails for a moment; try again"
    SILENT = "no answer comes; try again, and then leave the server alone for a while"
    LEFT_ALONE = "it was not asked, because it has failed shortly before"
    GARBLED = "what arrived is not what was sent; try again"
    UNREACHABLE = "the element as a whole cannot be used; trying again at once does not help"
    CREDENTIALS = "the element as a whole refuses us; a person must act"
    DENIED = "this request is refused; a person must act"
    FULL = "no room"
    KEY = "a key that this server cannot hold"


RETRIED: Final = frozenset({Trouble.PASSING, Trouble.SILENT, Trouble.GARBLED})

UNAVAILABLE: Final = frozenset({Trouble.PASSING, Trouble.SILENT, Trouble.UNREACHABLE})
"""What speaks against asking further; everything else is the answer of a server that is there."""

RETRY_AFTER_LIMIT_S: Final = 30.0
"""A server that asks for longer is left alone by failing: the transfer tries again later."""

_AGAIN: Final = "another attempt may succeed"
_CREDENTIALS: Final = "check the access key, or profile and credentials_file of the element"
_PERMISSION: Final = "give these credentials the right to read, write, list and delete there"
_CLOCK: Final = "set the clock of this machine, for example with timedatectl set-ntp true"
_REGION: Final = "set region of the element to that of the bucket"
_BUCKET: Final = "create the bucket, or correct bucket and endpoint of the element"
_ROOM: Final = "free some, or raise the quota of the bucket"
_NETWORK: Final = "check endpoint and network"

_CODES: Final[dict[str, tuple[Trouble, str]]] = {
    "NoSuchKey": (Trouble.ABSENT, "nothing is under this key"),
    "404": (Trouble.ABSENT, "nothing is under this key"),
    "PreconditionFailed": (Trouble.EXISTS, "the key is taken"),
    "412": (Trouble.EXISTS, "the key is taken"),
    "NoSuchUpload": (Trouble.NO_UPLOAD, f"the server has dropped the upload; {_AGAIN}"),
    "InvalidPart": (Trouble.NO_UPLOAD, f"the server has lost a part of the upload; {_AGAIN}"),
    "InvalidRange": (Trouble.RANGE, "the range is behind the end"),
    "416": (Trouble.RANGE, "the range is behind the end"),
    "BadDigest": (Trouble.GARBLED, f"what arrived there is not what was sent; {_AGAIN}"),
    "InvalidDigest": (Trouble.GARBLED, f"what arrived there is not what was sent; {_AGAIN}"),
    "XAmzContentSHA256Mismatch": (Trouble.GARBLED, f"what arrived is not what was sent; {_AGAIN}"),
    "IncompleteBody": (Trouble.GARBLED, f"only a part of the data arrived there; {_AGAIN}"),
    "InvalidAccessKeyId": (Trouble.CREDENTIALS, f"the access key is not known; {_CREDENTIALS}"),
    "SignatureDoesNotMatch": (Trouble.CREDENTIALS, f"the secret key is wrong; {_CREDENTIALS}"),
    "ExpiredToken": (Trouble.CREDENTIALS, f"the credentials have expired; {_CREDENTIALS}"),
    "InvalidToken": (Trouble.CREDENTIALS, f"the session token is wrong; {_CREDENTIALS}"),
    "AccessDenied": (Trouble.DENIED, f"access is denied; {_PERMISSION}"),
    "AllAccessDisabled": (Trouble.DENIED, f"access is disabled; {_PERMISSION}"),
    "403": (Trouble.DENIED, f"access is denied; {_CREDENTIALS}, and its rights"),
    "401": (Trouble.CREDENTIALS, f"the credentials are not accepted; {_CREDENTIALS}"),
    "InvalidObjectState": (Trouble.DENIED, "the object is in cold storage; restore it there first"),
    "RequestTimeTooSkewed": (Trouble.UNREACHABLE, f"the clocks differ too much; {_CLOCK}"),
    "NoSuchBucket": (Trouble.UNREACHABLE, f"the bucket does not exist; {_BUCKET}"),
    "InvalidBucketName": (Trouble.UNREACHABLE, f"the bucket's name is not valid; {_BUCKET}"),
    "PermanentRedirect": (Trouble.UNREACHABLE, f"the bucket is in another region; {_REGION}"),
    "AuthorizationHeaderMalformed": (Trouble.UNREACHABLE, f"the region is wrong; {_REGION}"),
    "IllegalLocationConstraintException": (Trouble.UNREACHABLE, f"wrong region; {_REGION}"),
    "301": (Trouble.UNREACHABLE, f"the bucket is in another region; {_REGION}"),
    "400": (Trouble.DENIED, f"the request is refused; {_REGION}, and {_CREDENTIALS}"),
    "QuotaExceeded": (Trouble.FULL, f"the quota is used up; {_ROOM}"),
    "XMinioAdminBucketQuotaExceeded": (Trouble.FULL, f"the quota is used up; {_ROOM}"),
    "XMinioStorageFull": (Trouble.FULL, f"the server is full; {_ROOM}"),
    "507": (Trouble.FULL, f"the server is full; {_ROOM}"),
    "KeyTooLongError": (Trouble.KEY, "is longer than the server takes; use a shorter prefix"),
    "SlowDown": (Trouble.PASSING, f"the server asks for fewer requests; {_AGAIN}"),
    "RequestTimeout": (Trouble.PASSING, f"the server waited too long for data; {_AGAIN}"),
    "ConditionalRequestConflict": (Trouble.PASSING, f"another writer was there; {_AGAIN}"),
    "OperationAborted": (Trouble.PASSING, f"another change was under way there; {_AGAIN}"),
    "409": (Trouble.PASSING, f"another change was under way there; {_AGAIN}"),
    "503": (Trouble.PASSING, f"the server is too busy; {_AGAIN}"),
    "429": (Trouble.PASSING, f"the server asks for fewer requests; {_AGAIN}"),
    "NotImplemented": (
        Trouble.DENIED,
        "the server cannot do what an element needs; use a server with conditional writes",
    ),
}


class S3Trouble(Exception):
    """A failed request: `trouble`, one line, and how long the server wants to be left alone."""

    def __init__(self, trouble: Trouble, reason: str, retry_after_s: float = 0.0) -> None:
        self.reason = redacted(reason)  # a server says what it likes, also what we have sent it
        super().__init__(self.reason)
        self.trouble = trouble
        self.retry_after_s = retry_after_s


EXPECTED: Final = (BotoCoreError, ClientError, HTTPError, S3Trouble)
"""What a request may raise; anything else is a bug."""


def trouble_of(exc: Exception, where: str) -> S3Trouble:
    """The trouble that an exception of `EXPECTED` tells of; `where` names bucket and endpoint."""
    if isinstance(exc, S3Trouble):
        return exc
    if isinstance(exc, ClientError):
        return _answered(exc, where)
    trouble, text = _not_answered(exc)
    return S3Trouble(trouble, f"{where}: {text}")


def element_error(
    element: str, key: str, trouble: S3Trouble, *, whole: bool, reads: bool
) -> ElementError:
    """The error that a caller of an element is given.

    A caller that reads takes `ElementDenied` for a statement about that one object, so it is told
    `ElementUnavailable` when the element as a `whole` refuses.
    """
    match trouble.trouble:
        case Trouble.ABSENT if reads:
            return ObjectAbsent(element, key)
        case Trouble.EXISTS:
            return ObjectExists(element, key)
        case Trouble.CREDENTIALS | Trouble.DENIED if not (reads and whole):
            return ElementDenied(element, key, trouble.reason)
        case Trouble.FULL:
            return ElementFull(element, key, trouble.reason)
        case Trouble.KEY:
            return KeyInvalid(element, key, trouble.reason)
        case Trouble.GARBLED:
            return ObjectDamaged(element, key, trouble.reason)
        case _:
            return ElementUnavailable(element, key, trouble.reason)


def _answered(exc: ClientError, where: str) -> S3Trouble:
    """The server has said no."""
    error = exc.response.get("Error", {})
    metadata = exc.response.get("ResponseMetadata", {})
    code, status = error.get("Code", ""), metadata.get("HTTPStatusCode", 0)
    headers = metadata.get("HTTPHeaders", {})
    if code in _CODES:
        trouble, text = _CODES[code]
    elif status >= 500:
        trouble, text = Trouble.PASSING, f"the server failed; {_AGAIN}"
    elif str(status) in _CODES:
        trouble, text = _CODES[str(status)]
    else:
        trouble, text = Trouble.DENIED, f"{error.get('Message', 'no reason given')}; see its log"
    right_region = headers.get("x-amz-bucket-region")
    if trouble is Trouble.UNREACHABLE and right_region:
        text = f"the bucket is in region {right_region}; {_REGION}"
    said = f"{code} {status}" if code != str(status) else code
    return S3Trouble(trouble, f"{where}: {text} ({said})", _retry_after(headers))


def _not_answered(exc: Exception) -> tuple[Trouble, str]:
    """No answer has come, or not all of it."""
    match exc:
        case NoCredentialsError() | PartialCredentialsError():
            return Trouble.CREDENTIALS, f"there are no credentials; {_CREDENTIALS}"
        case ProfileNotFound():
            return Trouble.CREDENTIALS, f"there is no such profile; {_CREDENTIALS}"
        case SSLError():
            text = "set ca_bundle to the certificate of its authority, or correct endpoint"
            return Trouble.UNREACHABLE, f"TLS fails: {_innermost(exc)}; {text}"
        case ConnectTimeoutError() | ReadTimeoutError():
            return Trouble.SILENT, f"nothing answers in time; {_NETWORK}"
        case IncompleteReadError() | ResponseStreamingError():
            return Trouble.PASSING, f"the answer was cut off; {_AGAIN}"
        case ConnectionError() | HTTPClientError() | HTTPError():
            return Trouble.SILENT, f"no connection: {_innermost(exc)}; {_NETWORK}"
        case _:
            return Trouble.UNREACHABLE, f"{exc}; check the settings of the element"


def _innermost(exc: BaseException) -> str:
    """What the system or the TLS library has said, without the layers above."""
    while True:
        below = getattr(exc, "kwargs", {}).get("error") or exc.__cause__ or exc.__context__
        if not isinstance(below, BaseException):
            return str(getattr(exc, "strerror", None) or exc)
        exc = below


def _retry_after(headers: dict[str, str]) -> float:
    """Seconds of a Retry-After (RFC 9110, 10.2.3); 0 where there is none, or a date."""
    text = headers.get("retry-after", "")
    return min(float(text), RETRY_AFTER_LIMIT_S) if text.isdecimal() else 0.0
