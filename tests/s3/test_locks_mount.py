"""Retention on a mount, mirrored to a bucket with Object Lock: SeaweedFS."""

import itertools
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from artstorefs_tools.exit_codes import CANNOT_BE_CARRIED

from ..harness import MountedArchive, wait_until
from .proxy import Answer, Proxy, Request
from .servers import Server

pytestmark = pytest.mark.slow

RETAIN_UNTIL = "user.artstore.retain_until"
YEAR_1, YEAR_2 = datetime(2198, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC)

_numbers = itertools.count()


class LockedArchive:
    """An archive in a bucket of its own, and what the server says of that."""

    def __init__(self, server: Server, proxy: Proxy, base: Path) -> None:
        self.client, self.proxy = server.client(), proxy
        self.bucket = f"mount-{os.getpid()}-{next(_numbers)}"
        self.client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)
        self.archive = MountedArchive(
            base,
            settings="settle_s = 0.2\nseal_after_s = 1",
            place=f"s3:{self.bucket}",
            element_arguments=f",endpoint={proxy.url},credentials_file={server.credentials}"
            ",multipart_threshold=5MiB,part_size=5MiB",
        )

    def path(self, name: str) -> Path:
        return self.archive.mount / name

    def key(self, name: str) -> str:
        return os.getxattr(self.path(name), "user.artstore.key").decode()

    def retain(self, name: str, until: datetime) -> None:
        os.setxattr(self.path(name), RETAIN_UNTIL, until.isoformat().encode())

    def head(self, key: str) -> dict[str, Any]:
        return dict(self.client.head_object(Bucket=self.bucket, Key=key))

    def lock(self, name: str) -> tuple[str, datetime] | None:
        """Mode and end of the lock of what a file has there."""
        found = self.head(self.key(name))
        if "ObjectLockMode" not in found:
            return None
        return found["ObjectLockMode"], found["ObjectLockRetainUntilDate"].astimezone(UTC)

    def flush(self) -> int:
        return self.archive.run("flush", str(self.archive.toml), check=False).returncode

    def requests(self) -> dict[str, int]:
        (element,) = self.archive.ask("status")["elements"]
        return dict(element["counters"]["requests"])

    def configure(self, old: str, new: str) -> None:
        text = self.archive.toml.read_text()
        assert text.count(old) == 1
        self.archive.toml.write_text(text.replace(old, new))


@pytest.fixture
def locked(
    seaweedfs_server: Server, bucket_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LockedArchive]:
    made = LockedArchive(seaweedfs_server, bucket_proxy, tmp_path_factory.mktemp("lock"))
    made.archive.start()
    yield made
    bucket_proxy.rule = None
    made.archive.clean_up()


def refusal_of_removing_version(locked: LockedArchive, key: str) -> str:
    """Of somebody with the credentials who goes past us."""
    version = locked.head(key)["VersionId"]
    try:
        locked.client.delete_object(Bucket=locked.bucket, Key=key, VersionId=version)
    except ClientError as exc:
        return str(exc.response["Error"]["Code"])
    return ""


def is_retention(request: Request) -> bool:
    return request.method == "PUT" and "retention" in request.query


def test_bucket_keeps_a_file_until_its_time(locked: LockedArchive) -> None:
    """SEMANTICS: RETAIN-4, RETAIN-6"""
    locked.path("f").write_bytes(b"content")
    locked.path("large").write_bytes(bytes(11 << 20))
    locked.path("other").write_bytes(b"content")
    for name in ("f", "large"):
        locked.retain(name, YEAR_1)
    assert locked.flush() == 0
    for name in ("f", "large"):
        assert locked.lock(name) == ("GOVERNANCE", YEAR_1)
        assert refusal_of_removing_version(locked, locked.key(name)) == "AccessDenied"
    assert locked.lock("other") is None
    assert "ObjectLockMode" not in locked.head(f"{locked.key('f')}.attr.json")
    (element,) = locked.archive.ask("status")["elements"]
    assert element["object_lock"] == "governance"
    locked.retain("f", YEAR_2)
    os.setxattr(locked.path("f"), "user.note", b"later")
    assert locked.flush() == 0
    assert locked.lock("f") == ("GOVERNANCE", YEAR_2)
    assert locked.requests()["PutObjectRetention"] == 3
    locked.archive.remount()
    assert locked.path("large").read_bytes() == bytes(11 << 20)
    locked.path("f").chmod(0o600)
    assert locked.flush() == 0
    assert locked.lock("f") == ("GOVERNANCE", YEAR_2)
    assert "PutObjectRetention" not in locked.requests()


