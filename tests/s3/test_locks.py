"""Object Lock of a bucket: of SeaweedFS, which refuses to remove the version of an object that is
locked, and of moto, which does too, though it lets a lock be made to end earlier."""

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from artstorefs.core.errors import ElementDenied, ElementUnavailable, ObjectAbsent
from artstorefs.elements.gauges import LockSupport
from artstorefs.elements.interface import ARCHIVE_KEY
from artstorefs.elements.s3 import S3Element
from artstorefs.elements.s3_cold import ColdStore
from artstorefs.elements.s3_connection import S3Connection

from .proxy import Answer, Proxy, Request
from .servers import Server

DAY_NS = 86_400 * 10**9
NOW_NS = int(datetime.now(UTC).timestamp()) * 10**9
_numbers = itertools.count()


class Locked:
    """An element in a bucket of its own, with Object Lock unless said otherwise."""

    def __init__(self, server: Server, proxy: Proxy, base: Path, **settings: Any) -> None:
        self.client, self.proxy, self.base = server.client(), proxy, base
        self.bucket = f"locked-{os.getpid()}-{next(_numbers)}"
        self.client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)
        values = {"bucket": self.bucket, "endpoint": proxy.url, "object_lock": "GOVERNANCE"}
        self.settings = server.settings(**{**values, **settings})
        self.element = self.opened()
        self.element.replace(ARCHIVE_KEY, b"{}")
        self.element.barrier()

    def opened(self, **settings: Any) -> S3Element:
        return S3Element("main", replace(self.settings, **settings), locks=LockSupport())

    def store(self, key: str, data: bytes = b"content") -> None:
        source = self.base / "source"
        source.write_bytes(data)
        self.element.put(key, str(source), size_bytes=len(data))
        self.element.barrier()

    def head(self, key: str) -> dict[str, Any]:
        found = self.client.head_object(Bucket=self.bucket, Key=self.settings.prefix + key)
        return dict(found)

    def lock(self, key: str) -> tuple[str, int] | None:
        """Mode and end, as the server has them."""
        found = self.head(key)
        if "ObjectLockMode" not in found:
            return None
        return found["ObjectLockMode"], int(found["ObjectLockRetainUntilDate"].timestamp()) * 10**9

    def lock_by_others(self, key: str, mode: str, until_ns: int) -> None:
        until = datetime.fromtimestamp(until_ns / 1e9, UTC)
        self.client.put_object_retention(
            Bucket=self.bucket,
            Key=self.settings.prefix + key,
            Retention={"Mode": mode, "RetainUntilDate": until},
        )

    def code_of_removing_version(self, key: str) -> str:
        """What the server says to somebody who removes what is there now for good."""
        name, version = self.settings.prefix + key, self.head(key)["VersionId"]
        try:
            self.client.delete_object(Bucket=self.bucket, Key=name, VersionId=version)
        except ClientError as exc:
            return str(exc.response["Error"]["Code"])
        return ""


@pytest.fixture
def locked(server: Server, proxy: Proxy, tmp_path: Path) -> Iterator[Locked]:
    made = Locked(server, proxy, tmp_path)
    yield made
    proxy.rule = None
    made.element.close()


def asks(what: str) -> Callable[[Request], bool]:
    return lambda request: what in request.query


