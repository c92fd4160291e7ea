"""A kill at each step of a migration, and a start after it; `artstorefs/RECOVERY.md`.

The steps of a single file are those of carrying and of removing; here some of them are walked while
what is carried is a move.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools.control_client import ControlClient
from artstorefs_tools.errors import CommandError

from ..filesystem.element_tree import read_element
from ..harness import wait_until
from . import scenarios
from .comparison import check_element
from .step_bench import Bench, kept

STEPS = ["migration.begun", "moves.begun", "migration.copied", "moves.removals_logged"]
STEPS += ["migration.done"]
STEPS += ["objects.durable", "documents.durable", "stored.committed", "removal.documents_gone"]
CANCELLED = ["migration.cancelled", "moves.given_up"]


class MigrationBench(Bench):
    """Everything is on `main` (`archive.element`), and `second` is as empty as a new one."""

    def __init__(self, base: Path) -> None:
        self.second = base / "second"
        super().__init__(base, further=(f"second=local:{self.second},priority=2",))

    def ask(self, method: str, **params: Any) -> None:
        """The daemon may die over it."""
        try:
            with ControlClient(self.archive.base / "runtime", "test") as client:
                client.call(method, params)
        except CommandError:
            return

    def migrate(self, source: str, target: str) -> None:
        self.ask("migrate", source=source, target=target, keep_source_s=0, wait=False)

    def phase(self) -> str | None:
        last = self.archive.ask("migration")["migration"]
        return None if last is None else str(last["phase"])

    def check_everything(self) -> None:
        super().check_everything()
        assert files(self.second) == set()


def files(element: Path) -> set[str]:
    """What an element has, but for what says whose it is."""
    own = element / ".artstorefs"
    return {path.name for path in element.rglob("*") if path.is_file() and path.parent != own}


_benches: list[MigrationBench] = []


@pytest.fixture(scope="module", autouse=True)
def _clean_up() -> Iterator[None]:
    yield
    while _benches:
        _benches.pop().close()


@pytest.fixture
def bench() -> Iterator[MigrationBench]:
    with kept(_benches, lambda: MigrationBench(Path(tempfile.mkdtemp(prefix="asfs-")))) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("point", STEPS)
def test_kill_at_every_step_of_a_migration(bench: MigrationBench, point: str) -> None:
    """SEMANTICS: MIGRATE-1, MIGRATE-2, MIGRATE-5, DUR-1"""
    bench.prepare()
    bench.arm(point)
    bench.migrate("main", "second")
    bench.wait_until_reached()
    bench.end()
    bench.start()
    wait_until(lambda: bench.phase() == "done")
    bench.check_mount()
    assert files(bench.archive.element) == set()
    check_element(bench.models, read_element(bench.second))
    bench.migrate("second", "main")
    wait_until(lambda: bench.phase() == "done")


@pytest.mark.slow
@pytest.mark.parametrize("point", CANCELLED)
def test_kill_when_a_migration_is_cancelled(bench: MigrationBench, point: str) -> None:
    """SEMANTICS: MIGRATE-5"""
    bench.prepare()
    held = bench.archive.mount / "held"
    held.write_bytes(b"content")
    bench.archive.ask("flush")
    with open(held, "r+b", buffering=0) as file:
        file.write(b"C")  # so that it is not moved as long as it is open
        bench.migrate("main", "second")
        wait_until(lambda: bench.archive.ask("migration")["migration"]["under_way"] == 1)
        bench.arm(point)
        bench.ask("migration_change", step="cancel")
        bench.wait_until_reached()
        bench.end()
    bench.start()
    wait_until(lambda: bench.archive.ask("migration")["migration"]["under_way"] == 0)
    assert bench.phase() == "cancelled"
    bench.archive.ask("flush")
    assert any(name.startswith("held") for name in files(bench.archive.element))
    assert held.read_bytes() == b"Content"
    held.unlink()
    bench.check_mount()
    bench.migrate("second", "main")
    wait_until(lambda: bench.phase() == "done")


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [scenarios.overwrite, scenarios.replace])
def test_kill_in_the_middle_of_changes_while_files_are_moved(
    bench: MigrationBench, scenario: scenarios.Scenario
) -> None:
    """SEMANTICS: MIGRATE-2, MIGRATE-4"""
    directory = bench.prepare()
    bench.arm("stored.committed:2")
    bench.migrate("main", "second")
    bench.work(directory, scenario)
    bench.wait_until_reached()
    bench.end()
    bench.start()
    wait_until(lambda: bench.phase() == "done")
    bench.archive.ask("flush")
    bench.check_mount()
    assert files(bench.archive.element) == set()
    check_element(bench.models, read_element(bench.second))
    bench.migrate("second", "main")
    wait_until(lambda: bench.phase() == "done")
