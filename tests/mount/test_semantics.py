"""Clauses of SEMANTICS.md that only a real mount shows, each briefly."""

import errno
import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..filesystem.element_tree import read_element
from ..harness import MountedArchive

pytestmark = pytest.mark.slow


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[MountedArchive]:
    made = MountedArchive(tmp_path, settings="settle_s = 5", new_processes=True)
    try:
        yield made.start()
    finally:
        made.clean_up()


def test_one_content_by_every_descriptor(archive: MountedArchive) -> None:
    """SEMANTICS: DATA-1, DATA-2, NAME-5"""
    path = archive.mount / "f"
    with open(path, "wb", buffering=0) as writer, open(path, "rb", buffering=0) as reader:
        writer.write(b"one")
        assert reader.read() == b"one"
        os.pwrite(writer.fileno(), b"two", 1 << 33)
        assert os.pread(reader.fileno(), 10, (1 << 33) - 3) == b"\0\0\0two"
        path.unlink()
        assert os.pread(reader.fileno(), 3, 0) == b"one"
        assert os.fstat(writer.fileno()).st_nlink == 0


def test_setuid_falls_at_a_write_by_somebody_else(archive: MountedArchive) -> None:
    """SEMANTICS: DATA-6"""
    path = archive.mount / "f"
    path.write_bytes(b"x")
    path.chmod(0o6777)
    if os.geteuid() == 0:
        command = ["sh", "-c", "echo y >> f"]  # from inside: the way there is not for everybody
        done = subprocess.run(command, cwd=archive.mount, user=65534, group=65534, check=False)
        assert done.returncode == 0
    else:
        path.write_bytes(b"y")
    assert path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID) == 0


def test_fsync(archive: MountedArchive) -> None:
    """SEMANTICS: DUR-2, DUR-4"""
    path = archive.mount / "f"
    path.write_bytes(b"content")
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    directory = os.open(archive.mount, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    archive.kill()
    archive.start()
    assert path.read_bytes() == b"content"


def test_durability_element(archive: MountedArchive) -> None:
    """SEMANTICS: DUR-5"""
    archive.stop()
    text = archive.toml.read_text()
    archive.toml.write_text(text.replace("settle_s = 5", 'durability = "element"\nsettle_s = 5'))
    archive.start()
    (archive.mount / "f").write_bytes(b"content")
    assert read_element(archive.element)[b"/f"].content == b"content"


def test_flush(archive: MountedArchive) -> None:
    """SEMANTICS: DUR-6, ELEM-1"""
    (archive.mount / "closed").write_bytes(b"1")
    with open(archive.mount / "tmp", "wb", buffering=0) as file:
        file.write(b"still open")
        os.rename(archive.mount / "tmp", archive.mount / "closed")
        archive.flush()
    archive.flush()
    assert read_element(archive.element)[b"/closed"].content == b"still open"


def test_flush_does_not_tell_why_a_file_failed_that_is_open_again(archive: MountedArchive) -> None:
    """SEMANTICS: DUR-6. What is being written cannot be carried, so whether that still fails is not
    known, and what it failed with before may be over."""
    away = archive.element.with_name("away")
    archive.element.rename(away)
    path = archive.mount / "f"
    path.touch()
    failed = archive.run("flush", str(archive.toml), check=False)
    assert (failed.returncode, "/f: " in failed.stderr) == (4, True), failed.stderr
    with open(path, "wb", buffering=0) as file:
        file.write(b"content")
        away.rename(archive.element)
        archive.flush()
        assert archive.status()["pending"]["intents"] == 1
        assert os.getxattr(path, "user.artstore.error")
    archive.flush()
    assert read_element(archive.element)[b"/f"].content == b"content"


def test_attributes(archive: MountedArchive) -> None:
    """SEMANTICS: XATTR-1, XATTR-3"""
    path = archive.mount / "f"
    path.write_bytes(b"x")
    os.setxattr(path, "user.k", b"v")
    assert os.listxattr(path) == ["user.k"]
    assert len(os.getxattr(path, "user.artstore.file_id")) == 36
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        os.setxattr(path, "user.artstore.file_id", b"x")


def test_read_only_mount(archive: MountedArchive) -> None:
    """SEMANTICS: MODE-3"""
    (archive.mount / "f").write_bytes(b"x")
    archive.stop()
    archive.start("-o", "ro")
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        (archive.mount / "g").write_bytes(b"x")
    assert (archive.mount / "f").read_bytes() == b"x"


def test_sizes(archive: MountedArchive) -> None:
    """SEMANTICS: LIMIT-1, LIMIT-2"""
    found, there = os.statvfs(archive.mount), os.statvfs(archive.element)
    assert found.f_namemax == 255
    assert found.f_frsize == 4096
    assert found.f_blocks in (there.f_blocks * there.f_frsize // 4096, (1 << 50) // 4096)
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        os.stat(str(archive.mount) + "/x" * 4096)


def test_mount_over_a_dead_mount(archive: MountedArchive) -> None:
    """SEMANTICS: MOUNT-1"""
    (archive.mount / "f").write_bytes(b"x")
    archive.kill()
    archive.start()
    assert (archive.mount / "f").read_bytes() == b"x"
    assert Path("/proc/self/mountinfo").read_text().count(f" {archive.mount} ") == 1


def test_locks(archive: MountedArchive) -> None:
    """SEMANTICS: MOUNT-3"""
    path = archive.mount / "f"
    with open(path, "wb") as one, open(path, "wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_calls_that_are_not_there(archive: MountedArchive) -> None:
    """SEMANTICS: MOUNT-4"""
    path = archive.mount / "f"
    path.write_bytes(b"x" * 10)
    with open(path, "r+b", buffering=0) as file:
        with pytest.raises(OSError, match=os.strerror(errno.ENOTTY)):
            fcntl.ioctl(file, 0x5401)
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 10
