"""What the transfer process has, and has not, of the mount process that it comes from."""

import os
import signal
import time
from pathlib import Path

import pytest

from artstorefs.core.crash_points import VARIABLE

from ..harness import MountedArchive, wait_for_end, wait_until

RESTART_LIMIT_S = 60.0


def transfer_pid(archive: MountedArchive, before: int = 0) -> int:
    """The number of the transfer process, once it is another one than `before`."""
    deadline = time.monotonic() + RESTART_LIMIT_S
    while (pid := int(archive.ask("status")["transfer_pid"])) in (0, before):
        assert time.monotonic() < deadline, "no other one was started"
        time.sleep(0.05)
    return pid


def opened(pid: int) -> set[str]:
    return {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}


@pytest.mark.slow
def test_no_descriptor_and_no_terminal_of_the_mount_process(fresh_archive: MountedArchive) -> None:
    """The first is forked, one that follows is a program: /dev/fuse in it would keep a dead mount
    alive, and a terminal that closes would end it."""
    log_and_lock = {"/dev/null", str(fresh_archive.state / "daemon.log")}
    pid = 0
    for _ in range(2):
        pid = transfer_pid(fresh_archive, pid)
        fresh_archive.flush()
        names = opened(pid)
        assert log_and_lock <= names
        assert not [name for name in names if "fuse" in name or name.startswith("pipe:")]
        assert os.getsid(pid) == pid
        assert os.getsid(fresh_archive.pid) != pid
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)


@pytest.mark.slow
def test_one_that_dies_at_once_is_not_started_all_the_time(
    fresh_archive: MountedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a third of a second of a processor, which programs on the mount have to share."""
    fresh_archive.stop()
    monkeypatch.setenv(VARIABLE, "log.synced")
    fresh_archive.start()
    (fresh_archive.mount / "f").touch()
    ends = []
    while len(ends) < 4:
        wait_until(lambda: fresh_archive.log().count("ended; starting another") > len(ends))
        ends.append(time.monotonic())
    assert ends[3] - ends[2] > 1.5, "the pause before the fourth is 2 s"
    fresh_archive.kill()  # else it goes on trying until the drain has taken too long
