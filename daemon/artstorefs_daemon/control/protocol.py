"""The lines of the control socket: JSON-RPC 2.0 without a socket. CONTROL.md describes it.

Lines come from whoever can reach the socket, and are read in the loop that serves the mount. So
the limits here are those of time: nothing that a line can hold may take a millisecond.
"""

import json
import logging
from typing import Any, Final

from artstorefs.core.errors import ArtStoreFSError
from artstorefs.core.json_text import parse_strict

log = logging.getLogger(__name__)

API_VERSION: Final = 1
"""Grows when a client of before would misunderstand; new methods, keys and parameters do not
count."""

LINE_LIMIT_BYTES: Final = 1 << 15
"""Of a request. The largest that means anything has some hundred bytes; a line of 1 MiB that is
made for it takes 200 ms to read, and 32 KiB still 6 ms, if it were not for the next two limits."""

MARKS_LIMIT: Final = 1000
"""Brackets, commas, colons and quotes in a line, wherever they stand. They make the values, which
are what takes time: with so many at most, 32 KiB are read in half a millisecond."""

OPENED_LIMIT: Final = 64
"""Objects and lists in a line; so none of them can nest deep."""

ANSWER_LIMIT_BYTES: Final = 1 << 20
"""Of a line to a client, which has to hold it."""

_MARKS: Final = b'[]{},:"'

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
INTERNAL_ERROR, FAILED, REFUSED, TOO_MANY = -32603, -32000, -32001, -32002


class ControlError(ArtStoreFSError):
    """An answer with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Lines:
    """Bytes as they come, to lines. Holds what is not a line yet, up to the limit."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._searched = 0
        """In so much of it there is no end of line: who sends byte by byte costs no more."""

    @property
    def is_inside_line(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._unread)

    def add(self, data: bytes) -> None:
        """Take in what was received; the lines of before have to be taken out by then."""
        self._unread += data

    def next(self) -> bytes | None:
        """The next whole line without its end. Raises ControlError for one that is too long, after
        which nothing can be made of the rest."""
        end = self._unread.find(b"\n", self._searched)
        if (len(self._unread) if end < 0 else end) > LINE_LIMIT_BYTES:
            raise ControlError(INVALID_REQUEST, f"a line has at most {LINE_LIMIT_BYTES} bytes")
        if end < 0:
            self._searched = len(self._unread)
            return None
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        self._searched = 0
        return line


def parse_request(line: bytes) -> dict[str, Any]:
    """The object in a line, whose `method` is text. Raises ControlError."""
    if len(line) - len(line.translate(None, _MARKS)) > MARKS_LIMIT:
        raise ControlError(PARSE_ERROR, f"more than {MARKS_LIMIT} brackets, commas, colons, quotes")
    if line.count(b"[") + line.count(b"{") > OPENED_LIMIT:
        raise ControlError(PARSE_ERROR, f"more than {OPENED_LIMIT} objects and lists")
    try:
        # what it does not take could not stand in the id of an answer
        request = parse_strict(line, OPENED_LIMIT)
    except (ValueError, RecursionError):
        raise ControlError(PARSE_ERROR, "not a JSON text") from None
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise ControlError(INVALID_REQUEST, "a request is an object with a method")
    return request


def failure_of(exc: Exception, method: str) -> ControlError:
    """What a client is told of an exception; of a bug only that there is one."""
    if isinstance(exc, ControlError):
        return exc
    if isinstance(exc, ArtStoreFSError):
        return ControlError(FAILED, str(exc))
    log.error("the control method %s failed", method, exc_info=exc)
    return ControlError(INTERNAL_ERROR, "internal error, see the daemon's log")


def result_line(identifier: Any, result: bytes) -> bytes:
    """The answer with a result, which is JSON already. Raises ControlError if it is too long."""
    line = b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (json.dumps(identifier).encode(), result)
    if len(line) > ANSWER_LIMIT_BYTES:
        raise ControlError(FAILED, f"the answer would have more than {ANSWER_LIMIT_BYTES} bytes")
    return line


def error_line(identifier: Any, error: ControlError) -> bytes:
    """The answer with an error."""
    told = {"code": error.code, "message": str(error)}
    return json.dumps({"jsonrpc": "2.0", "id": identifier, "error": told}).encode() + b"\n"


def progress_line(params: dict[str, Any]) -> bytes:
    """A notification while a method is carried out."""
    told = {"jsonrpc": "2.0", "method": "progress", "params": params}
    return json.dumps(told).encode() + b"\n"
