"""A server that fails is left alone by all that use it, and asked again by one of them."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs.core.errors import ElementDenied, ElementUnavailable, ObjectAbsent
from artstorefs.elements import breaker as breaker_module
from artstorefs.elements.breaker import FAILURES, Breaker
from artstorefs.elements.counted import CountedElement
from artstorefs.elements.gauges import Gauges
from artstorefs.elements.interface import ARCHIVE_KEY
from artstorefs.elements.s3 import S3Element

from .proxy import Answer, Fault, Hang, Proxy, Request
from .servers import Server

OBJECT = "2026/11/23/22/harbour.tif"
DOCUMENT = f"{OBJECT}.attr.json"
FAILURE = Answer(500, "InternalError")


class Bucket:
    """One element, and as many as there are workers that use it."""

    def __init__(self, server: Server, proxy: Proxy) -> None:
        self.settings = server.settings(endpoint=proxy.url)
        self.gauges = Gauges()
        self.proxy = proxy
        self.opened: list[S3Element] = []
        element = self.open()
        for key in (ARCHIVE_KEY, OBJECT, DOCUMENT):
            element.replace(key, b"{}")
        element.barrier()

    def open(self) -> S3Element:
        """For a worker."""
        gauges = self.gauges
        made = S3Element(
            "bucket1",
            self.settings,
            breaker=gauges.breaker,
            requested=gauges.counters.requested,
        )
        self.opened.append(made)
        return made

    @property
    def state(self) -> str:
        return self.gauges.breaker.view(time.monotonic()).state

    def try_now(self) -> None:
        """What `flush` does."""
        self.gauges.breaker.try_now(time.monotonic())

    def fail(self, element: S3Element) -> str:
        """One call that fails; what is said."""
        with pytest.raises(ElementUnavailable) as raised:
            element.stat(DOCUMENT)
        assert type(raised.value) is ElementUnavailable  # never absent
        return str(raised.value)


@pytest.fixture
def bucket(server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Whose pauses are over when a test says so."""
    monkeypatch.setattr(breaker_module, "PAUSE_FIRST_S", 3600.0)
    made = Bucket(server, proxy)
    yield made
    proxy.rule = None
    for element in made.opened:
        element.close()


def test_server_that_does_not_answer_is_left_alone_by_all_who_use_it(
    bucket: Bucket, tmp_path: Path
) -> None:
    """SEMANTICS: ELEM-19"""
    one, other = bucket.open(), bucket.open()
    source = tmp_path / "source"
    source.write_bytes(b"x")
    bucket.proxy.switch_off()
    bucket.fail(one)
    assert bucket.state == "open"
    bucket.proxy.rule = None
    bucket.proxy.requests.clear()
    for element in (one, other):
        for call in (
            lambda element=element: element.read(DOCUMENT, 0, 10),
            lambda element=element: element.stat("2026/nothing/is/here"),
            lambda element=element: list(element.list()),
            lambda element=element: element.put(OBJECT, str(source), size_bytes=1),
            element.capacity,
        ):
            with pytest.raises(ElementUnavailable, match=r"no connection: .*; asked again in \d"):
                call()
        element.replace(DOCUMENT, b"{ }")
        with pytest.raises(ElementUnavailable, match="asked again in"):
            element.barrier()
    assert bucket.proxy.requests == []
    bucket.try_now()
    assert other.read(DOCUMENT, 0, 10) == b"{}"
    assert bucket.state == "closed"
    assert one.read(DOCUMENT, 0, 10) == b"{}"


def test_failures_of_the_server_in_a_row_open_and_one_attempt_is_the_trial(
    bucket: Bucket,
) -> None:
    """SEMANTICS: ELEM-19"""
    element = bucket.open()
    bucket.proxy.rule = lambda request: FAILURE
    bucket.proxy.requests.clear()
    for number in range(FAILURES):
        assert bucket.state == "closed"
        assert "the server failed" in bucket.fail(element)
        assert len(bucket.proxy.requests) == (number + 1) * bucket.settings.attempts
    assert bucket.state == "open"
    bucket.proxy.requests.clear()
    bucket.try_now()
    bucket.fail(element)
    assert len(bucket.proxy.requests) == 1
    assert "asked again in" in bucket.fail(element)
    assert len(bucket.proxy.requests) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Answer(404, "NoSuchKey"), ObjectAbsent),
        (Answer(403, "AccessDenied"), ElementDenied),
    ],
)
def test_answers_close_and_never_open(bucket: Bucket, fault: Fault, error: type[Exception]) -> None:
    element = bucket.open()
    bucket.proxy.rule = lambda request: fault if request.path.endswith("attr.json") else None
    for _ in range(FAILURES + 1):
        with pytest.raises(error):
            element.read(DOCUMENT, 0, 10)
    assert bucket.state == "closed"
    bucket.proxy.switch_off()
    with pytest.raises(ElementUnavailable):
        element.read(DOCUMENT, 0, 10)
    assert bucket.state == "open"
    bucket.proxy.rule = lambda request: fault if request.path.endswith("attr.json") else None
    bucket.try_now()
    with pytest.raises(error):
        element.read(DOCUMENT, 0, 10)
    assert bucket.state == "closed"


