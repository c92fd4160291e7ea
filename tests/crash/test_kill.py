"""kill -9 of the daemon at any moment: everything that had returned is there (issue, acceptance 6).

    pytest -s tests/crash/test_kill.py --kills 1000 [--kills-seed N]

The archive is kept from kill to kill, so that log and elements are always in the middle of
something. A run that acknowledged too little, or had nothing pending or no batch under way at one
kill in ten, fails: it has shown nothing. Now and then, and at the end, the elements alone are
checked, and an index that is rebuilt from them.
"""

import errno
import os
import random
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..filesystem.element_tree import read_element
from ..harness import MountedArchive
from ..starter import Starter
from .comparison import check_element, check_rebuild, replay, settle
from .load import Model, Writer, start_writer, wait_for_writers

WRITERS = 4
SETTLE_S = (0, 0, 0, 0, 0.1)
BUSY_LIMIT_S = 5.0
"""How long a kill waits for a batch to be under way: the transfer process takes 0.6 s to start."""

EARLY_EVERY = 20
"""Of so many kills one does not wait: it may come while the transfer process starts."""

TRANSFER_KILLS = 10

CHECK_EVERY = 200
"""Kills between two looks at the elements, each of which takes some seconds."""

ENVIRONMENT = {"ARTSTOREFS_YIELD_LIMIT_S": "0", "PYDANTIC_DISABLE_PLUGINS": "1"}
"""Carrying does not give way to the writers, and a transfer process starts a little faster."""


@pytest.fixture
def copies(request: pytest.FixtureRequest) -> int:
    """On how many elements everything is to be."""
    return int(getattr(request, "param", 1))


@pytest.fixture
def archive(tmp_path: Path, copies: int) -> Iterator[MountedArchive]:
    further = tuple(
        f"element{number}=local:{tmp_path}/element{number}" for number in range(1, copies)
    )
    settings = f"settle_s = 0\ncopies = {copies}"
    made = MountedArchive(tmp_path, settings=settings, further=further)
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


