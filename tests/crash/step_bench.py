"""An archive with crash points that can be switched on while it is mounted; see test_every_step."""

import hashlib
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from ..filesystem.element_tree import read_element
from ..harness import MountedArchive
from . import scenarios
from .armed import REACH_LIMIT_S, Armed
from .comparison import check_element, check_rebuild, replay, settle
from .load import Model, Step, Writer, start_writer, wait_for_writers

B = TypeVar("B", bound="Bench")


class Bench:
    """One archive, and what is armed on it."""

    def __init__(
        self,
        base: Path,
        *,
        mount: bool = True,
        settle_s: int = 0,
        settings: str = "",
        further: tuple[str, ...] = (),
    ) -> None:
        self.archive = MountedArchive(
            base, settings=f"settle_s = {settle_s}\n{settings}", further=further
        )
        self.armed = Armed({"ARTSTOREFS_YIELD_LIMIT_S": "0", "ARTSTOREFS_SUM_AFTER_S": "0"})
        self.starter = self.armed.starter
        if mount:
            self.starter.mount(self.archive)
        self.models: dict[str, Model] = {}
        self.under_way: Step | None = None
        self.numbers = 0

    def close(self) -> None:
        self.archive.clean_up()
        self.armed.close()
        self.archive.clean_up()
        shutil.rmtree(self.archive.base)

    # ------------------------------------------------------------------------------- steps

    def prepare(self) -> str:
        """A new directory with files that the element has; its name."""
        self.armed.disarm()
        self.numbers += 1
        directory = f"step{self.numbers}"
        (self.archive.mount / directory).mkdir()
        self.models = {directory: Model()}
        self.work(directory, scenarios.prepare)
        self.archive.ask("flush")
        return directory

    def arm(self, point: str) -> None:
        self.armed.arm(point)

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
        self.armed.wait_until_reached()

    def wait_until_summed(self, count: int) -> None:
        """Until so many files that wait in the spool have a sum."""
        deadline = time.monotonic() + REACH_LIMIT_S
        database = f"file:{self.archive.state / 'state.db'}?mode=ro"
        with closing(sqlite3.connect(database, uri=True)) as connection:
            while connection.execute("SELECT count(*) FROM spool_sums").fetchone()[0] < count:
                assert time.monotonic() < deadline, "they were never summed: nothing is shown"
                time.sleep(0.01)

    def start(self) -> None:
        self.starter.mount(self.archive)

    def start_dies(self) -> None:
        """A start that comes to the armed point, in its own process or in the transfer process."""
        self.starter.begin("mount", str(self.archive.toml), str(self.archive.mount))
        self.wait_until_reached()
        self.end()

    def lose_spool(self) -> None:
        """As if a power cut had taken what was never synced."""
        for path in (self.archive.state / "spool").iterdir():
            if path.is_file():
                path.unlink()

    def end(self) -> None:
        """Kill what is left of the daemon, if anything is."""
        self.archive.kill_what_is_left()

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
        assert (status["pending"]["intents"], status["errors"]) == (0, []), status
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


@contextmanager
def kept(benches: list[B], make: Callable[[], B]) -> Iterator[B]:
    """The archive of the tests before, or a new one if there is none or a test failed on it."""
    made = benches.pop() if benches else make()
    try:
        yield made
        made.check_everything()
        made.clear()
    except BaseException:
        print(made.archive.log()[-3000:])
        made.close()
        raise
    benches.append(made)


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
