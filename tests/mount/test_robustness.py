"""No request ends the mount: acceptance 5 of the first issue."""

import errno
import fcntl
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..harness import MountedArchive
from . import daemon_with_a_bug
from .conftest import LogWatch
from .errnos import refused
from .system_calls import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    fallocate,
    ioctl,
)

STRESS_S = os.environ.get("ASFS_STRESS_S", "1")
"""Seconds of each stressor."""

STRESS_NG = {
    "by time": (
        *("stress-ng", "--class", "filesystem", "--seq", "1", "--timeout", f"{STRESS_S}s"),
        *("--verify",),
        *("--metrics-brief", "--exclude"),
        "bind-mount,binderfs,procfs,eventfd,verity,dev,open,fsize",
    ),
    "by count": ("stress-ng", "--fsize", "2", "--fsize-ops", "400", "--verify"),
}
"""Left out is what is no filesystem, wants one of its own, or fills the table of open files.
`fsize` goes by count: where fallocate(2) is not supported stress-ng writes instead, in a loop that
ends without having written when the time is up, and then reports that a refusal has not come."""

ALONE = """\
awk -v keep="$1" '$3 ~ /^fuse[.]/ && $2 != keep { print $2 }' /proc/mounts |
    xargs -r -n 1 umount --lazy
shift
exec "$@"
"""
"""Runs a command in a mount namespace without the mounts of the tests beside this one: stress-ng
opens the root of every mount for syncfs(2), and what is open is busy to umount(8)."""


@pytest.fixture
def descriptor(directory: Path) -> Iterator[int]:
    """An open file with 10,000 bytes."""
    with open(directory / "f", "w+b", buffering=0) as file:
        file.write(b"0123456789" * 1000)
        yield file.fileno()


@pytest.mark.slow
def test_lesson_09_bug_in_a_handler_is_eio_and_a_traceback_and_the_mount_goes_on(
    fresh_archive: MountedArchive, log_watch: LogWatch
) -> None:
    (fresh_archive.mount / "f").write_text("before")
    fresh_archive.stop()
    log_path = fresh_archive.base / "foreground.log"
    places = (str(fresh_archive.toml), str(fresh_archive.mount))
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, daemon_with_a_bug.__file__, "mount", "-f", *places],
            stderr=log,
            stdout=log,
        )
    try:
        wait_for_mount(fresh_archive, process)
        for _ in range(3):
            with refused(errno.EIO):
                os.stat(fresh_archive.mount / os.fsdecode(daemon_with_a_bug.PLANTED))
        assert (fresh_archive.mount / "f").read_text() == "before"
        (fresh_archive.mount / "g").write_text("after")
        assert sorted(os.listdir(fresh_archive.mount)) == ["f", "g"]
        fresh_archive.stop()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
    text = log_path.read_text()
    assert text.count("Traceback (most recent call last)") == 3
    assert "ZeroDivisionError: planted" in text
    assert re.search(" ERROR .*lookup.*the bug is here", text)
    fresh_archive.start()
    assert (fresh_archive.mount / "g").read_text() == "after"


def wait_for_mount(archive: MountedArchive, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while not os.path.ismount(archive.mount):
        assert process.poll() is None, "the daemon ended"
        assert time.monotonic() < deadline, "not mounted in 20 s"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "request_code", [0x5401, 0x80086601, 0x40086602, 0x9409, 0xC0189436, 0xFFFFFFFF, 0x12345678]
)
def test_unknown_ioctl_is_refused(descriptor: int, request_code: int) -> None:
    known = (errno.ENOTTY, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.EBADF)
    with refused(*known):
        ioctl(descriptor, request_code)
    assert os.fstat(descriptor).st_size == 10_000


KEPT = FALLOC_FL_KEEP_SIZE
ALLOCATIONS = [0, KEPT, FALLOC_FL_PUNCH_HOLE | KEPT, FALLOC_FL_ZERO_RANGE]
ALLOCATIONS += [FALLOC_FL_ZERO_RANGE | KEPT, FALLOC_FL_PUNCH_HOLE]
COLLAPSE_INSERT_UNSHARE = (8, 32, 64)


def _allocated(path: Path, mode: int) -> tuple[int, bytes]:
    """Errno of fallocate(2) across the end of a file just written, and what is in the file then."""
    code = 0
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    os.write(descriptor, b"0123456789" * 1000)
    try:
        fallocate(descriptor, mode, 4096, 20_000)
    except OSError as exc:
        code = exc.errno or 0
    os.close(descriptor)
    return code, path.read_bytes()


