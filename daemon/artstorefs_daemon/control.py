"""The control socket: JSON-RPC 2.0, one object a line, on a Unix socket. See CONTROL.md.

Root and the user that the daemon runs as may call every method, everybody else who can reach the
socket only what reads. No client can hold up the filesystem: requests are handled one at a time
for each client, lines are limited, and a client that does not read its answers is dropped.
"""

import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import trio

from artstorefs.core.errors import ArtStoreFSError
from artstorefs.core.json_text import parse_strict
from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Caller
from artstorefs.filesystem.cache_orders import Outcome
from artstorefs_daemon.service import Service

log = logging.getLogger(__name__)

LINE_LIMIT_BYTES = 1 << 20
CLIENT_LIMIT = 64
SEND_LIMIT_S = 10.0

PROGRESS_INTERVAL_S = 0.25

CACHE_ORDERS = ("warm", "pin", "unpin", "drop")
"""Methods `cache_…`, by the names of those of `CacheOrders`."""

ACCEPT_PAUSE_S = 0.1
"""After a connection that could not be accepted: what is missing may be there again."""

LISTEN_PAUSE_S = 1.0
"""Between attempts to make the socket."""

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
INTERNAL_ERROR, REFUSED, FAILED = -32603, -32001, -32000

Notify = Callable[[dict[str, Any]], Awaitable[None]]
Params = dict[str, Any]
Method = Callable[[Notify, Params], Awaitable[dict[str, Any]]]


class ControlError(ArtStoreFSError):
    """An answer with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ControlSocket:
    """`serve` answers clients until it is cancelled; `shutdown` is called for that method."""

    def __init__(self, service: Service, shutdown: Callable[[], None]) -> None:
        self._service = service
        self._shutdown = shutdown
        self._clients = 0
        self._reading: dict[str, Method] = {"status": self._status, "cache": self._cache}
        self._changing: dict[str, Method] = {
            "flush": self._flush,
            "rescan": self._rescan,
            "shutdown": self._stop,
            **{f"cache_{order}": partial(self._order, order) for order in CACHE_ORDERS},
        }

    async def serve(self, path: str) -> None:
        """Listen on `path`, which is made anew; the directory is the caller's. Where it cannot be
        made, because there is no room for example, the mount goes on without it until it can."""
        told = False
        while True:
            with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                try:
                    await _listen(listener, path)
                except OSError as exc:
                    if not told:
                        line = ("there is no control socket: %s: %s", path, exc)
                        log.warning(*line, extra=about(exc, path=path))
                    told = True
                else:
                    await self._accept_clients(listener)
            await trio.sleep(LISTEN_PAUSE_S)

    async def _accept_clients(self, listener: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection, _ = await listener.accept()
                except OSError as exc:  # no descriptors left, or the client went away again
                    log.warning("a control client was not accepted: %s", exc, extra=about(exc))
                    await trio.sleep(ACCEPT_PAUSE_S)
                    continue
                nursery.start_soon(self._serve_client, trio.SocketStream(connection))

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        self._clients += 1
        try:
            async with stream:
                if self._clients <= CLIENT_LIMIT:
                    await self._answer_lines(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as exc:
            log.debug("a control client went away: %r", exc)
        finally:
            self._clients -= 1

    async def _answer_lines(self, stream: trio.SocketStream) -> None:
        credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, gid = struct.unpack("3i", credentials)
        caller = Caller(uid, gid, pid, 0)
        unread = bytearray()
        while data := await stream.receive_some(65_536):
            unread += data
            while (end := unread.find(b"\n")) >= 0:
                line = bytes(unread[:end])
                del unread[: end + 1]
                await self._answer(stream, line, caller)
            if len(unread) > LINE_LIMIT_BYTES:
                await _send(stream, _error(None, INVALID_REQUEST, "the line is too long"))
                return

    async def _answer(self, stream: trio.SocketStream, line: bytes, caller: Caller) -> None:
        identifier = None

        async def notify(params: dict[str, Any]) -> None:
            await _send(stream, {"jsonrpc": "2.0", "method": "progress", "params": params})

        try:
            request = _request(line)
            identifier = request.get("id")
            name = request["method"]
            method = self._method(name, caller.uid)
            given = request.get("params")
            params = given if isinstance(given, dict) else {}
            if name in self._changing:
                self._service.archive.note("control", caller, method=name, params=params)
            result = await method(notify, params)
            answer = {"jsonrpc": "2.0", "id": identifier, "result": result}
        except ControlError as exc:
            answer = _error(identifier, exc.code, str(exc))
        except ArtStoreFSError as exc:
            answer = _error(identifier, FAILED, str(exc))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise
        except Exception:
            log.exception("a control request failed")
            answer = _error(identifier, INTERNAL_ERROR, "internal error, see the daemon's log")
        await _send(stream, answer)

    def _method(self, name: str, uid: int) -> Method:
        if name in self._reading:
            return self._reading[name]
        if name not in self._changing:
            raise ControlError(METHOD_NOT_FOUND, f"there is no method {name}")
        if uid not in (0, os.geteuid()):
            raise ControlError(REFUSED, f"{name} is for root and the user of the daemon")
        return self._changing[name]

    # ----------------------------------------------------------------------------- methods

    async def _status(self, notify: Notify, params: Params) -> dict[str, Any]:
        return await self._service.status()

    async def _flush(self, notify: Notify, params: Params) -> dict[str, Any]:
        async with aclosing(self._service.flush()) as steps:  # also when the client goes away
            async for progress in steps:
                await notify(progress)
        return self._service.outcome_of_flush()

    async def _rescan(self, notify: Notify, params: Params) -> dict[str, Any]:
        return await self._service.link.survey()

    async def _cache(self, notify: Notify, params: Params) -> dict[str, Any]:
        return await self._service.cache_orders.summary()

    async def _order(self, order: str, notify: Notify, params: Params) -> dict[str, Any]:
        """Of the node with inode number `ino`; ends when the client goes away."""
        node = self._service.node(params.get("ino"))
        if node is None:
            raise ControlError(INVALID_PARAMS, "ino is no file or directory of this archive")
        outcome = Outcome()
        carry_out = getattr(self._service.cache_orders, order)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell_progress, outcome, notify)
                await carry_out(node, outcome)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = _only(group)
            if error is group:
                raise
            raise error from None
        return outcome.to_message()

    async def _stop(self, notify: Notify, params: Params) -> dict[str, Any]:
        self._shutdown()
        return {}


async def _tell_progress(outcome: Outcome, notify: Notify) -> None:
    while True:
        await trio.sleep(PROGRESS_INTERVAL_S)
        await notify({"files": outcome.files, "bytes": outcome.bytes})


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception in a group, where there is one: what ended the work."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found


async def _listen(listener: trio.socket.SocketType, path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    try:
        os.unlink(path)
    except FileNotFoundError:
        log.debug("no earlier control socket at %s", path)
    await listener.bind(path)
    os.chmod(path, 0o666)  # the directory says who gets here, SO_PEERCRED what they may do
    listener.listen(16)


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = parse_strict(line)  # what it does not take could not stand in an answer's id
    except (ValueError, RecursionError):
        raise ControlError(PARSE_ERROR, "not a JSON text") from None
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise ControlError(INVALID_REQUEST, "a request is an object with a method")
    return request


async def _send(stream: trio.SocketStream, message: dict[str, Any]) -> None:
    with trio.fail_after(SEND_LIMIT_S):
        await stream.send_all(json.dumps(message).encode() + b"\n")


def _error(identifier: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}
