"""Every bug of the tables beside this file is caught by the tests that it names.

Each is planted into a copy of the source of its own, and its tests are run there. That they fail
counts only because they pass without it, as the run shows that this is a part of, and some of each
folder in such a copy; and only if they fail by what they assert: a program that cannot even be
imported proves nothing about a test.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..harness import REPOSITORY
from . import (
    bugs_archived,
    bugs_cache,
    bugs_elements,
    bugs_expiry,
    bugs_filesystem,
    bugs_modes,
    bugs_moves,
    bugs_recovery,
    bugs_state,
    bugs_transfer,
)
from .bug import Bug, BugDoesNotFit
from .copies import Failure, Outcome, copy_source, run_tests
from .interpreter import Interpreter

BUGS: list[Bug] = [
    *bugs_elements.BUGS,
    *bugs_state.BUGS,
    *bugs_transfer.BUGS,
    *bugs_filesystem.BUGS,
    *bugs_cache.BUGS,
    *bugs_recovery.BUGS,
    *bugs_archived.BUGS,
    *bugs_modes.BUGS,
    *bugs_moves.BUGS,
    *bugs_expiry.BUGS,
]

SOME = int(os.environ.get("ASFS_PLANTED", "15"))
"""So many of them are planted in one run, others in the next: 0 is all. That each fits the source
is checked in every run."""
CHANCE = random.Random(int(os.environ["ASFS_SEED"]))
CHOSEN = CHANCE.sample(BUGS, SOME) if SOME else BUGS


@dataclass(frozen=True, slots=True)
class Bed:
    """Where bugs are planted: `pristine` is a copy of the source that all others are made from."""

    pristine: Path
    interpreter: Interpreter

    def outcome_with(self, place: Path, bug: Bug | None, tests: list[str]) -> Outcome:
        """What becomes of these tests in a copy of the source with the bug."""
        tree = place / "source"
        copy_source(tree, self.pristine, link=True)
        if bug is not None:
            bug.plant(tree)
        return run_tests(self.interpreter, tree, tests)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    pristine = tmp_path_factory.mktemp("pristine") / "source"
    copy_source(pristine)
    interpreter = Interpreter()
    yield Bed(pristine, interpreter)
    interpreter.close()


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    names = [bug.name for bug in BUGS]
    assert len(names) >= 30
    assert len(set(names)) == len(names)
    for bug in BUGS:
        assert bug.what.endswith(".")
        assert bug.breaks
        assert bug.caught_by


def test_every_bug_fits_the_source() -> None:
    misfits = []
    for bug in BUGS:
        try:
            bug.planted_into((REPOSITORY / bug.path).read_text())
        except (BugDoesNotFit, OSError, SyntaxError) as exc:
            misfits.append(str(exc))
    assert not misfits, "\n".join(misfits)


def test_a_bug_that_does_not_fit_is_refused() -> None:
    bug = Bug("", "", "", "", "x = 1", "x = 2", ())
    assert bug.planted_into("x = 1\n") == "x = 2\n"
    with pytest.raises(BugDoesNotFit, match="0 times"):
        bug.planted_into("x = 3\n")
    with pytest.raises(BugDoesNotFit, match="2 times"):
        bug.planted_into("x = 1\nx = 1\n")
    with pytest.raises(BugDoesNotFit, match="nothing"):
        Bug("", "", "", "", "x = 1", "x = 1  # 2", ()).planted_into("x = 1\n")


@pytest.mark.slow
@pytest.mark.long
def test_the_tests_pass_without_a_bug(tmp_path: Path, bed: Bed) -> None:
    """In the copy of the source; that they pass where they stand, the run that this is a part of
    shows. Some of each folder: it is about the place, and every bug has to be caught by what a
    test asserts there."""
    tests = sorted({test for bug in BUGS for test in bug.caught_by}, reverse=True)
    one_of_each = {(test.split("/")[1], len(test) % 3): test for test in tests}
    outcome = bed.outcome_with(tmp_path, None, sorted(one_of_each.values()))
    assert not outcome.failures, outcome.output
    assert outcome.collected


@pytest.mark.slow
@pytest.mark.parametrize("bug", CHOSEN, ids=lambda bug: bug.name)
def test_bug_is_caught(tmp_path: Path, bed: Bed, bug: Bug) -> None:
    check_caught(bug, bed.outcome_with(tmp_path, bug, list(bug.caught_by)))


def check_caught(bug: Bug, outcome: Outcome) -> None:
    """AssertionError unless each test was there, and failed by what it asserts."""
    for test in bug.caught_by:
        assert outcome.cases_of(test), f"{test} was not found:\n{outcome.output}"
        failures = outcome.failures_of(test)
        assert failures, f"{bug.name} ({bug.what}) is not caught by {test}:\n{outcome.output}"
        told = "\n".join(failure.text for failure in failures)
        assert not all(failure.broken for failure in failures), f"{test} cannot run:\n{told}"


def test_what_is_no_catch() -> None:
    bug = Bug("name", "What.", "", "", "", "", ("t.py::test_a", "t.py::test_b"))
    a, b, other = (
        Failure(test, broken=False, text="AssertionError")
        for test in ("t.py::test_a[1]", "t.py::test_b", "t.py::test_bc")
    )
    broken = Failure("t.py::test_b", broken=True, text="ImportError")
    collected = ["t.py::test_a[1]", "t.py::test_a[2]", "t.py::test_b", "t.py::test_bc"]
    check_caught(bug, Outcome(collected, [a, b], ""))
    for outcome, told in (
        (Outcome([], [], ""), "test_a was not found"),
        (Outcome(collected[:2], [a], ""), "test_b was not found"),
        (Outcome(collected, [], ""), "not caught by t.py::test_a"),
        (Outcome(collected, [a, other], ""), "not caught by t.py::test_b"),
        (Outcome(collected, [a, broken], ""), "test_b cannot run"),
    ):
        with pytest.raises(AssertionError, match=told):
            check_caught(bug, outcome)
