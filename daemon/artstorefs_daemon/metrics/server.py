"""`/metrics`, `/healthz` and `/readyz` over HTTP, with starlette and hypercorn.

hypercorn has no limit of connections, so they are accepted here, and each is handed to it: one too
many is closed at once, and none lasts longer than `CONNECTION_LIMIT_S`, whatever its other end
does.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from artstorefs_daemon.metrics.families import StatusCollector
from artstorefs_daemon.metrics.health import ailment, hindrance
from artstorefs_daemon.metrics.source import Answer, StatusSource
from artstorefs_daemon.mount_table import MOUNTINFO, MountEntry, parse_mountinfo

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 16
"""Prometheus has one, or two of a pair; the rest is for people and for what checks the health."""

CONNECTION_LIMIT_S: Final = 30.0
"""Of a connection: one that is read slowly, or never, gives its place to others then."""

IDLE_LIMIT_S: Final = 5.0
LISTEN_PAUSE_S: Final = 2.0
"""Between attempts to have an address that another program has."""

REQUESTS_PER_S: Final = 20
"""Of all together, and new connections too; more have to wait. Whoever asks in a loop would take a
processor from the programs that use the mount."""

BURST: Final = 20

_BACKLOG: Final = 16

Check = Callable[[Answer, Iterable[MountEntry]], str | None]


class Pace:
    """Lets `REQUESTS_PER_S` pass, after a pause up to `BURST` at once."""

    def __init__(self) -> None:
        self._next_s = float("-inf")

    async def wait(self) -> None:
        """Until it is one's turn."""
        earliest_s = trio.current_time() - BURST / REQUESTS_PER_S
        self._next_s = max(self._next_s, earliest_s) + 1 / REQUESTS_PER_S
        await trio.sleep_until(self._next_s)


class Pages:
    """What is answered; all of it from one `status` that is half a second old at most."""

    def __init__(self, archive: str, source: StatusSource, mountinfo: Path = MOUNTINFO) -> None:
        self._archive = archive
        self._source = source
        self._mountinfo = mountinfo
        self._rendered: dict[str, bytes] = {}
        self._rendered_of: Answer | None = None
        self._pace = Pace()
        self.application = Starlette(
            routes=[
                Route("/metrics", self._metrics),
                Route("/healthz", self._page_of(ailment)),
                Route("/readyz", self._page_of(hindrance)),
            ]
        )

    async def _metrics(self, request: Request) -> Response:
        await self._pace.wait()
        answer = await self._source.latest()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        if answer is not self._rendered_of:
            self._rendered_of, self._rendered = answer, {}
        if content_type not in self._rendered:
            collector = StatusCollector(self._archive, answer.status, answer.asked_s)
            self._rendered[content_type] = encode(collector)
        return Response(self._rendered[content_type], headers={"content-type": content_type})

    def _page_of(self, check: Check) -> Callable[[Request], Awaitable[Response]]:
        async def page(request: Request) -> Response:
            await self._pace.wait()
            answer = await self._source.latest()
            reason = check(answer, parse_mountinfo(self._mountinfo.read_bytes()))
            return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)

        return page


class Server:
    """`serve` answers on `address` until it is cancelled, as soon as it can be had."""

    def __init__(self, application: Starlette) -> None:
        self._application = ASGIWrapper(cast(ASGIFramework, application))
        self._config = Config()
        self._config.errorlog = logging.getLogger("hypercorn.error")
        self._config.keep_alive_timeout = IDLE_LIMIT_S
        self._config.read_timeout = int(2 * IDLE_LIMIT_S)
        self._config.include_server_header = False
        self._connections = 0

    async def serve(self, address: tuple[str, int]) -> None:
        told = ""
        while True:
            try:
                listener = _listen(address)
            except OSError as exc:
                if str(exc) != told:
                    log.warning("nobody can ask for metrics on %s port %d: %s", *address, exc)
                told = str(exc)
            else:
                with listener:
                    log.info("metrics are to be had on %s port %d", *address)
                    await self._accept(listener)
            await trio.sleep(LISTEN_PAUSE_S)

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        pace = Pace()
        async with trio.open_nursery() as nursery:
            while True:
                await pace.wait()
                try:
                    connection, _ = await listener.accept()
                except OSError as exc:  # no descriptors left, or it went away again
                    log.warning("a connection was not accepted: %s", exc)
                    await trio.sleep(0.1)
                    continue
                if self._connections >= CONNECTIONS_MAX:
                    connection.close()
                    continue
                self._connections += 1
                nursery.start_soon(self._answer, trio.SocketStream(connection))

    async def _answer(self, stream: trio.SocketStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_later, stream, nursery.cancel_scope)
                server = TCPServer(
                    *(self._application, self._config, WorkerContext(None)),
                    *(ConnectionState({}), stream),  # type: ignore[arg-type]  # it is not TLS
                )
                await server.run()
                nursery.cancel_scope.cancel()
        except Exception:
            log.exception("a connection ended because of this")
        finally:
            stream.socket.close()
            self._connections -= 1


async def _end_later(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """hypercorn shields what it sends from being cancelled; only the end of the socket ends that.
    What was read already, a thousand requests perhaps, it would go on to answer."""
    try:
        await trio.sleep(CONNECTION_LIMIT_S)
    finally:
        stream.socket.close()
    scope.cancel()


def _listen(address: tuple[str, int]) -> trio.socket.SocketType:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        return trio.socket.from_stdlib_socket(listener)
    except BaseException:
        listener.close()
        raise
