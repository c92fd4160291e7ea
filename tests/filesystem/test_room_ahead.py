"""Room set aside for what is about to be written: who gets some, and that nobody keeps it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs.elements.durable import fallocate
from artstorefs.filesystem.open_file import FALLOC_FL_KEEP_SIZE
from artstorefs.state import room_ahead
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import ContentState
from artstorefs.state.room_ahead import LEAST_BYTES, SLACK_BYTES, give_back, set_aside

from .workbench import FILE, ME, Workbench

MIB = 1 << 20
SET_TIMES_NS = 1_000_000_000_123_456_789, 1_000_000_001_987_654_321


@pytest.fixture
def written(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file of 2 MiB without holes, `tmp_path / "written"`."""
    descriptor = os.open(tmp_path / "written", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"x" * (2 * MIB))
    yield descriptor
    os.close(descriptor)


def taken_bytes(file: int | str | Path) -> int:
    return os.stat(file).st_blocks * 512


def test_room_lies_behind_the_end_and_comes_back(written: int, tmp_path: Path) -> None:
    before = taken_bytes(written)
    assert set_aside(written, 8 * MIB)
    assert os.fstat(written).st_size == 2 * MIB
    assert taken_bytes(written) >= before + 8 * MIB
    os.pwrite(written, b"y" * MIB, 2 * MIB)
    assert taken_bytes(written) == pytest.approx(10 * MIB, abs=SLACK_BYTES)
    given = give_back(str(tmp_path / "written"))
    assert given == pytest.approx(7 * MIB, abs=SLACK_BYTES)
    assert taken_bytes(written) == pytest.approx(3 * MIB, abs=SLACK_BYTES)
    assert os.pread(written, 4 * MIB, 0) == b"x" * (2 * MIB) + b"y" * MIB
    assert give_back(str(tmp_path / "written")) == 0


def test_room_is_set_aside_once_it_is_used_up(written: int) -> None:
    assert set_aside(written, LEAST_BYTES)
    assert not set_aside(written, LEAST_BYTES)
    os.pwrite(written, b"y" * LEAST_BYTES, 2 * MIB)
    assert set_aside(written, LEAST_BYTES)


def test_file_with_holes_gets_none(written: int) -> None:
    os.ftruncate(written, 64 * MIB)
    assert not set_aside(written, 8 * MIB)
    assert taken_bytes(written) == pytest.approx(2 * MIB, abs=SLACK_BYTES)


def test_little_is_not_worth_it(written: int) -> None:
    assert not set_aside(written, LEAST_BYTES - 1)


def test_disk_with_little_room_is_left_to_those_who_write(
    written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = os.fstatvfs(written)
    monkeypatch.setattr(room_ahead, "SPARE_FACTOR", disk.f_blocks * disk.f_frsize)
    assert not set_aside(written, 8 * MIB)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EOPNOTSUPP])
def test_disk_that_refuses_is_written_as_any_other(
    written: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(room_ahead, "fallocate", refuse)
    assert not set_aside(written, 8 * MIB)


async def test_start_gives_back_what_a_kill_has_left(bench: Workbench) -> None:
    """The daemon was killed after the seal was committed. Times and content are as they were."""
    node = await bench.write(b"f", b"x" * (2 * MIB))
    path = bench.archive.spool.path(node.ino, node.content)
    descriptor = os.open(path, os.O_RDWR)
    fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 2 * MIB, 8 * MIB)
    os.close(descriptor)
    assert node.content_state == ContentState.SEALED
    times = node.mtime_ns, node.ctime_ns
    bench.restart()
    assert taken_bytes(path) == pytest.approx(2 * MIB, abs=SLACK_BYTES)
    assert bench.budget.used_bytes == taken_bytes(path)
    found = bench.archive.index.node(node.ino)
    assert found is not None
    assert (found.mtime_ns, found.ctime_ns) == times
    await bench.drain()
    assert bench.budget.used_bytes == 0


async def test_start_gives_back_what_was_never_closed(bench: Workbench) -> None:
    """The daemon was killed while it was written: the times of the spool file are taken first."""
    node = bench.tree.create(ROOT_INO, b"f", FILE, ME, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    await bench.contents.write(handle, 0, b"x" * (2 * MIB))
    path = bench.archive.spool.path(node.ino, node.content)
    descriptor = os.open(path, os.O_RDWR)
    fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 2 * MIB, 8 * MIB)
    os.close(descriptor)
    os.utime(path, ns=SET_TIMES_NS)
    bench.restart()
    assert taken_bytes(path) == pytest.approx(2 * MIB, abs=SLACK_BYTES)
    found = bench.archive.index.node(node.ino)
    assert found is not None
    assert found.content_state == ContentState.SEALED
    assert found.mtime_ns == SET_TIMES_NS[1]
