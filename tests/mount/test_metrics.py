"""What a monitor sees of a mounted archive, and of one that has been killed."""

import os
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..harness import MountedArchive, wait_for_end, wait_until
from .conftest import SETTINGS, make_archive, remove_archive

pytestmark = pytest.mark.slow


class Monitor:
    """Asks over HTTP, and reads the file."""

    def __init__(self, port: int, textfile: Path) -> None:
        self.port = port
        self.textfile = textfile

    @property
    def settings(self) -> str:
        return (
            f"{SETTINGS}\n[metrics]\n"
            f'listen = "127.0.0.1:{self.port}"\ntextfile = "{self.textfile}"\n'
        )

    def get(self, page: str) -> tuple[int, str]:
        """Status code and text; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=20) as found:
                return found.status, found.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()
        except OSError:
            return 0, ""

    def numbers(self) -> dict[tuple[str, ...], float]:
        """By the name of a sample and the values of its labels, by label, after the archive."""
        return {
            (
                sample.name,
                *(sample.labels[name] for name in sorted(sample.labels)[1:]),
            ): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
        }

    def is_down(self) -> bool:
        return 'artstorefs_up{archive="test"} 0.0' in self.textfile.read_text()


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with tempfile.TemporaryDirectory(prefix="asfs-monitor-") as folder, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        taken.close()
        yield Monitor(port, Path(folder) / "museum.prom")


def test_monitor_of_an_archive_from_its_mount_to_its_end(monitor: Monitor) -> None:
    with socket.socket() as other:  # has the port first
        other.bind(("127.0.0.1", monitor.port))
        other.listen()
        archive = make_archive(monitor.settings)
        try:
            wait_until(lambda: "Address already in use" in archive.log())
            wait_until(monitor.textfile.exists)
            other.close()
            watched(archive, monitor)
        finally:
            remove_archive(archive)


def watched(archive: MountedArchive, monitor: Monitor) -> None:
    wait_until(lambda: monitor.get("/healthz") == (200, "ok\n"))
    for number in range(5):
        (archive.mount / f"file{number}").write_bytes(b"x" * 1000)
    (archive.mount / "folder").mkdir()
    (archive.mount / "folder/file").symlink_to("elsewhere")
    with pytest.raises(OSError, match="not empty"):
        (archive.mount / "folder").rmdir()
    archive.flush()
    wait_until(lambda: counted(monitor, "create") == 5)
    numbers = monitor.numbers()
    status = archive.ask("status")
    assert status["operations"]["create"]["count"] == 5
    assert status["operations"]["rmdir"]["errors"] == {"ENOTEMPTY": 1}
    assert numbers["artstorefs_operation_errors_total", "ENOTEMPTY", "rmdir"] == 1
    assert numbers["artstorefs_nodes",] == status["nodes"] == 8
    assert numbers["artstorefs_element_calls_total", "put", "main"] == 5
    assert numbers["artstorefs_queue_changes",] == 0
    assert monitor.get("/readyz") == (200, "ok\n")
    (process,) = processes(archive)

    archive.kill()
    wait_until(monitor.is_down)
    wait_for_end(process)
    assert monitor.get("/healthz")[0] == 0
    subprocess.run(["umount", "-l", str(archive.mount)], check=True)

    archive.start()
    (process,) = processes(archive)
    os.kill(process, 9)  # the mount goes on, and another takes its place
    wait_until(lambda: processes(archive) not in ([], [process]))
    wait_until(lambda: monitor.get("/readyz") == (200, "ok\n"))
    wait_until(lambda: not monitor.is_down())
    archive.stop()
    wait_until(monitor.is_down)


def counted(monitor: Monitor, kind: str) -> float:
    return monitor.numbers().get(("artstorefs_operation_duration_seconds_count", kind), -1)


def processes(archive: MountedArchive) -> list[int]:
    """Metrics processes of its daemon, which a thread of it has started."""
    found = [
        int(word)
        for path in Path(f"/proc/{archive.pid}/task").glob("*/children")
        for word in read(path).split()
    ]
    return [pid for pid in found if b"metrics.process" in read(Path(f"/proc/{pid}/cmdline"))]


def read(path: Path) -> bytes:
    """A file of /proc; empty if its process or thread has ended meanwhile."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_slow_requests_are_told_with_their_paths(archive: MountedArchive) -> None:
    folder = archive.mount / "slow"
    folder.mkdir()
    slow = folder / "large"
    with slow.open("wb") as file:
        file.write(os.urandom(8 << 20))
        os.fsync(file.fileno())
    status = archive.ask("status")
    assert status["operations"]["fsync"]["count"] >= 1
    found = [one for one in status["slowest"] if one["kind"] == "fsync"]
    assert found
    assert (found[0]["path"], found[0]["inode"]) == ("/slow/large", slow.stat().st_ino)
    assert found[0]["took_ms"] >= 1
    assert found == sorted(found, key=lambda one: -one["took_ms"])
