"""The control socket: what CONTROL.md says, and input that nobody should send."""

import errno
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from artstorefs.core.errors import ElementUnavailable, StateFull
from artstorefs_daemon.control import server as control
from artstorefs_daemon.control.protocol import (
    LINE_LIMIT_BYTES,
    MARKS_LIMIT,
    OPENED_LIMIT,
    ControlError,
    Lines,
    parse_request,
)

from .control_server import STATUS, Server, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async for made in serving(tmp_path):
        yield made


async def test_status(server: Server) -> None:
    client = await server.connect()
    for identifier in (1, "one", None, [1, {"a": 2}], 1.5):
        answer = await client.ask({"jsonrpc": "2.0", "id": identifier, "method": "status"})
        result = {"api_version": 1, **STATUS}
        assert answer == {"jsonrpc": "2.0", "id": identifier, "result": result}


async def test_what_may_change_something_is_recorded_before_and_nothing_else(
    server: Server,
) -> None:
    client = await server.connect()
    await client.ask({"id": 1, "method": "status"})
    await client.ask({"id": 2, "method": "nonsense"})
    assert server.service.archive.notes == []
    await client.ask({"id": 3, "method": "flush", "params": {"a": 1}})  # refused
    assert server.service.archive.notes == []
    await client.ask({"id": 4, "method": "flush", "params": {"detach": False}})
    who = (os.geteuid(), os.getegid(), os.getpid())
    details = {"method": "flush", "params": {"detach": False}}
    assert server.service.archive.notes == [("control", *who, details)]
    server.service.archive.failure = StateFull("/state/audit", "no change without a record")
    client = await server.connect()
    answer = await client.ask({"id": 5, "method": "flush"})
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
    b"[" * 30_000: -32700,
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
    b'{"a":[' + b"1," * MARKS_LIMIT + b"1]}": -32700,
    b'{"a":' + b"[" * OPENED_LIMIT + b"]" * OPENED_LIMIT + b"}": -32700,
    b'{"a":"' + b"[" * OPENED_LIMIT + b'","method":"status"}': -32700,
    bytes(range(256)).replace(b"\n", b""): -32700,
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
    pieces += [b"[" * 70, b"\x80\xff", b'{"a":', b"}" * 5, b'"\\ud800"', b"x" * 5000]
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
    request = b'{"id":1,"method":"status","more":"'
    answer = await client.ask(request + b"x" * (LINE_LIMIT_BYTES - len(request) - 2) + b'"}')
    assert "result" in answer


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


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"a\n\nbc\nd", b"x" * 300 + b"\n" * 3, bytes(range(256))], ids=len
)
def test_lines_are_the_same_however_they_come(data: bytes) -> None:
    for size in (1, 2, 3, 7, len(data) or 1):
        lines = Lines()
        found: list[bytes] = []
        for start in range(0, len(data), size):
            lines.add(data[start : start + size])
            found += iter(lines.next, None)
        assert found == data.split(b"\n")[:-1]
        assert lines.is_inside_line == (not data.endswith(b"\n") and bool(data))


@pytest.mark.parametrize("size", [1000, 65_536, 4 * LINE_LIMIT_BYTES])
def test_line_that_is_too_long_is_refused_whether_it_ends_or_not(size: int) -> None:
    for end in (b"", b"\n{}\n"):
        lines, data = Lines(), b"x" * (LINE_LIMIT_BYTES + 1) + end
        with pytest.raises(ControlError, match="at most 32768 bytes"):
            take_in_pieces(lines, data, size)


def take_in_pieces(lines: Lines, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        lines.add(data[start : start + size])
        while lines.next() is not None:
            pass


SIZE = LINE_LIMIT_BYTES
HOSTILE = {
    "objects": b"[" + b"{}," * (SIZE // 3 - 1) + b"1]",
    "numbers": b"[" + b"1," * (SIZE // 2 - 2) + b"1]",
    "keys": b"{" + b",".join(b'"%d":1' % n for n in range(SIZE // 10)) + b"}",
    "most keys": b"{" + b",".join(b'"%d":1' % n for n in range(MARKS_LIMIT // 5)) + b"}",
    "most objects": b"[" + b"{}," * (OPENED_LIMIT - 1) + b"1]" + b" " * (SIZE - 1000),
    "most nested": b"[" * OPENED_LIMIT + b" " * (SIZE - 1000) + b"]" * OPENED_LIMIT,
    "empty strings": b"[" * 40 + b'""' * (SIZE // 2 - 20),
    "escapes": b'{"a":"' + b"\\n" * (SIZE // 2 - 5) + b'"}',
    "escaped letters": b'{"a":"' + b"\\u0041" * (SIZE // 6 - 5) + b'"}',
    "surrogates": b'{"a":"' + b"\\ud83d\\ude00" * (SIZE // 12 - 5) + b'"}',
    "quotes in a string": b'{"a":"' + b'\\"' * (MARKS_LIMIT - 10) + b"x" * 29_000 + b'"}',
    "open string after brackets": b"[" * 40 + b'"' + b"\\x" * (SIZE // 2 - 30),
    "letters": b'{"a":"' + "é".encode() * (SIZE // 2 - 10) + b'"}',
    "digits": b'{"a":' + b"9" * (SIZE - 10) + b"}",
    "fraction": b'{"a":1.' + b"9" * (SIZE - 10) + b"}",
    "deep": b"[" * SIZE,
    "spaces": b" " * (SIZE - 2) + b"{}",
    "binary": bytes(range(256)).replace(b"\n", b"") * (SIZE // 256),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_line_takes_a_millisecond_of_the_loop(name: str) -> None:
    """The best of some attempts, in time of this thread: what others do counts for nothing."""
    line = HOSTILE[name]
    assert len(line) <= LINE_LIMIT_BYTES
    best_s = 1.0
    for _ in range(20):
        begun_s = time.thread_time()
        with suppress(ControlError):
            parse_request(line)
        best_s = min(best_s, time.thread_time() - begun_s)
    assert best_s < 0.001
