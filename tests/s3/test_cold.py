"""Objects in a cold storage class: how they get there, and how they come back.

Against moto alone, which has the classes of the Glacier family, refuses to read from them, and
knows RestoreObject. SeaweedFS has none of it: it keeps the name of a class, and serves every object
at once. Real waiting times, prices and the expiry of a restored copy nobody here can show.
"""

import errno
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.moto_api import state_manager
from moto.s3.models import s3_backends

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import ElementError, ObjectAbsent, ObjectDamaged
from artstorefs.elements.restore_probe import why_no_restore
from artstorefs.elements.s3_cold import ColdStore, Temperature
from artstorefs.elements.s3_connection import S3Connection

from ..harness import MountedArchive, wait_until
from .proxy import Answer, Proxy
from .servers import BUCKET, Server

CONTENT = random.Random(7).randbytes(11 << 20)


class Objects:
    """A part of moto's bucket, its cold store, and what is there."""

    def __init__(self, server: Server) -> None:
        self.client = server.client()
        self.settings = server.settings()
        self.connection = S3Connection(self.settings)
        self.store = ColdStore(
            *("main", self.connection, "DEEP_ARCHIVE", "Bulk"),
            copy_bytes_max=5 << 20,
            part_bytes=5 << 20,
        )

    def put(self, key: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        name = self.settings.prefix + key
        self.client.put_object(Bucket=BUCKET, Key=name, Body=data, Metadata={"sha256": digest})

    def head(self, key: str) -> dict[str, Any]:
        found = self.client.head_object(Bucket=BUCKET, Key=self.settings.prefix + key)
        return dict(found)

    def read(self, key: str) -> bytes:
        found = self.client.get_object(Bucket=BUCKET, Key=self.settings.prefix + key)
        return bytes(found["Body"].read())


@pytest.fixture
def objects(moto_server: Server) -> Iterator[Objects]:
    objects = Objects(moto_server)
    yield objects
    objects.store.close()


@pytest.fixture
def slowly() -> Iterator[None]:
    """A restoration is seen under way once."""
    state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": 1})
    yield
    state_manager.unset_transition("s3::keyrestore")


@pytest.mark.parametrize("size", [100, 11 << 20])
def test_an_object_gets_cold_and_can_be_read_again(objects: Objects, size: int) -> None:
    """Also one that is copied in parts. SEMANTICS: AR-10"""
    data = CONTENT[:size]
    objects.put("f", data)
    assert objects.store.temperature("f") is Temperature.WARM
    objects.store.make_cold("f", size)
    before = objects.head("f")
    assert (before["StorageClass"], before["ContentLength"]) == ("DEEP_ARCHIVE", size)
    assert before["Metadata"] == {"sha256": hashlib.sha256(data).hexdigest()}
    assert objects.store.temperature("f") is Temperature.COLD
    objects.store.make_cold("f", size)  # changes nothing
    assert objects.head("f")["LastModified"] == before["LastModified"]
    assert objects.store.restore("f", 2.5) is Temperature.RESTORED
    assert 'ongoing-request="false"' in objects.head("f")["Restore"]
    assert objects.read("f") == data


def test_a_restoration_takes_its_time(objects: Objects, slowly: None) -> None:
    """Who asks again gets the same answer, and asks for nothing. SEMANTICS: AR-10"""
    objects.put("f", b"content")
    objects.store.make_cold("f", 7)
    seen = [objects.store.restore("f", 1) for _ in range(4)]
    assert seen[0] is Temperature.RESTORING
    assert seen[-1] is Temperature.RESTORED
    assert Temperature.COLD not in seen


def test_a_restored_copy_that_is_over_is_asked_for_again(objects: Objects) -> None:
    """moto's copies last for ever; this one is taken away by hand. SEMANTICS: AR-10"""
    objects.put("f", b"content")
    objects.store.make_cold("f", 7)
    assert objects.store.restore("f", 1) is Temperature.RESTORED
    (backend,) = (s3_backends[account]["aws"] for account in s3_backends)
    backend.get_object(BUCKET, objects.settings.prefix + "f").set_expiry(None)
    assert objects.store.temperature("f") is Temperature.COLD
    assert objects.store.restore("f", 1) is Temperature.RESTORED
    assert objects.read("f") == b"content"


def test_what_is_not_right_stays_warm(objects: Objects) -> None:
    objects.put("f", b"content")
    with pytest.raises(ObjectDamaged):
        objects.store.make_cold("f", 8)
    with pytest.raises(ObjectAbsent):
        objects.store.make_cold("g", 8)
    with pytest.raises(ObjectAbsent):
        objects.store.restore("g", 1)
    assert objects.store.temperature("f") is Temperature.WARM


def test_a_copy_in_parts_that_fails_leaves_no_upload(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put("f", CONTENT)

    def fails(*_: Any) -> str:
        raise ElementError("main", "f", "a cut line")

    monkeypatch.setattr(ColdStore, "_copy_part", fails)
    with pytest.raises(ElementError):
        objects.store.make_cold("f", len(CONTENT))
    uploads = objects.client.list_multipart_uploads(Bucket=BUCKET, Prefix=objects.settings.prefix)
    assert uploads.get("Uploads", []) == []
    assert objects.read("f") == CONTENT


@pytest.fixture
def archive(moto_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = MountedArchive(
        tmp_path_factory.mktemp("cold"),
        settings="settle_s = 0.2",
        place=f"s3:{BUCKET}/{moto_server.new_prefix()}",
        element_arguments=f",endpoint={moto_server.url},mode=ro"
        f",credentials_file={moto_server.credentials},archive_storage_class=GLACIER",
    )
    yield made
    made.clean_up()


@pytest.mark.slow
def test_from_ro_to_a_cold_class_and_back(archive: MountedArchive, tmp_path: Path) -> None:
    """SEMANTICS: AR-6, AR-10"""
    text = archive.toml.read_text()
    archive.toml.write_text(text.replace('mode = "ro"', 'mode = "edit"'))
    archive.start()
    file, name = archive.mount / "f", str(archive.toml)
    file.write_bytes(CONTENT)
    archive.flush()
    archive.stop()
    archive.toml.write_text(text)
    archive.start()
    archive.run("mode", name, "main", "ar")
    wait_until(lambda: archive.ask("media")["media"][0]["left_files"] == 0)
    assert "class GLACIER" in archive.run("medium", name).stdout
    with pytest.raises(OSError, match=os.strerror(errno.EREMOTE)):
        file.read_bytes()
    done = archive.run("fsck", name, "--deep")
    assert "cold storage class" in done.stdout
    archive.run("rescan", name)
    assert os.getxattr(file, "user.artstore.state") == b"archived"
    archive.run("recall", "--wait", str(file))
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, None),
        (Answer(403, "AccessDenied"), "access is denied"),
        (Answer(405, "MethodNotAllowed"), "MethodNotAllowed 405"),
        (Answer(501, "NotImplemented"), "NotImplemented 501"),
    ],
)
def test_who_may_not_restore_is_told_so_and_nothing_is_restored(
    answer: Answer | None, told: str | None, moto_server: Server
) -> None:
    """Moto asks nobody for rights: what a server answers then is from Amazon's documentation."""
    proxy = Proxy(moto_server.url)
    proxy.rule = lambda request: answer if request.method == "POST" else None
    configuration = ElementConfiguration(
        id="far",
        kind="s3",
        bucket=BUCKET,
        prefix="cold",
        endpoint=proxy.url,
        credentials_file=moto_server.credentials,
        archive_storage_class="DEEP_ARCHIVE",
    )
    try:
        reason = why_no_restore(configuration)
    finally:
        proxy.close()
    assert {request.method for request in proxy.requests} == {"POST"}
    assert reason is None if told is None else told in str(reason)
