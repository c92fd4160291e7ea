"""What systemd is told by a daemon that it has started, and what it and mount(8) find of us.

The test is the manager: it listens where `NOTIFY_SOCKET` says, as sd_notify(3) has it.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from artstorefs_daemon.mount_table import find_mount
from artstorefs_tools.commands import install_units
from artstorefs_tools.errors import CommandError

from ..harness import MountedArchive
from .conftest import make_archive, remove_archive

LIMIT_S = 30.0
WATCHDOG_US = 400_000


class Manager:
    """Starts the daemon of an archive as a service, and hears what it says."""

    def __init__(self, archive: MountedArchive) -> None:
        self.archive = archive
        path = archive.base / "notify"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.listener.bind(str(path))
        self.listener.settimeout(LIMIT_S)
        self.log = archive.base / "service.log"
        command = ["mount", "-f", str(archive.toml), str(archive.mount)]
        variables = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_US)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "artstorefs_tools.command_line", *command],
                env={**os.environ, **variables},
                stderr=log,
            )

    def hear(self, wanted: str) -> list[dict[str, str]]:
        """All messages up to the first that has this key."""
        heard: list[dict[str, str]] = []
        while not heard or wanted not in heard[-1]:
            lines = self.listener.recv(65536).decode().splitlines()
            heard.append(dict(line.split("=", 1) for line in lines))
        return heard

    def forget(self) -> None:
        """What it has said so far."""
        self.listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.listener.recv(65536)
        self.listener.settimeout(LIMIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.listener.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    archive = make_archive()
    archive.stop()
    manager = Manager(archive)
    yield manager
    manager.close()
    remove_archive(archive)


def test_readiness_is_told_once_the_mount_is_in_the_table(manager: Manager) -> None:
    manager.hear("READY")
    entry = find_mount(str(manager.archive.mount))
    assert entry is not None
    assert entry.filesystem_type == "fuse.artstorefs"
    (manager.archive.mount / "f").write_bytes(b"content")


def test_watchdog_is_fed_with_the_status_by_the_loop_that_serves(manager: Manager) -> None:
    manager.hear("READY")
    deadline = time.monotonic() + LIMIT_S
    while "wait for an element" not in manager.hear("WATCHDOG")[-1]["STATUS"]:
        (manager.archive.mount / "f").write_bytes(b"content")
        assert time.monotonic() < deadline
    before = time.monotonic()
    manager.forget()
    for _ in range(4):
        manager.hear("WATCHDOG")
    assert time.monotonic() - before >= 3 * WATCHDOG_US / 2 / 1e6


def test_loop_that_hangs_feeds_nobody(manager: Manager) -> None:
    manager.hear("WATCHDOG")
    os.kill(manager.process.pid, signal.SIGSTOP)
    try:
        manager.forget()
        manager.listener.settimeout(3 * WATCHDOG_US / 1e6)
        with pytest.raises(TimeoutError):
            manager.listener.recv(65536)
    finally:
        os.kill(manager.process.pid, signal.SIGCONT)


def test_abort_of_the_watchdog_leaves_the_stacks_in_the_log(manager: Manager) -> None:
    manager.hear("READY")
    os.kill(manager.process.pid, signal.SIGABRT)
    assert manager.process.wait(LIMIT_S) == -signal.SIGABRT
    assert "most recent call first" in manager.log.read_text()


def test_stop_is_told_and_nothing_is_lost(manager: Manager) -> None:
    manager.hear("READY")
    (manager.archive.mount / "last").write_bytes(b"just before")
    manager.process.terminate()
    heard = manager.hear("EXTEND_TIMEOUT_USEC")
    assert any(message.get("STOPPING") == "1" for message in heard)
    assert manager.process.wait(LIMIT_S) == 0
    assert find_mount(str(manager.archive.mount)) is None
    manager.archive.start()
    assert (manager.archive.mount / "last").read_bytes() == b"just before"


def test_nobody_who_is_started_by_the_daemon_can_speak_for_it(manager: Manager) -> None:
    manager.hear("READY")
    children = Path(f"/proc/{manager.process.pid}/task/{manager.process.pid}/children").read_text()
    assert children.split()
    script = "import os, sys; sys.exit('NOTIFY_SOCKET' in os.environ)"
    source = (
        "import os, subprocess, sys\n"
        "from artstorefs_daemon.service_manager import ServiceManager\n"
        "ServiceManager.of_environment()\n"
        f"sys.exit(subprocess.call([sys.executable, '-c', {script!r}]))"
    )
    environment = {**os.environ, "NOTIFY_SOCKET": "@nobody"}
    assert subprocess.call([sys.executable, "-c", source], env=environment) == 0


# --------------------------------------------------------------------- units and the helper


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The root of a system in which the units were installed."""
    command = [sys.executable, "-m", "artstorefs_tools.command_line", "install-units"]
    subprocess.run([*command, "--root", str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    return tmp_path


def test_units_are_what_systemd_accepts(installed: Path) -> None:
    units = installed / "etc/systemd/system"
    assert sorted(unit.name for unit in units.iterdir()) == [
        "artstorefs-backup@.service",
        "artstorefs-backup@.timer",
        "artstorefs-fsck@.service",
        "artstorefs-fsck@.timer",
        "artstorefs-mount@.service",
        "artstorefs-root@.service",
        "artstorefs.target",
        "artstorefs@.service",
    ]
    text = (units / "artstorefs@.service").read_text()
    assert "@PROGRAM@" not in text
    (start,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
    program = start.removeprefix("ExecStart=").split()[0]
    assert Path(program).exists()
    assert f"\nExecReload={program} reload %i\n" in text
    done = subprocess.run(
        ["systemd-analyze", "verify", str(units / "artstorefs@museum.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "artstorefs" not in done.stderr
    assert done.returncode == 0


def test_enabled_archive_is_mounted_at_boot(installed: Path) -> None:
    """Both links are needed: the boot wants the target, and that the archive."""
    command = ["systemctl", f"--root={installed}", "enable", "artstorefs@museum"]
    subprocess.run(command, check=True, capture_output=True)
    units = installed / "etc/systemd/system"
    assert (units / "multi-user.target.wants/artstorefs.target").is_symlink()
    assert (units / "artstorefs.target.wants/artstorefs@museum.service").is_symlink()


@pytest.mark.parametrize("missing", ["artstorefs", "artstorefs-mount"])
def test_nothing_is_installed_for_programs_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    programs, root = tmp_path / "bin", tmp_path / "root"
    programs.mkdir()
    for name in {"artstorefs", "artstorefs-mount"} - {missing}:
        (programs / name).touch()
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    arguments = argparse.Namespace(user=False, remove=False, json=False, root=root)
    with pytest.raises(CommandError, match=f"{missing} is missing: install the package"):
        install_units.run(arguments)
    assert not root.exists()


def test_units_of_a_user_are_in_their_home(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "artstorefs_tools.command_line", "install-units", "--user"]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    assert sorted(path.name for path in (tmp_path / "systemd/user").iterdir()) == [
        "artstorefs-backup@.service",
        "artstorefs-backup@.timer",
        "artstorefs-fsck@.service",
        "artstorefs-fsck@.timer",
        "artstorefs@.service",
    ]


def files(root: Path) -> dict[str, str]:
    """Every file below, with what is in it or where it leads."""
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_removal_leaves_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system/artstorefs@museum.service.d").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/artstorefs@museum.service.d/own.conf").write_text("[Service]\n")
    (tmp_path / "etc/updatedb.conf").write_text('PRUNEFS = "NFS proc"\n')
    before = files(tmp_path)
    command = [sys.executable, "-m", "artstorefs_tools.command_line", "install-units"]
    command += ["--root", str(tmp_path)]
    for _ in range(2):  # a second time changes nothing
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert files(tmp_path)["etc/updatedb.conf"] == 'PRUNEFS = "NFS proc fuse.artstorefs"\n'
    assert len(files(tmp_path)) >= len(before) + 8
    units = ["artstorefs@museum", "artstorefs-fsck@museum.timer"]
    enable = ["systemctl", f"--root={tmp_path}", "enable", *units]
    subprocess.run(enable, check=True, capture_output=True)
    for _ in range(2):
        subprocess.run([*command, "--remove"], check=True, stdout=subprocess.DEVNULL)
        assert files(tmp_path) == before


@pytest.fixture
def unmounted() -> Iterator[MountedArchive]:
    archive = make_archive()
    archive.stop()
    yield archive
    remove_archive(archive)


@pytest.mark.parametrize("kind", ["artstorefs", "fuse.artstorefs"])
def test_mount_finds_the_helper_of_the_type(
    unmounted: MountedArchive, installed: Path, kind: str
) -> None:
    """In a namespace of its own, in which the directory of helpers is ours."""
    helpers = installed / "sbin"
    shutil.copy(shutil.which("mount.fuse3") or "", helpers / "mount.fuse")
    script = (
        f'mount --bind {helpers} "$(realpath /sbin)" &&'
        f" mount --bind {installed}/usr/local/bin /usr/local/bin &&"
        f" mount -t {kind} -o rw,noexec {unmounted.toml} {unmounted.mount} &&"
        f" findmnt -no FSTYPE,OPTIONS {unmounted.mount} &&"
        f" echo content > {unmounted.mount}/f && umount {unmounted.mount}"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fuse.artstorefs")
    assert "noexec" in done.stdout
    unmounted.start()
    assert (unmounted.mount / "f").read_text() == "content\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [([], 1), (["museum"], 1), (["no-such-archive", "/srv/x", "-o", "rw"], 1), (["-x"], 1)],
)
def test_helper_ends_with_the_codes_of_mount(words: list[str], code: int) -> None:
    command = [sys.executable, "-m", "artstorefs_tools.mount_helper", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
