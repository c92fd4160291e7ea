"""`artstorefs top`: what two answers of `status` come to, as text, as JSON, and on a terminal."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main
from artstorefs_tools.commands.top import describe, format_duration
from artstorefs_tools.rates import rates

from .status_sample import status

TERMINAL_LIMIT_S = 30.0


def later(count: int = 100, **changes: Any) -> dict[str, Any]:
    """The sample when so many more requests have come, each of 10 ms, every tenth in vain."""
    told = status(**changes)
    one = told["operations"]["getxattr"]
    one["count"] += count
    one["total_s"] += count / 100
    one["latency"] = [7 + count // 2, 2 + count - count // 2, 1]
    one["errors"] = {"ENODATA": 9 + count // 10}
    counters = told["elements"][1]["counters"]
    counters["sent_bytes"] += count << 20
    counters["requests"]["PutObject"] += count
    counters["errors"]["ElementUnavailable"] = count
    counters["errors"]["ObjectAbsent"] += count
    counters["calls"]["put"]["count"] += 2 * count
    return told


def test_rates_are_of_what_came_between_two_answers() -> None:
    found = rates(status(), later(), 5.0)
    assert not found["since_mount"]
    (operation,) = found["operations"]
    assert operation == {
        "kind": "getxattr",
        "per_s": 20.0,
        "mean_s": pytest.approx(0.01),
        "p99_s": 0.1,
        "max_s": 0.25,
        "errors_per_s": 2.0,
    }
    main_element, far = found["elements"]
    assert {key: value for key, value in main_element.items() if key.endswith("_per_s")} == {
        "calls_per_s": 0.0,
        "requests_per_s": 0.0,
        "sent_bytes_per_s": 0.0,
        "received_bytes_per_s": 0.0,
        "errors_per_s": 0.0,
    }
    assert (far["calls_per_s"], far["requests_per_s"], far["errors_per_s"]) == (40.0, 20.0, 20.0)
    assert far["sent_bytes_per_s"] == 20 << 20
    assert (far["breaker"], far["state"]) == ("half-open", "unavailable")


@pytest.mark.parametrize(
    "before", [None, status(pid=99), status(started_at="2026-01-02T03:04:04Z")]
)
def test_other_mount_is_no_time_before(before: dict[str, Any] | None) -> None:
    found = rates(before, status(), 5.0)
    assert found["since_mount"]
    assert found["operations"][0]["per_s"] == 2.0
    assert found["operations"][0]["p99_s"] == 0.25  # longer than all bounds
    assert found["elements"][0]["calls_per_s"] == 240.0


def test_nothing_between_two_answers() -> None:
    found = rates(status(), status(), 0.0)
    assert found["operations"] == []
    assert "requests  per s" not in "\n".join(describe(found))


def test_picture_as_text() -> None:
    text = "\n".join(describe(rates(status(), later(), 5.0)))
    assert text.startswith("museum at /srv/museum: 20.0 requests a second in 5.0 s\n")
    assert re.search(r"\n +queue +3 changes, 3MiB, the oldest 4 s old, 1 refused\n", text)
    assert re.search(r"\n +cache +7MiB of 40GiB\n", text)
    assert re.search(r"\ngetxattr +20.0 +10 ms +100 ms +250 ms +2.0\n", text)
    assert re.search(r"\nmain +ok +ok +2 +0.0 +0.0 +0B +0B +- +-\n", text)
    row = r"\nfar +unavailable +unknown +0 +40.0 +20.0 +20MiB +0B +20.0 +half-open\n"
    assert re.search(row, text)
    assert re.search(r"\ngetxattr +250.0 +2026-01-02T03:04:06Z +/night/watch.jpg$", text)


def test_name_of_a_file_moves_no_cursor() -> None:
    told = status()
    told["slowest"][0]["path"] = "/a\x1b[2J\nb"
    text = "\n".join(describe(rates(None, told, 1.0)))
    assert text.endswith("/a\\x1b[2J\\nb")


@pytest.mark.parametrize(
    ("duration_s", "shown"),
    [(3.2e-6, "3.2 µs"), (0.00123456, "1.23 ms"), (0.5, "500 ms"), (12.3, "12.3 s"), (0, "0 µs")],
)
def test_durations_for_people(duration_s: float, shown: str) -> None:
    assert format_duration(duration_s) == shown


# ------------------------------------------------------------------------------- the command


class Daemon:
    """Answers `status` with a hundred requests more each time; `serve` in a thread."""

    def __init__(self, base: Path) -> None:
        self.asked = 0
        self.toml = base / "museum.toml"
        self.toml.write_text(
            f'runtime_dir = "{base}/run"\n[[element]]\nid = "main"\npath = "{base}/o"\n'
        )
        (base / "run").mkdir()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(base / "run/control.sock"))
        self.listener.listen()
        self.told: dict[str, Any] = {}

    def serve(self) -> None:
        try:
            with self.listener.accept()[0] as connection, connection.makefile("rb") as lines:
                for line in lines:
                    told = self.told or later(100 * self.asked)
                    self.asked += 1
                    answer = {"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": told}
                    connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            return  # nobody has come, or has gone away


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert not thread.is_alive()
    made.listener.close()


def test_once_as_json(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["top", str(daemon.toml), "--once", "--json", "--interval", "0.2"]
    assert main(argv) == exit_codes.OK
    found = json.loads(capsys.readouterr().out)
    assert 0.2 <= found["seconds"] < 5
    assert found["operations"][0]["per_s"] == pytest.approx(100 / found["seconds"])
    assert daemon.asked == 2


def test_once_as_text(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", str(daemon.toml), "--once", "--interval", "0.2"]) == exit_codes.OK
    assert capsys.readouterr().out.startswith("museum at /srv/museum: ")


def test_daemon_of_another_version(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.told = {"archive": "museum", "started_at": "2026-01-02T03:04:05Z"}
    assert main(["top", str(daemon.toml), "--once"]) == exit_codes.FAILURE
    assert "another version" in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "1e9"])
def test_interval_that_is_none(
    interval: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", str(tmp_path / "m.toml"), f"--interval={interval}"]) == exit_codes.USAGE
    assert "--interval" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("key", [b"xq", b"\x03"])
def test_on_a_terminal_until_a_key_ends_it(daemon: Daemon, key: bytes) -> None:
    """Ctrl-C is a key of the terminal, which makes a signal of it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "artstorefs_tools.command_line"]
    process = subprocess.Popen(
        [*command, "top", str(daemon.toml), "--interval", "0.2"],
        env={**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(theirs), os.O_RDWR)),  # its terminal
    )
    try:
        shown = b""
        deadline = time.monotonic() + TERMINAL_LIMIT_S
        while b" in 0." not in shown:  # the second picture
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 0.1)[0]:
                shown += os.read(ours, 65_536)
        assert b"since the mount" in shown
        assert b"/night/watch.jpg" in shown
        os.write(ours, key)
        while process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([ours], [], [], 0.01)[0]:
                shown += os.read(ours, 65_536)
        expected = exit_codes.OK if key == b"xq" else exit_codes.INTERRUPTED
        assert process.returncode == expected, shown
        assert termios.tcgetattr(theirs) == before
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(ours)
        os.close(theirs)
