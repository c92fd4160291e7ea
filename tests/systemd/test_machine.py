"""The machine itself: that it sees nothing of what the host has set up, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .machine import CGROUP, HERE, Machine, groups, remove_groups_of_the_dead, wait_for

pytestmark = pytest.mark.slow

BOOTS = """
import sys
sys.path.insert(0, sys.argv[1])
from machine import machine
with machine([]) as made:
    print(made.init, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_test_has_started_ends_and_is_cleaned_up(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BOOTS, str(HERE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        while words and not words[0].isdigit():  # "booted in …"
            words = process.stdout.readline().split()
        init = Path(f"/proc/{int(words[0])}")
        assert init.exists()
        assert f"{CGROUP}{process.pid}" in groups()
        process.kill()
    wait_for(lambda: not init.exists(), 30)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    remove_groups_of_the_dead()
    assert f"{CGROUP}{process.pid}" not in groups()
    assert [list(left.iterdir()) for left in tmp_path.iterdir()] == [[]]


def test_machine_is_one_of_its_own(booted: Machine) -> None:
    assert booted.run("hostname") == "machine\n"
    assert booted.path("/etc/machine-id").read_bytes() != Path("/etc/machine-id").read_bytes()
    for path in ("/tmp", "/etc/artstorefs", "/var/lib/artstorefs"):
        assert os.stat(booted.path(path)).st_dev != os.stat("/").st_dev
    assert booted.run("ls", "/sys/class/net") == "lo\n"
    with pytest.raises(AssertionError, match="Read-only"):
        booted.run("sh", "-c", "echo 1 > /proc/sys/kernel/panic")
