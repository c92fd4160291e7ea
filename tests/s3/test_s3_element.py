"""What only an S3 element does: pages, batches, headers, times, and its keys as they lie there."""

import base64
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artstorefs.core.configuration import parse_element_argument
from artstorefs.core.errors import (
    ElementDenied,
    ElementUnavailable,
    KeyInvalid,
    ObjectAbsent,
    ObjectDamaged,
)
from artstorefs.elements.interface import ARCHIVE_KEY, check_key
from artstorefs.elements.opening import initialize_element, open_element
from artstorefs.elements.s3 import S3Element

from .proxy import Answer, Proxy
from .servers import BUCKET, Server

KEY = "2026/11/23/22/harbour.tif"


@pytest.fixture
def element(server: Server, proxy: Proxy) -> Iterator[S3Element]:
    made = S3Element("bucket1", server.settings(endpoint=proxy.url, concurrency=4))
    made.replace(ARCHIVE_KEY, b"{}")
    made.barrier()
    proxy.requests.clear()
    yield made
    proxy.rule = None
    made.close()


def store_outside(server: Server, keys: list[str]) -> None:
    """As another program does, many at a time."""
    client = server.client()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys):
            pass


def test_archive_json_of_another_makes_it_unavailable_never_absent(
    element: S3Element, server: Server, tmp_path: Path
) -> None:
    """SEMANTICS: ELEM-17"""
    place = {"Bucket": BUCKET, "Key": element._settings.prefix + ARCHIVE_KEY}
    ours = element.read(ARCHIVE_KEY, 0, 100)
    server.client().put_object(**place, Body=b"[]")
    large = tmp_path / "large"
    large.write_bytes(b"x" * (6 << 20))

    def write() -> None:
        element.replace(KEY, b"{}")
        element.barrier()

    calls = (
        lambda: element.stat(KEY),
        lambda: element.read(KEY, 0, 1),
        lambda: list(element.list()),
        write,
        lambda: element.put(KEY, str(large), size_bytes=6 << 20),
        element.capacity,
    )
    for call in calls:
        with pytest.raises(ElementUnavailable, match="is another one now; put it back"):
            call()
    parts = server.client().create_multipart_upload(**place)  # the same bytes, with another ETag
    part = {"UploadId": parts["UploadId"], "PartNumber": 1}
    sent = server.client().upload_part(**place, **part, Body=ours)
    done = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
    server.client().complete_multipart_upload(
        **place, UploadId=parts["UploadId"], MultipartUpload=done
    )
    write()
    assert element.read(KEY, 0, 100) == b"{}"


# --------------------------------------------------------------------- listing and removing


@pytest.mark.slow
def test_many_keys_are_listed_in_pages_and_removed_in_batches(
    element: S3Element, server: Server, proxy: Proxy
) -> None:
    keys = [f"2026/11/23/22/{number:04}" for number in range(1_100)]
    store_outside(server, [element._settings.prefix + key for key in keys])
    assert sorted(found.key for found in element.list("2026/")) == keys
    pages = [one for one in proxy.requests if one.query.get("list-type") == ["2"]]
    assert len(pages) == 2
    for key in keys:
        element.remove(key)
    proxy.requests.clear()
    element.barrier()
    assert len([one for one in proxy.requests if "delete" in one.query]) == 2
    assert list(element.list("2026/")) == []


def test_one_key_of_a_batch_that_is_not_removed_fails_the_barrier(
    element: S3Element, proxy: Proxy
) -> None:
    body = (
        "<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code>"
        "<Message>Access Denied</Message></Error></DeleteResult>"
    )
    proxy.rule = lambda request: Answer(200, body=body) if request.method == "POST" else None
    element.remove(KEY)
    with pytest.raises(ElementDenied, match="access is denied"):
        element.barrier()


def test_listing_that_ends_early_is_no_short_listing(element: S3Element, proxy: Proxy) -> None:
    body = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    proxy.rule = lambda request: Answer(200, body=body) if request.method == "GET" else None
    with pytest.raises(ElementUnavailable, match="does not go on"):
        list(element.list())


def test_keys_of_others_are_listed_as_they_are_and_markers_of_directories_are_not(
    element: S3Element, server: Server
) -> None:
    prefix = element._settings.prefix
    names = ["a b+c%20d", "\x01"]
    if server.name == "moto":  # SeaweedFS takes names of at most 255 bytes
        names.append("x" * 300)
    store_outside(server, [f"{prefix}2026/{name}" for name in names])
    server.client().put_object(Bucket=BUCKET, Key=f"{prefix}2026/11/", Body=b"")
    found = {stat.key for stat in element.list("2026/")}
    assert found == {f"2026/{name}" for name in names}
    for key in found:
        try:
            check_key("bucket1", key)
        except KeyInvalid:
            continue
        element.remove(key)
    element.barrier()
    assert {stat.key for stat in element.list("2026/")} == {f"2026/{name}" for name in names[2:]}


# ------------------------------------------------------------------------- headers and times