def test_what_is_not_retained_any_more_can_be_removed(locked: LockedArchive) -> None:
    """A delete marker hides it, and its version can be removed then. SEMANTICS: RETAIN-6"""
    file = locked.path("f")
    file.write_bytes(b"content")
    until = datetime.now(UTC) + timedelta(seconds=12)
    locked.retain("f", until)
    assert locked.flush() == 0
    key = locked.key("f")
    assert locked.head(key)["ObjectLockRetainUntilDate"] >= until
    with pytest.raises(PermissionError):
        file.unlink()
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 1)
    file.unlink()
    assert locked.flush() == 0
    with pytest.raises(ClientError):
        locked.head(key)
    found = locked.client.list_object_versions(Bucket=locked.bucket, Prefix=key)
    assert {one["Key"] for one in found["DeleteMarkers"]} >= {key, f"{key}.attr.json"}
    (version,) = [one["VersionId"] for one in found["Versions"] if one["Key"] == key]
    locked.client.delete_object(Bucket=locked.bucket, Key=key, VersionId=version)


def test_kill_before_the_bucket_is_told_forgets_nothing(
    locked: LockedArchive, seaweedfs_server: Server
) -> None:
    """The bucket is away meanwhile. SEMANTICS: RETAIN-5, DUR-1"""
    locked.path("f").write_bytes(b"content")
    assert locked.flush() == 0
    locked.proxy.switch_off()
    locked.retain("f", YEAR_1)
    locked.archive.kill()
    locked.archive.start()
    assert locked.flush() == CANNOT_BE_CARRIED
    locked.proxy.rule = None
    assert locked.flush() == 0
    assert locked.lock("f") == ("GOVERNANCE", YEAR_1)


def test_lock_that_is_refused_is_shown_and_tried_again(locked: LockedArchive) -> None:
    """SEMANTICS: RETAIN-5"""
    denied = Answer(403, "AccessDenied")
    locked.proxy.rule = lambda request: denied if is_retention(request) else None
    for name in ("f", "other"):
        locked.path(name).write_bytes(name.encode())
    locked.retain("f", YEAR_1)
    assert locked.flush() == CANNOT_BE_CARRIED
    (error,) = locked.archive.ask("status")["errors"]
    assert error["path"] == "/f"
    assert "s3:PutObjectRetention" in error["error"]
    shown = os.getxattr(locked.path("f"), "user.artstore.error").decode()
    assert shown == error["error"]
    document = f"{locked.key('f')}.attr.json"
    body = locked.client.get_object(Bucket=locked.bucket, Key=document)["Body"].read()
    assert RETAIN_UNTIL in json.loads(body)["posix"]["xattrs"]  # which does not wait for it
    assert os.getxattr(locked.path("other"), "user.artstore.state") == b"stored"
    locked.proxy.rule = None
    assert locked.flush() == 0
    assert locked.lock("f") == ("GOVERNANCE", YEAR_1)
    assert locked.archive.ask("status")["errors"] == []