class Run:
    """The writers' models, and what has been counted."""

    def __init__(self, archive: MountedArchive, starter: Starter, seed: int) -> None:
        self.archive = archive
        self.starter = starter
        self.seed = seed
        self.random = random.Random(seed)
        self.models = {f"writer{number}": Model() for number in range(WRITERS)}
        self.kills = 0
        self.started_ns = 0
        self.acknowledged = 0
        self.calls: dict[str, int] = {}
        self.pending_kills = 0
        self.busy_kills = 0
        self.under_way = {"done": 0, "not done": 0}

    def path(self, directory: str) -> Path:
        return self.archive.mount / directory

    def start(self) -> None:
        """Mount; returns as soon as the mount answers, before the command has."""
        text = self.archive.toml.read_text()
        settling = f"settle_s = {self.random.choice(SETTLE_S)}"
        self.archive.toml.write_text(re.sub(r"settle_s = .*", settling, text))
        self.started_ns = time.time_ns()
        self.starter.mount(self.archive)

    def start_writers(self, work: Callable[[Writer], None]) -> dict[int, Path]:
        """Process ids and journals of writers, which are forked: starting four interpreters takes
        longer than a kill."""
        writers = {}
        for directory, model in self.models.items():
            journal = self.archive.base / f"{directory}.journal"
            journal.unlink(missing_ok=True)
            seed = self.random.randrange(2**32)
            child = start_writer(str(self.path(directory)), model, str(journal), work, seed)
            writers[child] = journal
        return writers

    def kill_under_load(self) -> list[Path]:
        """Start the writers, kill the daemon; the journals."""
        self.kills += 1
        early = self.kills % EARLY_EVERY == 0
        if not early:
            self.wait_for_log(carried=True)  # which takes longer while others work
        writers = self.start_writers(lambda writer: writer.run(10**9))
        if not early:
            self.wait_for_log(carried=True, assigned=True)
        time.sleep(self.random.uniform(0, 0.3))
        self.archive.kill()
        wait_for_writers(writers)
        pending, assigned, carried = self._look_at_log()
        self.pending_kills += pending
        self.busy_kills += assigned and carried
        return list(writers.values())

    def wait_for_log(self, *, carried: bool, assigned: bool = False) -> None:
        deadline = time.monotonic() + BUSY_LIMIT_S
        while time.monotonic() < deadline:
            _, is_assigned, is_carried = self._look_at_log()
            if is_carried >= carried and is_assigned >= assigned:
                return
            time.sleep(0.01)

    def _look_at_log(self) -> tuple[bool, bool, bool]:
        """Whether something is pending; whether this daemon has assigned some of it to an element;
        and whether its transfer process is at work, because it has carried something before."""
        database = sqlite3.connect(f"file:{self.archive.state}/state.db?mode=ro", uri=True)
        try:
            row = database.execute(
                "SELECT count(*), sum(ino IS NOT NULL AND data IS NOT NULL AND updated_ns > ?),"
                " (SELECT max(seen_modified_ns) > ? FROM copies) FROM log",
                (self.started_ns, self.started_ns),
            ).fetchone()
        finally:
            database.close()
        return row[0] > 0, bool(row[1]), bool(row[2])

    def load_without_a_kill(self) -> list[Path]:
        """What a start does not set right, must be right without one."""
        writers = self.start_writers(lambda writer: writer.run(30))
        wait_for_writers(writers)
        return list(writers.values())

    def check(self, journals: list[Path]) -> None:
        """Bring the models up to date and compare each with its directory."""
        for directory, journal in zip(self.models, journals, strict=True):
            calls, under_way = replay(self.models[directory], journal)
            self.acknowledged += len(calls)
            for call in calls:
                self.calls[call] = self.calls.get(call, 0) + 1
            model, how = settle(self.models[directory], under_way, self.path(directory))
            self.models[directory] = model
            if under_way is not None:
                self.under_way[how] += 1

    def check_elements(self) -> None:
        """Flush and unmount; the elements alone have everything, and nothing else."""
        self.starter.finish()
        self.archive.ask("flush")
        status = self.archive.ask("status")
        assert (status["pending"]["intents"], status["errors"]) == (0, [])
        assert status["spool"]["bytes"] == 0
        self.archive.stop()
        left = [path for path in (self.archive.state / "spool").rglob("*") if path.is_file()]
        assert left == []
        for element in self.archive.base.glob("element*"):
            assert list((element / ".artstorefs" / "tmp").iterdir()) == []
            check_element(self.models, read_element(element))
        check_rebuild(self.archive.toml, self.archive.base)
        assert "Traceback" not in self.archive.log(), self.archive.log()[-4000:]

    def summary(self) -> str:
        return (
            f"seed {self.seed}: {self.kills} kills, {self.acknowledged} acknowledgements,"
            f" {self.pending_kills} kills with work pending, {self.busy_kills} with a batch under"
            f" way; calls under way at a kill: {self.under_way}; acknowledged: {self.calls}"
        )


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
    run = Run(archive, starter, random.randrange(2**32) if seed is None else seed)
    print(f"seed {run.seed}, {kills} kills")
    run.start()
    for directory in run.models:
        run.path(directory).mkdir()
    started = time.monotonic()
    while run.kills < kills:
        journals = run.kill_under_load()
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.statvfs(archive.mount)
        run.start()
        assert Path("/proc/self/mountinfo").read_text().count(f" {archive.mount} ") == 1
        try:
            run.check(journals)
            if run.kills % CHECK_EVERY == 0:
                print(f"{run.summary()}; {time.monotonic() - started:.1f} s", flush=True)
                run.check_elements()
                run.start()
        except AssertionError as exc:
            told = f"kill {run.kills}: {exc}\n{run.summary()}\n{archive.log()[-4000:]}"
            raise AssertionError(told) from None
    print(f"{run.summary()}; {time.monotonic() - started:.1f} s")
    assert run.acknowledged > kills
    assert run.pending_kills >= 0.9 * kills
    assert run.busy_kills >= 0.9 * kills
    run.check(run.load_without_a_kill())
    run.check_elements()


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