@pytest.mark.parametrize("attempts", [1, 2])
def test_new_objects_carry_their_hashes_and_what_the_configuration_says(
    server: Server, proxy: Proxy, tmp_path: Path, attempts: int
) -> None:
    """Whichever library sends them: the last of the attempts is made by boto3."""
    settings = server.settings(endpoint=proxy.url, storage_class="STANDARD_IA", attempts=attempts)
    element = S3Element("bucket1", settings)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    element.put(KEY, str(source), size_bytes=7)
    element.barrier()
    (put,) = [request for request in proxy.requests if request.method == "PUT"]
    digest = hashlib.sha256(b"content").digest()
    assert put.headers["x-amz-checksum-sha256"] == base64.b64encode(digest).decode()
    assert put.headers["x-amz-content-sha256"] == digest.hex()
    if attempts == 1:
        md5 = base64.b64encode(hashlib.md5(b"content").digest()).decode()
        assert put.headers["content-md5"] == md5
    assert put.headers["if-none-match"] == "*"
    assert put.headers["x-amz-storage-class"] == "STANDARD_IA"
    there = server.client().get_object(Bucket=BUCKET, Key=f"{settings.prefix}{KEY}")
    assert there["Body"].read() == b"content"
    assert there["Metadata"] == {"sha256": digest.hex()}
    assert there["StorageClass"] == "STANDARD_IA"
    element.close()


@pytest.mark.parametrize("attempts", [1, 2])
def test_both_libraries_mean_the_same_key(server: Server, attempts: int) -> None:
    """What obstore puts boto3 finds, whatever is in the name, and the other way round."""
    names = ("%41%2F%", "~#?&+=@:;,$!'()*", '"<>|^`[]{}', "ü e\u0301 日本", " end ", "..x.", "\x7f")
    settings = server.settings(attempts=attempts)
    element = S3Element("bucket1", settings)
    for name in names:
        element.replace(f"2026/{name}/{name}", name.encode())
    element.barrier()
    client = server.client()
    for name in names:
        key = f"{settings.prefix}2026/{name}/{name}"
        there = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert there == name.encode()
    other = S3Element("bucket1", server.settings(attempts=3 - attempts, prefix=settings.prefix))
    for name in names:
        assert other.read(f"2026/{name}/{name}", 0, 100) == name.encode()
        assert other.stat(f"2026/{name}/{name}").size_bytes == len(name.encode())
    element.close()
    other.close()


def test_source_that_changes_between_staging_and_barrier_is_damage(
    element: S3Element, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(200_000))
    element.put(KEY, str(source), size_bytes=200_000)
    with source.open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(ObjectDamaged, match="its source has changed"):
        element.barrier()
    element.put(KEY, str(source), size_bytes=200_000)
    os.truncate(source, 5)
    with pytest.raises(ObjectDamaged, match="its source has changed"):
        element.barrier()
    with pytest.raises(ObjectAbsent):
        element.stat(KEY)


@pytest.mark.parametrize("size_bytes", [3, 6 << 20])
def test_encryption_is_asked_for(
    moto_server: Server, tmp_path: Path, size_bytes: int
) -> None:  # SeaweedFS needs a key server of its own for it
    settings = moto_server.settings(encryption="aws:kms", encryption_key="key-1")
    element = S3Element("bucket1", settings)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size_bytes))
    element.put(KEY, str(source), size_bytes=size_bytes)
    element.barrier()
    with element.open_read(KEY) as stream:
        assert stream.read() == source.read_bytes()
    there = moto_server.client().head_object(Bucket=BUCKET, Key=f"{settings.prefix}{KEY}")
    assert (there["ServerSideEncryption"], there["SSEKMSKeyId"]) == ("aws:kms", "key-1")
    element.close()


def test_another_content_of_the_same_size_has_another_mark_at_once(element: S3Element) -> None:
    marks = set()
    for version in range(5):
        element.replace(KEY, b"%d" % version)
        marks.update(element.barrier().values())
        marks.add(element.stat(KEY).mark)
        (listed,) = element.list("2026/")
        assert listed == element.stat(KEY)
    assert len(marks) == 5


def test_process_that_was_forked_has_connections_of_its_own(server: Server) -> None:
    # Two processes on one connection take answers from each other: with one attempt that is seen.
    settings = server.settings(attempts=1, read_timeout_s=5.0)
    element = S3Element("bucket1", settings)
    other = f"{KEY}.attr.json"
    element.replace(KEY, b"content")
    element.replace(other, b"{}")
    element.barrier()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, b"!")
            right = [element.read(other, 0, 10) == b"{}" for _ in range(100)]
            os._exit(0 if all(right) else 1)
        finally:
            os._exit(2)
    os.read(reading, 1)  # so that both are at it at the same time
    for _ in range(100):
        assert element.read(KEY, 0, 10) == b"content"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reading)
    os.close(writing)
    element.close()


# ----------------------------------------------------------------------------- configuration


def test_element_of_a_configuration_with_and_without_prefix(
    server: Server, proxy: Proxy, tmp_path: Path
) -> None:
    for place in (f"{BUCKET}/{server.new_prefix()}x", BUCKET):
        configuration = parse_element_argument(
            f"main=s3:{place},endpoint={proxy.url},credentials_file={server.credentials},"
            "capacity=1GiB"
        )
        if place != BUCKET:
            initialize_element(configuration)
        element = open_element(configuration)
        element.replace("2026/outermost", b"1")
        element.barrier()
        assert element.read("2026/outermost", 0, 9) == b"1"
        assert "2026/outermost" in {found.key for found in element.list("2026/")}
        assert element.capacity().total_bytes == 1 << 30
        element.remove("2026/outermost")
        element.barrier()
        element.close()


def test_key_that_is_too_long_with_its_prefix_is_refused_here(server: Server) -> None:
    element = S3Element("bucket1", server.settings(prefix="p" * 500 + "/"))
    with pytest.raises(KeyInvalid, match="1024 bytes with the prefix"):
        element.replace("/".join(["x" * 250] * 3), b"")
