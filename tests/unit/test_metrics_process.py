"""The metrics process: whom it asks and how often, what it answers, and who cannot hold it up."""

import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from artstorefs_daemon.metrics import server, source, supervision, textfile
from artstorefs_daemon.metrics.process import Order
from artstorefs_daemon.metrics.server import BURST, CONNECTIONS_MAX, Pace, Pages, Server
from artstorefs_daemon.metrics.source import FRESH_S, StatusSource
from artstorefs_daemon.metrics.textfile import TextFile

from .status_sample import status

MOUNTINFO = b"90 29 0:50 / /srv/museum rw - fuse.artstorefs museum rw\n"


class Daemon:
    """A control socket that counts what it is asked. `reply` is what it says; b"" ends the
    connection, None says nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.asked = 0
        self.connections = 0
        self.reply: bytes | None = json.dumps({"id": 1, "result": status()}).encode() + b"\n"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(socket.AF_UNIX) as listener:
            await listener.bind(self.path)
            listener.listen()
            task_status.started()
            await trio.serve_listeners(self._answer, [trio.SocketListener(listener)])

    async def _answer(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with stream:
            while await stream.receive_some(1000):
                self.asked += 1
                if self.reply == b"":
                    return
                if self.reply is not None:
                    await stream.send_all(self.reply[:10])
                    await stream.send_all(self.reply[10:])


class Clock:
    """Time for an asker passes when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_by(self) -> None:
        self.now_s += FRESH_S


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    made = Daemon(str(tmp_path / "control.sock"))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.serve)
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def asker(tmp_path: Path, clock: Clock) -> AsyncIterator[StatusSource]:
    made = StatusSource(str(tmp_path / "control.sock"), clock)
    yield made
    await made.aclose()


# ------------------------------------------------------------------------------------ asking


async def test_crowd_costs_the_daemon_one_answer_in_half_a_second(
    asker: StatusSource, clock: Clock, daemon: Daemon
) -> None:

    async def ask() -> None:
        assert (await asker.latest()).status == status()

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask)
        clock.pass_by()
    assert (daemon.asked, daemon.connections) == (3, 1)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "it has closed the connection"),
        (b'{"error": {"code": -32603}}\n', "-32603"),
        (b"no JSON at all\n", "Expecting value"),
        (b"[]\n", "does not answer: []"),
    ],
)
async def test_answer_that_is_none(
    asker: StatusSource, clock: Clock, daemon: Daemon, reply: bytes, words: str
) -> None:
    good = daemon.reply
    daemon.reply = reply
    answer = await asker.latest()
    assert answer.status is None
    assert words in answer.error
    daemon.reply = good
    assert (await asker.latest()) is answer  # half a second of that too
    clock.pass_by()
    assert (await asker.latest()).status == status()


async def test_daemon_that_hangs_is_not_waited_for(
    asker: StatusSource, clock: Clock, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "ANSWER_LIMIT_S", 0.05)
    good = daemon.reply
    daemon.reply = None
    assert (await asker.latest()).error == "the daemon does not answer within 0.05 s"
    daemon.reply = good
    clock.pass_by()
    assert (await asker.latest()).status == status()
    assert daemon.connections == 2  # on the first an answer may still come


async def test_daemon_that_was_started_anew_is_asked_over_a_new_connection(
    asker: StatusSource, clock: Clock, tmp_path: Path
) -> None:
    path = str(tmp_path / "control.sock")
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(Daemon(path).serve)
            clock.pass_by()
            assert (await asker.latest()).status == status()
            nursery.cancel_scope.cancel()
        os.unlink(path)
        clock.pass_by()
        assert "does not answer" in (await asker.latest()).error


async def test_whoever_goes_away_leaves_no_half_of_an_answer_to_the_next(
    asker: StatusSource, clock: Clock, daemon: Daemon
) -> None:
    good = daemon.reply
    daemon.reply = b'{"id": 1, "resu'
    with trio.move_on_after(0.05):
        await asker.latest()
    daemon.reply = good
    assert (await asker.latest()).status == status()


# ---------------------------------------------------------------------------------- over HTTP