@pytest.mark.parametrize("mode", ALLOCATIONS)
def test_fallocate_does_what_the_local_filesystem_does(
    archive: MountedArchive, directory: Path, local: Path, mode: int
) -> None:
    expected = _allocated(local / "f", mode)
    assert _allocated(directory / "f", mode) == expected
    archive.remount()
    assert (directory / "f").read_bytes() == expected[1]


@pytest.mark.parametrize("mode", COLLAPSE_INSERT_UNSHARE)
def test_fallocate_that_moves_content_is_unsupported(directory: Path, mode: int) -> None:
    code, content = _allocated(directory / "f", mode)
    assert code in (errno.EOPNOTSUPP, errno.EINVAL)
    assert content == b"0123456789" * 1000


@pytest.mark.parametrize("mode", [*ALLOCATIONS, *COLLAPSE_INSERT_UNSHARE])
def test_fallocate_of_an_archived_file_changes_nothing_when_refused(
    archive: MountedArchive, directory: Path, local: Path, mode: int
) -> None:
    expected = _allocated(local / "f", mode)
    (directory / "f").write_bytes(b"0123456789" * 1000)
    archive.flush()
    with open(directory / "f", "r+b") as file:
        try:
            fallocate(file.fileno(), mode, 4096, 20_000)
        except OSError:
            expected = (0, b"0123456789" * 1000)
    assert (directory / "f").read_bytes() == expected[1]


def test_posix_fallocate_falls_back_to_writing(place: Path) -> None:
    descriptor = os.open(place / "f", os.O_CREAT | os.O_RDWR)
    os.write(descriptor, b"kept")
    os.posix_fallocate(descriptor, 0, 100_000)
    assert os.fstat(descriptor).st_size == 100_000
    assert os.pread(descriptor, 8, 0) == b"kept\0\0\0\0"
    os.close(descriptor)


def test_copy_file_range_and_sendfile_copy(place: Path) -> None:
    data = os.urandom(300_000)
    (place / "source").write_bytes(data)
    source = os.open(place / "source", os.O_RDONLY)
    copies: tuple[Callable[[int, int, int], int], ...] = (os.copy_file_range, _sendfile)
    for number, copy in enumerate(copies):
        target = os.open(place / f"target{number}", os.O_CREAT | os.O_RDWR)
        os.lseek(source, 0, os.SEEK_SET)
        while copy(source, target, 100_000):
            pass
        os.close(target)
        assert (place / f"target{number}").read_bytes() == data
    os.close(source)


def _sendfile(source: int, target: int, count: int) -> int:
    return os.sendfile(target, source, None, count)


def test_seek_to_data_and_holes(directory: Path) -> None:
    descriptor = os.open(directory / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(descriptor, b"x", 1 << 20)
    size = os.fstat(descriptor).st_size
    assert 0 <= os.lseek(descriptor, 0, os.SEEK_DATA) <= 1 << 20
    assert os.lseek(descriptor, 1 << 20, os.SEEK_HOLE) == size
    with refused(errno.ENXIO):
        os.lseek(descriptor, size, os.SEEK_DATA)
    os.close(descriptor)


def test_temporary_file_without_a_name(directory: Path) -> None:
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR)
    except OSError as exc:
        assert exc.errno in (errno.EOPNOTSUPP, errno.EISDIR)  # noqa: PT017  # both ways are right
    else:
        os.write(descriptor, b"x")
        os.close(descriptor)
    assert os.listdir(directory) == []


def test_flock_and_fcntl_locks_exclude_other_processes(place: Path) -> None:
    (place / "f").write_bytes(b"x" * 100)
    holder = os.open(place / "f", os.O_RDWR)
    command = ["flock", "-n", str(place / "f"), "true"]
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert subprocess.run(command, check=False).returncode == 1
    fcntl.flock(holder, fcntl.LOCK_UN)
    assert subprocess.run(command, check=False).returncode == 0
    fcntl.lockf(holder, fcntl.LOCK_EX, 10, 0)
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b');"
        "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50);"
        "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, place / "f"], capture_output=True, text=True, check=False
    )
    assert "BlockingIOError" in done.stderr
    os.close(holder)


def test_open_file_description_locks_and_leases_do_no_harm(descriptor: int) -> None:
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 10, 0)
    fcntl.fcntl(descriptor, 37, lock)  # F_OFD_SETLK
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        assert exc.errno in (errno.EAGAIN, errno.EINVAL, errno.EOPNOTSUPP)  # noqa: PT017


