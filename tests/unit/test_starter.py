"""Commands that are forked from a process that is loaded answer as new processes do."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..starter import Starter

PROGRAM = """
import os, sys, time
print(os.getcwd())
time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    """Of commands that take a number of seconds and end with a code."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    made = Starter(program=str(program))
    yield made
    made.close()


@pytest.mark.slow
def test_it_says_and_answers_what_a_new_process_does() -> None:
    starter = Starter()
    try:
        for arguments in (("--help",), ("mount",), ("status", "/no/such.toml"), ("umount", "/")):
            done = starter.run(arguments, 60)
            new = subprocess.run(
                [sys.executable, "-m", "artstorefs_tools.command_line", *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done is not None
            assert (done.returncode, done.stdout, done.stderr) == (
                new.returncode,
                new.stdout,
                new.stderr,
            )
    finally:
        starter.close()


@pytest.mark.slow
def test_after_one_that_took_too_long_comes_the_answer_of_the_next(starter: Starter) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        starter.run(("60", "1"), 0.2)
    done = starter.run(("0", "7"), 60)
    assert done is not None
    assert (done.returncode, done.stdout) == (7, f"{Path.cwd()}\n")


@pytest.mark.slow
def test_another_environment_needs_a_new_process(
    starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASFS_SOMETHING", "else")
    assert starter.run(("0", "0"), 60) is None
    monkeypatch.undo()
    assert starter.run(("0", "0"), 60) is not None
