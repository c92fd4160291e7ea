"""Every named crash point, with a real daemon, a real transfer process and a real SIGKILL.

An archive is mounted with crash points that a file switches on (`core/crash_points.py`). In each
test a directory is prepared and flushed, a point is armed, a scenario is done, and whichever
process comes to the point dies there. Then it is checked, in this order, that

    every attr.json on the element still has its object, whole, and no file has lost its own
    a mount that lives shows everything that was acknowledged, and so does the next one
    flushed, the element says the same, and holds nothing else: no orphan, no leftover
    an index that is rebuilt from the element alone is the index that there is

The archive is used again by the next test unless a test failed; every test passes alone as well.
`artstorefs/RECOVERY.md` names the points and what is to be found; a test compares it with these.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artstorefs.core.crash_points import VARIABLE

from ..filesystem.element_tree import read_element
from ..harness import MountedArchive, wait_for_end
from ..starter import Starter, is_alive
from . import scenarios
from .comparison import check_element, check_rebuild, replay, settle
from .load import Model, Writer, start_writer, wait_for_writers

REACH_LIMIT_S = 30.0
"""How long a point may take to be reached: seconds on a machine that is busy."""

OPENING = ["create.committed", "spool.opened", "write.spooled"]
STORING = ["assign.committed", "batch.sent", "log.synced", "staging.temporary_made"]
STORING += ["object.staged", "barrier.contents_flushed", "barrier.change_published"]
STORING += ["barrier.published", "barrier.directories_flushed", "objects.durable"]
STORING += ["document.staged", "barrier.change_published:3", "barrier.published:2"]
STORING += ["documents.durable", "batch.carried", "result.received", "stored.committed"]
REMOVING = ["removal.documents_gone", "removal.objects_gone", "removed.committed"]
RECORDS = ["assign.committed", "document.staged", "barrier.published", "stored.committed"]

CASES = {
    scenarios.new: [*OPENING, "content_sealed.committed", *STORING, "transaction.written"],
    scenarios.overwrite: [
        *("copy.spooled", "content_opened.committed", "write.spooled", "content_sealed.committed"),
        *(*STORING, *REMOVING, "removal.spool_file_gone", "barrier.unlinked"),
    ],
    scenarios.truncate: ["spool.created", "content_opened.committed", "stored.committed"],
    scenarios.metadata: ["attributes.committed", *RECORDS, "transaction.written"],
    scenarios.delete: ["remove.committed", "barrier.unlinked", *REMOVING, "transaction.written"],
    scenarios.deleted_while_open: ["remove.committed", "purge.committed"],
    scenarios.replace: ["rename.committed", *RECORDS, *REMOVING, "transaction.written:3"],
    scenarios.replace_first_of_two_links: ["rename.committed", "stored.committed", *REMOVING],
    scenarios.link: ["link.committed", "link_record.staged", "documents.durable"],
    scenarios.unlink_first_of_two_links: ["remove.committed", "stored.committed", *REMOVING[:1]],
    scenarios.unlink_second_of_two_links: ["remove.committed", *REMOVING[:1]],
    scenarios.exchange: ["exchange.committed", "barrier.change_published", "stored.committed"],
    scenarios.others: ["observed.committed", "stored.committed"],
}

TRANSFER = ["log.synced", "object.staged", "barrier.published", "document.staged"]
TRANSFER += ["documents.durable", "batch.carried", *REMOVING[:2], "removal.spool_file_gone"]


class Bench:
    """One archive, and what is armed on it."""

    def __init__(self, base: Path) -> None:
        self.archive = MountedArchive(base, settings="settle_s = 0")
        self.switch = base / "crash"
        self.reached = base / "crash.reached"
        environment = {VARIABLE: str(self.switch), "ARTSTOREFS_YIELD_LIMIT_S": "0"}
        self.starter = Starter(self.archive.toml, environment)
        self.starter.mount(self.archive)
        self.models: dict[str, Model] = {}
        self.numbers = 0

    def close(self) -> None:
        self.archive.clean_up()
        self.starter.close()
        self.archive.clean_up()
        shutil.rmtree(self.archive.base)

    # ------------------------------------------------------------------------------- steps

    def prepare(self) -> str:
        """A new directory with files that the element has; its name."""
        self.switch.unlink(missing_ok=True)
        self.reached.unlink(missing_ok=True)
        self.numbers += 1
        directory = f"step{self.numbers}"
        (self.archive.mount / directory).mkdir()
        self.models = {directory: Model()}
        self.work(directory, scenarios.prepare)
        self.archive.ask("flush")
        return directory

    def arm(self, point: str) -> None:
        self.reached.unlink(missing_ok=True)
        temporary = self.switch.with_suffix(".new")
        temporary.write_text(point)
        temporary.rename(self.switch)

    def work(self, directory: str, scenario: Callable[[Writer], None]) -> None:
        """Do it, as far as the mount lets us, and take the model to what the mount has to show."""
        journal = self.archive.base / "journal"
        journal.unlink(missing_ok=True)
        place = str(self.archive.mount / directory)
        seed = random.Random(f"{directory} {scenario.__name__}").randrange(2**32)
        model = self.models[directory]
        wait_for_writers({start_writer(place, model, str(journal), scenario, seed): journal})
        self.under_way = replay(model, journal)[1]

    def wait_until_reached(self) -> None:
        deadline = time.monotonic() + REACH_LIMIT_S
        while not self.reached.exists():
            assert time.monotonic() < deadline, "the point was never reached: nothing is shown"
            time.sleep(0.01)

    def start(self) -> None:
        self.starter.mount(self.archive)

    def start_dies(self) -> None:
        """A start that comes to the armed point, in its own process or in the transfer process."""
        self.starter.begin("mount", str(self.archive.toml), str(self.archive.mount))
        self.wait_until_reached()
        self.end()

    def end(self) -> None:
        """Kill what is left of the daemon, if anything is."""
        pid = self.archive.pid
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        wait_for_end(pid)

    # ------------------------------------------------------------------------------ checks

    def check_mount(self) -> None:
        """What was acknowledged is there; the call that was under way has happened or has not."""
        for directory, model in self.models.items():
            settled, _ = settle(model, self.under_way, self.archive.mount / directory)
            self.models[directory] = settled
        self.under_way = None

    def check_everything(self) -> None:
        """On the mount, and flushed on the element, and in an index that is rebuilt from it."""
        self.check_mount()
        self.archive.ask("flush")
        status = self.archive.ask("status")
        assert (status["pending"]["intents"], status["errors"]) == (0, [])
        assert status["spool"]["bytes"] == 0
        assert [p.name for p in (self.archive.state / "spool").iterdir() if p.name != "lost"] == []
        assert list((self.archive.element / ".artstorefs" / "tmp").iterdir()) == []
        check_element(self.models, read_element(self.archive.element))
        check_rebuild(self.archive.toml, self.archive.base)
        self.check_mount()
        assert "Traceback" not in self.archive.log(), self.archive.log()[-4000:]

    def clear(self) -> None:
        """For the next test."""
        for directory in self.models:
            shutil.rmtree(self.archive.mount / directory)


def whole_objects(element: Path) -> set[str]:
    """The files that have an attr.json; an AssertionError if one does not have its object."""
    found = set()
    for path in element.rglob("*.attr.json"):
        document = json.loads(path.read_bytes())
        data = path.with_name(path.name.removesuffix(".attr.json")).read_bytes()
        assert document["file_size"] == len(data), path
        assert document["checksum"] == hashlib.sha256(data).hexdigest(), path
        found.add(document["file_id"])
    return found


_benches: list[Bench] = []


@pytest.fixture(scope="module", autouse=True)
def _clean_up() -> Iterator[None]:
    yield
    while _benches:
        _benches.pop().close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """The archive of the tests before, or a new one if there is none or a test failed on it."""
    if not _benches:
        _benches.append(Bench(Path(tempfile.mkdtemp(prefix="asfs-"))))
    made = _benches.pop()
    try:
        yield made
        made.check_everything()
        made.clear()
    except BaseException:
        print(made.archive.log()[-3000:])
        made.close()
        raise
    _benches.append(made)


GOING = {scenarios.delete, scenarios.replace, scenarios.replace_first_of_two_links}
"""Scenarios after which the element need not have every file that it had."""

STEPS = [(point, scenario) for scenario, points in CASES.items() for point in points]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "scenario"), STEPS, ids=[f"{point}-{what.__name__}" for point, what in STEPS]
)
def test_kill_at_every_step(bench: Bench, point: str, scenario: Callable[[Writer], None]) -> None:
    """SEMANTICS: DUR-1, ELEM-1, ELEM-2, MOUNT-1"""
    directory = bench.prepare()
    before = whole_objects(bench.archive.element)
    bench.arm(point)
    bench.work(directory, scenario)
    bench.wait_until_reached()
    after = whole_objects(bench.archive.element)
    assert before <= after or scenario in GOING
    if is_alive(bench.archive.mount) and scenario is not scenarios.others:
        bench.check_mount()
    bench.end()
    bench.start()


@pytest.mark.slow
@pytest.mark.parametrize("point", TRANSFER)
def test_kill_of_the_transfer_process_at_every_step(bench: Bench, point: str) -> None:
    """The mount goes on, and nobody who uses it has noticed. SEMANTICS: DUR-7"""
    directory = bench.prepare()
    pid = bench.archive.pid
    bench.arm(point)
    bench.work(directory, scenarios.overwrite)
    bench.wait_until_reached()
    bench.check_mount()
    bench.work(directory, scenarios.new)
    bench.check_everything()
    assert bench.archive.pid == pid
    assert bench.under_way is None


# ------------------------------------------------------------------------------ the start


def leave_everything_open(bench: Bench) -> str:
    """A daemon dies with files open, deleted and open, sealed; the directory's name."""
    directory = bench.prepare()
    place = bench.archive.mount / directory
    bench.arm("assign.committed")
    descriptors = [os.open(place / name, os.O_RDWR | os.O_CREAT) for name in ("open1", "open2")]
    for descriptor in descriptors:
        os.write(descriptor, b"written and not closed")
    os.unlink(place / "open2")
    bench.work(directory, scenarios.overwrite)
    bench.wait_until_reached()
    bench.end()
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            assert not is_alive(bench.archive.mount)
    return directory
