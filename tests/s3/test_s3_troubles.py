"""Troubles between an S3 element and its server: each one clear line, and nothing lost by it."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs.core.errors import (
    ElementDenied,
    ElementError,
    ElementFull,
    ElementUnavailable,
    KeyInvalid,
    ObjectDamaged,
    ObjectExists,
)
from artstorefs.elements.interface import ARCHIVE_KEY
from artstorefs.elements.s3 import S3Element

from .certificate import make_certificate
from .proxy import Answer, Drop, Fault, Hang, Proxy, Request, Spoil
from .servers import BUCKET, Server, credentials_in

KEY = "2026/11/23/22/harbour.tif"
DOCUMENT = f"{KEY}.attr.json"
LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"
TEXT = b'{"schema_version": "2.0"}'


@pytest.fixture
def element(server: Server, proxy: Proxy) -> Iterator[S3Element]:
    """With archive.json and one document."""
    made = S3Element("bucket1", server.settings(endpoint=proxy.url, read_timeout_s=5.0))
    made.replace(ARCHIVE_KEY, b"{}")
    made.replace(DOCUMENT, TEXT)
    made.barrier()
    made.stat(ARCHIVE_KEY)
    yield made
    proxy.rule = None
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return str(path)


def write(element: S3Element) -> None:
    element.replace(DOCUMENT, b"{}")
    element.barrier()


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def is_get(request: Request) -> bool:
    return request.method == "GET"


REGION = {"x-amz-bucket-region": "eu-north-1"}

ANSWERS: dict[str, tuple[Answer, type[ElementError], type[ElementError], str]] = {
    "no such bucket": (
        *(Answer(404, "NoSuchBucket"), ElementUnavailable, ElementUnavailable),
        "the bucket does not exist; create the bucket",
    ),
    "unknown access key": (
        *(Answer(403, "InvalidAccessKeyId"), ElementUnavailable, ElementDenied),
        "the access key is not known; check the access key",
    ),
    "wrong secret": (
        *(Answer(403, "SignatureDoesNotMatch"), ElementUnavailable, ElementDenied),
        "the secret key is wrong; check",
    ),
    "expired token": (
        *(Answer(400, "ExpiredToken"), ElementUnavailable, ElementDenied),
        "the credentials have expired; check the access key",
    ),
    "denied": (
        *(Answer(403, "AccessDenied"), ElementUnavailable, ElementDenied),
        "access is denied; give these credentials the right",
    ),
    "clock": (
        *(Answer(403, "RequestTimeTooSkewed"), ElementUnavailable, ElementUnavailable),
        "the clocks differ too much; set the clock",
    ),
    "region": (
        *(Answer(400, "AuthorizationHeaderMalformed"), ElementUnavailable, ElementUnavailable),
        "the region is wrong; set region of the element",
    ),
    "slow down": (
        *(Answer(503, "SlowDown"), ElementUnavailable, ElementUnavailable),
        "; another attempt may succeed (",
    ),
    "internal error": (
        *(Answer(500, "InternalError"), ElementUnavailable, ElementUnavailable),
        "the server failed; another attempt may succeed",
    ),
    "bad gateway without a body": (
        *(Answer(502, body=" "), ElementUnavailable, ElementUnavailable),
        "the server failed",
    ),
    "conflict": (
        *(Answer(409, "ConditionalRequestConflict"), ElementUnavailable, ElementUnavailable),
        "another",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_is_one_line_with_what_where_and_what_to_do(
    name: str, moto_server: Server, tmp_path: Path
) -> None:
    answer, reading, writing, words = ANSWERS[name]
    proxy = Proxy(moto_server.url)
    proxy.rule = lambda request: answer
    element = S3Element("bucket1", moto_server.settings(endpoint=proxy.url))
    try:
        for error, call in (
            (reading, lambda: element.read(DOCUMENT, 0, 10)),
            (reading, lambda: element.stat(DOCUMENT)),
            (reading, lambda: list(element.list())),
            (reading, element.capacity),
            (writing, lambda: write(element)),
        ):
            with pytest.raises(error) as raised:
                call()
            assert type(raised.value) is error, raised.value
            line = str(raised.value)
            assert f"bucket {BUCKET} at {proxy.url}: " in line
            assert words in line
            assert "\n" not in line
    finally:
        proxy.close()
        element.close()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Answer(403, "QuotaExceeded"), ElementFull, "the quota is used up; free some"),
        (Answer(507, "XMinioStorageFull"), ElementFull, "the server is full"),
        (Answer(400, "KeyTooLongError"), KeyInvalid, "use a shorter prefix"),
        (Answer(400, "RequestTimeout"), ElementUnavailable, "the server waited too long for data"),
        (Answer(400, "BadDigest"), ObjectDamaged, "is not what was sent"),
        (Answer(501, "NotImplemented"), ElementDenied, "use a server with conditional writes"),
        (Answer(418, "Teapot", "short and stout"), ElementDenied, "short and stout; see its log"),
        (
            Answer(301, "PermanentRedirect", headers=REGION),
            ElementUnavailable,
            "is in region eu-north-1; set",
        ),
    ],
)
def test_answer_to_a_write(
    element: S3Element, proxy: Proxy, answer: Answer, error: type[ElementError], words: str
) -> None:
    proxy.rule = lambda request: answer if is_put(request) else None
    with pytest.raises(error, match="bucket1") as raised:
        write(element)
    assert words in str(raised.value)
    proxy.rule = None
    assert element.read(DOCUMENT, 0, 100) == TEXT


def test_denied_object_of_a_readable_element_concerns_that_object(
    element: S3Element, proxy: Proxy
) -> None:
    denied = Answer(403, "AccessDenied")
    proxy.rule = lambda request: denied if request.path.endswith("attr.json") else None
    with pytest.raises(ElementDenied):
        element.read(DOCUMENT, 0, 10)
    with pytest.raises(ElementDenied):
        element.stat(DOCUMENT)


# ------------------------------------------------------------------------------ passing ones

PASSING: dict[str, Fault] = {
    "slow down": Answer(503, "SlowDown"),
    "internal error": Answer(500, "InternalError"),
    "reset": Drop(),
    "reply lost": Drop(forwarded=True),
}


@pytest.mark.parametrize("name", PASSING)
def test_passing_trouble_of_a_call_is_not_seen(
    element: S3Element, proxy: Proxy, source: str, name: str
) -> None:
    for matches, call in (
        (is_get, lambda: element.read(DOCUMENT, 0, 10)),
        (lambda request: request.method == "HEAD", lambda: element.stat(DOCUMENT)),
        (is_put, lambda: element.put(KEY, source, size_bytes=7)),
        (is_put, element.barrier),
        (lambda request: request.method == "POST", lambda: element.remove(DOCUMENT)),
        (lambda request: request.method == "POST", element.barrier),
    ):
        proxy.fail_once(matches, PASSING[name])
        call()
    proxy.rule = None
    assert element.read(KEY, 0, 100) == b"content"
    assert [found.key for found in element.list("2026/")] == [KEY]


def test_put_whose_reply_was_lost_is_recognised_by_its_content(
    element: S3Element, proxy: Proxy, source: str
) -> None:
    proxy.requests.clear()
    proxy.fail_once(is_put, Drop(forwarded=True))
    element.put(KEY, source, size_bytes=7)
    element.barrier()
    puts = [request for request in proxy.requests if is_put(request)]
    assert [request.headers["if-none-match"] for request in puts] == ["*", "*"]


def test_put_after_somebody_else_was_faster(
    element: S3Element, server: Server, proxy: Proxy, source: str
) -> None:
    """SEMANTICS: ELEM-13"""
    element.put(KEY, source, size_bytes=7)
    path = f"{element._settings.prefix}{KEY}"
    server.client().put_object(Bucket=BUCKET, Key=path, Body=b"foreign")
    with pytest.raises(ObjectExists):
        element.barrier()
    assert element.read(KEY, 0, 100) == b"foreign"


@pytest.mark.slow
def test_retry_after_is_waited_for(element: S3Element, proxy: Proxy) -> None:
    """By the second attempt; after the first, whose answer does not tell, it is a second."""
    asked: list[float] = []

    def busy_twice(request: Request) -> Answer | None:
        asked.append(time.monotonic())
        busy = Answer(503, "SlowDown", headers={"Retry-After": "2"})
        return busy if is_get(request) and len(asked) <= 2 else None

    proxy.rule = busy_twice
    assert element.read(DOCUMENT, 0, 100) == TEXT
    assert asked[1] - asked[0] >= 1.0
    assert asked[2] - asked[1] >= 2.0


@pytest.mark.parametrize("keep_bytes", [0, 5, len(TEXT) - 1])
def test_truncated_body_is_asked_for_again(
    element: S3Element, proxy: Proxy, keep_bytes: int
) -> None:
    proxy.fail_once(is_get, Spoil(keep_bytes))
    assert element.read(DOCUMENT, 0, 4097) == TEXT
    proxy.rule = lambda request: Spoil(keep_bytes) if is_get(request) else None
    with pytest.raises(ElementUnavailable):
        element.read(DOCUMENT, 0, 4097)


@pytest.mark.parametrize("told", ["bytes 0-9/10", "bytes 0-2/10", "bytes 1-3/4"])
def test_answer_that_is_not_the_range_that_was_asked_for_is_none(
    element: S3Element, proxy: Proxy, told: str
) -> None:
    headers = {"Content-Range": told, "ETag": "etag", "Last-Modified": LONG_AGO}
    answer = Answer(206, body="abc", headers=headers)
    proxy.rule = lambda request: answer if is_get(request) else None
    with pytest.raises(ElementUnavailable, match="was cut off"):
        element.read(DOCUMENT, 0, 100)


def test_server_that_ignores_ranges_is_told(element: S3Element, proxy: Proxy) -> None:
    answer = Answer(200, body="abc", headers={"ETag": "etag", "Last-Modified": LONG_AGO})
    proxy.rule = lambda request: answer if is_get(request) else None
    with pytest.raises(ElementUnavailable, match="the server ignores ranges"):
        element.read(DOCUMENT, 0, 100)


def test_flipped_bit_of_a_whole_object_is_asked_for_again_then_damage(
    element: S3Element, proxy: Proxy
) -> None:
    proxy.fail_once(is_get, Spoil())
    assert element.read(DOCUMENT, 0, 4097) == TEXT
    proxy.rule = lambda request: Spoil() if is_get(request) else None
    with pytest.raises(ObjectDamaged, match="does not have the hash"):
        element.read(DOCUMENT, 0, 4097)


def test_hash_that_another_program_left_behind_is_not_believed(
    element: S3Element, server: Server
) -> None:
    path = f"{element._settings.prefix}{DOCUMENT}"
    stale = {"sha256": "0" * 64}
    server.client().put_object(Bucket=BUCKET, Key=path, Body=b"[1]", Metadata=stale)
    assert element.read(DOCUMENT, 0, 4097) == b"[1]"


# --------------------------------------------------------------------------- no connection


def test_server_that_never_answers_ends_in_time(server: Server, proxy: Proxy) -> None:
    proxy.rule = lambda request: Hang()
    settings = server.settings(endpoint=proxy.url, read_timeout_s=0.1, attempts=2)
    with pytest.raises(ElementUnavailable, match="nothing answers in time; check endpoint"):
        S3Element("bucket1", settings).read(DOCUMENT, 0, 10)


def test_address_that_swallows_packets_ends_in_time(moto_server: Server) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(3)]  # the queue is full, nobody accepts
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        settings = moto_server.settings(endpoint=url, connect_timeout_s=0.1, attempts=2)
        with pytest.raises(ElementUnavailable, match="nothing answers in time"):
            S3Element("bucket1", settings).read(DOCUMENT, 0, 10)
        for one in waiting:
            one.close()


def test_closed_port(moto_server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ElementUnavailable, match="Connection refused; check endpoint"):
            S3Element("bucket1", moto_server.settings(endpoint=url)).stat(DOCUMENT)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_tls_needs_a_certificate_that_is_trusted(moto_server: Server, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "certificate.pem")
    proxy = Proxy(moto_server.url, certificate)
    try:
        settings = moto_server.settings(endpoint=proxy.url)
        with pytest.raises(ElementUnavailable, match=r"TLS fails: .*set ca_bundle"):
            S3Element("bucket1", settings).capacity()
        for trust in ({"ca_bundle": str(certificate)}, {"verify_tls": False}):
            element = S3Element("bucket1", moto_server.settings(endpoint=proxy.url, **trust))
            element.capacity()
            element.close()
        missing = moto_server.settings(endpoint=proxy.url, ca_bundle=str(tmp_path / "none"))
        with pytest.raises(ElementUnavailable, match="bucket1"):
            S3Element("bucket1", missing).capacity()
    finally:
        proxy.close()


def test_tls_to_a_server_without_tls(moto_server: Server, proxy: Proxy) -> None:
    settings = moto_server.settings(endpoint=moto_server.url.replace("http:", "https:"))
    with pytest.raises(ElementUnavailable, match="TLS fails"):
        S3Element("bucket1", settings).capacity()


# ----------------------------------------------------------------------------- credentials


def test_wrong_secret_then_the_right_one_without_a_restart(
    seaweedfs_server: Server, tmp_path: Path
) -> None:
    wrong = credentials_in(tmp_path, secret="wrong")
    element = S3Element("bucket1", seaweedfs_server.settings(credentials_file=str(wrong)))
    for call in (lambda: element.read(DOCUMENT, 0, 1), element.capacity):
        with pytest.raises(ElementUnavailable, match="the secret key is wrong; check the access"):
            call()
    with pytest.raises(ElementDenied, match="the secret key is wrong"):
        write(element)
    wrong.write_text(seaweedfs_server.credentials.read_text())
    write(element)
    element.close()


def test_no_credentials(
    moto_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    element = S3Element("bucket1", moto_server.settings(credentials_file=None))
    with pytest.raises(ElementUnavailable, match="no credentials; check the access key"):
        element.stat(DOCUMENT)
    unknown = S3Element("bucket1", moto_server.settings(profile="nobody", credentials_file=None))
    with pytest.raises(ElementUnavailable, match="no such profile"):
        unknown.stat(DOCUMENT)


def test_environment_and_file_of_credentials(
    seaweedfs_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    named = S3Element("bucket1", seaweedfs_server.settings())
    named.capacity()  # the file that was named wins
    named.close()
    with pytest.raises(ElementUnavailable, match="the access key is not known"):
        S3Element("bucket1", seaweedfs_server.settings(credentials_file=None)).capacity()


# ------------------------------------------------------------------------ the wrong place


def test_bucket_that_does_not_exist(server: Server, source: str) -> None:
    element = S3Element("bucket1", server.settings(bucket="nowhere-at-all"))
    calls = (
        element.initialize,
        element.capacity,
        lambda: element.stat(KEY),
        lambda: element.read(KEY, 0, 1),
        lambda: list(element.list()),
        lambda: write(element),
    )
    for call in calls:
        with pytest.raises(ElementUnavailable, match="does not exist; create the bucket"):
            call()
    element.close()


def test_emptied_bucket_is_unavailable_never_absent(element: S3Element, server: Server) -> None:
    """SEMANTICS: ELEM-13"""
    prefix = element._settings.prefix
    for key in (ARCHIVE_KEY, DOCUMENT):
        server.client().delete_object(Bucket=BUCKET, Key=prefix + key)
    calls = (
        lambda: element.stat(DOCUMENT),
        lambda: element.read(DOCUMENT, 0, 1),
        lambda: list(element.list()),
        lambda: write(element),
    )
    for call in calls:
        with pytest.raises(ElementUnavailable, match="is gone; is this still the right place"):
            call()


def test_bucket_of_others_is_not_taken(server: Server) -> None:
    settings = server.settings()
    server.client().put_object(Bucket=BUCKET, Key=f"{settings.prefix}.photos/1.jpg", Body=b"x")
    element = S3Element("bucket1", settings)
    with pytest.raises(ElementDenied, match="is there; give an empty bucket or prefix"):
        element.initialize()
    element.replace(ARCHIVE_KEY, b"{}")
    element.barrier()
    element.initialize()
    element.close()
