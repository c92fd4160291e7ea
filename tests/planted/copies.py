"""Copies of the source tree, and tests that are run in one of them.

The project is installed editable, so an interpreter finds the repository. One whose path begins
with a copy finds the copy, and so do the daemons that it starts; `run_tests` makes sure.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..harness import REPOSITORY
from .interpreter import Interpreter
from .witness import REPORT

COPIED = ("artstorefs", "daemon", "tools", "tests", "pyproject.toml")
"""What the named tests need of the repository."""

LIMIT_S = 150
"""For the tests of one copy: a few seconds each, and a machine that has other things to do."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that did not pass. `broken`: because the program did not work at all."""

    test: str
    broken: bool
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the tests that were run in a copy."""

    collected: list[str]
    failures: list[Failure]
    output: str

    def cases_of(self, test: str) -> list[str]:
        """What was collected of a test that may have parameters."""
        return [case for case in self.collected if case == test or case.startswith(f"{test}[")]

    def failures_of(self, test: str) -> list[Failure]:
        cases = self.cases_of(test)
        return [failure for failure in self.failures if failure.test in cases]


def copy_source(target: Path, source: Path = REPOSITORY, *, link: bool = False) -> None:
    """Copy the source tree with its compiled files, whose times the copies keep. With `link` the
    files are links to those of `source`: nobody writes into one, compiled files are replaced."""
    target.mkdir()
    copy_file = os.link if link else shutil.copy2
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, symlinks=True, copy_function=copy_file)
        else:
            copy_file(source / name, target / name)


def run_tests(interpreter: Interpreter, tree: Path, tests: list[str]) -> Outcome:
    """Run these tests in a copy. AssertionError unless the copy was tested, and to the end."""
    # Short, for the path of a socket has little room, and its own, so that nothing is left.
    with tempfile.TemporaryDirectory(prefix="p.") as scratch:
        report = Path(scratch) / "report.json"
        arguments = ["-q", "-p", "witness", "-p", "no:cacheprovider", "--tb=short"]
        arguments.append(f"--basetemp={Path(scratch) / 't'}")
        output = interpreter.run(
            [*arguments, *tests],
            path=[tree, tree / "daemon", tree / "tools", tree / "tests" / "planted"],
            more={"TMPDIR": scratch, REPORT: str(report)},
            limit_s=LIMIT_S,
        )
        assert report.exists(), f"the tests in {tree} did not end by themselves:\n{output}"
        answer: dict[str, Any] = json.loads(report.read_text())
    for name, place in answer["places"].items():
        assert Path(place).is_relative_to(tree), f"{name} was imported from {place}, not {tree}"
    failures = [Failure(**values) for values in answer["failures"]]
    return Outcome(answer["collected"], failures, output)
