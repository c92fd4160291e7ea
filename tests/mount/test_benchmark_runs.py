"""The benchmarks still run: with sizes too small to mean anything, but through every row.

In the directory `local`, whose path is short, as the path of a socket has to be.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..benchmarks import workloads
from ..benchmarks.mounts import mounts_below
from ..harness import REPOSITORY, wait_until

BENCHMARK = REPOSITORY / "tests" / "benchmarks" / "run.py"
S3_BENCHMARK = BENCHMARK.with_name("s3.py")
UPLOADING_BENCHMARK = BENCHMARK.with_name("uploading.py")
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

S3_ROWS = [
    "`cp -r` of 20 files to the mount",
    "… from its start until the server has it all",
    "`cp` of 1MiB to the mount",
    "… from its start until the server has it all",
    "`cp -r` of 20 files from it, nothing cached",
    "`cat` of 1MiB from it, nothing cached",
]


def run(
    directory: Path, *arguments: str, program: Path = BENCHMARK, path: str = os.environ["PATH"]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(program), "--directory", str(directory), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PATH": path},
    )


def table_in(output: str) -> list[list[str]]:
    """The cells, the headings first and what is below them second."""
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in line] for line in lines]


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_benchmark_prints_every_row_and_cleans_up(local: Path) -> None:
    done = run(local, *TINY)
    assert done.returncode == 0, done.stderr
    cells = table_in(done.stdout)
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


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_benchmark_beside_uploads_prints_every_operation_and_cleans_up(local: Path) -> None:
    tiny = ("--uploads", "150", "--files", "5", "--sets", "2")
    done = run(local, *tiny, program=UPLOADING_BENCHMARK)
    assert done.returncode == 0, done.stderr
    cells = table_in(done.stdout)
    operations = [*ROWS[:1], *ROWS[2:7], "`find`", "`ls -lR`", "unlink"]
    assert [line[0] for line in cells[2:]] == operations
    assert all(line[5] in {"yes", "no"} for line in cells[2:])
    assert list(local.iterdir()) == []


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_s3_benchmark_prints_every_row_and_cleans_up(local: Path) -> None:
    """Another one, whose program the tests need anyway, is mounted by the next test."""
    done = run(local, *TINY, "--only", "artstorefs", program=S3_BENCHMARK)
    assert done.returncode == 0, done.stderr
    cells = table_in(done.stdout)
    assert cells[0] == ["operation", "ArtStoreFS"]
    assert [line[0] for line in cells[2:]] == S3_ROWS
    assert all(cell.endswith(("s", "ms")) for line in cells[2:] for cell in line[1:])
    for name in cells[0][1:]:
        assert f"\n- {name}: " in done.stdout, "with what settings"
    assert list(local.iterdir()) == []
    assert mounts_below(local) == []


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_interrupted_s3_benchmark_leaves_nothing(local: Path) -> None:
    words = [sys.executable, str(S3_BENCHMARK), "--directory", str(local), *TINY, "--only", "weed"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as benchmark:
        wait_until(lambda: mounts_below(local) != [])
        benchmark.send_signal(signal.SIGINT)
        output, _ = benchmark.communicate(timeout=60)
    assert benchmark.returncode == 128 + signal.SIGINT, output.decode()
    assert mounts_below(local) == []
    assert list(local.iterdir()) == []
    with_our_directory = [
        command
        for command in Path("/proc").glob("[0-9]*/cmdline")
        if str(local).encode() in _read(command)
    ]
    assert with_our_directory == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


@pytest.mark.slow
def test_s3_benchmark_names_the_program_that_is_missing(local: Path) -> None:
    done = run(local, "--only", "s3fs", program=S3_BENCHMARK, path="")
    assert done.returncode == 2
    assert "s3fs is missing: `apt-get install s3fs` installs it" in done.stderr
    assert list(local.iterdir()) == []


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
