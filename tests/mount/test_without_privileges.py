"""A daemon that runs as an ordinary user without a capability, and the stub that mounts for it."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from artstorefs_daemon.mount_table import MountEntry, find_mount
from artstorefs_daemon.stub_client import MountStub

from ..harness import MountedArchive, children, kernel_has_passthrough, wait_for_end, wait_until
from .conftest import LogWatch, make_archive, remove_archive
from .test_passthrough import written_bytes
from .users import ALICE, run_as

pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.slow]

USER = "daemon"
"""An account that every system has, and that owns nothing."""

UID, GID = pwd.getpwnam(USER)[2:4]

MIB = 1 << 20
LIMIT_S = 30.0

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SYS_ADMIN = 0, 1, 21


@pytest.fixture(scope="module")
def served() -> Iterator[MountedArchive]:
    """An archive that is mounted for the tests that leave it as it is."""
    archive = make_archive(user=USER)
    yield archive
    remove_archive(archive)


@pytest.fixture
def killable() -> Iterator[MountedArchive]:
    archive = make_archive(user=USER)
    yield archive
    remove_archive(archive)


@pytest.fixture
def unmounted() -> Iterator[MountedArchive]:
    archive = make_archive(user=USER)
    archive.stop()
    yield archive
    remove_archive(archive)


def fields(pid: int) -> dict[str, str]:
    """Of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def stub_of(archive: MountedArchive) -> int:
    """The process id of the stub, by its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"artstorefs_daemon.mount_stub" in words and os.fsencode(archive.toml) in words:
            return int(path.parent.name)
    raise AssertionError("there is no stub")


def entry_of(archive: MountedArchive) -> MountEntry:
    entry = find_mount(str(archive.mount))
    assert entry is not None
    return entry


def passed_through_daemon(archive: MountedArchive, name: str) -> int:
    """How much of 16 MiB that a program writes the daemon writes."""
    before = written_bytes(archive.pid)
    with open(archive.mount / name, "wb", buffering=0) as file:
        for _ in range(16):
            file.write(bytes(MIB))
    return written_bytes(archive.pid) - before


# ------------------------------------------------------------------------------- who may what


def test_daemon_and_what_it_starts_have_no_rights(served: MountedArchive) -> None:
    served.flush()
    for pid in (served.pid, *children(served.pid)):
        status = fields(pid)
        assert status["Uid"].split() == [str(UID)] * 4
        assert status["Gid"].split() == [str(GID)] * 4
        assert "0" not in status["Groups"].split()
        assert status["NoNewPrivs"] == "1"
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[kind], 16) == 0


def test_stub_has_few(served: MountedArchive) -> None:
    status = fields(stub_of(served))
    assert status["NoNewPrivs"] == "1"
    effective = int(status["CapEff"], 16)
    assert effective & 1 << CAP_SYS_ADMIN
    assert not effective & (1 << CAP_CHOWN | 1 << CAP_DAC_OVERRIDE)
    assert effective.bit_count() == 3
    assert effective == int(status["CapPrm"], 16)


def test_directories_are_for_nobody_else(served: MountedArchive) -> None:
    for directory in (served.state, served.state / "spool", served.base / "cache"):
        status = directory.stat()
        assert (status.st_uid, status.st_mode & 0o7777) == (UID, 0o700)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (served.state / "spool").iterdir())


def test_mount_is_one_of_roots_on_which_no_daemon_can_plant_a_right(
    served: MountedArchive,
) -> None:
    options = subprocess.run(
        ["findmnt", "-no", "OPTIONS", served.mount], capture_output=True, text=True, check=True
    ).stdout
    assert {"nosuid", "nodev", "user_id=0", "default_permissions", "allow_other"} <= {
        *options.strip().split(",")
    }
    read_ahead = Path(f"/sys/class/bdi/{entry_of(served).device}/read_ahead_kb")
    wait_until(lambda: read_ahead.read_text() == "1024\n")
    status = served.mount.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o755)


def test_rights_of_users_are_what_they_are_anywhere(served: MountedArchive) -> None:
    ours = served.mount / "alice"
    ours.mkdir()
    os.chown(ours, *ALICE[:2])
    (ours / "of-root").write_bytes(b"secret")
    (ours / "of-root").chmod(0o600)

    def work() -> None:
        Path("mine").write_bytes(b"x")
        with pytest.raises(PermissionError):
            Path("of-root").read_bytes()
        os.unlink("of-root")  # the directory is hers

    run_as(ALICE, ours, work)
    assert (ours / "mine").stat().st_uid == ALICE.uid
    served.flush()
    assert (served.element / served.objects()[0]).stat().st_uid == UID


def test_kernel_writes_by_itself(served: MountedArchive) -> None:
    """The first is asked for; after it some are at hand."""
    for number in range(12):
        passed = passed_through_daemon(served, f"large-{number}")
        assert (passed < 4 * MIB) == kernel_has_passthrough()
    assert (served.mount / "large-11").stat().st_size == 16 * MIB


def test_files_made_ahead_are_as_new_and_as_whole_as_others(served: MountedArchive) -> None:
    (served.mount / "before").write_bytes(b"")
    time.sleep(0.05)
    for number in range(20):
        path = served.mount / f"new-{number}"
        started_ns = time.time_ns()
        with open(path, "xb") as file:
            made = os.fstat(file.fileno())
            assert abs(made.st_mtime_ns - started_ns) < 10**9
            assert (made.st_size, made.st_mtime_ns) == (0, made.st_ctime_ns)
            file.write(b"%d" % number)
    served.remount()
    for number in range(20):
        assert (served.mount / f"new-{number}").read_bytes() == b"%d" % number


def test_what_may_have_been_mapped_is_carried_as_soon_as_it_is_closed(
    served: MountedArchive,
) -> None:
    """A lease tells that nobody maps it; the kernel's hold on the spool file would deny it."""
    for number in range(12):
        with open(served.mount / f"mapped-{number}", "x+b") as file:
            file.write(b"one")
        with open(served.mount / f"mapped-{number}", "r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(b"two")
        served.flush()
        assert served.attributes(f"mapped-{number}")["file_size"] == 6
    assert served.status()["pending"]["intents"] == 0


# ------------------------------------------------------------------------------------ its end


def test_killed_daemon_leaves_no_empty_directory_and_the_next_one_mounts(
    killable: MountedArchive,
) -> None:
    (killable.mount / "f").write_bytes(b"kept")
    opened = os.open(killable.mount / "f", os.O_RDONLY)
    stub = stub_of(killable)
    killable.kill()
    wait_for_end(stub)
    with pytest.raises(OSError, match="connect"):
        os.listdir(killable.mount)
    with pytest.raises(OSError, match="connect"):
        os.fsync(opened)
    os.close(opened)
    killable.start()
    assert (killable.mount / "f").read_bytes() == b"kept"


def test_time_of_a_file_that_was_made_ahead_is_that_of_its_creation_after_a_kill(
    killable: MountedArchive,
) -> None:
    for number in range(3):
        (killable.mount / f"before-{number}").write_bytes(b"")
    time.sleep(1.5)
    started_ns = time.time_ns()
    file = os.open(killable.mount / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    made_ns = time.time_ns()
    killable.kill()
    with suppress(OSError):  # the mount is dead; whether close(2) finds out is the kernel's affair
        os.close(file)
    killable.start()
    assert started_ns - 10**8 <= (killable.mount / "new").stat().st_mtime_ns <= made_ns


def test_killed_stub_is_missed_by_nobody_who_uses_the_mount(
    killable: MountedArchive, log_watch: LogWatch
) -> None:
    log_watch.allow("stays mounted")
    stub = stub_of(killable)
    (killable.mount / "before").write_bytes(b"before")
    os.kill(stub, signal.SIGKILL)
    wait_for_end(stub)
    for number in range(12):
        (killable.mount / f"f{number}").write_bytes(b"x" * number)
    assert passed_through_daemon(killable, "large") >= 16 * MIB
    killable.flush()
    pid = killable.pid
    os.kill(pid, signal.SIGTERM)  # it cannot unmount, and says so, and ends
    wait_for_end(pid)
    assert f"umount -l {killable.mount}" in killable.log()
    killable.start()
    assert (killable.mount / "f11").read_bytes() == b"x" * 11
    assert (killable.mount / "before").read_bytes() == b"before"


def test_stopped_stub_delays_a_file_by_a_moment_and_the_next_by_nothing(
    killable: MountedArchive,
) -> None:
    stub = stub_of(killable)
    os.kill(stub, signal.SIGSTOP)
    try:
        for number in range(30):
            (killable.mount / f"f{number}").write_bytes(b"x")
        started = time.monotonic()
        for number in range(30):
            (killable.mount / f"g{number}").write_bytes(b"x")
        assert time.monotonic() - started < 2.5  # a tenth of a second each would be 3
    finally:
        os.kill(stub, signal.SIGCONT)
    wait_until(lambda: passed_through_daemon(killable, "again") < 4 * MIB)


# ----------------------------------------------------------------------------- what root is told


def test_configuration_that_others_can_change_is_refused(unmounted: MountedArchive) -> None:
    unmounted.toml.chmod(0o664)
    done = unmounted.run("mount", str(unmounted.toml), str(unmounted.mount), check=False)
    assert done.returncode != 0
    assert f"chown root {unmounted.toml}; chmod go-w {unmounted.toml}" in done.stderr
    unmounted.toml.chmod(0o644)
    os.chown(unmounted.toml, ALICE.uid, -1)
    done = unmounted.run("mount", str(unmounted.toml), str(unmounted.mount), check=False)
    assert "others than root can change it" in done.stderr


def test_start_says_what_to_chown(unmounted: MountedArchive) -> None:
    os.chown(unmounted.element, 0, 0)
    done = unmounted.run("mount", str(unmounted.toml), str(unmounted.mount), check=False)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"as root: chown -R {USER}: {unmounted.element}")
    doctor = unmounted.run("doctor", str(unmounted.toml), check=False)
    assert re.search(
        rf"^wrong +user {USER}: .*chown -R {USER}: {unmounted.element}$",
        doctor.stdout,
        re.MULTILINE,
    )
    os.chown(unmounted.element, UID, GID)
    unmounted.start()


def test_root_leaves_nothing_of_its_own_in_the_state(unmounted: MountedArchive) -> None:
    """What fsck and rebuild make would keep the daemon out."""
    unmounted.start()
    (unmounted.mount / "f").write_bytes(b"kept")
    unmounted.stop()
    unmounted.run("fsck", str(unmounted.toml), "--deep")
    unmounted.run("rebuild", str(unmounted.toml))
    left = [path for path in unmounted.state.rglob("*") if path.lstat().st_uid != UID]
    assert not left
    shutil.rmtree(unmounted.state)
    unmounted.run("rebuild", str(unmounted.toml))
    unmounted.start()
    assert (unmounted.mount / "f").read_bytes() == b"kept"


def test_root_can_have_it_as_ever(unmounted: MountedArchive) -> None:
    unmounted.start("--user", "root")
    assert fields(unmounted.pid)["Uid"].split()[0] == "0"


def test_daemon_without_a_stub_says_so(unmounted: MountedArchive) -> None:
    done = unmounted.run("mount", str(unmounted.toml), "--stub", "/nowhere/stub.sock", check=False)
    assert done.returncode != 0
    assert "nobody mounts for this daemon at /nowhere/stub.sock" in done.stderr or (
        "has no mountpoint" in done.stderr
    )
    with pytest.raises(Exception, match="nobody mounts"):
        MountStub.connect("/nowhere/stub.sock")