class Site:
    """The pages of an archive on a port of this machine."""

    def __init__(self, asker: StatusSource, base: Path) -> None:
        self.mountinfo = base / "mountinfo"
        self.mountinfo.write_bytes(MOUNTINFO)
        self.pages = Pages("museum", asker, self.mountinfo)
        self.address = ("127.0.0.1", free_port())
        self.server = Server(self.pages.application)

    async def connect(self) -> trio.SocketStream:
        for _ in range(200):
            try:
                return await trio.open_tcp_stream(*self.address)
            except OSError:
                await trio.sleep(0.01)
        raise AssertionError("nobody listens")

    async def get(self, path: str, headers: str = "") -> tuple[int, str]:
        """Status code, and the head with the body."""
        async with await self.connect() as stream:
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
            await stream.send_all(request.encode())
            text = b"".join([data async for data in stream]).decode()
        return int(text.split()[1]), text


def variables_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def appears(path: Path, words: bytes = b"") -> None:
    """Until the file is there, and has these words."""
    for _ in range(2000):
        if os.path.exists(path) and words in path.read_bytes():  # noqa: ASYNC240  # a local disk
            return
        await trio.sleep(0.01)
    raise AssertionError(f"there is no {path} with {words!r}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
async def site(daemon: Daemon, asker: StatusSource, tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(asker, tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.server.serve, made.address)
        yield made
        nursery.cancel_scope.cancel()


async def test_pages(site: Site, daemon: Daemon) -> None:
    code, text = await site.get("/metrics")
    assert code == 200
    assert 'artstorefs_up{archive="museum"} 1.0' in text
    assert "content-type: text/plain; version=" in text
    code, text = await site.get("/metrics", "Accept: application/openmetrics-text\r\n")
    assert "content-type: application/openmetrics-text" in text
    assert text.endswith("# EOF\n")
    for page in ("/healthz", "/readyz"):
        code, text = await site.get(page)
        assert (code, text.rpartition("\r\n")[2]) == (200, "ok\n")
    assert (await site.get("/"))[0] == 404
    assert daemon.asked == 1


async def test_mount_that_is_gone(site: Site) -> None:
    site.mountinfo.write_bytes(b"")
    for page in ("/healthz", "/readyz"):
        code, text = await site.get(page)
        assert code == 503
        assert text.endswith("museum is not mounted at /srv/museum\n")


async def test_daemon_that_is_gone(site: Site, daemon: Daemon) -> None:
    daemon.reply = b""
    code, text = await site.get("/metrics")
    assert code == 200
    assert 'artstorefs_up{archive="museum"} 0.0' in text
    assert (await site.get("/healthz"))[0] == 503


@pytest.mark.parametrize(
    "sent", [b"\0\xff\r\n\r\n", b"GET", b"x" * 100_000, b"GET / HTTP/1.1\r\nHost: x\r\nA: " * 9000]
)
async def test_what_is_no_request(site: Site, sent: bytes) -> None:
    async with await site.connect() as stream:
        try:
            await stream.send_all(sent)
            await stream.send_eof()
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass  # it has ended the connection, as it may
    assert (await site.get("/healthz"))[0] == 200


async def test_one_connection_too_many_is_closed_and_places_come_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTION_LIMIT_S", 0.3)
    silent = [await site.connect() for _ in range(CONNECTIONS_MAX)]
    async with await site.connect() as one_more:
        with trio.fail_after(5):
            assert await one_more.receive_some() == b""
    for stream in silent:
        with trio.fail_after(5):
            assert await stream.receive_some() == b""
    assert (await site.get("/healthz"))[0] == 200
    for stream in silent:
        await stream.aclose()


@pytest.mark.parametrize("requests", [1, 1000])
async def test_whoever_does_not_read_gives_his_place_back(
    requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTION_LIMIT_S", 0.2)
    pace = Pace()

    async def page(request: Request) -> Response:
        await pace.wait()
        return Response(b"x" * (32 << 20))

    address = ("127.0.0.1", free_port())
    made = Server(Starlette(routes=[Route("/", page)]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.serve, address)
        await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * requests)
            await trio.sleep(0.1)
            assert made._connections == 1
            with trio.fail_after(5):
                while made._connections:  # noqa: ASYNC110  # nobody tells
                    await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_loop_of_requests_has_to_wait(autojump_clock: trio.testing.MockClock) -> None:
    pace, began_s = Pace(), trio.current_time()
    for _ in range(BURST):
        await pace.wait()
    assert trio.current_time() - began_s < 0.1
    for _ in range(server.REQUESTS_PER_S * 10):
        await pace.wait()
    assert trio.current_time() - began_s == pytest.approx(10, abs=0.2)


async def test_port_that_is_taken_is_told_once_and_had_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "LISTEN_PAUSE_S", 0.01)
    address = ("127.0.0.1", free_port())
    with socket.socket() as other:
        other.bind(address)
        other.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Server(Starlette()).serve, address)
            await trio.sleep(0.1)
            told = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
            assert len(told) == 1
            assert "Address already in use" in told[0]
            other.close()
            with trio.fail_after(5):
                while not any("are to be had" in one.getMessage() for one in caplog.records):
                    caplog.set_level(logging.INFO)
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


# --------------------------------------------------------------------------------- as a file


async def test_file_is_whole_readable_for_all_and_ends_with_the_daemon(
    daemon: Daemon, asker: StatusSource, tmp_path: Path
) -> None:
    path = tmp_path / "museum.prom"
    file = TextFile(path, "museum", asker)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.keep)
        await appears(path)
        nursery.cancel_scope.cancel()
    text = path.read_text()
    assert 'artstorefs_up{archive="museum"} 1.0' in text
    assert "artstorefs_element_info" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    file.leave()
    assert 'artstorefs_up{archive="museum"} 0.0' in path.read_text()
    assert set(os.listdir(tmp_path)) == {"control.sock", "museum.prom"}


