"""Files that the kernel writes into the spool by itself: they are seen, kept and limited as ever.

Where the kernel does not do that (before Linux 6.9, or for an ordinary user) the same holds, by the
ordinary way.
"""

import hashlib
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness import MountedArchive, kernel_has_passthrough
from tests.mount.conftest import make_archive, remove_archive

MIB = 1 << 20

SETTLED_S = 1.0
"""Longer than the tests' settle_s: what is closed is on its way to the element after it."""


def written_bytes(pid: int) -> int:
    """What a process has passed to write(2) and its like."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])


def stored(archive: MountedArchive, name: str) -> bytes:
    """Content of the object that attr.json of `name` means, after it was checked."""
    attributes = archive.attributes(name)
    path = archive.element / attributes["storage_path"] / attributes["storage_filename"]
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == attributes["checksum"]
    assert len(content) == attributes["file_size"]
    return content


def test_what_is_only_written_does_not_pass_through_the_daemon(
    archive: MountedArchive, directory: Path
) -> None:
    before = written_bytes(archive.pid)
    with open(directory / "f", "wb", buffering=0) as file:
        for _ in range(64):
            file.write(bytes(MIB))
            assert os.fstat(file.fileno()).st_size == file.tell()
    passed = written_bytes(archive.pid) - before
    assert (passed < 8 * MIB) == kernel_has_passthrough()
    assert (directory / "f").stat().st_size == 64 * MIB


def test_everybody_sees_one_content_while_and_after_it_is_written(
    archive: MountedArchive, directory: Path
) -> None:
    """DATA-1"""
    path = directory / "watched.txt"
    writer = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(writer, b"one")
    reader = os.open(path, os.O_RDONLY)
    synchronous = os.open(path, os.O_RDWR | os.O_SYNC)
    unaligned = os.open(path, os.O_RDWR | os.O_DIRECT)
    assert os.pread(reader, 10, 0) == b"one"
    os.write(writer, b"two")
    os.pwrite(synchronous, b"three", 6)
    os.pwrite(unaligned, b"four", 11)
    assert os.stat(path).st_size == 15
    for descriptor in (reader, synchronous, unaligned):
        assert os.pread(descriptor, 100, 0) == b"onetwothreefour"
    os.truncate(path, 6)
    assert os.pread(reader, 100, 0) == b"onetwo"
    for descriptor in (writer, synchronous, unaligned):
        os.close(descriptor)
    time.sleep(SETTLED_S)
    with open(path, "ab", buffering=0) as again:
        again.write(b"five")
    assert os.pread(reader, 100, 0) == b"onetwofive"
    os.close(reader)
    archive.flush()
    assert stored(archive, "watched.txt") == b"onetwofive"


def test_times_are_those_of_the_last_write_or_those_that_were_set(directory: Path) -> None:
    path = directory / "f"
    with open(path, "wb", buffering=0) as file:
        created = os.stat(path).st_mtime_ns
        assert os.stat(path).st_mtime_ns == created
        time.sleep(0.05)
        file.write(b"x")
        written = os.stat(path)
        assert written.st_mtime_ns > created
        assert written.st_ctime_ns == written.st_mtime_ns
        os.utime(file.fileno(), ns=(1, 2))
        assert os.stat(path).st_mtime_ns == 2
    assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (1, 2)


def test_mapping_that_outlives_its_descriptor_is_carried_when_it_ends(
    archive: MountedArchive, directory: Path
) -> None:
    """DATA-4"""
    path = directory / "mapped.bin"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    os.ftruncate(descriptor, MIB)
    mapping = mmap.mmap(descriptor, MIB)
    os.close(descriptor)  # of ours; the mapping has a copy of its own
    mapping[:5] = b"early"
    child = subprocess.Popen(
        [sys.executable, "-c", _MAPS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"closed\n"
    mapping.close()
    time.sleep(SETTLED_S)
    child.stdin.write(b"go on\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"written\n"
    assert path.read_bytes()[:9] == b"earlylate"
    child.communicate()
    assert child.returncode == 0
    deadline = time.monotonic() + 30
    while archive.ask("status")["pending"]["intents"] and time.monotonic() < deadline:
        archive.flush()
    assert stored(archive, "mapped.bin") == b"earlylate" + bytes(MIB - 9)


_MAPS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
descriptor = os.open(sys.argv[1], os.O_RDWR)
address = libc.mmap(None, 1 << 20, 3, 1, descriptor, 0)  # shared; Python's own keeps a descriptor
os.close(descriptor)
print("closed", flush=True)
sys.stdin.readline()
ctypes.memmove(address + 5, b"late", 4)
print("written", flush=True)
"""


@pytest.fixture
def killable_archive() -> Iterator[MountedArchive]:
    archive = make_archive()
    yield archive
    remove_archive(archive)


