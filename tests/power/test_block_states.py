"""Writes reordered, left out and torn: whatever the disk holds after a cut, what was synced is
there and the index can be read.

dm-log-writes records in the guest every write of a load, with a mark for each call that has
returned. Outside, the disk is put together as it may be at a random moment: all that a flush has
made safe, and a random part of what came after, some of it torn. `--states` is the number of
moments, `--seed` repeats a run.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import disk
from .aftermath import make_element
from .block_log import BlockLog, CrashStates, State
from .machine import Machine, check_tools, scratch
from .verdict import SQLITE, WRITERS, Load, acknowledged, judge

RECORD_LIMIT_S = 180
RECORD_BYTES = 1 << 30
DISK_BYTES = 64 << 20
ACTIONS = 40
ROWS = 15
SETTLE_S = (0, 0.1)
STATES_OF_A_RECORD = 500
SYNCS_LEAST = 10
"""In a record; by chance one of forty has 19, of some thirty on average."""
PARTS = 2
"""Of the states, each by itself: they are by far the longest test."""

SEEDS_OF_A_PART = 1_000_000
UNREPORTED_STEPS = 1
"""A step begins when the one before has been marked."""

FLUSHING_SHARE = 0.5
"""Of the records: content is carried to the element while others write; see guest.py."""

FLUSHED_SHARE = 0.05

CONTROLS = Path(__file__).with_name("controls")


@pytest.fixture
def place() -> Iterator[Path]:
    check_tools()
    with scratch() as path:
        yield path


class Recording:
    """A load from an empty archive, and what it wrote."""

    def __init__(
        self, place: Path, orders: Path, seed: int, environment: dict[str, str] | None = None
    ) -> None:
        self.place = place
        self.random = random.Random(seed)
        self.before = place / "before"
        self.load = Load()
        self.load.seeds = [self.random.randrange(2**32) for _ in range(WRITERS)]
        make_element(place / "content" / "element")
        disk.make(self.before, place / "content", DISK_BYTES)
        disk.copy(self.before, place / "disk")
        with open(place / "record", "wb") as file:
            file.truncate(RECORD_BYTES)
        orders.mkdir(exist_ok=True)
        settle_s = self.random.choice(SETTLE_S)
        self.load.order(
            *(orders, settle_s),
            environment=environment or {},
            actions=ACTIONS,
            rows=ROWS,
            flushes=self.random.random() < FLUSHING_SHARE,
        )
        disks = [place / "disk", place / "record"]
        with Machine(disks, ASFS_ORDERS=str(orders), ASFS_RECORD="1") as machine:
            ended = machine.wait(lambda line: line.startswith("guest: ended"), RECORD_LIMIT_S)
            assert ended, "\n".join(machine.lines)
            assert "done 0" in machine.lines, "\n".join(machine.lines)
            machine.wait(lambda line: False, 5)  # it ends by itself, and the record is complete

    @contextmanager
    def states(self, count: int) -> Iterator[Iterator[State]]:
        log = BlockLog(self.place / "record")
        try:
            crash = CrashStates(log, self.before, self.place / "state", self.random)
            yield crash.states(count)
        finally:
            log.close()

    def check(self, count: int) -> tuple[int, int, int]:
        """Put that many states together and judge each; states with something pending, syncs and
        rows of the last one."""
        pending = syncs = 0
        marks: list[str] = []
        with self.states(count) as states:
            for state in states:
                marks = state.marks
                flush = self.random.random() < FLUSHED_SHARE
                place = self.place / "found"
                try:
                    verdict = judge(
                        self.place / "state",
                        place,
                        self.load,
                        acknowledged(marks),
                        unreported=UNREPORTED_STEPS,
                        flush=flush,
                    )
                except Exception as exc:
                    raise AssertionError(f"{state.description}: {exc!r}") from exc
                pending += verdict.pending > 0
                syncs = max(syncs, verdict.syncs)
        return pending, syncs, sum(acknowledged(marks).rows.get(mode, 0) for mode in SQLITE)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_the_disk_holds_everything_synced_is_there(
    place: Path, tmp_path: Path, states: int, seed: int, part: int
) -> None:
    """SEMANTICS: DUR-2, DUR-3"""
    started = time.monotonic()
    pending = records = synced = 0
    seed += part * SEEDS_OF_A_PART
    states = (states + part) // PARTS
    left = states
    while left > 0:
        count = min(left, STATES_OF_A_RECORD)
        own = place / f"record{records}"
        own.mkdir()
        try:
            recording = Recording(own, tmp_path / "orders", seed + records)
            found, syncs, rows = recording.check(count)
        except AssertionError as exc:
            raise AssertionError(f"seed {seed} of this part, record {records}: {exc}") from exc
        assert syncs >= SYNCS_LEAST, "next to nothing was synced"
        assert rows >= ROWS, "SQLite committed next to nothing"
        pending += found
        synced += syncs
        left -= count
        records += 1
        for path in own.iterdir():
            if path.is_file():
                path.unlink()
    took_s = time.monotonic() - started
    print(f"seed {seed}: {states} states of {records} records, {pending} pending; {took_s:.1f} s")
    print(f"{synced / records:.0f} syncs in a record")
    assert pending >= 0.5 * states, "nothing was pending in most states"


@pytest.mark.slow
@pytest.mark.parametrize("control", ["content_not_synced", "log_not_synced"])
def test_block_states_find_a_sync_that_is_left_out(
    place: Path, tmp_path: Path, seed: int, control: str
) -> None:
    """Controls: a daemon that syncs less than it says is caught within a few states."""
    environment = {"PYTHONPATH": str(CONTROLS / control)}
    recording = Recording(place, tmp_path, seed, environment)
    with pytest.raises(AssertionError) as caught:
        recording.check(50)
    print(f"{control}: caught: {str(caught.value)[:300]}")