def test_vectored_reads_and_writes_with_flags(descriptor: int) -> None:
    unsupported = (errno.EOPNOTSUPP, errno.EAGAIN, errno.EINVAL)
    for flags in (0, os.RWF_HIPRI, os.RWF_NOWAIT, os.RWF_DSYNC, os.RWF_SYNC, os.RWF_APPEND):
        try:
            assert os.pwritev(descriptor, [b"ab", b"cd"], 0, flags) == 4
            assert os.preadv(descriptor, [bytearray(2), bytearray(3)], 0, flags) == 5
        except OSError as exc:
            assert exc.errno in unsupported  # noqa: PT017


def test_file_handles_open_what_they_were_made_of(directory: Path) -> None:
    """name_to_handle_at(2), as an NFS server and fanotify use it, by the C library."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    (directory / "f").write_text("content")
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    mount_id = ctypes.c_int()
    path = os.fsencode(directory / "f")
    if library.name_to_handle_at(-100, path, handle, ctypes.byref(mount_id), 0) != 0:
        assert ctypes.get_errno() == errno.EOPNOTSUPP
        return
    opened = os.open(directory, os.O_RDONLY)
    descriptor = library.open_by_handle_at(opened, handle, os.O_RDONLY)
    os.close(opened)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    assert os.read(descriptor, 10) == b"content"
    os.close(descriptor)


def test_calls_of_several_processes_at_once_on_the_same_names(directory: Path) -> None:
    """Everything may be refused, nothing may hang or fail with EIO, and the rest is consistent."""
    children = []
    for number in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", _FIGHT, str(directory), str(number)], stderr=subprocess.PIPE
        )
        children.append(child)
    for child in children:
        _, errors = child.communicate(timeout=50)
        assert child.returncode == 0, errors.decode()
    for path in directory.iterdir():
        assert path.lstat().st_nlink >= 1
        assert path.is_symlink() or path.is_dir() or path.read_bytes() is not None


_FIGHT = """
import errno, os, random, sys
os.chdir(sys.argv[1])
rng = random.Random(int(sys.argv[2]))
names = "abcde"
calls = [
    lambda: os.mkdir(rng.choice(names)),
    lambda: os.rmdir(rng.choice(names)),
    lambda: os.unlink(rng.choice(names)),
    lambda: os.rename(rng.choice(names), rng.choice(names)),
    lambda: os.rename(rng.choice(names), rng.choice(names) + "/" + rng.choice(names)),
    lambda: os.link(rng.choice(names), rng.choice(names)),
    lambda: os.symlink("t", rng.choice(names)),
    lambda: open(rng.choice(names), "ab").write(b"x" * rng.randrange(9000)),
    lambda: open(rng.choice(names), "rb").read(),
    lambda: os.truncate(rng.choice(names), rng.randrange(9000)),
    lambda: os.setxattr(rng.choice(names), "user.k", b"v"),
    lambda: os.listdir(rng.choice(names)),
]
for _ in range(600):
    try:
        rng.choice(calls)()
    except OSError as exc:
        if exc.errno in (errno.EIO, errno.ENOTCONN, errno.ENOSYS):
            raise
"""


@pytest.mark.slow
def test_mount_that_nobody_uses_hardly_wakes(archive: MountedArchive) -> None:
    """It looked fifty times a second for the end of a mapping that nobody had made."""

    def count_wakes() -> int:
        status = Path(f"/proc/{archive.pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    archive.ask("flush")
    before = count_wakes()
    time.sleep(1)
    assert count_wakes() - before < 10


@pytest.mark.slow
@pytest.mark.time_limit(400)
@pytest.mark.parametrize("end", STRESS_NG)
@pytest.mark.long
def test_stress_ng_of_filesystems_finds_nothing(fresh_archive: MountedArchive, end: str) -> None:
    directory = fresh_archive.mount / "stress"
    directory.mkdir()
    alone = ["unshare", "--mount", "sh", "-c", ALONE, "alone", str(fresh_archive.mount)]
    done = subprocess.run(
        [*alone, *STRESS_NG[end], "--temp-path", str(directory)],
        capture_output=True,
        text=True,
        timeout=390,
        check=False,
    )
    output = done.stdout + done.stderr
    failed = [line for line in output.splitlines() if re.search(r"fail:|error:|unsuccessful", line)]
    os.statvfs(fresh_archive.mount)
    assert not failed, "\n".join(failed)
    assert done.returncode == 0, output[-3000:]
    fresh_archive.flush()