_OUTLIVES = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
for line in sys.stdin:
    try:
        os.write(descriptor, line.encode())
        print("written", flush=True)
    except OSError as exc:
        print(exc.errno, flush=True)
"""


def test_writer_that_outlives_a_killed_daemon_loses_nothing_it_was_told_of(
    killable_archive: MountedArchive,
) -> None:
    """DUR-1: of what the kernel goes on to write without a daemon, everything is kept as well."""
    archive = killable_archive
    path = archive.mount / "outlived.txt"
    writer = subprocess.Popen(
        [sys.executable, "-c", _OUTLIVES, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    asked, answers = writer.stdin, writer.stdout
    assert asked is not None
    assert answers is not None

    def write(line: str) -> bool:
        asked.write(line)
        asked.flush()
        return answers.readline() == "written\n"

    expected = "with a daemon\n"
    assert write(expected)
    archive.kill()
    if write("without one\n"):
        expected += "without one\n"
    archive.start()
    assert path.read_text() == expected
    time.sleep(SETTLED_S)
    if write("with another\n"):
        expected += "with another\n"
    assert path.read_text() == expected
    with open(path, "a") as file:
        file.write("by another\n")
    expected += "by another\n"
    asked.close()
    assert writer.wait(30) == 0
    answers.close()
    deadline = time.monotonic() + 30
    while archive.ask("status")["pending"]["intents"] and time.monotonic() < deadline:
        archive.flush()
    assert stored(archive, "outlived.txt").decode() == expected
    assert path.read_text() == expected


def test_mount_of_a_killed_daemon_that_a_container_keeps_holds_up_no_file(
    killable_archive: MountedArchive, container: Callable[[Path], None]
) -> None:
    """The dead mount lives on there, with the spool files that are bound to it: no reason to
    believe that anybody writes them."""
    archive = killable_archive
    path = archive.mount / "kept.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"before")
    container(archive.mount)
    archive.kill()
    with suppress(OSError):
        os.close(descriptor)
    archive.start()
    assert path.read_text() == "before"
    archive.flush()
    assert archive.status()["pending"]["intents"] == 0
    assert stored(archive, "kept.txt") == b"before"


def write_mebibytes(path: Path, count: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(MIB))


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_one_long_write_is_held_by_the_limit_of_the_spool() -> None:
    """LIMIT-3: also what the kernel writes by itself waits, and then has no room."""
    archive = make_archive('settle_s = 0.2\nspool_max = "8MiB"\nspool_wait_s = 3')
    try:
        with pytest.raises(OSError, match="No space left"):
            write_mebibytes(archive.mount / "long.bin", 64)
        size = (archive.mount / "long.bin").stat().st_size
        assert 7 * MIB <= size <= 10 * MIB
        archive.flush()
        assert len(stored(archive, "long.bin")) == size
        (archive.mount / "next.bin").write_bytes(bytes(6 * MIB))
        archive.flush()
        assert archive.status()["spool"]["bytes"] == 0
    finally:
        remove_archive(archive)


def test_room_set_aside_for_a_large_file_is_given_back(
    archive: MountedArchive, directory: Path
) -> None:
    """Without a name while it is open, and none of it on the element, nor in what the spool counts.
    The times that were set stay."""
    archive.flush()
    spool = archive.state / "spool"
    with open(directory / "growing.bin", "wb", buffering=0) as file:
        most_ahead = 0
        for number in range(64):
            file.write(os.urandom(MIB))
            (taken,) = (path.stat().st_blocks * 512 for path in spool.glob("*.*"))
            most_ahead = max(most_ahead, taken - (number + 1) * MIB)
        assert (most_ahead >= 20 * MIB) == kernel_has_passthrough()
        os.utime(file.fileno(), ns=(1, 2))
    archive.flush()
    attributes = archive.attributes("growing.bin")
    assert attributes["posix"]["mtime_ns"] == 2
    path = archive.element / attributes["storage_path"] / attributes["storage_filename"]
    assert path.stat().st_blocks * 512 <= 65 * MIB
    assert archive.status()["spool"]["bytes"] == 0


def test_room_set_aside_before_a_kill_is_given_back(killable_archive: MountedArchive) -> None:
    archive = killable_archive
    writer = os.open(archive.mount / "killed.bin", os.O_CREAT | os.O_WRONLY)
    os.write(writer, bytes(10 * MIB))
    archive.kill()
    with pytest.raises(OSError, match="connect"):  # the mount is dead
        os.close(writer)
    archive.start()
    archive.flush()
    assert stored(archive, "killed.bin") == bytes(10 * MIB)
    attributes = archive.attributes("killed.bin")
    path = archive.element / attributes["storage_path"] / attributes["storage_filename"]
    assert path.stat().st_blocks * 512 <= 11 * MIB
    assert archive.status()["spool"]["bytes"] == 0
