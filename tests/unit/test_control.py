"""The control socket: what CONTROL.md says, and input that nobody should send."""

import errno
import json
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from artstorefs.core.errors import ElementUnavailable, StateFull
from artstorefs_daemon import control
from artstorefs_daemon.control import CLIENT_LIMIT, LINE_LIMIT_BYTES, ControlSocket

DOCUMENT = Path(control.__file__).parent.parent / "CONTROL.md"


class StubArchive:
    """What the control socket tells the audit log of the archive."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def note(self, operation: str, who: Any, **details: Any) -> None:
        if self.failure:
            raise self.failure
        self.notes.append((operation, who.uid, who.gid, who.pid, details))


class StubService:
    """What the control socket asks of the service."""

    def __init__(self) -> None:
        self.archive = StubArchive()
        self.flushes = 0
        self.failure: Exception | None = None

    async def status(self) -> dict[str, Any]:
        if self.failure:
            raise self.failure
        return {"archive": "test"}

    async def flush(self) -> AsyncIterator[dict[str, int]]:
        self.flushes += 1
        for pending in (2, 1, 0):
            yield {"pending": pending, "bytes": 0}
            await trio.lowlevel.checkpoint()

    def outcome_of_flush(self) -> dict[str, Any]:
        return {"pending": 0, "failed": 0, "errors": []}


class Server:
    def __init__(self, path: str) -> None:
        self.path = path
        self.service = StubService()
        self.stopped = 0
        self.clients: list[Client] = []
        self.control = ControlSocket(self.service, self._stop)  # type: ignore[arg-type]

    def _stop(self) -> None:
        self.stopped += 1

    async def connect(self) -> "Client":
        for _ in range(100):
            try:
                self.clients.append(Client(await trio.open_unix_socket(self.path)))
                return self.clients[-1]
            except OSError:
                await trio.sleep(0.01)
        raise AssertionError("no control socket")


class Client:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.unread = b""

    async def line(self) -> dict[str, Any] | None:
        """The next answer, None at the end of the connection."""
        while b"\n" not in self.unread:
            try:
                data = await self.stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ask(self, request: Any) -> dict[str, Any]:
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        await self.stream.send_all(data + b"\n")
        answer = await self.line()
        assert answer is not None
        return answer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(str(tmp_path / "control.sock"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.control.serve, made.path)
        yield made
        for client in made.clients:
            await client.stream.aclose()
        nursery.cancel_scope.cancel()


async def test_status(server: Server) -> None:
    client = await server.connect()
    for identifier in (1, "one", None, [1, {"a": 2}], 1.5):
        answer = await client.ask({"jsonrpc": "2.0", "id": identifier, "method": "status"})
        assert answer == {"jsonrpc": "2.0", "id": identifier, "result": {"archive": "test"}}


async def test_what_may_change_something_is_recorded_before_and_nothing_else(
    server: Server,
) -> None:
    client = await server.connect()
    await client.ask({"id": 1, "method": "status"})
    await client.ask({"id": 2, "method": "nonsense"})
    assert server.service.archive.notes == []
    await client.ask({"id": 3, "method": "flush", "params": {"a": 1}})
    who = (os.geteuid(), os.getegid(), os.getpid())
    details = {"method": "flush", "params": {"a": 1}}
    assert server.service.archive.notes == [("control", *who, details)]
    server.service.archive.failure = StateFull("/state/audit", "no change without a record")
    client = await server.connect()
    answer = await client.ask({"id": 4, "method": "flush"})
    assert answer["error"]["code"] == -32000
    assert server.service.flushes == 1


async def test_flush_tells_its_progress(server: Server) -> None:
    client = await server.connect()
    answer = await client.ask({"id": 7, "method": "flush"})
    for pending in (2, 1, 0):
        assert answer["method"] == "progress"
        assert answer["params"]["pending"] == pending
        answer = await client.line() or {}
    assert answer == {
        "jsonrpc": "2.0",
        "id": 7,
        "result": {"pending": 0, "failed": 0, "errors": []},
    }


async def test_shutdown(server: Server) -> None:
    client = await server.connect()
    assert (await client.ask({"id": 1, "method": "shutdown"}))["result"] == {}
    assert server.stopped == 1


WRONG = {
    b"": -32700,
    b"{": -32700,
    b"\xff\xfe": -32700,
    b"[" * 100_000: -32700,
    b"9" * 10_000: -32700,
    b'{"id":1e999,"method":"status"}': -32700,
    b'{"id":NaN,"method":"status"}': -32700,
    b'{"id":1,"method":"\\ud800"}': -32700,
    b"1": -32600,
    b"null": -32600,
    b"[]": -32600,
    b'[{"id":1,"method":"status"}]': -32600,
    b"{}": -32600,
    b'{"method":7}': -32600,
    b'{"method":["status"]}': -32600,
}


@pytest.mark.parametrize("line", WRONG, ids=lambda line: repr(line[:30]))
async def test_what_is_no_request(server: Server, line: bytes) -> None:
    client = await server.connect()
    answer = await client.ask(line)
    assert (answer["id"], answer["error"]["code"]) == (None, WRONG[line])
    assert (await client.ask({"id": 2, "method": "status"}))["id"] == 2


@pytest.mark.parametrize("name", ["", "Status", "__class__", "_stop", "x" * 1000])
async def test_methods_that_are_not_there(server: Server, name: str) -> None:
    client = await server.connect()
    answer = await client.ask({"id": 3, "method": name})
    assert (answer["id"], answer["error"]["code"]) == (3, -32601)


async def test_others_may_only_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.getsockopt

    def somebody_else(self: Any, level: int, option: int, *more: int) -> Any:
        if option == socket.SO_PEERCRED:
            return (4711).to_bytes(4, "little") * 3
        return real(self, level, option, *more)

    monkeypatch.setattr(socket.socket, "getsockopt", somebody_else)
    client = await server.connect()
    for method in ("flush", "shutdown"):
        answer = await client.ask({"id": 4, "method": method})
        assert (answer["id"], answer["error"]["code"]) == (4, -32001)
    assert "result" in await client.ask({"id": 5, "method": "status"})
    assert (server.service.flushes, server.stopped) == (0, 0)


async def test_failures_of_a_method(server: Server) -> None:
    client = await server.connect()
    server.service.failure = ElementUnavailable("main", "", "the disk is gone")
    answer = await client.ask({"id": 1, "method": "status"})
    assert (answer["id"], answer["error"]["code"]) == (1, -32000)
    assert "the disk is gone" in answer["error"]["message"]
    server.service.failure = RuntimeError("secret")
    answer = await client.ask({"id": 2, "method": "status"})
    assert (answer["id"], answer["error"]["code"]) == (2, -32603)
    assert "secret" not in answer["error"]["message"]
    server.service.failure = None
    assert "result" in await client.ask({"id": 3, "method": "status"})


async def test_byte_by_byte_and_all_at_once(server: Server) -> None:
    requests = [b'{"id":%d,"method":"status"}\n' % number for number in range(20)]
    client = await server.connect()
    await client.stream.send_all(b"".join(requests) + b'{"id":20,')
    assert [(await client.line() or {})["id"] for _ in range(20)] == list(range(20))
    for byte in b'"method":"status"}\n':
        await client.stream.send_all(bytes([byte]))
    assert (await client.line() or {})["id"] == 20


async def test_random_input_split_anywhere(server: Server) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    choose = random.Random(seed)
    pieces = [b'{"id":1,"method":"status"}', b"{", b'"', b"\\", b"\0", b"[1,", b"\xc3", b"9" * 50]
    for _ in range(30):
        lines = [
            b"".join(choose.choice(pieces) for _ in range(choose.randrange(4))) for _ in range(9)
        ]
        data = b"\n".join(lines) + b"\n"
        client = await server.connect()
        while data:
            size = choose.randrange(1, 60)
            await client.stream.send_all(data[:size])
            data = data[size:]
        answers = [await client.line() or {} for _ in lines]
        for line, answer in zip(lines, answers, strict=True):
            good = line == pieces[0]
            assert ("result" in answer) == good, line
        await client.stream.aclose()


async def test_line_without_an_end(server: Server) -> None:
    client = await server.connect()
    with suppress(trio.BrokenResourceError):
        for _ in range(4 * LINE_LIMIT_BYTES // 65_536):
            await client.stream.send_all(b"x" * 65_536)
    answer = await client.line()
    if answer is not None:
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)
        assert await client.line() is None
    other = await server.connect()
    assert "result" in await other.ask({"id": 1, "method": "status"})


async def test_line_of_the_largest_size(server: Server) -> None:
    client = await server.connect()
    request = b'{"id":1,"method":"status","params":"'
    answer = await client.ask(request + b"x" * (LINE_LIMIT_BYTES - len(request) - 2) + b'"}')
    assert answer["id"] == 1


async def test_too_many_clients(server: Server) -> None:
    clients = [await server.connect() for _ in range(CLIENT_LIMIT)]
    for client in clients:
        await client.ask({"id": 1, "method": "status"})
    one_more = await server.connect()
    assert await one_more.line() is None
    await clients[0].stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    again = await server.connect()
    assert "result" in await again.ask({"id": 1, "method": "status"})


async def test_client_that_does_not_read_is_dropped(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "SEND_LIMIT_S", 0.05)

    async def status() -> dict[str, Any]:
        return {"archive": "x" * 4_000_000}

    server.service.status = status  # type: ignore[method-assign]
    client = await server.connect()
    await clients_are(server, 1)
    await client.stream.send_all(b'{"id":1,"method":"status"}\n' * 3)
    await clients_are(server, 0)


async def clients_are(server: Server, number: int) -> None:
    for _ in range(1000):
        if server.control._clients == number:
            return
        await trio.sleep(0.01)
    raise AssertionError(f"{server.control._clients} clients, not {number}")


async def test_client_that_goes_away_in_the_middle(server: Server) -> None:
    for data in (b"", b'{"id":1', b'{"id":1,"method":"flush"}\n', b"\n\n\n"):
        client = await server.connect()
        await client.stream.send_all(data or b" ")
        await client.stream.aclose()
    client = await server.connect()
    assert "result" in await client.ask({"id": 1, "method": "status"})


async def test_no_descriptors_left_for_a_client(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE at accept must not end the daemon."""
    monkeypatch.setattr(control, "ACCEPT_PAUSE_S", 0.01)
    with trio.socket.socket() as some_socket:
        kind = type(some_socket)
    real, failures = kind.accept, [errno.EMFILE, errno.ECONNABORTED]

    async def accept(self: Any) -> Any:
        if failures:
            raise OSError(failures[0], os.strerror(failures.pop()))
        return await real(self)

    monkeypatch.setattr(kind, "accept", accept)
    for _ in range(2):
        client = await server.connect()
        assert "result" in await client.ask({"id": 1, "method": "status"})
    assert failures == []


def test_document_says_the_codes_limits_and_methods() -> None:
    text = DOCUMENT.read_text()
    codes = ("PARSE_ERROR", "INVALID_REQUEST", "METHOD_NOT_FOUND", "INTERNAL_ERROR")
    for name in (*codes, "REFUSED", "FAILED"):
        assert f"| {getattr(control, name)} |" in text
    assert f"{CLIENT_LIMIT} clients" in text
    assert LINE_LIMIT_BYTES == 1 << 20
    assert f"within {control.SEND_LIMIT_S:.0f} s" in text
    made = ControlSocket(StubService(), lambda: None)  # type: ignore[arg-type]
    for method in (*made._reading, *made._changing):
        assert f"| `{method}` |" in text
