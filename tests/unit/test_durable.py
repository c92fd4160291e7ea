"""The helpers for durable local writes."""

import errno
import os
import stat
from pathlib import Path

import pytest

from artstorefs.elements import durable


def test_write_makes_and_replaces_with_exact_mode(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    old = os.umask(0o077)
    try:
        durable.write_file_durably(path, b"first", mode=0o644)
        durable.write_file_durably(path, b"second" * 100_000)
    finally:
        os.umask(old)
    assert path.read_bytes() == b"second" * 100_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "fchmod"])
def test_write_failed_keeps_the_old_file_and_leaves_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "settings"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="Input/output"):
            durable.write_file_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["settings"]


def test_write_flushes_file_before_rename_and_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_fsync, real_rename = os.fsync, os.rename
    steps: list[str] = []

    def fsync(fd: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        real_fsync(fd)

    def rename(source: Path, target: Path) -> None:
        steps.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    durable.write_file_durably(tmp_path / "settings", b"new")
    assert steps == ["file", "rename", "directory"]


def test_make_directories_with_parents_and_again(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c"
    for _ in range(2):
        durable.make_directories_durably(path, mode=0o750)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_make_directories_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError):
        durable.make_directories_durably(tmp_path / "a")
    with pytest.raises(OSError, match="a"):
        durable.make_directories_durably(tmp_path / "a/b")


def test_syncfs_checks_its_result(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    durable.syncfs(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable.syncfs(fd)


def test_honours_syncfs_by_filesystem(tmp_path: Path) -> None:
    for path, expected in (("/dev/shm", True), ("/proc", False), ("/sys", False)):
        if not os.path.isdir(path):
            continue
        fd = os.open(path, os.O_RDONLY)
        try:
            assert durable.honours_syncfs(fd) is expected
        finally:
            os.close(fd)


@pytest.mark.parametrize("flags", [1, 1 << 30])
def test_rename_new_never_replaces_with_or_without_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    monkeypatch.setattr(durable, "_RENAME_NOREPLACE", flags)  # the second one is EINVAL
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        (tmp_path / "new").write_bytes(b"new")
        durable.rename_new("new", fd, "name", fd)
        assert os.listdir(tmp_path) == ["name"]
        os.link(tmp_path / "name", tmp_path / "same")
        (tmp_path / "other").write_bytes(b"other")
        for source in ("same", "other"):
            with pytest.raises(FileExistsError):
                durable.rename_new(source, fd, "name", fd)
        assert sorted(os.listdir(tmp_path)) == ["name", "other", "same"]
        assert (tmp_path / "name").read_bytes() == b"new"
    finally:
        os.close(fd)
