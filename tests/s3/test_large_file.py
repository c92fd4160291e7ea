"""A large file to a bucket and back, with a kill in the middle of its upload.

`ASFS_S3_MIB` is its size (48; 5120 takes some minutes, and three times that room).
"""

import hashlib
import os
import random
import shutil
import signal
from collections.abc import Iterator

import pytest

from ..harness import MountedArchive, children, wait_for_end, wait_until
from .proxy import Proxy, Request

pytestmark = pytest.mark.slow

SIZE_MIB = int(os.environ.get("ASFS_S3_MIB", "48"))
LIMIT_S = 120 + SIZE_MIB / 5
PART_BYTES = 5 << 20


def pieces() -> Iterator[bytes]:
    """The content, a MiB at a time; no two are the same."""
    made = random.Random(SIZE_MIB)
    for _ in range(SIZE_MIB):
        yield made.randbytes(1 << 20)


def part_of(request: Request) -> int:
    return int(request.query["partNumber"][0])


def test_large_file_is_resumed_where_its_upload_was_killed_and_comes_back(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """No part that the server had is sent again. SEMANTICS: ELEM-13, ELEM-14"""
    wanted = hashlib.sha256()
    with (archive.mount / "large").open("wb") as file:
        for piece in pieces():
            file.write(piece)
            wanted.update(piece)
    parts = -(-SIZE_MIB * (1 << 20) // PART_BYTES)
    wait_until(lambda: len(bucket_proxy.answered_parts()) >= parts // 2, LIMIT_S)
    transfer = children(archive.pid)
    there = set(bucket_proxy.answered_parts())
    archive.kill()
    for pid in transfer:
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
    assert parts // 2 <= len(there) < parts, "the kill did not come in the middle"
    sent_before, stored_before = len(bucket_proxy.requests), len(bucket_proxy.stored)
    archive.start()
    archive.run("flush", str(archive.toml), limit_s=LIMIT_S)
    sent = {part_of(one) for one in bucket_proxy.requests[sent_before:] if one.is_part}
    assert not there & sent
    stored = [part_of(one) for one in bucket_proxy.stored[stored_before:] if one.is_part]
    assert len(stored) == len(set(stored))
    assert there | set(stored) <= set(range(1, parts + 1)) == set(bucket_proxy.answered_parts())
    print(f"{parts} parts: {len(there)} stored before the kill, {len(stored)} after it, none twice")
    archive.stop()
    shutil.rmtree(archive.base / "cache")
    archive.start()
    found = hashlib.sha256()
    with (archive.mount / "large").open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    assert found.digest() == wanted.digest()
    assert not archive.status()["damaged"]
