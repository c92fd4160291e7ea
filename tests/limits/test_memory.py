"""Memory stays bounded: many files in the index, many pending, a long sequential write.

Resident is VmHWM of /proc/PID/status, the most that ever was: anonymous pages and mapped files
together (RssAnon and RssFile). `ASFS_FILES` is the number of files (40,000; 1,000,000 takes about
ten minutes), `ASFS_WRITE_GIB` the length of the write (2; 10).
"""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from ..harness import MountedArchive
from .conftest import Limits, eventually
from .many_files import DIRECTORY_FILES, add_files, make_objects, memory_kib

FILES = int(os.environ.get("ASFS_FILES", "24000"))
WRITE_GIB = int(os.environ.get("ASFS_WRITE_GIB", "1"))
PENDING = FILES // 10
TIME_LIMIT_S = 300 + FILES / 200 + WRITE_GIB * 60

LIMIT_KIB = 300 << 10

MOUNT_BYTES_A_FILE = 1500
"""Growth of the mount process from half of the files to all: SQLite's cache (64 MiB) and 20,000
nodes are still being filled with so few files; beyond them nothing grows."""

TRANSFER_BYTES_A_FILE = 60

PIECE_BYTES = 1 << 20


def peaks(archive: MountedArchive) -> tuple[int, int]:
    """VmHWM of the mount and the transfer process, in KiB."""
    transfer = archive.status()["transfer_pid"]
    return memory_kib(archive.pid)["VmHWM"], memory_kib(transfer)["VmHWM"]


def look_around(archive: MountedArchive, directory: str) -> None:
    """A survey of the elements, a whole large directory with attributes, and a part of the tree."""
    path = archive.mount / directory
    assert len(os.listdir(path)) == min(DIRECTORY_FILES, FILES // 2)
    with os.scandir(path) as entries:
        assert all(entry.stat().st_size for entry in entries)
    command = ["find", str(path), "-name", "*99.jpg", "-newermt", "2030-01-01"]
    subprocess.run(command, check=True, timeout=TIME_LIMIT_S)
    command = ["getfattr", "-d", str(path / os.listdir(path)[0])]
    assert b"Rembrandt" in subprocess.run(command, capture_output=True, check=True).stdout
    eventually(
        lambda: archive.ask("status")["survey"], lambda survey: survey["seen"] > 0, TIME_LIMIT_S
    )


@pytest.mark.slow
@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_files(limits: Limits) -> None:
    """SEMANTICS: LIMIT-4"""
    archive = limits.archive(new_processes=True)
    measured = []
    for _ in range(2):
        archive.stop()
        directories = add_files(archive.state, FILES // 2)
        make_objects(archive.state, archive.element)
        archive.start()
        look_around(archive, directories[0])
        measured.append(peaks(archive))
    assert archive.status()["nodes"] > FILES
    print(f"{FILES} files: {measured} KiB (mount, transfer; at half and at all)")
    for at_half, at_all, bound in zip(
        *measured, (MOUNT_BYTES_A_FILE, TRANSFER_BYTES_A_FILE), strict=True
    ):
        assert at_all < LIMIT_KIB
        assert (at_all - at_half) * 1024 < max(bound * FILES // 2, 4 << 20)


@pytest.mark.slow
def test_memory_with_many_files_pending(limits: Limits) -> None:
    """SEMANTICS: LIMIT-4"""
    archive = limits.archive(new_processes=True)
    archive.stop()
    add_files(archive.state, PENDING, pending=True)
    archive.start()
    archive.run("flush", str(archive.toml), limit_s=TIME_LIMIT_S)
    mount, transfer = peaks(archive)
    print(f"{PENDING} pending: {mount} KiB mount, {transfer} KiB transfer")
    assert archive.status()["pending"]["intents"] == 0
    records = sum(len(files) for _, _, files in os.walk(archive.element / ".artstorefs" / "nodes"))
    assert records >= PENDING
    assert max(mount, transfer) < LIMIT_KIB
    assert mount * 1024 < (60 << 20) + PENDING * 2000


@pytest.mark.slow
def test_memory_of_a_long_write(limits: Limits) -> None:
    """SEMANTICS: LIMIT-4"""
    archive = limits.archive(new_processes=True)
    piece = os.urandom(PIECE_BYTES)
    path = archive.mount / "large"
    with open(path, "wb", buffering=0) as file:
        for number in range(WRITE_GIB << 10):
            file.write(number.to_bytes(8, "big") + piece[8:])
        written = peaks(archive)
    archive.run("flush", str(archive.toml), limit_s=TIME_LIMIT_S)
    carried = peaks(archive)
    print(f"{WRITE_GIB} GiB: {written} KiB written, {carried} KiB carried (mount, transfer)")
    assert path.stat().st_size == WRITE_GIB << 30
    with open(path, "rb") as file:
        file.seek((WRITE_GIB << 30) - PIECE_BYTES)
        assert int.from_bytes(file.read(8), "big") == (WRITE_GIB << 10) - 1
    assert os.getxattr(path, "user.artstore.state") == b"stored"
    assert max(carried) < LIMIT_KIB / 2


@pytest.mark.slow
def test_memory_of_many_readers_and_writers_at_once(limits: Limits) -> None:
    """SEMANTICS: LIMIT-4"""
    archive = limits.archive(new_processes=True)
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            write_and_read(archive.mount / f"f{number}", number)
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    archive.flush()
    mount, transfer = peaks(archive)
    print(f"16 at once: {mount} KiB mount, {transfer} KiB transfer")
    assert max(mount, transfer) < LIMIT_KIB / 2


def write_and_read(path: Path, number: int) -> None:
    data = bytes([number]) * PIECE_BYTES
    with open(path, "wb", buffering=0) as file:
        for _ in range(16):
            file.write(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        for at in range(16):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(fd, PIECE_BYTES, at * PIECE_BYTES) == data
    finally:
        os.close(fd)