def test_time_of_the_element_is_of_what_is_sealed(locked: LockedArchive) -> None:
    """Also a later one, of what is there, and with an index that is rebuilt.
    SEMANTICS: RETAIN-4, RETAIN-5"""
    locked.path("old").write_bytes(b"content")
    locked.archive.stop()
    locked.configure('mode = "edit"', 'mode = "edit"\nretain_until = 2198-01-01')
    locked.archive.start()
    assert locked.flush() == 0
    assert locked.lock("old") == ("GOVERNANCE", YEAR_1)
    locked.path("new").write_bytes(b"content")
    assert locked.flush() == 0
    key = locked.key("new")
    wait_until(lambda: "ObjectLockMode" in locked.head(key))
    assert locked.lock("new") == ("GOVERNANCE", YEAR_1)
    requests = locked.requests()
    assert (requests["PutObjectRetention"], requests["GetObjectLockConfiguration"]) == (2, 1)
    locked.archive.stop()
    locked.configure("retain_until = 2198-01-01", "retain_until = 2199-01-01")
    locked.archive.start()
    assert locked.flush() == 0
    assert {locked.lock(name) for name in ("old", "new")} == {("GOVERNANCE", YEAR_2)}
    assert locked.requests()["PutObjectRetention"] == 2
    locked.archive.stop()
    (locked.archive.state / "state.db").unlink()
    locked.archive.start()
    assert locked.flush() == 0
    assert "PutObjectRetention" not in locked.requests()  # it is found to be there
    assert {locked.lock(name) for name in ("old", "new")} == {("GOVERNANCE", YEAR_2)}


def test_object_lock_that_is_off_tells_the_bucket_nothing(locked: LockedArchive) -> None:
    """SEMANTICS: RETAIN-5"""
    locked.archive.stop()
    locked.configure('mode = "edit"', 'mode = "edit"\nobject_lock = "off"')
    locked.archive.start()
    locked.path("f").write_bytes(b"content")
    locked.retain("f", YEAR_1)
    assert locked.flush() == 0
    assert locked.lock("f") is None
    assert "GetObjectLockConfiguration" not in locked.requests()
    assert locked.archive.ask("status")["elements"][0]["object_lock"] is None
    with pytest.raises(PermissionError):
        locked.path("f").unlink()
    locked.archive.stop()
    locked.configure('object_lock = "off"', 'object_lock = "compliance"')
    locked.archive.start()
    assert locked.flush() == 0
    assert locked.lock("f") == ("COMPLIANCE", YEAR_1)


def test_bucket_without_it_takes_no_request_more(archive: MountedArchive) -> None:
    """Nor does what is not retained in one that has it. SEMANTICS: RETAIN-5"""
    for number in range(10):
        (archive.mount / f"f{number}").write_bytes(b"content")
    os.setxattr(archive.mount / "f0", RETAIN_UNTIL, b"2198-01-01")
    archive.flush()
    (element,) = archive.ask("status")["elements"]
    requests = element["counters"]["requests"]
    assert "PutObjectRetention" not in requests
    assert requests["GetObjectLockConfiguration"] == 1
    assert element["object_lock"] is None
    archive.remount()
    archive.flush()
    with pytest.raises(PermissionError):
        (archive.mount / "f0").unlink()


def test_files_that_are_not_retained_take_no_request_more(locked: LockedArchive) -> None:
    """SEMANTICS: RETAIN-5"""
    assert locked.flush() == 0
    before = locked.requests()
    for number in range(10):
        locked.path(f"f{number}").write_bytes(b"content")
    assert locked.flush() == 0
    after = locked.requests()
    assert after["PutObject"] - before["PutObject"] <= 2 * 10 + 1  # and the directory
    assert "PutObjectRetention" not in after
    assert after["GetObjectLockConfiguration"] == 1


def test_removal_that_the_bucket_refuses_is_shown(locked: LockedArchive) -> None:
    """SEMANTICS: RETAIN-7"""
    for name in ("f", "g"):
        locked.path(name).write_bytes(b"content")
    assert locked.flush() == 0
    key, other = locked.key("f"), locked.key("g")
    denied = Answer(403, "AccessDenied")
    locked.proxy.rule = lambda request: denied if "delete" in request.query else None
    locked.path("f").unlink()
    assert locked.flush() == CANNOT_BE_CARRIED
    (error,) = locked.archive.ask("status")["errors"]
    assert error["path"] == f"main: {key}"
    assert "AccessDenied" in error["error"]
    locked.archive.remount()  # it is still known
    assert locked.flush() == CANNOT_BE_CARRIED
    locked.proxy.rule = None
    locked.path("g").unlink()
    assert locked.flush() == 0
    assert locked.archive.ask("status")["errors"] == []
    for gone in (key, other):
        with pytest.raises(ClientError):
            locked.head(gone)