async def test_file_does_not_say_for_long_that_a_daemon_is_down_which_has_just_begun(
    daemon: Daemon,
    asker: StatusSource,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(textfile, "SILENT_S", 0.01)
    path = tmp_path / "museum.prom"
    good, daemon.reply = daemon.reply, b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TextFile(path, "museum", asker).keep)
        await appears(path)
        daemon.reply = good
        clock.pass_by()
        await appears(path, b'artstorefs_up{archive="museum"} 1.0')
        nursery.cancel_scope.cancel()


async def test_place_that_is_not_there_is_told_once(
    asker: StatusSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = TextFile(tmp_path / "no" / "museum.prom", "museum", asker)
    file.leave()
    file.leave()
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    (tmp_path / "no").mkdir()
    file.leave()
    assert (tmp_path / "no" / "museum.prom").exists()


# ------------------------------------------------------------------- as the daemon has the process


def test_order_survives_the_argument_list() -> None:
    order = Order("museum", "/run/c.sock", ("::1", 9464), None)
    assert Order.from_argument(order.to_argument()) == order


async def test_what_the_process_says_is_logged_line_by_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    said, heard = trio.testing.memory_stream_one_way_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervision._log_lines, heard)
        for part in (b"INFO lis", b"tening\nWARNING a\x1b[7m\n", b"Fatal Python error\n"):
            await said.send_all(part)
        await said.aclose()
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "metrics: listening"),
        ("WARNING", "metrics: a\\x1b[7m"),
        ("ERROR", "metrics: Fatal Python error"),
    ]


async def test_process_ends_with_its_standard_input_and_leaves_word(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    path = tmp_path / "museum.prom"
    order = Order("museum", daemon.path, None, str(path))
    started: list[Any] = []
    real = trio.lowlevel.open_process

    async def open_process(*arguments: Any, **named: Any) -> trio.Process:
        started.append(await real(*arguments, **named))
        return started[0]

    monkeypatch.setattr(trio.lowlevel, "open_process", open_process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervision._run, order)
        await appears(path)
        (process,) = started
        assert b"secret" not in variables_of(process.pid)
        process.terminate()  # meant for the daemon
        nursery.cancel_scope.cancel()
    assert process.returncode == 0
    assert 'artstorefs_up{archive="museum"} 0.0' in path.read_text()
