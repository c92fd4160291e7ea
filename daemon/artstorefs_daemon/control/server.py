"""The control socket's clients, from accept to close.

No client can hold up the filesystem: what all of them get of the loop is limited (`limits`), their
requests are handled one at a time for each, and one that does not read its answers is dropped.
"""

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Caller
from artstorefs_daemon.control.jobs import Notify
from artstorefs_daemon.control.limits import Limits, Pace, Slots
from artstorefs_daemon.control.methods import METHODS, Call, Method, Methods
from artstorefs_daemon.control.protocol import (
    LINE_LIMIT_BYTES,
    METHOD_NOT_FOUND,
    REFUSED,
    TOO_MANY,
    ControlError,
    Lines,
    error_line,
    failure_of,
    parse_request,
    progress_line,
    result_line,
)
from artstorefs_daemon.control.roles import Peer, Role
from artstorefs_daemon.control.shared import SharedAnswer
from artstorefs_daemon.reloading import Reloading
from artstorefs_daemon.service import Service

log = logging.getLogger(__name__)

ACCEPT_PAUSE_S = 0.1
"""After a connection that could not be accepted: what is missing may be there again."""

LISTEN_PAUSE_S = 1.0
"""Between attempts to make the socket."""

BACKLOG = 64
"""Clients that wait for accept(2); the next one waits in its connect(2)."""

RECEIVE_BYTES = LINE_LIMIT_BYTES

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


@dataclass(slots=True)
class Client:
    """One connection."""

    stream: trio.SocketStream
    peer: Peer
    pace: Pace
    lines: Lines = field(default_factory=Lines)


class ControlSocket:
    """`serve` answers clients until it is cancelled; `shut_down` is called for that method."""

    def __init__(
        self,
        service: Service,
        shut_down: Callable[[], None],
        reloading: Reloading,
        limits: Limits | None = None,
    ) -> None:
        self._service = service
        self._reloading = reloading
        self._limits = limits = limits or Limits()
        self._methods = Methods(service, shut_down, reloading)
        self._shared = {
            method.name: SharedAnswer(method.name, partial(self._make_shared, method))
            for method in METHODS.values()
            if method.is_shared
        }
        self.slots = Slots(limits)
        self._connections = Pace(limits.connections_per_s, limits.connections_burst)
        self._shares = {
            is_ours: Pace(limits.share_units_per_s, limits.share_burst) for is_ours in (True, False)
        }

    async def serve(self, path: str) -> None:
        """Listen on `path`, which is made anew; the directory is the caller's. Where it cannot be
        made, because there is no room for example, the mount goes on without it until it can."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._methods.jobs.run)
            await self._reloading.load()
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

    # ---------------------------------------------------------------------------------- clients

    async def _accept_clients(self, listener: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._connections.take()
                try:
                    connection, _ = await listener.accept()
                except OSError as exc:  # no descriptors left, or the client went away again
                    log.warning("a control client was not accepted: %s", exc, extra=about(exc))
                    await trio.sleep(ACCEPT_PAUSE_S)
                    continue
                nursery.start_soon(self._serve_client, trio.SocketStream(connection))

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                peer = Peer.of(stream.socket)
                if not self.slots.take(peer):
                    error = ControlError(TOO_MANY, "too many clients; try again later")
                    await self._send(stream, error_line(None, error))
                    return
                try:
                    await self._serve_accepted(stream, peer)
                finally:
                    self.slots.give_back(peer)
        except (*GONE, OSError) as exc:
            log.debug("a control client went away: %r", exc)

    async def _serve_accepted(self, stream: trio.SocketStream, peer: Peer) -> None:
        pace = Pace(self._limits.client_units_per_s, self._limits.client_burst)
        client = Client(stream, peer, pace)
        try:
            while data := await self._receive(client):
                client.lines.add(data)
                await self._take_units(client, 1 + len(data) / self._limits.unit_bytes)
                await self._answer_lines(client)
        except ControlError as exc:  # of a line without an end
            await self._send(stream, error_line(None, exc))

    async def _receive(self, client: Client) -> bytes:
        limit_s = self._limits.line_s if client.lines.is_inside_line else None
        with trio.move_on_after(limit_s if limit_s is not None else float("inf")):
            return bytes(await client.stream.receive_some(RECEIVE_BYTES))
        return b""

    async def _take_units(self, client: Client, units: float) -> None:
        """Have it wait until it is its turn, among its own requests and those of others."""
        share = self._shares[client.peer.is_ours]
        await trio.sleep(max(client.pace.reserve_s(units), share.reserve_s(units)))

    # ---------------------------------------------------------------------------------- answers

    async def _answer_lines(self, client: Client) -> None:
        """Those that are whole. The first is paid for by its receipt, as is a part of a line."""
        line = client.lines.next()
        while line is not None:
            await self._send(client.stream, await self._answer(client, line))
            line = client.lines.next()
            if line is not None:
                await self._take_units(client, 1)

    async def _answer(self, client: Client, line: bytes) -> bytes:
        identifier, name = None, "?"
        try:
            request = parse_request(line)
            identifier, name = request.get("id"), request["method"]
            method = self._method(name, client.peer)
            if method.role is not Role.READ:
                self._record(method, client.peer, request.get("params"))
            return result_line(identifier, await self._result(method, client, request))
        except GONE:
            raise
        except Exception as exc:
            return error_line(identifier, failure_of(exc, name))

    def _record(self, method: Method, peer: Peer, params: Any) -> None:
        """In the audit log, before it is carried out. Raises StateError where the archive wants no
        change without a record, and there is no room for one."""
        given = method.checked(params).model_dump(mode="json", exclude_unset=True)
        caller = Caller(peer.uid, peer.gid, peer.pid, 0)
        self._service.archive.note("control", caller, method=method.name, params=given)

    async def _result(self, method: Method, client: Client, request: dict[str, Any]) -> bytes:
        if method.is_shared:
            method.checked(request.get("params"))
            return await self._shared[method.name].get()
        call = Call(client.peer, self._notifier(client))
        return await self._methods.carry_out(method, call, request.get("params"))

    async def _make_shared(self, method: Method) -> bytes:
        """Nobody's in particular: the answer is the same for all who ask."""
        call = Call(Peer(0, 0, frozenset()), _tell_nobody)
        return await self._methods.carry_out(method, call, None)

    def _method(self, name: str, peer: Peer) -> Method:
        method = METHODS.get(name)
        if method is None:
            raise ControlError(METHOD_NOT_FOUND, f"there is no method {name[:100]}")
        if self._reloading.rights.role_of(peer) < method.role:
            reason = f"{name} is for who may {method.role.word}; see control_*_group in the manual"
            raise ControlError(REFUSED, reason)
        return method

    def _notifier(self, client: Client) -> Notify:
        async def notify(params: dict[str, Any]) -> None:
            await self._send(client.stream, progress_line(params))

        return notify

    async def _send(self, stream: trio.SocketStream, line: bytes) -> None:
        with trio.fail_after(self._limits.send_s):
            await stream.send_all(line)


async def _tell_nobody(progress: dict[str, Any]) -> None:
    """Shared answers have no progress."""
    raise AssertionError(progress)


async def _listen(listener: trio.socket.SocketType, path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    try:
        os.unlink(path)
    except FileNotFoundError:
        log.debug("no earlier control socket at %s", path)
    await listener.bind(path)
    os.chmod(path, 0o666)  # the directory says who gets here, the kernel who it is
    listener.listen(BACKLOG)
