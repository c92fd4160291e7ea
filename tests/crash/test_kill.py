"""kill -9 of the daemon at any moment: everything that had returned is there (issue, acceptance 6).

    pytest -s tests/crash/test_kill.py --kills 1000 [--kills-seed N]

The archive is kept from kill to kill, so that log and elements are always in the middle of
something. A run that acknowledged too little, or had nothing pending or no batch under way at one
kill in ten, fails: it has shown nothing. Now and then, and at the end, the elements alone are
checked, and an index that is rebuilt from them.
"""

import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import MountedArchive
from ..starter import Starter
from .kills import ENVIRONMENT, Run
from .load import Writer, wait_for_writers

TRANSFER_KILLS = 10


@pytest.fixture
def copies(request: pytest.FixtureRequest) -> int:
    """On how many elements everything is to be."""
    return int(getattr(request, "param", 1))


@pytest.fixture
def place() -> Iterator[Path]:
    """On a real disk: on one in memory batches take so little time that kills find none."""
    with tempfile.TemporaryDirectory(prefix="asfs-", dir=os.environ.get("ASFS_DISK")) as path:
        yield Path(path)


@pytest.fixture
def archive(place: Path, copies: int) -> Iterator[MountedArchive]:
    further = tuple(f"element{number}=local:{place}/element{number}" for number in range(1, copies))
    settings = f"settle_s = 0\ncopies = {copies}"
    made = MountedArchive(place, settings=settings, further=further)
    try:
        yield made
    finally:
        made.clean_up()


@pytest.fixture
def starter(archive: MountedArchive) -> Iterator[Starter]:
    made = Starter(ENVIRONMENT)
    yield made
    archive.clean_up()
    made.close()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("copies", "part"), [(1, 1), (2, 5)], ids=["one-copy", "two-copies"], indirect=["copies"]
)
def test_killed_at_any_moment_everything_acknowledged_is_there(
    archive: MountedArchive, starter: Starter, pytestconfig: pytest.Config, part: int
) -> None:
    """With two copies a part of the kills. SEMANTICS: DUR-1, MOUNT-1, ELEM-21"""
    kills, seed = pytestconfig.getoption("kills") // part, pytestconfig.getoption("kills_seed")
    Run(archive, starter, random.randrange(2**32) if seed is None else seed).run(kills)


@pytest.mark.slow
def test_transfer_processes_killed_at_random_are_not_noticed(
    archive: MountedArchive, starter: Starter, pytestconfig: pytest.Config
) -> None:
    """No call of anybody fails, nothing is lost, and the log has a line. SEMANTICS: DUR-7"""
    kills, seed = TRANSFER_KILLS, pytestconfig.getoption("kills_seed")
    run = Run(archive, starter, random.randrange(2**32) if seed is None else seed)
    print(f"seed {run.seed}, {kills} kills of the transfer process")
    run.start()
    daemon = archive.pid
    for directory in run.models:
        run.path(directory).mkdir()
    enough = archive.base / "enough"
    writers = run.start_writers(lambda writer: work_until(writer, enough))
    killed = set()
    try:
        while len(killed) < kills:
            run.wait_for_log(carried=True, assigned=True)
            time.sleep(run.random.uniform(0, 0.3))
            process = archive.ask("status")["transfer_pid"]
            run.started_ns = time.time_ns()
            if process not in killed:
                os.kill(process, signal.SIGKILL)
                killed.add(process)
    finally:
        enough.touch()
    wait_for_writers(writers)
    run.check(list(writers.values()))
    assert run.acknowledged > kills * 10
    assert archive.pid == daemon
    run.check_elements()
    for process in killed:
        assert f"transfer process {process} ended; starting another" in archive.log()


def work_until(writer: Writer, enough: Path) -> None:
    while not enough.exists():
        writer.run(5)
