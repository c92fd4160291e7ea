"""A synchronous client of a mounted archive's control socket.

The protocol is JSON-RPC 2.0 over a Unix stream socket, one object per line of at most 1 MiB. While
a request runs the daemon may send notifications `{"method": "progress", "params": {…}}`. One
request at a time per connection, so every line that comes belongs to the request under way.

A client is a context manager and is not shared between threads. After any error but
`ControlRefused` the stream may stand in the middle of an answer; the connection is then closed.
"""

import itertools
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from artstorefs.core.directories import CONTROL_SOCKET_NAME
from artstorefs_tools.errors import CommandError, NotMounted

LINE_MAX_BYTES: Final = 1 << 20
"""The protocol's limit; a longer line is not ours, and reading it could fill the memory."""

ANSWER_TIMEOUT_S: Final = 30.0
"""For calls that only read or write the index: far above what a loaded daemon needs."""

JsonObject = dict[str, Any]


class ControlError(CommandError):
    """A daemon is there, but there is no answer from it to a request."""

    def __init__(self, archive: str, method: str, reason: str) -> None:
        super().__init__(f"{archive}: {method}: {reason}")
        self.archive = archive
        self.method = method
        self.reason = reason


class ControlTimeout(ControlError):
    """The daemon said nothing for too long; whether it did what was asked is not known."""


class ControlProtocolError(ControlError):
    """What came is not the protocol, or the daemon ended in the middle of it."""


@contextmanager
def understood(archive: str, method: str, otherwise: str = " Try --json") -> Iterator[None]:
    """Around what takes the answer of a method apart: where it is another one, of a daemon of
    another version perhaps, that is a ControlProtocolError. `otherwise`: what there is to do."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        reason = f"not understood ({exc!r}); is the daemon of another version?{otherwise}"
        raise ControlProtocolError(archive, method, reason) from None


class ControlRefused(ControlError):
    """The daemon answered with an error; `code` is that of JSON-RPC or of the method."""

    def __init__(self, archive: str, method: str, code: int, reason: str) -> None:
        super().__init__(archive, method, reason)
        self.code = code


class ControlClient:
    """One connection to the daemon of `archive`, whose sockets are in `runtime_dir`."""

    def __init__(
        self, runtime_dir: Path, archive: str, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> None:
        self._path = runtime_dir / CONTROL_SOCKET_NAME
        self._archive = archive
        self._timeout_s = timeout_s
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        """Connect. Raises `NotMounted` if nobody listens, `ControlError` if it is not allowed."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(self._timeout_s)
        try:
            self._socket.connect(str(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            self._socket.close()
            raise NotMounted(
                f"{self._archive} is not mounted; mount it with: artstorefs mount {self._archive}"
            ) from None
        except OSError as exc:
            self._socket.close()
            reason = f"cannot reach {self._path}: {exc.strerror or exc}"
            raise ControlError(self._archive, "connect", reason) from None
        self._lines = self._socket.makefile("rb")
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the connection; what the daemon was asked for goes on there."""
        self._lines.close()
        self._socket.close()

    @property
    def daemon_pid(self) -> int:
        """The process that listens, as the kernel knows it (SO_PEERCRED in unix(7))."""
        credentials = struct.Struct("3i")
        packed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
        pid: int = credentials.unpack(packed)[0]
        return pid

    def call(self, method: str, params: JsonObject | None = None) -> JsonObject:
        """The result of `method`. Raises a `ControlError`."""
        self._socket.settimeout(self._timeout_s)
        return self._request(method, params, on_progress=lambda _: None)

    def call_with_progress(
        self,
        method: str,
        on_progress: Callable[[JsonObject], None],
        params: JsonObject | None = None,
    ) -> JsonObject:
        """The result of `method`, which may take hours: every progress is handed to `on_progress`.

        There is no time limit, since an element may be away for days; a daemon that ends closes the
        connection and so ends the wait. Raises a `ControlError`.
        """
        self._socket.settimeout(None)
        return self._request(method, params, on_progress)

    def _request(
        self, method: str, params: JsonObject | None, on_progress: Callable[[JsonObject], None]
    ) -> JsonObject:
        request_id = next(self._ids)
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while True:
                message = self._receive(method)
                answered = message.get("id")
                # An error that the daemon met before it had read the id has none (JSON-RPC 2.0).
                if answered == request_id or (answered is None and "error" in message):
                    return self._result(method, message)
                self._notice(method, message, on_progress)
        except TimeoutError:
            reason = f"no answer within {self._timeout_s:g} s; the daemon may be stuck, see its log"
            raise ControlTimeout(self._archive, method, reason) from None
        except OSError as exc:
            reason = f"connection lost: {exc.strerror or exc}"
            raise ControlProtocolError(self._archive, method, reason) from None

    def _receive(self, method: str) -> JsonObject:
        line = self._lines.readline(LINE_MAX_BYTES + 1)
        if not line:
            reason = "the daemon ended without an answer; see its log"
        elif not line.endswith(b"\n"):
            reason = "a line was cut off or is longer than 1 MiB"
        else:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if isinstance(message, dict) and message.get("jsonrpc") == "2.0":
                return message
            reason = f"not a line of JSON-RPC 2.0: {line[:80]!r}"
        raise ControlProtocolError(self._archive, method, reason)

    def _result(self, method: str, message: JsonObject) -> JsonObject:
        result, error = message.get("result"), message.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            reason = " ".join(str(error.get("message")).split())
            raise ControlRefused(
                self._archive, method, code if isinstance(code, int) else 0, reason
            )
        if not isinstance(result, dict):
            raise ControlProtocolError(self._archive, method, "the answer has no result")
        return result

    def _notice(
        self, method: str, message: JsonObject, on_progress: Callable[[JsonObject], None]
    ) -> None:
        """Hand on a progress; later kinds of notification are none of our business."""
        params = message.get("params")
        if message.get("method") == "progress" and isinstance(params, dict):
            on_progress(params)
        elif "method" not in message:
            reason = "an answer to a request that was not sent"
            raise ControlProtocolError(self._archive, method, reason)