def test_object_that_the_server_fails_at_does_not_stop_the_others(bucket: Bucket) -> None:
    element = bucket.open()
    bucket.proxy.rule = lambda request: FAILURE if request.path.endswith("attr.json") else None
    for _ in range(FAILURES):
        bucket.fail(element)
        assert element.read(OBJECT, 0, 10) == b"{}"
    assert bucket.state == "closed"


def test_while_one_makes_the_trial_all_others_are_refused(bucket: Bucket) -> None:
    """SEMANTICS: ELEM-19"""
    one, other = bucket.open(), bucket.open()
    bucket.proxy.switch_off()
    bucket.fail(one)
    arrived, goes_on = threading.Event(), threading.Event()

    def rule(request: Request) -> Fault | None:
        arrived.set()
        assert goes_on.wait(60)
        return None

    bucket.proxy.rule = rule
    bucket.proxy.requests.clear()
    bucket.try_now()
    found: list[bytes] = []
    trial = threading.Thread(target=lambda: found.append(one.read(DOCUMENT, 0, 10)))
    trial.start()
    assert arrived.wait(60)
    assert bucket.state == "half-open"
    assert "just being asked again" in bucket.fail(other)
    assert len(bucket.proxy.requests) == 1
    goes_on.set()
    trial.join()
    assert found == [b"{}"]
    assert bucket.state == "closed"


def test_refused_is_never_absent_also_where_nothing_was_ever_seen(
    moto_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: ELEM-19"""
    monkeypatch.setattr(breaker_module, "PAUSE_FIRST_S", 3600.0)
    with socket.socket() as bound:  # nobody listens there
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        settings = moto_server.settings(endpoint=url)
        breaker = Breaker(time.monotonic())
        element = S3Element("bucket1", settings, breaker=breaker)
        with pytest.raises(ElementUnavailable, match=r"check endpoint and network$"):
            element.stat(DOCUMENT)
        for call in (element.stat, element.open_read, lambda key: element.read(key, 0, 1)):
            with pytest.raises(ElementUnavailable, match="asked again in"):
                call(DOCUMENT)
        element.close()


def test_answer_that_never_comes_opens_too(server: Server, proxy: Proxy) -> None:
    gauges = Gauges()
    settings = server.settings(endpoint=proxy.url, read_timeout_s=0.1, attempts=2)
    element = S3Element("bucket1", settings, breaker=gauges.breaker)
    proxy.rule = lambda request: Hang()
    with pytest.raises(ElementUnavailable, match="nothing answers in time"):
        element.read(DOCUMENT, 0, 10)
    assert gauges.breaker.view(time.monotonic()).state != "closed"
    element.close()


def test_requests_are_counted_by_operation_each_attempt_of_them(bucket: Bucket) -> None:
    """SEMANTICS: ELEM-20"""
    counters = bucket.gauges.counters
    element = CountedElement(bucket.open(), counters)
    before = dict(counters.counts().requests)
    bucket.proxy.requests.clear()
    bucket.proxy.fail_once(lambda request: request.method == "GET", FAILURE)
    assert element.read(DOCUMENT, 0, 10) == b"{}"
    element.stat(DOCUMENT)
    with element.open_read(OBJECT) as stream:
        assert stream.read() == b"{}"
    after = counters.counts()
    made = {name: count - before.get(name, 0) for name, count in after.requests.items()}
    assert {name: count for name, count in made.items() if count} == {
        "GetObject": 3,
        "HeadObject": 1,
    }
    assert len(bucket.proxy.requests) == 4
    assert after.call("read").count == 1
    assert after.received_bytes == 4
