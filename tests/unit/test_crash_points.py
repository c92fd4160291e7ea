"""Crash points kill where they are told to, once, and nowhere else."""

import os
import signal
from pathlib import Path

import pytest

from artstorefs.core import crash_points
from artstorefs.core.crash_points import VARIABLE, armed


def passes(setting: str | None, *names: str) -> int:
    """How many of these points a process with this setting gets past; it is killed at the next."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        reached = armed(setting)
        for name in names:
            reached(name)
            os.write(writing, b".")
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as stream:
        count = len(stream.read())
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed == (count < len(names))
    return count


@pytest.mark.parametrize(
    ("setting", "count"),
    [(None, 4), ("", 4), ("c", 4), ("a", 0), ("b", 1), ("a:2", 2), ("a:4", 4), ("b:1", 1)],
)
def test_the_named_point_kills_when_it_is_reached_so_often(setting: str | None, count: int) -> None:
    assert passes(setting, "a", "b", "a", "b") == count


def test_a_file_arms_a_running_process_and_one_process_only(tmp_path: Path) -> None:
    switch = tmp_path / "crash"
    reached = tmp_path / "crash.reached"
    assert passes(str(switch), "a", "b") == 2
    switch.write_text("b:2\n")
    assert passes(str(switch), "a", "b", "a") == 3
    assert switch.exists()
    assert passes(str(switch), "b", "b") == 1
    assert reached.read_text() == "b:2\n"
    assert not switch.exists()
    assert passes(str(switch), "b", "b") == 2
    switch.write_text("a")  # reached by somebody before, who has not been told of anything since
    assert passes(str(switch), "a") == 1


def test_they_are_off_in_every_other_process() -> None:
    assert VARIABLE not in os.environ
    assert crash_points.crash_point is armed(None)
