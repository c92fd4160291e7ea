"""A daemon without privileges and its stub as two services: either ends, and another follows."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs_daemon.mount_table import find_mount

from ..harness import MountedArchive, kernel_has_passthrough, wait_until
from .conftest import make_archive, remove_archive
from .test_without_privileges import LIMIT_S, MIB, UID, USER, entry_of, passed_through_daemon
from .users import ALICE

pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.slow]


class Services:
    """A stub and a daemon, each started as its unit starts it."""

    def __init__(self, archive: MountedArchive) -> None:
        self.archive = archive
        self.socket = archive.base / "stub.sock"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = archive.base / "services.log"

    def _start(self, *words: str) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            process = subprocess.Popen(words, stderr=log)
        self.processes.append(process)
        return process

    def start_stub(self, successor_limit_s: float = LIMIT_S) -> "subprocess.Popen[bytes]":
        limit = f"stub.SUCCESSOR_LIMIT_S = {successor_limit_s}"
        program = f"from artstorefs_daemon import mount_stub as stub; {limit}; stub.main()"
        module = (sys.executable, "-c", program)
        place = ("--user", USER, "--mountpoint", str(self.archive.mount))
        self.socket.unlink(missing_ok=True)
        stub = self._start(*module, str(self.archive.toml), *place, "--socket", str(self.socket))
        wait_until(lambda: self.socket.exists() and self.socket.stat().st_uid == UID)
        return stub

    def start_daemon(self) -> "subprocess.Popen[bytes]":
        changed = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
        module = (sys.executable, "-m", "artstorefs_tools.command_line", "mount", "-f")
        place = (str(self.archive.toml), str(self.archive.mount), "--stub", str(self.socket))
        daemon = self._start(*changed, "--no-new-privs", *module, *place)
        wait_until(lambda: find_mount(str(self.archive.mount)) is not None)
        self.archive.ask("status")
        return daemon

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def services() -> Iterator[Services]:
    archive = make_archive(user=USER)
    archive.stop()
    services = Services(archive)
    yield services
    services.close()
    remove_archive(archive)


def test_each_may_be_killed_and_followed_by_another(services: Services) -> None:
    archive = services.archive
    stub, daemon = services.start_stub(), services.start_daemon()
    (archive.mount / "f").write_bytes(b"kept")
    stub.kill()
    stub.wait()
    with open(archive.mount / "f", "ab") as file:  # is open while one follows the other
        stub = services.start_stub()
        wait_until(lambda: "another stub has taken over" in services.log.read_text())
        file.write(b" and more")
    assert passed_through_daemon(archive, "large") < 4 * MIB
    device = entry_of(archive).device

    daemon.kill()
    daemon.wait()
    with pytest.raises(OSError, match="connect"):
        os.listdir(archive.mount)
    daemon = services.start_daemon()
    assert stub.poll() is None
    assert (archive.mount / "f").read_bytes() == b"kept and more"
    table = Path("/proc/self/mountinfo").read_text()
    assert table.count(str(archive.mount)) == 1, f"{device} is still below it"

    daemon.terminate()
    assert daemon.wait(LIMIT_S) == 0
    assert find_mount(str(archive.mount)) is None
    assert stub.poll() is None


def test_daemon_makes_way_for_a_successor_with_nothing_unmounted_in_between(
    services: Services,
) -> None:
    """By way of a stub that keeps the mount; tests/mount/test_handover.py has the rest."""
    archive = services.archive
    services.start_stub()
    daemon = services.start_daemon()
    device = archive.mount.stat().st_dev
    (archive.mount / "f").write_bytes(b"kept")
    read = os.open(archive.mount / "f", os.O_RDONLY)
    seen: set[object] = set()
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.is_set():
            try:
                os.statvfs(archive.mount)  # the kernel answers no less from its caches
                seen.add("all" if "f" in os.listdir(archive.mount) else "nothing")
            except OSError as exc:
                seen.add(exc.errno)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with open(archive.mount / "written", "xb", buffering=0) as file:
            file.write(b"before")
            daemon.send_signal(signal.SIGUSR1)
            assert daemon.wait(LIMIT_S) == 0
            services.start_daemon()
            file.write(b" after")
    finally:
        is_done.set()
        watcher.join()
    assert archive.mount.stat().st_dev == device
    assert seen == {"all"}
    assert os.pread(read, 100, 0) == b"kept"
    os.close(read)
    assert (archive.mount / "written").read_bytes() == b"before after"
    passed = passed_through_daemon(archive, "large")
    assert (passed < 4 * MIB) == kernel_has_passthrough()  # the stub goes on binding
    assert Path("/proc/self/mountinfo").read_text().count(str(archive.mount)) == 1


NO_SUCCESSORS = (
    *("it does not come", "it comes and does not ask"),
    *("it knows nothing of it", "it knows another number"),
)


@pytest.mark.parametrize("wrong", NO_SUCCESSORS)
def test_mount_is_not_kept_for_a_successor_that_is_none(services: Services, wrong: str) -> None:
    archive = services.archive
    is_late = wrong in NO_SUCCESSORS[:2]
    stub = services.start_stub(0.5 if is_late else LIMIT_S)
    daemon = services.start_daemon()
    device = archive.mount.stat().st_dev
    (archive.mount / "f").write_bytes(b"kept")
    daemon.send_signal(signal.SIGUSR1)
    assert daemon.wait(LIMIT_S) == 0
    described = archive.state / "handover.json"
    if is_late:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            if wrong == "it comes and does not ask":
                connect_as(UID, connection, services.socket)
            with pytest.raises(OSError, match="connect"):
                os.statvfs(archive.mount)  # waits until then
    elif wrong == "it knows nothing of it":
        described.unlink()
    else:
        told = json.loads(described.read_text())
        described.write_text(json.dumps({**told, "number": told["number"] ^ 1}))
    services.start_daemon()
    wait_until(lambda: not described.exists())
    assert archive.mount.stat().st_dev != device
    assert (archive.mount / "f").read_bytes() == b"kept"
    assert Path("/proc/self/mountinfo").read_text().count(str(archive.mount)) == 1
    assert stub.poll() is None


def connect_as(user: int, connection: socket.socket, path: Path) -> None:
    before = os.geteuid()
    os.seteuid(user)
    try:
        connection.connect(str(path))
    finally:
        os.seteuid(before)


def test_only_the_daemons_user_is_served(services: Services) -> None:
    services.start_stub()
    for user in (None, ALICE.uid):  # root and somebody
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            os.chmod(services.socket, 0o666)
            connect_as(os.geteuid() if user is None else user, connection, services.socket)
            connection.settimeout(LIMIT_S)
            try:
                assert connection.recv(100) == b""
            except ConnectionResetError:
                continue
    assert find_mount(str(services.archive.mount)) is None
