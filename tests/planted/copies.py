"""Copies of the source tree, and tests that are run in one of them.

The project is installed editable, so an interpreter finds the repository. One whose PYTHONPATH
begins with a copy finds the copy, and so do the daemons that it starts; `run_tests` makes sure.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..harness import REPOSITORY
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


def copy_source(target: Path) -> None:
    """Copy the source tree with its compiled files, whose times the copies keep."""
    target.mkdir()
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, symlinks=True)
        else:
            shutil.copy2(source, target / name)


def run_tests(tree: Path, tests: list[str]) -> Outcome:
    """Run these tests in a copy. AssertionError unless the copy was tested, and to the end."""
    # Short, for the path of a socket has little room, and its own, so that nothing is left.
    with tempfile.TemporaryDirectory(prefix="p.") as scratch:
        report = Path(scratch) / "report.json"
        output = _pytest(tree, tests, Path(scratch), report)
        assert report.exists(), f"the tests in {tree} did not end by themselves:\n{output}"
        answer: dict[str, Any] = json.loads(report.read_text())
    for name, place in answer["places"].items():
        assert Path(place).is_relative_to(tree), f"{name} was imported from {place}, not {tree}"
    failures = [Failure(**values) for values in answer["failures"]]
    return Outcome(answer["collected"], failures, output)


def _pytest(tree: Path, tests: list[str], scratch: Path, report: Path) -> str:
    path = [tree, tree / "daemon", tree / "tools", tree / "tests" / "planted"]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "TMPDIR": str(scratch),
        REPORT: str(report),
    }
    arguments = ["-q", "-p", "witness", "-p", "no:cacheprovider", "--tb=short"]
    arguments.append(f"--basetemp={scratch / 't'}")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments, *tests],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # the fixtures of its tests clean up
        output, _ = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.wait()
    return output
