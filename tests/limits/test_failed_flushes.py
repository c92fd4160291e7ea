"""After a flush that failed there is no success without writing anew, however often one asks.

Linux tells of a failed write once and takes the pages for clean: the next fsync would say yes to
data that no disk has. The failures come from strace, attached to the running daemon.
"""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..filesystem.element_tree import read_element
from ..harness import MountedArchive
from .conftest import Limits, eventually

ATTACH_LIMIT_S = 20


@contextmanager
def failing(pid: int, call: str) -> Iterator[None]:
    """The first such system call of the process in this block is EIO."""
    assert shutil.which("strace"), "strace is missing"
    command = ["strace", "-qq", "-f", "-o", "/dev/null", "-p", str(pid)]
    tracer = subprocess.Popen([*command, f"--inject={call}:error=EIO:when=1"])
    try:
        status = Path(f"/proc/{pid}/status")
        deadline = time.monotonic() + ATTACH_LIMIT_S
        while "TracerPid:\t0" in status.read_text():
            assert tracer.poll() is None, "strace did not attach"
            assert time.monotonic() < deadline, "strace did not attach in time"
            time.sleep(0.02)
        time.sleep(0.2)  # to all its threads
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(ATTACH_LIMIT_S)


def refused(fd: int) -> None:
    with pytest.raises(OSError, match="Input/output") as raised:
        os.fsync(fd)
    assert raised.value.errno == errno.EIO


def write_and_fail(archive: MountedArchive, name: str, content: bytes) -> int:
    """A descriptor of a file whose fsync has failed."""
    fd = os.open(archive.mount / name, os.O_RDWR | os.O_CREAT)
    os.write(fd, content)
    with failing(archive.pid, "fsync"):
        refused(fd)
    return fd


@pytest.mark.slow
def test_lesson_06_fsync_that_failed_stays_failed_until_written_anew(limits: Limits) -> None:
    """SEMANTICS: DUR-8"""
    disk = limits.disk("tmpfs", "element", 24)
    archive = limits.archive("settle_s = 600")
    fd = write_and_fail(archive, "f", b"first")
    path = archive.mount / "f"
    refused(fd)
    os.write(fd, b" and more")
    refused(fd)
    assert b"flush" in os.getxattr(path, "user.artstore.error")
    assert [entry["path"] for entry in archive.status()["errors"]] == ["/f"]
    os.close(fd)
    archive.kill()
    disk.remount("ro")  # a start carries what is pending at once, which would make it good
    archive.start()
    fd = os.open(path, os.O_RDWR)
    refused(fd)
    assert os.pread(fd, 100, 0) == b"first and more"
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"written anew", 0)
    os.fsync(fd)
    os.close(fd)
    disk.remount("rw")
    archive.flush()
    assert archive.status()["errors"] == []
    assert read_element(archive.element)[b"/f"].content == b"written anew"


@pytest.mark.slow
def test_content_whose_flush_failed_is_written_to_the_element_anew(limits: Limits) -> None:
    """A hard link would hand the doubtful pages on, and their flush would say yes.
    SEMANTICS: DUR-8"""
    archive = limits.archive("settle_s = 600")
    content = os.urandom(50_000)
    os.close(write_and_fail(archive, "f", content))
    (archive.mount / "other").write_bytes(content)
    before = {entry.inode() for entry in os.scandir(archive.state / "spool")}
    archive.flush()
    objects = {
        path.name[0]: path.stat().st_ino
        for path in archive.objects()
        if path.suffix not in (".json", ".blocks")
    }
    assert objects["f"] not in before
    assert objects["o"] in before
    fd = os.open(archive.mount / "f", os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    assert read_element(archive.element)[b"/f"].content == content
    with pytest.raises(OSError, match="No data"):
        os.getxattr(archive.mount / "f", "user.artstore.error")


@pytest.mark.slow
def test_log_that_could_not_be_flushed_is_carried_into_the_database_first(limits: Limits) -> None:
    """SEMANTICS: DUR-8"""
    archive = limits.archive("settle_s = 600")
    (archive.mount / "in-the-log").mkdir()
    fd = os.open(archive.mount, os.O_RDONLY)
    with failing(archive.pid, "fdatasync"):
        refused(fd)
    os.fsync(fd)
    os.close(fd)
    alone = limits.base / "alone.db"
    shutil.copy(archive.state / "state.db", alone)
    connection = sqlite3.connect(alone)
    names = connection.execute("SELECT name FROM names WHERE name = ?", (b"in-the-log",))
    assert names.fetchall() == [(b"in-the-log",)]
    connection.close()


@pytest.mark.slow
def test_transfer_process_that_cannot_flush_the_log_is_started_again(limits: Limits) -> None:
    """SEMANTICS: DUR-8, DUR-7"""
    archive = limits.archive("settle_s = 0")
    first = archive.status()["transfer_pid"]
    with failing(first, "fdatasync"):
        (archive.mount / "f").write_bytes(b"content")
        eventually(lambda: archive.ask("status")["transfer_pid"], lambda pid: pid != first)
    archive.flush()
    assert read_element(archive.element)[b"/f"].content == b"content"
