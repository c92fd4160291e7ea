"""The S3 element through the whole of `element_conformance.py`, on each server."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from artstorefs.elements.interface import ARCHIVE_KEY
from artstorefs.elements.s3 import S3Element

from ..unit.element_conformance import ElementConformance, ElementRig, content
from .proxy import Proxy
from .servers import BUCKET, Server

LOCKED = "conformance-locked"


def _rig(server: Server, sources: Path, bucket: str = BUCKET) -> Iterator[ElementRig]:
    proxy = Proxy(server.url)
    settings = server.settings(endpoint=proxy.url, bucket=bucket, object_lock="GOVERNANCE")
    opened = [S3Element("bucket1", settings)]
    opened[0].initialize()
    opened[0].replace(ARCHIVE_KEY, b"{}")
    opened[0].barrier()

    def crash() -> S3Element:
        opened.append(S3Element("bucket1", settings))  # the old one is left as it is
        return opened[-1]

    yield ElementRig(opened[0], sources, crash, proxy.switch_off)
    proxy.rule = None
    for element in opened:
        element.close()
    proxy.close()


class TestS3OnSeaweedFS(ElementConformance):
    """A real server."""

    @pytest.fixture
    def rig(self, seaweedfs_server: Server, tmp_path: Path) -> Iterator[ElementRig]:
        yield from _rig(seaweedfs_server, tmp_path)


class TestS3WithObjectLock(ElementConformance):
    """And with versions of everything."""

    @pytest.fixture
    def rig(self, seaweedfs_server: Server, tmp_path: Path) -> Iterator[ElementRig]:
        client = seaweedfs_server.client()
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        yield from _rig(seaweedfs_server, tmp_path, LOCKED)

    # The directory in which SeaweedFS keeps versions has nine bytes more; what we make is shorter.
    @pytest.mark.parametrize(
        "name", ["Überseehafen – 港口 🚢.tif", "é" * 100, "x" * 246, "new\nline", "-rf *"]
    )
    def test_odd_names_are_kept_as_they_are(self, rig: ElementRig, name: str) -> None:
        super().test_odd_names_are_kept_as_they_are(rig, name)


class TestS3OnMoto(ElementConformance):
    """Another view of what S3 is."""

    @pytest.fixture
    def rig(self, moto_server: Server, tmp_path: Path) -> Iterator[ElementRig]:
        yield from _rig(moto_server, tmp_path)

    # moto finds no key in a path that holds a line feed, which S3 allows and SeaweedFS keeps.
    @pytest.mark.parametrize(
        "name", ["Überseehafen – 港口 🚢.tif", "é" * 127, "x" * 255, "-rf *", "e\u0301"]
    )
    def test_odd_names_are_kept_as_they_are(self, rig: ElementRig, name: str) -> None:
        key = f"2026/11/23/22/{name}"
        rig.store(key, b"data")
        assert content(rig.element, key) == b"data"
        assert [found.key for found in rig.element.list("2026/")] == [key]
