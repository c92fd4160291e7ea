"""Times: nanoseconds, far away, and which call moves which. Oracle: the local filesystem."""

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness import MountedArchive

MOMENTS_NS = [
    0,
    1,
    -1,
    -1_000_000_000,
    -1_500_000_001,
    -86_400 * 10**9 * 365 * 60 + 123_456_789,  # 1910
    2**31 * 10**9 + 5,  # after 2038
    4_102_444_800 * 10**9 + 999_999_999,  # 2100
    7_258_118_400 * 10**9 + 1,  # 2200
]


@pytest.mark.parametrize("moment_ns", MOMENTS_NS)
def test_time_is_kept_to_the_nanosecond(place: Path, moment_ns: int) -> None:
    (place / "f").touch()
    (place / "d").mkdir()
    (place / "s").symlink_to("nowhere")
    for name in ("f", "d", "s"):
        os.utime(place / name, ns=(moment_ns, moment_ns - 7), follow_symlinks=False)
        found = os.lstat(place / name)
        assert (found.st_atime_ns, found.st_mtime_ns) == (moment_ns, moment_ns - 7)


def test_times_are_there_after_a_remount(archive: MountedArchive, directory: Path) -> None:
    for moment_ns in MOMENTS_NS:
        (directory / str(moment_ns)).write_text("x")
        os.utime(directory / str(moment_ns), ns=(moment_ns, moment_ns))
    archive.remount()
    for moment_ns in MOMENTS_NS:
        assert (directory / str(moment_ns)).stat().st_mtime_ns == moment_ns


def _moved(path: Path, change: Callable[[], object]) -> str:
    """Which of the times (a, m, c) of `path` a change moves."""
    before = os.lstat(path)
    time.sleep(0.012)  # the local filesystem takes the time of the last tick
    change()
    after = os.lstat(path)
    pairs = {
        "a": (before.st_atime_ns, after.st_atime_ns),
        "m": (before.st_mtime_ns, after.st_mtime_ns),
        "c": (before.st_ctime_ns, after.st_ctime_ns),
    }
    return "".join(letter for letter, (old, new) in pairs.items() if new != old)


def test_each_call_moves_the_times_that_posix_says(place: Path) -> None:
    path = place / "f"
    path.write_text("content")
    descriptor = os.open(path, os.O_RDWR)
    assert _moved(path, lambda: os.write(descriptor, b"x")) == "mc"
    assert _moved(path, lambda: os.ftruncate(descriptor, 3)) == "mc"
    assert _moved(path, lambda: os.ftruncate(descriptor, 3)) == "mc"
    assert _moved(path, lambda: os.close(descriptor)) == ""
    assert _moved(path, lambda: os.truncate(path, 100)) == "mc"
    assert _moved(path, lambda: path.chmod(0o600)) == "c"
    assert _moved(path, lambda: os.link(path, place / "g")) == "c"
    assert _moved(path, lambda: os.unlink(place / "g")) == "c"
    assert _moved(path, lambda: os.setxattr(path, "user.k", b"v")) == "c"
    assert _moved(path, lambda: os.removexattr(path, "user.k")) == "c"
    assert _moved(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))) == "mc"
    assert _moved(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))) == "mc"
    assert _moved(place, lambda: (place / "new").touch()) == "mc"
    assert _moved(place, lambda: (place / "new").unlink()) == "mc"
    assert _moved(place, lambda: (place / "sub").mkdir()) == "mc"
    assert _moved(place, lambda: path.chmod(0o644)) == ""


def test_access_time_follows_as_with_relatime(directory: Path) -> None:
    path = directory / "f"
    path.write_text("content")
    day_ns = 86_400 * 10**9
    now_ns = time.time_ns()
    os.utime(path, ns=(now_ns - 2 * day_ns, now_ns - 3 * day_ns))
    path.read_text()
    assert path.stat().st_atime_ns > now_ns - day_ns
    path.chmod(0o600)
    os.utime(path, ns=(now_ns - day_ns, now_ns))
    path.read_text()
    assert path.stat().st_atime_ns >= now_ns


