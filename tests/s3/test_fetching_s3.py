"""Fetches for the read cache from an S3 server: how long trouble takes, and what it is called."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.elements import s3_opening
from artstorefs.elements.interface import ARCHIVE_KEY, Element
from artstorefs.elements.opening import open_element
from artstorefs.elements.s3 import S3Element
from artstorefs.state.cache import CacheFiles
from artstorefs.state.fetch import Failure, FetchAnswer, FetchJob, FetchKind
from artstorefs.transfer.fetching import fetch

from .proxy import Answer, Drop, Fault, Hang, Proxy, Request, Spoil
from .servers import BUCKET, Server

KEY = "2026/11/26/08/harbour.tif"
BLOCK = 4 << 20
DATA = os.urandom(BLOCK + 1_500_000)


@pytest.fixture
def files(tmp_path: Path) -> CacheFiles:
    return CacheFiles(str(tmp_path / "cache"))


@pytest.fixture
def element(
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Element]:
    """As readers have it, with less patience still; on the server is an object in two parts."""
    settings = server.settings()
    source = tmp_path / "source"
    source.write_bytes(DATA)
    writer = S3Element("bucket1", settings)
    writer.replace(ARCHIVE_KEY, b"{}")
    writer.put(KEY, str(source), size_bytes=len(DATA), sha256=digest_of(DATA))
    writer.barrier()
    writer.close()
    monkeypatch.setitem(s3_opening.FOR_READERS, "read_timeout_s", 0.5)
    configuration = ElementConfiguration(
        id="bucket1",
        kind="s3",
        bucket=BUCKET,
        prefix=settings.prefix.rstrip("/"),
        endpoint=proxy.url,
        credentials_file=server.credentials,
    )
    made = open_element(configuration, for_readers=True)
    yield made
    made.close()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch_block(element: Element, files: CacheFiles, index: int = 1) -> FetchAnswer:
    data = DATA[index * BLOCK : (index + 1) * BLOCK]
    job = FetchJob(
        *(FetchKind.BLOCK, "bucket1", KEY, digest_of(DATA), len(DATA)),
        *(index, index * BLOCK, len(data), digest_of(data)),
    )
    return fetch(element, job, files)


def is_content(request: Request) -> bool:
    return request.method == "GET" and request.path.endswith(KEY)


def test_block_of_an_object_in_parts(element: Element, files: CacheFiles, proxy: Proxy) -> None:
    for index in (1, 0):
        answer = fetch_block(element, files, index)
        assert answer.failure is None
        assert answer.stored >= 1_500_000
    assert len([one for one in proxy.requests if is_content(one)]) == 2


@pytest.mark.parametrize("fault", [Answer(503, "SlowDown"), Drop(), Spoil(1000), Spoil()])
def test_trouble_that_passes_is_not_noticed(
    element: Element, files: CacheFiles, proxy: Proxy, fault: Fault
) -> None:
    proxy.fail_once(is_content, fault)
    assert fetch_block(element, files).failure is None
    assert len([one for one in proxy.requests if is_content(one)]) == 2


@pytest.mark.parametrize(
    ("fault", "failure", "words"),
    [
        (Answer(503, "SlowDown"), Failure.UNAVAILABLE, "fewer requests"),
        (Answer(403, "AccessDenied"), Failure.UNAVAILABLE, "access is denied"),
        (Answer(404, "NoSuchKey"), Failure.ABSENT, "is not there"),
        (Answer(404, "NoSuchBucket"), Failure.UNAVAILABLE, "the bucket does not exist"),
        (Spoil(), Failure.DAMAGED, "does not have its SHA-256"),
    ],
)
def test_trouble_that_stays_is_one_answer(
    element: Element,
    files: CacheFiles,
    proxy: Proxy,
    fault: Fault,
    failure: Failure,
    words: str,
) -> None:
    proxy.rule = lambda request: fault if is_content(request) else None
    answer = fetch_block(element, files)
    assert answer.failure is failure
    assert words in answer.reason
    assert answer.stored == 0
    proxy.rule = None
    assert fetch_block(element, files).failure is None


def test_server_that_never_answers_is_given_up(
    element: Element, files: CacheFiles, proxy: Proxy
) -> None:
    """Three attempts of a quarter of a minute each, here of half a second; and then a rest, in
    which nothing is asked. On a machine that is busy they take longer, but not that long."""
    proxy.rule = lambda request: Hang()
    started = time.monotonic()
    answer = fetch_block(element, files)
    assert (answer.failure, time.monotonic() - started < 30) == (Failure.UNAVAILABLE, True)
    assert "nothing answers in time" in answer.reason
    asked = len(proxy.requests)
    assert fetch_block(element, files).failure is Failure.UNAVAILABLE
    assert len(proxy.requests) == asked
