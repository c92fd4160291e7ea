"""Rows of LESSONS.md that full disks and failures concern, where no test elsewhere has them.

Others bear the number of their row where they stand: `pytest -k lesson` runs all.
"""

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.elements.local import LocalElement
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.filesystem.errors import ContentUnreachable
from artstorefs.state.index import ROOT_INO

from ..filesystem.workbench import DIRECTORY, ME, Workbench
from ..harness import MountedArchive
from .conftest import Limits, eventually


@pytest.fixture
def clock() -> MockClock:
    """pytest-trio runs the test on it: time passes only when the test says so."""
    return MockClock()


class Counted:
    """An element of the mount process that notes every request, and answers none. Whether its
    objects are local files it need not be asked."""

    capabilities = LocalElement.capabilities

    def __init__(self) -> None:
        self.requests: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def request(*arguments: Any, **named: Any) -> Any:
            self.requests.append(name)
            raise ContentUnreachable(name)

        return request


@pytest.mark.slow
def test_lesson_04_nothing_in_the_cache_directory_is_an_only_copy(limits: Limits) -> None:
    """What may be evicted is never the spool; and how long something waits can be seen.
    SEMANTICS: FULL-5"""
    archive = limits.archive("settle_s = 600")
    wanted = {name: os.urandom(5000) for name in ("a", "b")}
    for name, content in wanted.items():
        (archive.mount / name).write_bytes(content)
    shutil.rmtree(archive.base / "cache")
    waiting = eventually(lambda: archive.ask("status")["pending"], lambda p: p["bytes"] == 10_000)
    assert waiting["oldest_age_s"] > 0
    archive.kill()
    shutil.rmtree(archive.base / "cache", ignore_errors=True)
    archive.start()
    assert {name: (archive.mount / name).read_bytes() for name in wanted} == wanted
    archive.flush()
    assert archive.status()["pending"]["oldest_age_s"] is None
    assert {name: (archive.mount / name).read_bytes() for name in wanted} == wanted


async def test_lesson_14_names_and_attributes_come_from_the_index_alone(tmp_path: Path) -> None:
    """SEMANTICS: LIMIT-1, LIMIT-2"""
    bench = Workbench(tmp_path)
    directory = bench.make(b"directory", mode=DIRECTORY)
    for number in range(100):
        await bench.write(f"f{number}".encode(), b"content", parent=directory.ino)
    await bench.drain()
    element = Counted()
    bench.archive.elements = {"main": element}  # type: ignore[dict-item]
    assert len(bench.tree.children(directory.ino, 0, 1000)) == 100
    for number in range(100):
        node = bench.tree.lookup(directory.ino, f"f{number}".encode())
        assert node is not None
        assert node.size == 7
        assert bench.xattrs.list(node) == []
    bench.rename(b"directory", b"other")
    bench.xattrs.set(directory, b"user.k", b"v", 0, ME)
    await bench.attributes.change(directory, AttributeChange(mode=stat.S_IFDIR | 0o700), ME)
    bench.unlink(b"f0", parent=directory.ino)
    assert element.requests == []


async def test_lesson_15_only_reading_content_asks_an_element(tmp_path: Path) -> None:
    """What a crawler does besides, opening included, costs no request.
    SEMANTICS: TIME-2"""
    bench = Workbench(tmp_path)
    node = await bench.write(b"f", b"content")
    await bench.drain()
    element = Counted()
    bench.archive.elements = {"main": element}  # type: ignore[dict-item]
    assert bench.tree.lookup(ROOT_INO, b"f") is node
    for name in (b"user.artstore.checksum", b"user.artstore.element", b"user.artstore.state"):
        assert bench.xattrs.get(node, name)
    handle = await bench.open_file(node, os.O_RDONLY)
    assert element.requests == []
    with pytest.raises(ContentUnreachable):
        await bench.contents.read(handle, 0, 100)
    assert element.requests == ["open_read"]
    bench.contents.release(handle)


@pytest.mark.slow
def test_lesson_21_fsync_does_not_wait_for_an_element(limits: Limits) -> None:
    """SEMANTICS: DUR-2"""
    disk = limits.disk("ext4", "element", 24)
    archive = limits.archive()
    disk.unmount()
    write_with_fsync(archive)
    assert os.getxattr(archive.mount / "f", "user.artstore.state") == b"pending"
    archive.kill()
    disk.mount()
    archive.start()
    assert (archive.mount / "f").read_bytes() == b"synced" * 100
    archive.flush()


def write_with_fsync(archive: MountedArchive) -> None:
    with open(archive.mount / "f", "wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"synced")
            os.fsync(file.fileno())
