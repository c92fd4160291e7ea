"""An HTTP proxy of the tests' own between an element and an S3 server: it counts, and it fails.

Every request is recorded. `rule`, if set, looks at each and may return a fault, which happens
instead of, or after, the request's way to the server. On loopback only.
"""

import http.client
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_NOT_FORWARDED = {"connection", "expect", "keep-alive", "transfer-encoding"}

HANG_LIMIT_S = 30.0
"""A request that hangs lets go in the end, or the proxy could not be closed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in; `path` is decoded nowhere, `query` is."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body_bytes: int

    @property
    def is_part(self) -> bool:
        """Whether it brings a part of an upload."""
        return self.method == "PUT" and "partNumber" in self.query


@dataclass(frozen=True, slots=True)
class Answer:
    """Instead of the server's answer, without asking it."""

    status: int
    code: str = ""
    message: str = "said by the proxy"
    body: str = ""
    """In place of the error that `code` and `message` make."""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer, and no end of the connection, until the proxy is closed."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection ends. `forwarded`: after the server has done what it was asked for."""

    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Spoil:
    """The server's answer with its body cut to `keep_bytes`, or with one bit turned over."""

    keep_bytes: int | None = None


Fault = Answer | Hang | Drop | Spoil


class Proxy:
    """Between a client, which takes `url` for the server, and the server at `upstream`."""

    def __init__(self, upstream: str, certificate: Path | None = None, port: int = 0) -> None:
        """`certificate`: a file with certificate and key, for which this speaks TLS. `port`: where
        to listen, else on one that nobody uses."""
        parts = urlsplit(upstream)
        self.upstream = (str(parts.hostname), int(parts.port or 80))
        self.requests: list[Request] = []
        self.stored: list[Request] = []
        self.rule: Callable[[Request], Fault | None] | None = None
        self.closed = threading.Event()
        self._server = _Server(self, port)
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            # The handshake belongs into the thread of the connection, not into accept().
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def fail_once(self, matches: Callable[[Request], bool], fault: Fault) -> None:
        """Let the first request that matches fail, and no other."""
        lock = threading.Lock()
        done = False

        def rule(request: Request) -> Fault | None:
            nonlocal done
            with lock:
                if done or not matches(request):
                    return None
                done = True
                return fault

        self.rule = rule

    def switch_off(self) -> None:
        """Whoever connects from now on is cut off at once."""
        self.rule = lambda request: Drop()

    def parts(self) -> list[int]:
        """Numbers of the parts of uploads that were sent, in order of their coming."""
        return [int(one.query["partNumber"][0]) for one in self.requests if one.is_part]

    def answered_parts(self) -> list[int]:
        """The same, of those alone that the server has stored."""
        return [int(one.query["partNumber"][0]) for one in self.stored if one.is_part]

    def close(self) -> None:
        """End everything."""
        self.closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: Proxy, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of many tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_one_request(self) -> None:
        """One request of whatever method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, parts.path, query, headers, len(body))
        proxy = self.server.proxy
        proxy.requests.append(request)
        fault = proxy.rule(request) if proxy.rule is not None else None
        self._answer(request, body, fault)

    def _answer(self, request: Request, body: bytes, fault: Fault | None) -> None:
        match fault:
            case Answer():
                self._say(fault)
            case Hang():
                self.server.proxy.closed.wait(HANG_LIMIT_S)
                self.close_connection = True
            case Drop(forwarded=False):
                self.close_connection = True
            case Drop():
                self._ask(body)
                self.close_connection = True
            case _:
                status, headers, answer = self._ask(body)
                if status == 200 and request.method == "PUT":
                    self.server.proxy.stored.append(request)
                self._forward(status, headers, answer, fault)

    def _say(self, answer: Answer) -> None:
        text = f"<Error><Code>{answer.code}</Code><Message>{answer.message}</Message></Error>"
        data = (answer.body or text).encode() if self.command != "HEAD" else b""
        headers = [*answer.headers.items(), ("Content-Length", str(len(data)))]
        self._forward(answer.status, headers, data, None)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server.proxy.upstream, timeout=HANG_LIMIT_S)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _NOT_FORWARDED:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, answer.getheaders(), data
        finally:
            connection.close()

    def _forward(
        self, status: int, headers: list[tuple[str, str]], data: bytes, fault: Fault | None
    ) -> None:
        self.send_response_only(status)
        length = len(data)
        for name, value in headers:
            if name.lower() == "content-length":
                length = int(value)
            elif name.lower() not in _NOT_FORWARDED:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if isinstance(fault, Spoil):
            if fault.keep_bytes is not None:
                data = data[: fault.keep_bytes]
                self.close_connection = True
            else:
                data = bytes([data[0] ^ 1]) + data[1:]
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()
