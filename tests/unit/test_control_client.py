"""The control client against a real socket, with a server that says what the test tells it."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools import exit_codes
from artstorefs_tools.control_client import (
    LINE_MAX_BYTES,
    ControlClient,
    ControlError,
    ControlProtocolError,
    ControlRefused,
    ControlTimeout,
)
from artstorefs_tools.errors import NotMounted

Answer = Callable[[dict[str, Any]], bytes]


def line(**members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Answer], Path]]:
    """Serve one connection in a thread; every request is answered by the bytes of `answer`."""
    threads: list[threading.Thread] = []

    def start(answer: Answer) -> Path:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen()

        def run() -> None:
            with listener, listener.accept()[0] as connection, connection.makefile("rb") as lines:
                for request in lines:
                    reply = answer(json.loads(request))
                    if not reply:
                        return
                    connection.sendall(reply)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return tmp_path

    yield start
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_call_sends_json_rpc_and_gives_the_result(serve: Callable[[Answer], Path]) -> None:
    seen = []

    def answer(request: dict[str, Any]) -> bytes:
        seen.append(request)
        return line(id=request["id"], result={"nodes": len(seen)})

    with ControlClient(serve(answer), "museum") as client:
        assert client.daemon_pid == os.getpid()
        assert client.call("status") == {"nodes": 1}
        assert client.call("status", {"a": 1}) == {"nodes": 2}
    assert seen[0] == {"jsonrpc": "2.0", "id": 1, "method": "status", "params": {}}
    assert (seen[1]["id"], seen[1]["params"]) == (2, {"a": 1})


def test_progress_comes_before_the_result(serve: Callable[[Answer], Path]) -> None:
    def answer(request: dict[str, Any]) -> bytes:
        progress = [line(method="progress", params={"pending": n}) for n in (2, 1)]
        other = line(method="something_new", params={})
        return b"".join([*progress, other, line(id=request["id"], result={"pending": 0})])

    told: list[dict[str, Any]] = []
    with ControlClient(serve(answer), "museum") as client:
        assert client.call_with_progress("flush", told.append) == {"pending": 0}
    assert told == [{"pending": 2}, {"pending": 1}]


def test_not_mounted_when_there_is_no_socket(tmp_path: Path) -> None:
    with pytest.raises(NotMounted, match="mount it with: artstorefs mount museum") as raised:
        ControlClient(tmp_path, "museum").__enter__()
    assert raised.value.exit_code == exit_codes.NOT_MOUNTED


def test_not_mounted_when_the_daemon_died_and_left_its_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
    with pytest.raises(NotMounted):
        ControlClient(tmp_path, "museum").__enter__()


def test_path_that_no_socket_can_have_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"cannot reach .*too long"):
        ControlClient(tmp_path / ("x" * 200), "museum").__enter__()


@pytest.mark.parametrize("with_id", [True, False])
def test_refusal_carries_code_and_one_line(serve: Callable[[Answer], Path], with_id: bool) -> None:
    error = {"code": -32601, "message": "no such\nmethod"}
    runtime_dir = serve(lambda request: line(id=request["id"] if with_id else None, error=error))
    with ControlClient(runtime_dir, "museum") as client, pytest.raises(ControlRefused) as raised:
        client.call("dance")
    assert raised.value.code == -32601
    assert str(raised.value) == "museum: dance: no such method"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "ended without an answer"),
        (b"hello\n", "not a line of JSON-RPC 2.0: b'hello"),
        (b"[1]\n", "not a line of JSON-RPC 2.0"),
        (b'{"id": 1, "result": {}}\n', "not a line of JSON-RPC 2.0"),
        (line(id=1, result=3), "the answer has no result"),
        (line(id=9, result={}), "an answer to a request that was not sent"),
        (b"x" * (LINE_MAX_BYTES + 1), "longer than 1 MiB"),
    ],
)
def test_answer_that_is_not_the_protocol(
    serve: Callable[[Answer], Path], reply: bytes, reason: str
) -> None:
    runtime_dir = serve(lambda _: reply)
    with (
        ControlClient(runtime_dir, "museum") as client,
        pytest.raises(ControlProtocolError) as raised,
    ):
        client.call("status")
    assert reason in str(raised.value)
    assert str(raised.value).startswith("museum: status: ")


def test_daemon_that_says_nothing_is_a_timeout(serve: Callable[[Answer], Path]) -> None:
    silent = line(method="something_new")  # a sign of life, but no answer
    runtime_dir = serve(lambda _: silent)
    with (
        ControlClient(runtime_dir, "museum", timeout_s=0.05) as client,
        pytest.raises(ControlTimeout, match=r"no answer within 0\.05 s"),
    ):
        client.call("status")
