"""A mount that starts while the server of its element does not answer, or answers as another."""

import errno
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from artstorefs.core.archive_record import parse_archive_record

from ..harness import MountedArchive, wait_until
from .proxy import Proxy
from .servers import BUCKET, SECRET_KEY, Server, credentials_in

pytestmark = pytest.mark.slow

START_LIMIT_S = 25.0
"""Of a start that takes up to ten seconds, on a machine that does other things."""

READ_LIMIT_S = 30.0
SEEN_LIMIT_S = 40.0
CANNOT_BE_CARRIED = 4


class Far:
    """An archive in a bucket, behind a proxy that may be exchanged for something else."""

    def __init__(self, server: Server, base: Path) -> None:
        self.server = server
        self.prefix = server.new_prefix()
        self.proxy: Proxy | None = Proxy(server.url)
        self.url = self.proxy.url
        self.port = int(self.url.rpartition(":")[2])
        base.mkdir()
        self.credentials = credentials_in(base)
        self.archive = MountedArchive(
            base / "a",
            settings="settle_s = 0.2",
            place=f"s3:{BUCKET}/{self.prefix}",
            element_arguments=f",endpoint={self.url},credentials_file={self.credentials},"
            "multipart_threshold=5MiB,part_size=5MiB",
        )
        self.wanted = {name: os.urandom(200_000) for name in ("cached", "far")}

    def fill(self) -> None:
        """Two files that the element has, one of them in the cache; then unmount."""
        self.archive.start()
        for name, content in self.wanted.items():
            (self.archive.mount / name).write_bytes(content)
        os.setxattr(self.archive.mount / "far", "user.k", b"v")
        self.archive.flush()
        assert (self.archive.mount / "cached").read_bytes() == self.wanted["cached"]
        self.archive.stop()

    def start(self) -> None:
        began = time.monotonic()
        self.archive.start()
        assert time.monotonic() - began < START_LIMIT_S

    def write(self, name: str, size: int = 300_000) -> None:
        self.wanted[name] = os.urandom(size)
        (self.archive.mount / name).write_bytes(self.wanted[name])

    def check_served(self) -> None:
        """All but the content that only the element has, which is EIO in time."""
        mount = self.archive.mount
        assert set(os.listdir(mount)) == self.wanted.keys()
        assert (mount / "far").stat().st_size == len(self.wanted["far"])
        assert os.getxattr(mount / "far", "user.k") == b"v"
        for name in self.wanted.keys() - {"far"}:
            assert (mount / name).read_bytes() == self.wanted[name]
        began = time.monotonic()
        with pytest.raises(OSError, match="Input/output error") as raised:
            (mount / "far").read_bytes()
        assert raised.value.errno == errno.EIO
        assert time.monotonic() - began < READ_LIMIT_S

    def error(self) -> str:
        """What `status` says of the element; "" while it is well."""
        (element,) = self.archive.status()["elements"]
        assert (element["state"] == "unavailable") == bool(element["error"])
        return element["error"] or ""

    def wait_unavailable(self, words: str) -> None:
        wait_until(lambda: words in self.error(), SEEN_LIMIT_S)
        assert "\n" not in self.error()

    def check_carried(self) -> None:
        """By itself; and the elements alone have it all."""
        stored = [self.archive.mount / name for name in self.wanted]
        for path in stored:
            wait_until(
                lambda path=path: os.getxattr(path, "user.artstore.state") == b"stored",
                SEEN_LIMIT_S,
            )
        self.archive.flush()
        assert self.error() == ""
        self.check_content()
        self.archive.stop()
        shutil.rmtree(self.archive.state)
        shutil.rmtree(self.archive.base / "cache")
        self.archive.start()
        self.check_content()

    def check_content(self) -> None:
        for name, content in self.wanted.items():
            assert (self.archive.mount / name).read_bytes() == content

    def objects(self) -> dict[str, Any]:
        """Keys and ETags of what is in the bucket, and the uploads of parts."""
        client = self.server.client()
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=self.prefix)
        uploads = client.list_multipart_uploads(Bucket=BUCKET, Prefix=self.prefix)
        found = {one["Key"]: one["ETag"] for one in listed.get("Contents", [])}
        return {**found, "uploads": uploads.get("Uploads", [])}

    def archive_json(self, change: bytes | None = None) -> bytes:
        """What archive.json was; with `change` it is that now, or with b"" it is not there."""
        client = self.server.client()
        place = {"Bucket": BUCKET, "Key": f"{self.prefix}.artstorefs/archive.json"}
        before: bytes = client.get_object(**place)["Body"].read() if change is None else b""
        if change:
            client.put_object(**place, Body=change)
        elif change is not None:
            client.delete_object(**place)
        return before

    def listen(self) -> None:
        """The way to the server is there again."""
        self.proxy = Proxy(self.server.url, port=self.port)

    def hang_up(self) -> None:
        """It is not there any more."""
        if self.proxy is not None:
            self.proxy.close()
            self.proxy = None


