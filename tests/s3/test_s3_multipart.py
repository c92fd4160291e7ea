"""Large objects in parts: what was sent before a kill is not sent again, counted at the server."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from artstorefs.core.errors import ElementUnavailable, ObjectAbsent, ObjectDamaged, ObjectExists
from artstorefs.elements import s3
from artstorefs.elements.interface import ARCHIVE_KEY, TEMPORARY_PREFIX
from artstorefs.elements.s3 import S3Element
from artstorefs.elements.s3_multipart import part_bytes
from artstorefs.elements.s3_settings import S3Settings
from artstorefs.recovery.leftovers import remove_leftovers

from .proxy import Answer, Drop, Hang, Proxy, Request
from .servers import BUCKET, Server

KEY = "2026/11/23/22/film.mov"
PART = 5 << 20
SIZE = 5 * PART + 1234
LIMIT_S = 60.0

pytestmark = pytest.mark.slow


class Bench:
    """An element whose requests are counted, and a source of six parts."""

    def __init__(self, server: Server, proxy: Proxy, folder: Path) -> None:
        self.server, self.proxy = server, proxy
        self.settings = server.settings(endpoint=proxy.url, concurrency=2)
        self.data = os.urandom(SIZE)
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        self.source = folder / "film.mov"
        self.source.write_bytes(self.data)
        self.elements: list[S3Element] = []
        element = self.open()
        element.replace(ARCHIVE_KEY, b"{}")
        element.barrier()
        proxy.requests.clear()

    def open(self, **settings: Any) -> S3Element:
        """One more element object, as of a process that has just started."""
        self.elements.append(S3Element("bucket1", dataclasses.replace(self.settings, **settings)))
        return self.elements[-1]

    def put(self, element: S3Element) -> None:
        element.put(KEY, str(self.source), size_bytes=SIZE, sha256=self.sha256)

    def uploads(self) -> list[str]:
        """Keys of uploads that are on the server and not completed."""
        prefix = self.settings.prefix
        answer = self.server.client().list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"].removeprefix(prefix) for one in answer.get("Uploads", [])]

    def kill_when(self, is_time: Callable[[], bool], settings: S3Settings) -> None:
        """Put the source in a process of its own, and kill that."""
        arguments = [json.dumps(dataclasses.asdict(settings)), KEY, str(self.source)]
        upload = str(Path(__file__).with_name("upload.py"))
        process = subprocess.Popen(
            [sys.executable, upload, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            deadline = time.monotonic() + LIMIT_S
            while not is_time():
                assert process.poll() is None, "the upload ended by itself"
                assert time.monotonic() < deadline, "the upload does not get there"
                time.sleep(0.01)
            process.kill()

    def check_stored(self, element: S3Element) -> None:
        with element.open_read(KEY) as stream:
            assert stream.read() == self.data
        assert self.uploads() == []


@pytest.fixture
def bench(
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    if server.name == "moto":  # which says of each upload that it began in 2010
        monkeypatch.setattr(s3, "ABANDONED_AFTER", timedelta(days=36_500))
    made = Bench(server, proxy, tmp_path)
    yield made
    proxy.rule = None
    for element in made.elements:
        element.close()


def test_put_in_parts_is_seen_once_completed(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    with pytest.raises(ObjectAbsent):
        element.stat(KEY)
    assert list(element.leftovers()) == []
    bench.source.unlink()
    element.barrier()
    assert sorted(bench.proxy.parts()) == [1, 2, 3, 4, 5, 6]
    bench.check_stored(element)


def test_killed_upload_goes_on_with_the_parts_that_are_there(bench: Bench) -> None:
    sent: list[int] = []

    def rule(request: Request) -> Hang | None:
        if not request.is_part:
            return None
        sent.append(int(request.query["partNumber"][0]))
        return Hang() if sent[-1] >= 4 else None

    bench.proxy.rule = rule
    one_at_a_time = dataclasses.replace(bench.settings, concurrency=1)
    bench.kill_when(lambda: 4 in sent, one_at_a_time)
    bench.proxy.rule = None
    assert bench.uploads() == [KEY]

    bench.proxy.requests.clear()
    element = bench.open()
    remove_leftovers([element])  # what each start does
    bench.put(element)
    element.barrier()
    assert sorted(bench.proxy.parts()) == [4, 5, 6]
    bench.check_stored(element)


def test_killed_before_completing_nothing_is_sent_again(bench: Bench) -> None:
    def all_answered() -> bool:
        answer = bench.server.client().list_multipart_uploads(
            Bucket=BUCKET, Prefix=bench.settings.prefix
        )
        parts = [
            bench.server.client().list_parts(
                Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"]
            )
            for one in answer.get("Uploads", [])
        ]
        return any(len(one.get("Parts", [])) == 6 for one in parts)

    bench.kill_when(all_answered, bench.settings)
    bench.proxy.requests.clear()
    element = bench.open()
    bench.put(element)
    element.barrier()
    assert bench.proxy.parts() == []
    bench.check_stored(element)


def test_parts_of_other_content_are_sent_anew(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    changed = bytearray(bench.data)
    changed[2 * PART] ^= 1
    bench.data, bench.sha256 = bytes(changed), hashlib.sha256(changed).hexdigest()
    bench.source.write_bytes(bench.data)
    bench.proxy.requests.clear()
    element = bench.open()
    bench.put(element)
    element.barrier()
    assert bench.proxy.parts() == [3]
    bench.check_stored(element)


def test_repeat_after_completing_is_recognised_without_reading_it_back(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    element.barrier()
    bench.proxy.requests.clear()
    element = bench.open()
    bench.put(element)
    element.barrier()
    assert {one.method for one in bench.proxy.requests} == {"HEAD"}
    with pytest.raises(ObjectExists):
        element.put(KEY, str(bench.source), size_bytes=SIZE)
    with pytest.raises(ObjectExists):
        element.put(KEY, str(bench.source), size_bytes=SIZE, sha256="0" * 64)
    assert bench.proxy.parts() == []
    bench.check_stored(element)


def test_other_content_under_the_same_etag_layout_is_not_ours(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    element.barrier()
    changed = bytes([bench.data[0] ^ 1]) + bench.data[1:]
    bench.source.write_bytes(changed)
    sha256 = hashlib.sha256(changed).hexdigest()
    with pytest.raises(ObjectExists):
        element.put(KEY, str(bench.source), size_bytes=SIZE, sha256=sha256)


def test_completing_after_somebody_else_was_faster(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    path = bench.settings.prefix + KEY
    bench.server.client().put_object(Bucket=BUCKET, Key=path, Body=b"foreign")
    with pytest.raises(ObjectExists):
        element.barrier()
    assert element.read(KEY, 0, 10) == b"foreign"


@pytest.mark.parametrize("fault", [Drop(forwarded=True), Drop(), Answer(500, "InternalError")])
def test_trouble_while_completing_is_not_seen(bench: Bench, fault: Drop | Answer) -> None:
    element = bench.open()
    bench.put(element)
    bench.proxy.fail_once(
        lambda request: request.method == "POST" and "uploadId" in request.query, fault
    )
    element.barrier()
    bench.check_stored(element)


def test_part_whose_reply_is_lost_is_sent_again_alone(bench: Bench) -> None:
    element = bench.open()
    bench.proxy.fail_once(
        lambda request: request.is_part and request.query["partNumber"] == ["2"],
        Drop(forwarded=True),
    )
    bench.put(element)
    element.barrier()
    assert sorted(bench.proxy.parts()) == [1, 2, 2, 3, 4, 5, 6]
    bench.check_stored(element)


def test_put_that_fails_half_way_ends_soon_and_goes_on_later(bench: Bench) -> None:
    def rule(request: Request) -> Answer | None:
        late = request.is_part and int(request.query["partNumber"][0]) >= 3
        return Answer(503, "SlowDown") if late else None

    bench.proxy.rule = rule
    element = bench.open(concurrency=1)
    with pytest.raises(ElementUnavailable, match="fewer requests"):
        bench.put(element)
    assert 6 not in bench.proxy.parts()
    bench.proxy.rule = None
    bench.proxy.requests.clear()
    bench.put(element)
    element.barrier()
    assert sorted(bench.proxy.parts()) == [3, 4, 5, 6]
    bench.check_stored(element)


def test_failed_barrier_keeps_the_parts_for_the_next_put(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    bench.proxy.rule = lambda request: Answer(500, "InternalError")
    with pytest.raises(ElementUnavailable):
        element.barrier()
    bench.proxy.rule = None
    element.barrier()
    with pytest.raises(ObjectAbsent):
        element.stat(KEY)
    bench.proxy.requests.clear()
    bench.put(element)
    element.barrier()
    assert bench.proxy.parts() == []
    bench.check_stored(element)


# ------------------------------------------------------------------------- what is abandoned


def test_removal_gives_up_the_parts(bench: Bench) -> None:
    bench.put(bench.open())
    assert bench.uploads() == [KEY]
    element = bench.open()
    element.remove(KEY)
    element.barrier()
    assert bench.uploads() == []


def test_parts_of_an_object_that_is_there_are_left_over(bench: Bench) -> None:
    bench.put(bench.open())
    element = bench.open()
    assert list(element.leftovers()) == []
    path = bench.settings.prefix + KEY
    bench.server.client().put_object(Bucket=BUCKET, Key=path, Body=b"there")
    assert [found.key for found in element.leftovers()] == [TEMPORARY_PREFIX + KEY]
    assert remove_leftovers([element]) == 1
    assert bench.uploads() == []
    assert element.read(KEY, 0, 10) == b"there"


def test_old_parts_are_left_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.put(bench.open())
    monkeypatch.setattr(s3, "ABANDONED_AFTER", timedelta(seconds=-60))
    assert remove_leftovers([bench.open()]) == 1
    assert bench.uploads() == []


def test_close_gives_up_the_parts(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    element.close()
    assert bench.uploads() == []


def test_upload_that_the_server_dropped_begins_anew(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    for one in bench.server.client().list_multipart_uploads(
        Bucket=BUCKET, Prefix=bench.settings.prefix
    )["Uploads"]:
        bench.server.client().abort_multipart_upload(
            Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"]
        )
    # moto fails, instead of saying so
    with pytest.raises(ElementUnavailable, match=r"has dropped the upload|the server failed"):
        element.barrier()
    bench.put(element)
    element.barrier()
    bench.check_stored(element)


# -------------------------------------------------------------------------------- the source


def test_source_with_another_hash_is_damage_and_leaves_nothing(bench: Bench) -> None:
    element = bench.open()
    with pytest.raises(ObjectDamaged, match="another SHA-256"):
        element.put(KEY, str(bench.source), size_bytes=SIZE, sha256="0" * 64)
    element.barrier()
    assert bench.uploads() == []
    with pytest.raises(ObjectAbsent):
        element.stat(KEY)


def test_source_that_is_cut_meanwhile_is_damage(bench: Bench) -> None:
    cut = threading.Event()

    def rule(request: Request) -> None:
        if request.is_part and not cut.is_set():
            cut.set()
            os.truncate(bench.source, 4 * PART)

    bench.proxy.rule = rule
    element = bench.open(concurrency=1)
    with pytest.raises(ObjectDamaged):
        bench.put(element)
    assert cut.is_set()
    assert bench.uploads() == []


def test_big_reads_of_a_removed_object_fail_and_do_not_mix(bench: Bench) -> None:
    element = bench.open()
    bench.put(element)
    element.barrier()
    with element.open_read(KEY) as stream:
        assert stream.read(PART) == bench.data[:PART]
        path = bench.settings.prefix + KEY
        bench.server.client().put_object(Bucket=BUCKET, Key=path, Body=bytes(SIZE))
        with pytest.raises(OSError, match="was changed while it was read"):
            stream.read()


@pytest.mark.parametrize(
    ("size_bytes", "wanted_bytes", "expected"),
    [
        (1, 8 << 20, 8 << 20),
        (80_000 << 20, 8 << 20, 8 << 20),
        ((80_000 << 20) + 1, 8 << 20, 9 << 20),
        (5 << 40, 8 << 20, 525 << 20),
    ],
)
def test_parts_grow_with_the_object(size_bytes: int, wanted_bytes: int, expected: int) -> None:
    found = part_bytes(size_bytes, wanted_bytes)
    assert found == expected
    assert -(-size_bytes // found) <= 10_000
