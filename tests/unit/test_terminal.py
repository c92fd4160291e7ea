"""Tables, colour and progress: what a terminal gets, and what everything else does."""

import io
import os
import pty
import subprocess
import sys

import pytest

from artstorefs_tools.progress import ProgressBar
from artstorefs_tools.terminal import coloured, columns_of, format_table

PROGRAM = """
import sys, time
from artstorefs_tools import progress
progress.DELAY_S = float(sys.argv[1])
with progress.ProgressBar("flush") as bar:
    bar.show(3, 10, "7 [to] carry")
    deadline = time.monotonic() + 20
    while float(sys.argv[1]) < 1 and bar._shown is None and time.monotonic() < deadline:
        time.sleep(0.01)
    bar.show(9, 10, "1 [to] carry")
print("rich" in sys.modules)
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "has"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colour_only_on_a_terminal_and_never_with_no_color(
    stream: io.StringIO,
    variables: dict[str, str],
    has: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert coloured("ok", "green", stream) == ("\x1b[32mok\x1b[0m" if has else "ok")
    assert coloured("ok", None, stream) == "ok"


def test_columns_stand_under_each_other_in_every_script() -> None:
    rows = [["\x1b[31mab\x1b[0m", "x"], ["夜警", "x"], ["e\u0301", "x"]]
    lines = list(format_table(rows))
    assert [columns_of(line.rpartition("x")[0]) for line in lines] == [6, 6, 6]


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.01, 1000])
def test_progress_appears_on_a_terminal_once_it_takes_long(delay_s: float) -> None:
    terminal, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(delay_s)],
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"},
    )
    os.write(theirs, b"end")
    shown = b""
    while not shown.endswith(b"end"):
        shown += os.read(terminal, 65536)
    os.close(theirs)
    os.close(terminal)
    appeared = delay_s < 1
    assert done.stdout == f"{appeared}\n"
    assert (b"[to] carry" in shown) is appeared
    if appeared:
        assert shown.removesuffix(b"end").rstrip().endswith(b"\x1b[2K")  # nothing of it is left


def test_progress_is_silent_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("flush") as bar:
        bar.show(1, 2, "text")
    assert capsys.readouterr() == ("", "")