@pytest.fixture
def far(seaweedfs_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    made = Far(seaweedfs_server, tmp_path_factory.mktemp("s3u") / "f")
    made.fill()
    yield made
    made.hang_up()
    made.archive.clean_up()
    assert "Traceback" not in made.archive.log()


@contextmanager
def refused(far: Far) -> Iterator[None]:
    """Nobody listens there."""
    far.hang_up()
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", far.port))
        yield
    far.listen()


@contextmanager
def black_hole(far: Far) -> Iterator[None]:
    """Connections are taken, and nothing is ever answered."""
    far.hang_up()
    with socket.create_server(("127.0.0.1", far.port), backlog=1000):
        yield
    far.listen()


@contextmanager
def wrong_secret(far: Far) -> Iterator[None]:
    """The server says no."""
    right = far.credentials.read_text()
    far.credentials.write_text(right.replace(SECRET_KEY, "another"))
    yield
    far.credentials.write_text(right)


Trouble = Callable[[Far], AbstractContextManager[None]]

TROUBLES: dict[str, tuple[Trouble, str]] = {
    "refused": (refused, "Connection refused; check endpoint and network"),
    "black hole": (black_hole, "nothing answers in time; check endpoint and network"),
    "wrong secret": (wrong_secret, "; check the access key, or profile and credentials_file"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_mount_starts_without_its_server_and_goes_on_when_it_answers(
    far: Far, trouble: str
) -> None:
    """SEMANTICS: ELEM-16"""
    make, words = TROUBLES[trouble]
    with make(far):
        far.start()
        far.write("new")
        far.check_served()
        far.wait_unavailable(words)
        assert f"bucket {BUCKET} at {far.url}: " in far.error()
        far.archive.kill()
        far.start()
        os.rename(far.archive.mount / "new", far.archive.mount / "renamed")
        far.wanted["renamed"] = far.wanted.pop("new")
        far.check_served()
    far.check_carried()


@pytest.mark.parametrize("trouble", ["refused", "black hole"])
def test_without_an_index_the_server_has_to_answer(far: Far, trouble: str) -> None:
    """SEMANTICS: ELEM-16"""
    make, words = TROUBLES[trouble]
    shutil.rmtree(far.archive.state)
    arguments = ("mount", str(far.archive.toml), str(far.archive.mount))
    with make(far):
        began = time.monotonic()
        done = far.archive.run(*arguments, check=False)
        assert time.monotonic() - began < START_LIMIT_S
    assert done.returncode not in (0, 1)
    (line,) = done.stderr.strip().splitlines()
    assert words in line
    far.start()
    far.check_content()


OTHERS = {
    "another archive": b'{"format": "artstorefs/1", "archive_id": '
    b'"7d1bb5a1-6a54-4f5e-9d3c-0f4d1f2f0c11", "archive_name": "zoo", "element_id": "main", '
    b'"created_at": "2026-01-02T03:04:05Z"}',
    "nothing": b"",
}
"""archive.json as it is in the place of the right one."""

SAID = {"another archive": " another ", "nothing": "archive.json is "}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("when", ["at the start", "while mounted"])
def test_bucket_that_is_not_the_element_any_more_gets_nothing(
    far: Far, other: str, when: str
) -> None:
    """SEMANTICS: ELEM-17"""
    if when == "while mounted":
        far.start()
    ours = far.archive_json()
    far.archive_json(OTHERS[other])
    before = far.objects()
    if when == "at the start":
        far.start()
    far.write("new")
    far.write("large", 12_000_000)
    os.unlink(far.archive.mount / "cached")
    del far.wanted["cached"]
    far.wait_unavailable(SAID[other])
    flushed = far.archive.run("flush", str(far.archive.toml), check=False)
    assert flushed.returncode == CANNOT_BE_CARRIED
    assert far.objects() == before
    far.archive_json(ours)
    far.check_carried()


def test_other_archive_is_named_as_it_is_found_at_the_start(far: Far) -> None:
    """SEMANTICS: ELEM-17"""
    far.archive_json(OTHERS["another archive"])
    far.start()
    far.wait_unavailable("belongs to another archive, zoo (7d1bb5a1")
    assert parse_archive_record(OTHERS["another archive"], "").archive_name == "zoo"
