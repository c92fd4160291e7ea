"""The spool is full: writers wait or are refused, as configured, and go on when there is room."""

import os
import threading
import time
from pathlib import Path

import pytest

from ..harness import MountedArchive
from .conftest import Limits, eventually
from .disks import Disk

PIECE_BYTES = 64 << 10
SPOOL = "settle_s = 0\nspool_max = '4MiB'\n"


def write_pieces(path: Path, data: bytes) -> None:
    """By many write(2), because what one of them adds may pass the limit."""
    with open(path, "wb", buffering=0) as file:
        for start in range(0, len(data), PIECE_BYTES):
            file.write(data[start : start + PIECE_BYTES])


def with_full_spool(limits: Limits, settings: str) -> tuple[MountedArchive, Disk]:
    """Four MiB wait for an element that is full."""
    disk = limits.disk("tmpfs", "element", 24)
    archive = limits.archive(SPOOL + settings)
    (archive.mount / "archived").write_bytes(b"archived")
    archive.flush()
    disk.fill()
    (archive.mount / "a").write_bytes(b"a" * (3 << 20))
    return archive, disk


@pytest.mark.slow
def test_lesson_08_full_spool_fail_is_refused_at_once(limits: Limits) -> None:
    """SEMANTICS: LIMIT-3"""
    archive, disk = with_full_spool(limits, 'spool_full = "fail"\nspool_wait_s = 100')
    started = time.monotonic()
    with pytest.raises(OSError, match="No space"):
        write_pieces(archive.mount / "b", b"b" * (2 << 20))
    assert time.monotonic() - started < 10
    assert (archive.mount / "archived").read_bytes() == b"archived"
    assert (archive.mount / "a").read_bytes() == b"a" * (3 << 20)
    os.unlink(archive.mount / "a")  # makes room in the spool without any element
    (archive.mount / "b").unlink()
    eventually(lambda: archive.ask("status")["spool"]["bytes"], lambda used: used == 0)
    write_pieces(archive.mount / "b", b"b" * (2 << 20))
    disk.empty()
    archive.flush()
    assert (archive.mount / "b").read_bytes() == b"b" * (2 << 20)


@pytest.mark.slow
def test_lesson_08_full_spool_wait_goes_on_when_the_element_has_room(limits: Limits) -> None:
    """SEMANTICS: LIMIT-3"""
    archive, disk = with_full_spool(limits, "spool_wait_s = 60")
    written = threading.Event()
    errors: list[OSError] = []

    def write() -> None:
        try:
            write_pieces(archive.mount / "b", b"b" * (3 << 20))
        except OSError as exc:
            errors.append(exc)
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert not written.wait(1.0)
        assert (archive.mount / "a").read_bytes() == b"a" * (3 << 20)
        assert sorted(os.listdir(archive.mount)) == ["a", "archived", "b"]
        assert archive.status()["spool"]["bytes"] <= (4 << 20) + 2 * PIECE_BYTES
    finally:
        disk.empty()
        writer.join(90)
    assert errors == []
    archive.flush()
    assert (archive.mount / "b").read_bytes() == b"b" * (3 << 20)
    assert archive.status()["spool"]["bytes"] == 0


@pytest.mark.slow
def test_lesson_08_full_spool_wait_ends_with_a_refusal(limits: Limits) -> None:
    """SEMANTICS: LIMIT-3"""
    archive, disk = with_full_spool(limits, "spool_wait_s = 1")
    started = time.monotonic()
    with pytest.raises(OSError, match="No space"):
        write_pieces(archive.mount / "b", b"b" * (3 << 20))
    assert 0.9 < time.monotonic() - started < 30
    archive.remount()
    assert archive.status()["spool"]["bytes"] > 3 << 20
    with pytest.raises(OSError, match="No space"):
        write_pieces(archive.mount / "c", b"c" * (3 << 20))
    disk.empty()
    archive.run("flush", str(archive.toml))
    write_pieces(archive.mount / "c", b"c" * (3 << 20))
    assert (archive.mount / "c").read_bytes() == b"c" * (3 << 20)
