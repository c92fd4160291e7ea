"""Writers, kills of the daemon under them, and what has to be there afterwards."""

import errno
import math
import os
import random
import re
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
EARLY_EVERY = 20
"""Of so many kills one does not wait: it may come while the transfer process starts."""

CHECK_EVERY = 200
"""Kills between two looks at the elements, each of which takes some seconds."""

ENVIRONMENT = {"ARTSTOREFS_YIELD_LIMIT_S": "0", "PYDANTIC_DISABLE_PLUGINS": "1"}
"""Carrying does not give way to the writers, and a transfer process starts a little faster."""


def fewest(kills: int) -> float:
    """Of so many kills, what is less than chance leaves when it is to be so at nine of ten: three
    standard deviations of a binomial distribution."""
    return 0.9 * kills - 3 * math.sqrt(kills * 0.9 * 0.1)


class Run:
    """The writers' models, and what has been counted. Elements are directories below the archive's
    base unless a subclass knows better."""

    busy_limit_s = 5.0
    """How long a kill waits for a batch to be under way: the transfer process takes 0.6 s to
    start."""

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
        self.kill()
        wait_for_writers(writers)
        pending, assigned, carried = self._look_at_log()
        self.pending_kills += pending
        self.busy_kills += assigned and carried
        return list(writers.values())

    def kill(self) -> None:
        self.archive.kill()

    def wait_for_log(self, *, carried: bool, assigned: bool = False) -> None:
        deadline = time.monotonic() + self.busy_limit_s
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
                "SELECT count(*), sum(ino IS NOT NULL AND data IS NOT NULL AND updated_ns > ?)"
                " FROM log",
                (self.started_ns,),
            ).fetchone()
            return row[0] > 0, bool(row[1]), self.has_carried(database)
        finally:
            database.close()

    def has_carried(self, database: sqlite3.Connection) -> bool:
        """Whether an element has got something since the mount."""
        newest = "SELECT max(seen_modified_ns) > ? FROM copies"
        return bool(database.execute(newest, (self.started_ns,)).fetchone()[0])

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
        found = status["pending"]["intents"], status["errors"]
        assert found == (0, []), f"{found}\n{self.archive.log()[-2000:]}"
        assert status["spool"]["bytes"] == 0
        self.archive.stop()
        left = [path for path in (self.archive.state / "spool").rglob("*") if path.is_file()]
        assert left == []
        for element in self.elements():
            check_element(self.models, read_element(element))
        check_rebuild(self.archive.toml, self.archive.base)
        assert "Traceback" not in self.archive.log(), self.archive.log()[-4000:]

    def elements(self) -> Iterator[Path]:
        """What the elements hold, each as a directory; they have no leftovers."""
        for element in self.archive.base.glob("element*"):
            assert list((element / ".artstorefs" / "tmp").iterdir()) == []
            yield element

    def run(self, kills: int) -> None:
        """Kill so often, and check everything."""
        print(f"seed {self.seed}, {kills} kills")
        self.start()
        for directory in self.models:
            self.path(directory).mkdir()
        started = time.monotonic()
        while self.kills < kills:
            journals = self.kill_under_load()
            with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
                os.statvfs(self.archive.mount)
            self.start()
            mounts = Path("/proc/self/mountinfo").read_text()
            assert mounts.count(f" {self.archive.mount} ") == 1
            try:
                self.check(journals)
                if self.kills % CHECK_EVERY == 0:
                    print(f"{self.summary()}; {time.monotonic() - started:.1f} s", flush=True)
                    self.check_elements()
                    self.start()
            except AssertionError as exc:
                told = f"kill {self.kills}: {exc}\n{self.summary()}\n{self.archive.log()[-4000:]}"
                raise AssertionError(told) from None
        print(f"{self.summary()}; {time.monotonic() - started:.1f} s")
        assert self.acknowledged > kills
        assert self.pending_kills >= 0.9 * kills - 1  # of five, one may come too early
        assert self.busy_kills >= fewest(kills)
        self.check(self.load_without_a_kill())
        self.check_elements()

    def summary(self) -> str:
        return (
            f"seed {self.seed}: {self.kills} kills, {self.acknowledged} acknowledgements,"
            f" {self.pending_kills} kills with work pending, {self.busy_kills} with a batch under"
            f" way; calls under way at a kill: {self.under_way}; acknowledged: {self.calls}"
        )