def test_a_lock_is_there_and_only_ever_later(locked: Locked) -> None:
    """SEMANTICS: RETAIN-4"""
    element = locked.element
    assert element.can_lock()
    locked.store("f")
    assert locked.lock("f") is None
    element.lock("f", NOW_NS + DAY_NS - 1)  # up to the next second
    assert locked.lock("f") == ("GOVERNANCE", NOW_NS + DAY_NS)
    assert locked.code_of_removing_version("f") == "AccessDenied"
    locked.proxy.requests.clear()
    element.lock("f", NOW_NS + DAY_NS)
    element.lock("f", NOW_NS + DAY_NS // 2)
    assert not any(asks("retention")(request) for request in locked.proxy.requests)
    assert locked.lock("f") == ("GOVERNANCE", NOW_NS + DAY_NS)
    element.lock("f", NOW_NS + 3 * DAY_NS)
    assert locked.lock("f") == ("GOVERNANCE", NOW_NS + 3 * DAY_NS)
    with pytest.raises(ObjectAbsent):
        element.lock("g", NOW_NS + DAY_NS)


def test_an_object_that_was_sent_in_parts_is_locked(locked: Locked) -> None:
    """SEMANTICS: RETAIN-4"""
    locked.store("large", bytes(11 << 20))
    locked.element.lock("large", NOW_NS + DAY_NS)
    assert locked.lock("large") == ("GOVERNANCE", NOW_NS + DAY_NS)
    assert locked.code_of_removing_version("large") == "AccessDenied"


def test_the_last_moment_of_all_is_one(locked: Locked) -> None:
    """SEMANTICS: RETAIN-4"""
    locked.store("f")
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    locked.element.lock("f", int(last.timestamp()) * 10**9 + 999_999_000)
    assert locked.head("f")["ObjectLockRetainUntilDate"] == last


def test_a_lock_of_the_mode_compliance_stays_in_it(locked: Locked) -> None:
    """SEMANTICS: RETAIN-4"""
    for key in ("theirs", "ours"):
        locked.store(key)
    locked.lock_by_others("theirs", "COMPLIANCE", NOW_NS + DAY_NS)
    locked.element.lock("theirs", NOW_NS + DAY_NS)
    locked.element.lock("theirs", NOW_NS + 2 * DAY_NS)
    assert locked.lock("theirs") == ("COMPLIANCE", NOW_NS + 2 * DAY_NS)
    strict = locked.opened(object_lock="COMPLIANCE")
    strict.lock("ours", NOW_NS + DAY_NS)
    assert locked.lock("ours") == ("COMPLIANCE", NOW_NS + DAY_NS)
    strict.close()


def test_what_is_removed_is_hidden_and_stays(locked: Locked) -> None:
    """The key is free again, as in a bucket without versions. SEMANTICS: RETAIN-6"""
    locked.store("f", b"first")
    locked.element.lock("f", NOW_NS + DAY_NS)
    version = locked.head("f")["VersionId"]
    locked.element.remove("f")
    locked.element.barrier()
    with pytest.raises(ObjectAbsent):
        locked.element.stat("f")
    assert "f" not in [found.key for found in locked.element.list()]
    name = locked.settings.prefix + "f"
    kept = locked.client.get_object(Bucket=locked.bucket, Key=name, VersionId=version)
    assert kept["Body"].read() == b"first"
    locked.store("f", b"second")
    assert locked.element.read("f", 0, 9) == b"second"
    assert locked.lock("f") is None
    locked.element.replace("f.attr.json", b"{}")
    locked.element.replace("f.attr.json", b"{ }")
    locked.element.barrier()
    assert locked.lock("f.attr.json") is None


def test_it_is_asked_once_whether_the_bucket_has_it(locked: Locked) -> None:
    """And nothing where it is not to be told. SEMANTICS: RETAIN-5"""
    locked.proxy.requests.clear()
    for _ in range(3):
        assert locked.element.can_lock()
    assert [request.method for request in locked.proxy.requests] == ["GET"]
    without = locked.opened(object_lock=None)
    assert not without.can_lock()
    assert len(locked.proxy.requests) == 1
    locked.store("f")
    with pytest.raises(ElementDenied, match="not to be told"):
        without.lock("f", NOW_NS + DAY_NS)
    without.close()


def test_a_bucket_without_it(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """SEMANTICS: RETAIN-5"""
    element = S3Element("main", server.settings(object_lock="GOVERNANCE"), locks=LockSupport())
    with caplog.at_level(logging.INFO):
        assert [element.can_lock() for _ in range(3)] == [False] * 3
    (record,) = [one for one in caplog.records if "Object Lock" in one.message]
    assert (record.levelname, "has none" in record.message) == ("INFO", True)
    element.close()


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (Answer(403, "AccessDenied"), "WARNING"),
        (Answer(400, "InvalidRequest"), "WARNING"),
        (Answer(501, "NotImplemented"), "INFO"),
        (Answer(405, "MethodNotAllowed"), "INFO"),
        (Answer(404, "ObjectLockConfigurationNotFoundError"), "INFO"),
    ],
)
def test_a_server_that_does_not_say_counts_as_one_without(
    locked: Locked, answer: Answer, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: RETAIN-5"""
    locked.proxy.rule = lambda request: answer if asks("object-lock")(request) else None
    with caplog.at_level(logging.INFO):
        assert [locked.element.can_lock() for _ in range(3)] == [False] * 3
    (record,) = [one for one in caplog.records if "Object Lock" in one.message]
    assert record.levelname == level


def test_a_server_that_fails_is_asked_again(locked: Locked) -> None:
    """SEMANTICS: RETAIN-5"""
    locked.proxy.rule = lambda request: Answer(503, "SlowDown")
    with pytest.raises(ElementUnavailable):
        locked.element.can_lock()
    locked.proxy.rule = None
    assert locked.element.can_lock()


def test_a_lock_that_is_refused_says_what_is_missing(locked: Locked) -> None:
    """SEMANTICS: RETAIN-5"""
    locked.store("f")
    denied = Answer(403, "AccessDenied")
    locked.proxy.rule = lambda request: denied if asks("retention")(request) else None
    with pytest.raises(ElementDenied, match=r"cannot be locked until .* s3:PutObjectRetention"):
        locked.element.lock("f", NOW_NS + DAY_NS)
    assert locked.lock("f") is None


@pytest.mark.parametrize("size", [100, 11 << 20])
def test_an_object_that_gets_cold_keeps_its_lock(
    seaweedfs_server: Server, bucket_proxy: Proxy, tmp_path: Path, size: int
) -> None:
    """A copy onto itself is a new version. moto wants a header with it that copies do not have.
    SEMANTICS: RETAIN-4, AR-10"""
    locked = Locked(seaweedfs_server, bucket_proxy, tmp_path)
    locked.store("f", bytes(size))
    locked.element.lock("f", NOW_NS + DAY_NS)
    before = locked.head("f")["VersionId"]
    store = ColdStore(
        *("main", S3Connection(locked.settings), "GLACIER", "Bulk"),
        copy_bytes_max=5 << 20,
        part_bytes=5 << 20,
    )
    store.make_cold("f", size)
    store.close()
    assert locked.head("f")["VersionId"] != before
    assert locked.head("f")["StorageClass"] == "GLACIER"
    assert locked.lock("f") == ("GOVERNANCE", NOW_NS + DAY_NS)
    locked.element.close()


def test_what_somebody_else_has_locked_for_longer_stays(locked: Locked) -> None:
    """SEMANTICS: RETAIN-4"""
    locked.store("f")
    locked.lock_by_others("f", "GOVERNANCE", NOW_NS + 5 * DAY_NS)
    locked.element.lock("f", NOW_NS + DAY_NS)
    assert locked.lock("f") == ("GOVERNANCE", NOW_NS + 5 * DAY_NS)
