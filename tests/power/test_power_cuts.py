"""The power is cut at any moment: what a sync had returned for is there.

The whole daemon, with its transfer process, runs in a second kernel on an ext4 disk of its own,
which is killed with its page cache. The disk is kept from cut to cut: the next daemon starts on
what the last cut has left, and a part of the cuts comes while it starts. Before the cut the machine
is stopped a few times and its disk copied, which is what a cut at that moment would have left.
`--cuts` is the number of cuts, `--seed` repeats their choices, if not the moments.
"""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import disk
from .aftermath import make_element
from .load import UNREPORTED_STEPS
from .machine import Machine, check_tools, scratch
from .verdict import SQLITE, WRITERS, Load, Verdict, acknowledged, judge

MOUNT_LIMIT_S = 90
SETTLE_S = (0, 0, 0.1, 5)
STOPS = 2
FLUSHED_SHARE = 0.3
"""Of what is judged: it is also carried to the elements, which alone have to be the tree then."""

FLUSHING_SHARE = 0.5
"""Of the loads: content is carried to the elements all the time, so that much of what is changed
is on them, or on its way."""

DRAINED_EVERY = 8
"""So often the elements get everything before the load: the writers leave no daemon the time for
it; what waits would fill the disk within a hundred cuts, and no content would be archived."""

CONTROL_CUTS = 3
PARALLEL = 2
"""Machines at a time: each spends half of its time waiting."""

CONTROLS = Path(__file__).with_name("controls")


@pytest.fixture
def place() -> Iterator[Path]:
    check_tools()
    with scratch() as path:
        yield path


@dataclass
class Counts:
    cuts: int = 0
    steps: int = 0
    syncs: int = 0
    rows: int = 0
    pending: int = 0
    busy: int = 0
    starting: int = 0
    flushed: int = 0
    drained: int = 0
    stops: int = 0
    judged: int = 0

    def add(self, other: "Counts") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Run:
    """One disk, cut again and again."""

    def __init__(
        self, place: Path, orders: Path, seed: int, environment: dict[str, str] | None = None
    ) -> None:
        """`orders` is a directory that the guest sees; `environment` that of its daemon."""
        self.place = place
        self.orders = orders
        self.image = place / "disk"
        self.seed = seed
        self.random = random.Random(seed)
        self.environment = environment or {}
        self.load = Load()
        self.counts = Counts()
        make_element(place / "content" / "element")
        disk.make(self.image, place / "content")

    def cut_times(self, count: int, ended: threading.Event) -> None:
        """So many cuts, or until `ended`, which the first failure sets."""
        for number in range(count):
            if ended.is_set():
                return
            try:
                self.cut()
            except Exception as exc:
                ended.set()
                told = f"seed {self.seed}, cut {number}: {exc!r}; {self.counts}"
                raise AssertionError(told) from exc

    def cut(self) -> None:
        """Boot, load, cut, check."""
        self.load.seeds = [self.random.randrange(2**32) for _ in range(WRITERS)]
        settle_s = self.random.choice(SETTLE_S)
        drains = self.counts.cuts % DRAINED_EVERY == DRAINED_EVERY - 1
        orders = {"flush": drains, "flushes": self.random.random() < FLUSHING_SHARE}
        self.load.order(self.orders, settle_s, environment=self.environment, **orders)
        # a load comes after each cut during a start, and most cuts are in a load
        during_start = self.counts.cuts % 4 == 2
        with Machine([self.image], ASFS_ORDERS=str(self.orders)) as machine:
            if during_start:
                assert machine.wait(lambda line: line == "starting", MOUNT_LIMIT_S), machine.lines
                time.sleep(self.random.uniform(0.5, 5))
            else:
                if drains:
                    self._wait_until_flushed(machine)
                self._wait_for_load(machine)
                for _ in range(STOPS):
                    time.sleep(self.random.uniform(0.1, 1))
                    self._stop(machine)
                time.sleep(self.random.uniform(0.1, 1))
            machine.cut()
        failed = [line for line in machine.lines if line.startswith(("failed", "done"))]
        assert not failed, "\n".join(machine.lines)
        self.counts.cuts += 1
        self.counts.starting += during_start
        self._look(self.image, machine.lines)

    def _stop(self, machine: Machine) -> None:
        """What a cut at this moment would leave is what has to be; nothing goes on from it."""
        copy = self.place / "stopped"
        with machine.stopped() as lines:
            disk.copy(self.image, copy)
        self._judge(copy, lines)
        self.counts.stops += 1

    def _look(self, image: Path, lines: list[str]) -> None:
        """Compare what is there with what was acknowledged, count it, and go on from it."""
        verdict = self._judge(image, lines)
        told = acknowledged(lines)
        self.counts.steps += sum(told.steps)
        self.counts.rows += sum(told.rows.get(mode, 0) - self.load.rows[mode] for mode in told.rows)
        self.counts.syncs += verdict.syncs
        self.counts.pending += verdict.pending > 0
        self.counts.busy += verdict.assigned > 0
        self.load = verdict.left

    def _judge(self, image: Path, lines: list[str]) -> Verdict:
        flush = self.random.random() < FLUSHED_SHARE
        self.counts.flushed += flush
        self.counts.judged += 1
        told = acknowledged(lines)
        place = self.place / "found"
        return judge(image, place, self.load, told, unreported=UNREPORTED_STEPS, flush=flush)

    def _wait_until_flushed(self, machine: Machine) -> None:
        assert machine.wait(lambda line: line == "flushed", MOUNT_LIMIT_S), machine.lines
        self.counts.drained += 1

    def _wait_for_load(self, machine: Machine) -> None:
        """Until every writer has begun, so that nothing counts that did not come so far."""
        names = [*map(str, range(WRITERS)), *SQLITE]
        for name in names:
            begun = machine.wait(lambda line, n=name: line.startswith(n + " "), MOUNT_LIMIT_S)
            assert begun, f"no load: {machine.lines}"


