"""The stub in the hands of somebody who has taken over the daemon: it does what it is for, and
nothing else, and lives."""

import ctypes
import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs_daemon.mount_table import find_mount
from artstorefs_daemon.stub_protocol import ADOPT, BIND, CLOSE, MOUNT, QUESTION, SETTLE, UNMOUNT

from ..harness import MountedArchive
from .conftest import make_archive, remove_archive
from .test_without_privileges import GID, LIMIT_S, UID, USER

pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.slow]


@pytest.fixture(scope="module")
def unmounted() -> Iterator[MountedArchive]:
    archive = make_archive(user=USER)
    archive.stop()
    yield archive
    remove_archive(archive)


@pytest.fixture
def stub(unmounted: MountedArchive) -> Iterator[socket.socket]:
    """The daemon's end of a stub, in the hands of whoever has taken over the daemon."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(LIMIT_S)
    command = [sys.executable, "-I", "-m", "artstorefs_daemon.mount_stub", str(unmounted.toml)]
    words = ["--user", USER, "--mountpoint", str(unmounted.mount)]
    with theirs, (unmounted.base / "stub.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *words, "--connection", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=log,
        )
    yield ours
    ours.close()
    assert process.wait(LIMIT_S) == 0


def ask(
    stub: socket.socket, question: bytes, descriptors: tuple[int, ...] = ()
) -> tuple[int, str, list[int]]:
    """Result, reason, and what came along."""
    socket.send_fds(stub, [question], list(descriptors))
    data, handed, _, _ = socket.recv_fds(stub, 1024, 4)
    return int.from_bytes(data[4:8], "little", signed=True), data[8:].decode(), handed


def refusals(stub: socket.socket, kind: bytes, *descriptors: int) -> str:
    result, reason, handed = ask(stub, QUESTION.pack(kind, 1, 0), descriptors)
    assert result < 0
    assert not handed
    return reason


def test_nonsense_is_refused_and_the_stub_lives(
    stub: socket.socket, unmounted: MountedArchive
) -> None:
    for garbage in (b"x", b"B" * 11, b"B" * 13, b"x" + os.urandom(63), bytes(12), b"M" * 4000):
        assert ask(stub, garbage)[0] < 0
    for kind in (BIND, SETTLE, UNMOUNT):
        refusals(stub, kind)  # there is no mount
    socket.send_fds(stub, [QUESTION.pack(CLOSE, 1, 7) + bytes(8)], [])
    result, _, (device,) = ask(stub, QUESTION.pack(MOUNT, 1, 0))
    assert result == 0
    assert "already" in refusals(stub, MOUNT)
    assert "too few" in refusals(stub, BIND)
    assert "too few" in refusals(stub, ADOPT)
    assert "too many" in refusals(stub, MOUNT, device)
    assert "already" in refusals(stub, ADOPT, device)
    for number in range(5000):  # none of them is one of this mount
        socket.send_fds(stub, [QUESTION.pack(CLOSE, number, 0) + number.to_bytes(4, "little")], [])
    assert ask(stub, QUESTION.pack(SETTLE, 9, 0))[0] == 0
    os.close(device)
    log = (unmounted.base / "stub.log").read_text()
    assert len(log.splitlines()) <= 5, "a daemon fills the log"


def test_only_the_daemons_own_spool_files_are_bound(
    stub: socket.socket, unmounted: MountedArchive
) -> None:
    _, _, (device,) = ask(stub, QUESTION.pack(MOUNT, 1, 0))
    own = unmounted.state / "own"
    own.write_bytes(b"")
    os.chown(own, UID, GID)
    foreign = unmounted.state / "foreign"
    foreign.write_bytes(b"of root")
    elsewhere = Path("/dev/shm") / f"{unmounted.base.name}-elsewhere"
    elsewhere.write_bytes(b"")
    os.chown(elsewhere, UID, GID)
    wanted = (
        (foreign, os.O_RDWR, "belongs to user 0"),
        (own, os.O_RDONLY, "not open for reading and writing"),
        (own, os.O_WRONLY, "not open for reading and writing"),
        (own, os.O_PATH, "not open for reading and writing"),
        (elsewhere, os.O_RDWR, "not where the state directory is"),
        (unmounted.state, os.O_RDONLY, "no regular file"),
        (Path("/dev/null"), os.O_RDWR, "no regular file"),
        (Path("/etc/passwd"), os.O_RDONLY, "belongs to user 0"),
    )
    try:
        for path, flags, reason in wanted:
            descriptor = os.open(path, flags)
            try:
                assert reason in refusals(stub, BIND, descriptor)
            finally:
                os.close(descriptor)
        one, other = socket.socketpair()
        assert "no regular file" in refusals(stub, BIND, one.fileno())
        assert "no regular file" in refusals(stub, BIND, device)
        one.close()
        other.close()
        # What is in order only lacks the daemon's answer to INIT, which nobody gives here.
        descriptor = os.open(own, os.O_RDWR)
        assert refusals(stub, BIND, descriptor) == os.strerror(errno.EPERM)
        several = QUESTION.pack(BIND, 1, 0)
        socket.send_fds(stub, [several], [descriptor] * 20)  # the kernel passes on eight
        assert len(stub.recv(1024)) == 4 + 8 * 4
        os.close(descriptor)
    finally:
        elsewhere.unlink()
        os.close(device)


def test_mount_of_another_is_not_taken_over(
    stub: socket.socket, unmounted: MountedArchive, archive: MountedArchive
) -> None:
    assert "not /dev/fuse" in refusals(stub, ADOPT, os.open("/dev/null", os.O_RDWR))
    unused = os.open("/dev/fuse", os.O_RDWR)
    assert "not the mount" in refusals(stub, ADOPT, unused)
    theirs = next(
        descriptor
        for descriptor in Path(f"/proc/{archive.pid}/fd").iterdir()
        if os.readlink(descriptor) == "/dev/fuse"
    )
    process = os.pidfd_open(archive.pid)
    copied = pidfd_getfd(process, int(theirs.name))
    assert "not the mount" in refusals(stub, ADOPT, copied)
    for descriptor in (unused, process, copied):
        os.close(descriptor)


def pidfd_getfd(process: int, descriptor: int) -> int:
    """pidfd_getfd(2)."""
    copied: int = ctypes.CDLL(None, use_errno=True).syscall(438, process, descriptor, 0)
    assert copied >= 0, os.strerror(ctypes.get_errno())
    fcntl.fcntl(copied, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return copied


def test_symlink_leads_no_mount_elsewhere(unmounted: MountedArchive) -> None:
    link = unmounted.base / "link"
    link.symlink_to("/etc")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-m", "artstorefs_daemon.mount_stub", str(unmounted.toml)]
        words = ["--user", USER, "--mountpoint", f"{link}/ssl", "--connection"]
        process = subprocess.Popen(
            [*command, *words, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        assert "a symlink leads to /etc/ssl" in refusals(ours, MOUNT)
        ours.close()
        assert process.wait(LIMIT_S) == 0
    assert find_mount("/etc/ssl") is None