def test_reading_from_the_middle_and_by_mapping_renews_the_access_time(directory: Path) -> None:
    path = directory / "f"
    for read in (lambda d: os.pread(d, 10, 200_000), lambda d: mmap.mmap(d, 0, prot=1)[300_000]):
        path.write_bytes(bytes(400_000))
        os.utime(path, ns=(5, 5))
        descriptor = os.open(path, os.O_RDONLY)
        read(descriptor)
        os.close(descriptor)
        assert path.stat().st_atime_ns > 5


def test_reading_twice_renews_the_access_time_once(directory: Path) -> None:
    path = directory / "f"
    path.write_text("content")
    path.read_text()
    first = path.stat().st_atime_ns
    time.sleep(0.012)
    path.read_text()
    assert path.stat().st_atime_ns == first


def test_utime_of_now_and_of_one_time_only(place: Path) -> None:
    path = place / "f"
    path.touch()
    os.utime(path, ns=(5, 5))
    assert os.system(f"touch -a -d '2001-02-03 04:05:06.5 UTC' {path}") == 0
    assert (path.stat().st_atime, path.stat().st_mtime_ns) == (981173106.5, 5)
    before = time.time_ns() - 10**9
    os.utime(path)
    assert path.stat().st_mtime_ns > before


def test_times_set_on_an_open_file_stay_when_it_is_closed(place: Path) -> None:
    with open(place / "f", "wb") as file:
        file.write(b"content")
        file.flush()
        os.utime(file.fileno(), ns=(11, 22))
    assert (place / "f").stat().st_mtime_ns == 22


def _change_of_directory() -> list[tuple[str, Callable[[Path], object]]]:
    return [
        ("chmod", lambda path: path.chmod(0o3751)),
        ("chown", lambda path: os.chown(path, os.geteuid(), os.getegid())),
        ("utime", lambda path: os.utime(path, ns=(5, -7))),
        ("setxattr", lambda path: os.setxattr(path, "user.artist", b"Rembrandt")),
        ("removexattr", lambda path: os.removexattr(path, "user.artist")),
        ("mkdir", lambda path: (path / "deeper").mkdir()),
        ("listing", lambda path: (os.utime(path, ns=(5, -7)), os.listdir(path))),
        ("rename", lambda path: os.rename(path / "deeper", path / "deeper2")),
        ("rmdir", lambda path: (path / "deeper2").rmdir()),
        ("mknod", lambda path: os.mkfifo(path / "fifo")),
        ("link", lambda path: os.link(path / "fifo", path / "fifo2")),
        ("unlink", lambda path: (path / "fifo").unlink()),
        ("move out", lambda path: os.rename(path / "fifo2", path.parent / "fifo2")),
        ("symlink", lambda path: (path / "symlink").symlink_to("fifo")),
        ("rename over", lambda path: os.rename(path / "symlink", path / "chmod.made")),
    ]


def test_directory_shows_each_change_right_after_a_file_was_made_in_it(place: Path) -> None:
    """What it has then may be told without the index; see fuse_directory.c."""
    path = place / "d"
    path.mkdir()
    for name, change in _change_of_directory():
        (path / f"{name}.made").touch()
        made = os.lstat(path)
        assert (path / f"{name}.made").stat().st_ctime_ns - made.st_ctime_ns < 10**9
        moved = _moved(path, lambda change=change: change(path))
        (path / f"{name}2").touch()
        now = os.lstat(path)
        assert now.st_mtime_ns == now.st_ctime_ns > made.st_ctime_ns
        assert "c" in moved or name == "listing", name
        assert now.st_nlink == 2 + ("deeper" in os.listdir(path)) + ("deeper2" in os.listdir(path))
        if name == "chmod":
            assert now.st_mode & 0o7777 == 0o3751
        if name == "utime":
            assert now.st_atime_ns == 5
        if name == "listing":
            assert now.st_atime_ns > made.st_ctime_ns
