"""Who is told when what was asked for is there: signed, again after failures, and given up."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from artstorefs.core.recall_configuration import RecallConfiguration
from artstorefs_daemon import recall_webhook
from artstorefs_daemon.recall_webhook import GIVE_UP_S, RecallWebhook

from .offline_bench import OfflineBench

SECRET = b"correct horse battery staple"


class Receiver:
    """A web server on this machine: what it was told, and the answers that it gives, then 204."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.told.append((dict(self.headers), body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/recalled?of=museum"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


class WebhookBench(OfflineBench):
    """With a webhook whose clock goes when the test says so."""

    def __init__(self, base: Path, url: str) -> None:
        self.now_ns = time.time_ns()
        self.secret = base / "secret"
        self.secret.write_bytes(SECRET + b"\n")
        self.secret.chmod(0o600)
        settings = {"webhook": url, "webhook_secret_file": self.secret}
        super().__init__(base, recall=RecallConfiguration.model_validate(settings))

    def open(self, *arguments: Any) -> None:
        super().open(*arguments)
        requests = self.recalls.requests
        self.webhook = RecallWebhook(self.configuration, requests, lambda: self.now_ns)
        self.recalls.tells, self.recalls.done = self.webhook.is_on, self.webhook.wake
        requests.are_whole()

    async def tell(self) -> float:
        """One attempt; seconds until the next."""
        receiver = self.webhook._receiver
        assert receiver is not None
        pause_s = await self.webhook._tell_next(receiver)
        return pause_s or await self.webhook._tell_next(receiver)

    def later(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@pytest.fixture
async def bench(
    tmp_path: Path, receiver: Receiver, clock: MockClock
) -> AsyncIterator[WebhookBench]:
    bench = WebhookBench(tmp_path, receiver.url)
    await bench.cache.load()
    yield bench
    bench.cache.close()


async def asked(bench: WebhookBench) -> None:
    """Two files were asked for together."""
    await bench.write(b"f", b"content")
    await bench.archived(b"g", b"more content")
    order = await bench.recalls.ask([bench.tree.node(1)], 30, uid=1000)
    assert order.files == 2


async def test_it_is_told_once_when_all_is_there(bench: WebhookBench, receiver: Receiver) -> None:
    """SEMANTICS: AR-11"""
    await asked(bench)
    assert await bench.tell() == float("inf")
    await bench.bring()
    assert await bench.tell() == float("inf")
    ((headers, body),) = receiver.told
    told = json.loads(body)
    assert (told["event"], told["archive"], told["path"]) == ("recall.done", "test", "/")
    assert (told["files"], told["bytes"], told["failed"], told["asked_by"]) == (2, 19, 0, 1000)
    stamp = headers["X-ArtStoreFS-Timestamp"]
    assert abs(int(stamp) - bench.now_ns / 1e9) < 2
    digest = hmac.new(SECRET, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["X-ArtStoreFS-Signature"] == f"sha256={digest}"
    assert headers["X-ArtStoreFS-Delivery"] == told["id"]
    assert bench.recalls.requests.is_empty


async def test_it_is_told_again_until_it_is_taken(bench: WebhookBench, receiver: Receiver) -> None:
    """Also after a restart; a redirection is no answer. SEMANTICS: AR-11"""
    await asked(bench)
    await bench.bring()
    receiver.answers = [500, 302, 503]
    pauses = []
    for _ in range(2):
        pauses.append(round(await bench.tell()))
        bench.later(pauses[-1])
    bench.cache.close()
    bench.restart()
    pauses.append(round(await bench.tell()))
    assert pauses == [5, 10, 20]
    bench.later(pauses[-1])
    assert await bench.tell() == float("inf")
    assert len(receiver.told) == 4
    stamps = [headers["X-ArtStoreFS-Timestamp"] for headers, _ in receiver.told]
    assert len(set(stamps)) == 4
    assert len({body for _, body in receiver.told}) == 1


async def test_it_is_given_up(bench: WebhookBench, receiver: Receiver) -> None:
    """SEMANTICS: AR-11"""
    await asked(bench)
    await bench.bring()
    receiver.answers = [500, 500]
    assert round(await bench.tell()) == 5
    bench.later(GIVE_UP_S + 10)
    assert await bench.tell() == float("inf")
    assert bench.recalls.requests.is_empty
    assert len(receiver.told) == 2


async def test_a_secret_that_others_can_read_signs_nothing(
    bench: WebhookBench, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    await asked(bench)
    await bench.bring()
    bench.secret.chmod(0o644)
    assert round(await bench.tell()) == 5
    assert receiver.told == []
    assert "may be read by others" in caplog.text
    assert SECRET.decode() not in caplog.text


async def test_nobody_waits_for_a_receiver_that_hangs(
    bench: WebhookBench, monkeypatch: pytest.MonkeyPatch, clock: MockClock
) -> None:
    """SEMANTICS: AR-11"""
    await asked(bench)
    await bench.bring()
    released = threading.Event()
    monkeypatch.setattr(recall_webhook.Receiver, "_post", lambda *_: released.wait(60) and 204)
    clock.autojump_threshold = 0.05
    try:
        with trio.fail_after(recall_webhook.ATTEMPT_LIMIT_S + 1):
            assert round(await bench.tell()) == 5
    finally:
        released.set()
    assert not bench.recalls.requests.is_empty


def test_what_is_no_web_address_is_refused() -> None:
    for url in ("ftp://h/", "http://user:password@h/", "file:///etc/passwd", "http:///x", "h"):
        with pytest.raises(ValueError, match="web address"):
            RecallConfiguration(webhook=url, webhook_secret_file=Path("/s"))
    with pytest.raises(ValueError, match="webhook_secret_file"):
        RecallConfiguration(webhook="https://h/")
