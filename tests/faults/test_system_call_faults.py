"""A fault at every system call of the daemon and of the transfer process, one at a time.

A call on the mount then fails with a right errno, or has really happened; an fsync whose flush
failed is never a success; the mount lives; and what was acknowledged is there, at once, after a
kill, and on the element. Which calls are made is counted first; `ASFS_FAULTS` is the number of
faults that are tried of all, from a seed (0: all of them, about an hour).
"""

import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from artstorefs.state.database import CHECKPOINT_BYTES
from artstorefs_tools.control_client import ControlClient

from ..filesystem.element_tree import read_element
from ..harness import MountedArchive, wait_for_end
from .injection import counting, failing, time_limit
from .workload import DEAD, Call, Truth, Workload

FAULTS = int(os.environ.get("ASFS_FAULTS", "40"))
SEED = int(os.environ.get("ASFS_SEED", str(random.SystemRandom().randrange(2**32))))

FAULT_LIMIT_S = 30
FLUSH_LIMIT_S = 60

MOUNT_CALLS = ("fsync", "fdatasync", "pwrite64", "openat", "ftruncate", "unlink", "pread64")
TRANSFER_CALLS = (
    *("fsync", "fdatasync", "syncfs", "write", "openat", "link", "linkat", "rename", "renameat"),
    *("renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "fchmod", "sendfile", "pread64"),
)
SYNCS = ("fsync", "fdatasync", "syncfs")

ERRORS = {
    "fsync": ("error=EIO", "error=ENOSPC"),
    "fdatasync": ("error=EIO", "error=ENOSPC"),
    "pwrite64": ("error=EIO", "error=ENOSPC", "error=EINTR", "retval=0"),
    "write": ("error=EIO", "error=ENOSPC", "error=EINTR", "retval=0"),
    "openat": ("error=EIO", "error=EMFILE", "error=EINTR"),
}
OTHER_ERRORS = ("error=EIO", "error=ENOSPC")
KILL = "signal=SIGKILL"


@dataclass(frozen=True)
class Fault:
    process: str
    call: str
    fault: str
    index: int


class Run:
    """One archive, and one fault after the other."""

    def __init__(self, base: Path) -> None:
        self.archive = MountedArchive(base, settings="settle_s = 0\nindex_backup_interval_s = 0")
        self.output = base / "strace"
        self.truth = Truth()
        self.runs = 0
        self.counted: Counter[str] = Counter()

    @property
    def root(self) -> Path:
        return self.archive.mount / "d"

    def pid(self, process: str) -> int:
        if process == "mount":
            return self.archive.pid
        with self._control() as client:
            return int(str(client.call("status")["transfer_pid"]))

    def _control(self) -> ControlClient:
        return ControlClient(self.archive.base / "runtime", "test", FLUSH_LIMIT_S)

    def workload(self, faults: Callable[[], list[str]]) -> Workload:
        self.runs += 1
        return Workload(self.root, self.truth, SEED + self.runs, faults)

    def flush(self) -> bool:
        """Whether the elements have everything, as the daemon says."""
        with self._control() as client:
            answer = client.call("flush")
        return not answer["pending"] and not answer["failed"]

    def faults(self) -> list[Fault]:
        """All that there are, as far as one undisturbed run shows."""
        found = []
        for process, calls in (("mount", MOUNT_CALLS), ("transfer", TRANSFER_CALLS)):
            with counting(self.pid(process), self.output, calls) as tracer:
                self.workload(list).run()
                assert self.flush()
            self.truth.settle(self.root)
            counts = tracer.counts()
            assert counts, f"no call of the {process} process was seen"
            for call, count in sorted(counts.items()):
                for fault in (*ERRORS.get(call, OTHER_ERRORS), KILL):
                    found += [Fault(process, call, fault, n) for n in range(1, count + 1)]
        return found

    def try_fault(self, fault: Fault) -> None:
        pid = self.pid(fault.process)
        daemon = self.archive.pid
        with (
            time_limit(daemon, FAULT_LIMIT_S) as late,
            failing(pid, self.output, fault.call, fault.fault, fault.index) as tracer,
        ):
            load = self.workload(tracer.injected)
            load.run()
            if fault.process == "transfer":
                self._flush_under_fault()
        assert not late, "it took too long"
        self.counted[fault.process] += 1
        self.counted["hit"] += bool(tracer.injected()) or fault.fault == KILL
        self._check_calls(fault, load.calls)
        if fault.fault == KILL and fault.process == "mount":
            self._come_back(daemon)
        self._check()

    def _flush_under_fault(self) -> None:
        """It says that all is there, or that something is not; the first is looked into."""
        if self.flush():
            self.check_element()

    def _check_calls(self, fault: Fault, calls: list[Call]) -> None:
        allowed = {0, errno.EIO, errno.ENOENT, *DEAD}
        kind, _, name = fault.fault.partition("=")
        if kind == "error":
            allowed.add(getattr(errno, name))
        if fault.call == "pwrite64" and kind == "retval":
            allowed.add(errno.ENOSPC)  # SQLite takes a write that writes nothing for a full disk
        # A checkpoint, which comes from this size of the log on, syncs for no program; nor does
        # what SQLite syncs in the main thread, for files that were closed a moment ago perhaps:
        # the flush of an fsync is made in another one.
        log_bytes = (self.archive.state / "state.db-wal").stat().st_size
        is_of_a_program = (
            kind == "error" and fault.process == "mount" and log_bytes < CHECKPOINT_BYTES
        )
        for call in calls:
            self.counted["failed calls"] += call.code != 0
            assert call.code in allowed, f"{call.name}: {os.strerror(call.code)}"
            assert call.code not in DEAD or fault.fault == KILL, f"{call.name}: the mount is gone"
            failed_sync = is_of_a_program and any(name in SYNCS for name in call.faults)
            if failed_sync and call.name in ("fsync", "synchronous write"):
                assert call.code, f"{call.name} succeeded, and its flush had failed"

    def _come_back(self, daemon: int) -> None:
        if os.path.exists(f"/proc/{daemon}"):
            try:
                os.statvfs(self.archive.mount)
                return  # no thread came to that call
            except OSError:
                wait_for_end(daemon)
        self.archive.start()
        self.counted["kills"] += 1

    def _check(self) -> None:
        """The mount lives, and shows what was acknowledged."""
        os.statvfs(self.archive.mount)
        difference = self.truth.differences(self.root)
        assert difference is None, difference
        self.truth.settle(self.root)

    def restart(self) -> None:
        """After a kill the same is there, and then on the element."""
        self.archive.kill()
        self.archive.start()
        self._check()
        deadline = time.monotonic() + FLUSH_LIMIT_S
        while not self.flush():
            assert time.monotonic() < deadline, self.archive.status()["errors"]
            time.sleep(0.2)
        self.check_element()

    def check_element(self) -> None:
        tree = read_element(self.archive.element)
        found = {os.fsdecode(p[3:]): node.content for p, node in tree.items() if p[:3] == b"/d/"}
        assert found.keys() >= {n for n, allowed in self.truth.files.items() if None not in allowed}
        for name, content in found.items():
            assert content in self.truth.files.get(name, []), f"{name} on the element"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    try:
        made.archive.start()
        made.root.mkdir()
        yield made
    finally:
        made.archive.clean_up()


def chosen(faults: list[Fault]) -> list[Fault]:
    """Every so manieth of all from a random first one, so that no kind of fault is left out."""
    if FAULTS == 0 or len(faults) <= FAULTS:
        return faults
    stride = len(faults) / FAULTS
    start = random.Random(SEED).random() * stride
    return [faults[int(start + number * stride)] for number in range(FAULTS)]


@pytest.mark.slow
@pytest.mark.long
def test_a_fault_at_every_system_call(run: Run) -> None:
    """SEMANTICS: DUR-1, DUR-2, DUR-7"""
    started = time.monotonic()
    everything = run.faults()
    faults = chosen(everything)
    print(f"seed {SEED}: {len(faults)} of {len(everything)} faults")
    for number, fault in enumerate(faults):
        try:
            run.try_fault(fault)
            if number % 30 == 29:
                run.restart()
        except AssertionError as exc:
            log = run.archive.log()[-3000:]
            raise AssertionError(f"seed {SEED}, {fault}: {exc}\n{log}") from exc
    run.restart()
    print(f"seed {SEED}: {dict(run.counted)}; {time.monotonic() - started:.1f} s")
    assert run.counted["hit"] >= 0.7 * len(faults), "most faults met no call"
    assert run.counted["failed calls"], "no call ever failed"
