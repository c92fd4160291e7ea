"""The benchmark still runs: with sizes too small to mean anything, but through every row.

In the directory `local`, whose path is short, as the path of a socket has to be.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..benchmarks import workloads
from ..harness import REPOSITORY

BENCHMARK = REPOSITORY / "tests" / "benchmarks" / "run.py"
TINY = ("--files", "20", "--size", "1MiB", "--rounds", "1", "--patience", "0")

ROWS = [
    "create, write 4 KiB, close",
    "… until the elements have it",
    "stat, warm",
    "scandir and stat, warm",
    "setxattr",
    "getxattr",
    "rename",
    "`find`, 20 files in a directory",
    "`ls -lR`, 20 files in a directory",
    "unlink",
    "`find`, 20 files in 2 directories, first after mounting",
    "`find`, 20 files in 2 directories",
    "`ls -lR`, 20 files in 2 directories",
    "`cp -r` of 20 files",
    "… until the elements have it",
    "write 1MiB",
    "write 1MiB and fsync",
    "… until the elements have it",
    "read 1MiB, warm",
]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARK), "--directory", str(directory), *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.slow
def test_benchmark_prints_every_row_and_cleans_up(local: Path) -> None:
    done = run(local, *TINY)
    assert done.returncode == 0, done.stderr
    table = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in line] for line in table]
    assert cells[0] == ["operation", "ArtStoreFS", "local filesystem", "ratio", "goal", "met"]
    assert [line[0] for line in cells[2:]] == ROWS
    assert all(len(line) == len(cells[0]) for line in cells)
    assert sum(line[5] in {"yes", "no"} for line in cells) == 8
    assert list(local.iterdir()) == []


@pytest.mark.slow
def test_benchmark_refuses_a_disk_without_room(local: Path) -> None:
    done = run(local, "--size", "1EiB")
    assert done.returncode == 2
    assert "name another --directory or a smaller --size" in done.stderr


def test_time_of_a_program_is_not_rounded_up_to_the_pauses_of_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Figures stood in steps of 50 ms: a wait with a limit sleeps between its looks."""

    def sleep(seconds: float) -> None:
        raise AssertionError(f"slept {seconds} s while a program was timed")

    monkeypatch.setattr(time, "sleep", sleep)
    assert workloads.run_program("sleep", "0.01") >= 0.01


def test_program_that_hangs_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "PROGRAM_LIMIT_S", 0.01)
    with pytest.raises(subprocess.CalledProcessError):
        workloads.run_program("sleep", "60")