def cut_again_and_again(
    place: Path, orders: Path, seed: int, cuts: int, ended: threading.Event
) -> Counts:
    """One disk's share of the cuts."""
    place.mkdir()
    orders.mkdir()
    run = Run(place, orders, seed)
    run.cut_times(cuts, ended)
    return run.counts


@pytest.mark.slow
@pytest.mark.long
def test_power_cut_at_any_moment_everything_synced_is_there(
    place: Path, tmp_path: Path, cuts: int, seed: int
) -> None:
    """SEMANTICS: DUR-2, DUR-3, MOUNT-1"""
    started = time.monotonic()
    counts = Counts()
    ended = threading.Event()
    with ThreadPoolExecutor(PARALLEL) as pool:
        shares = [(f"disk{n}", seed + n, (cuts + n) // PARALLEL) for n in range(PARALLEL)]
        runs = [
            pool.submit(cut_again_and_again, place / name, tmp_path / name, own_seed, share, ended)
            for name, own_seed, share in shares
        ]
        try:
            for done in runs:
                counts.add(done.result())
        except BaseException:  # Ctrl-C too: no further cut then
            ended.set()
            raise
    print(f"seed {seed}: {counts}; {time.monotonic() - started:.1f} s")
    loaded = counts.cuts - counts.starting
    assert counts.syncs >= 5 * loaded, "next to nothing was synced"
    assert counts.rows >= loaded, "SQLite committed next to nothing"
    assert counts.pending >= 0.8 * loaded, "nothing was pending at the cuts"


@pytest.mark.slow
@pytest.mark.parametrize("control", ["content_not_synced", "log_not_synced", "eatmydata"])
def test_power_cuts_find_a_sync_that_is_left_out(
    place: Path, tmp_path: Path, seed: int, control: str
) -> None:
    """Controls: a daemon that syncs less than it says is caught within a few cuts."""
    if control == "eatmydata":
        libraries = [str(path) for path in Path("/usr/lib").glob("*/libeatmydata.so*")]
        assert libraries, "package libeatmydata1 is missing"
        environment = {"LD_PRELOAD": libraries[0]}
    else:
        environment = {"PYTHONPATH": str(CONTROLS / control)}
    run = Run(place, tmp_path, seed, environment)
    with pytest.raises(AssertionError) as caught:
        run.cut_times(CONTROL_CUTS, threading.Event())
    assert run.counts.judged, f"nothing was cut: {caught.value}"
    print(f"{control}: caught: {str(caught.value)[:300]}")
