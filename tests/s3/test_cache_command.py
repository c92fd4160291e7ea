"""`artstorefs cache` on an archive in a bucket: what it says, and what it does."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ..harness import MountedArchive
from .proxy import Drop, Proxy
from .test_read_cache_mount import BLOCKS, DATA, SIZE, blocks_of, forget, is_content, store

pytestmark = pytest.mark.slow


def cache(archive: MountedArchive, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        archive.run("cache", str(archive.toml), *arguments, "--json").stdout
    )
    return answer


def failure(archive: MountedArchive, code: int, *arguments: str) -> str:
    """The one line of a command that fails with this exit code."""
    done = archive.run("cache", str(archive.toml), *arguments, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("artstorefs: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_cache_is_shown_warmed_pinned_and_dropped(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-15"""
    folder = archive.mount / "folder"
    folder.mkdir()
    for number in range(5):
        (folder / f"f{number}").write_bytes(b"%d" % number * 100)
    path = store(archive)
    shown = archive.run("cache", str(archive.toml)).stdout
    assert "files     0, in 0 blocks" in shown
    assert "of 50GiB" in shown

    bucket_proxy.requests.clear()
    outcome = cache(archive, "--warm", str(archive.mount))
    assert outcome == {"files": 6, "bytes": SIZE + 500, "failed": 0, "errors": []}
    assert blocks_of(bucket_proxy)[1] == 1
    forget(archive, bucket_proxy)
    assert path.read_bytes() == DATA
    assert (folder / "f3").read_bytes() == b"3" * 100
    assert not any(map(is_content, bucket_proxy.requests))

    said = archive.run("cache", str(archive.toml), "--pin", str(folder)).stdout
    assert said == "5 files in the cache, 0B of them fetched now\n"
    state = cache(archive)
    assert state["pins"] == ["/folder"]
    assert (state["files"], state["blocks"]) == (6, BLOCKS + 5)
    assert state["pinned_bytes"] == 5 * 4096
    assert "is pinned; --unpin it first" in failure(archive, 1, "--drop", str(folder))
    assert cache(archive, "--drop", str(archive.mount))["files"] == 6
    assert cache(archive)["bytes"] == 5 * 4096
    forget(archive, bucket_proxy)
    assert (folder / "f3").read_bytes() == b"3" * 100
    assert not any(map(is_content, bucket_proxy.requests))

    assert archive.run("cache", str(archive.toml), "--unpin", str(folder)).stdout
    state = cache(archive)
    assert (state["pins"], state["pinned_bytes"]) == ([], 0)
    assert "is not pinned" in failure(archive, 1, "--unpin", str(folder))


def test_pins_are_brought_again_by_the_next_mount(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    path = store(archive)
    cache(archive, "--pin", str(path))
    archive.stop()
    shutil.rmtree(archive.base / "cache")
    archive.start()
    cache(archive, "--warm", str(path))  # waits for what is being brought
    forget(archive, bucket_proxy)
    bucket_proxy.switch_off()
    assert path.read_bytes() == DATA


def test_errors_of_the_cache_command_are_one_line(
    archive: MountedArchive, bucket_proxy: Proxy, tmp_path: Path
) -> None:
    path = store(archive, data=b"content")
    assert "is not on the mount of test" in failure(archive, 2, "--pin", str(tmp_path))
    missing = str(archive.mount / "missing")
    assert f"{missing}: No such file" in failure(archive, 1, "--warm", missing)
    done = archive.run(
        *("cache", str(archive.toml), "--warm", str(path), "--drop", str(path)), check=False
    )
    assert done.returncode == 2
    bucket_proxy.rule = lambda request: Drop() if is_content(request) else None
    done = archive.run("cache", str(archive.toml), "--warm", str(path), check=False)
    assert done.returncode == 1
    assert done.stdout == "0 files in the cache, 0B of them fetched now\n"
    assert done.stderr.startswith("artstorefs: /large: element main: ")
    assert done.stderr.count("\n") == 1
    bucket_proxy.rule = None
    if os.geteuid() == 0:
        refused = archive.run("status", str(archive.toml))
        assert refused.returncode == 0
    archive.stop()
    assert "is not mounted" in failure(archive, 3)
