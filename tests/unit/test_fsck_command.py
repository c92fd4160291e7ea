"""`artstorefs fsck`: its words, its table, its exit codes, and the README beside them."""

import json
import re
from pathlib import Path

import pytest

from artstorefs.recovery.fsck_findings import Finding, FindingClass, Report
from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main
from artstorefs_tools.commands import fsck
from artstorefs_tools.progress import ProgressBar

README = (Path(__file__).parents[2] / "README.md").read_text()


def report(*findings: Finding, **members: object) -> Report:
    made = Report("museum", deep=True, mounted=False, findings=list(findings))
    for name, value in members.items():
        setattr(made, name, value)
    return made


def finding(kind: FindingClass = FindingClass.WRONG_HASH, repaired: str | None = None) -> Finding:
    return Finding(kind, "is\nwrong", "main", "2025/x", bytes(16), "/a\x1b[2Jb", repaired=repaired)


def test_readme_has_every_class() -> None:
    table = re.search(r"<!-- fsck classes -->\n(.*)<!-- /fsck classes -->", README, re.DOTALL)
    assert table is not None
    rows = table[1].splitlines()[2:]
    assert rows == [f"| `{k.label}` | {k.explanation} | {k.repair} |" for k in FindingClass]


def test_readme_has_every_key_of_the_json() -> None:
    made = report(finding()).as_json()
    for key in (*made, *made["findings"][0]):
        assert f"`{key}`" in README
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (report(), exit_codes.OK),
        (report(finding(FindingClass.FOREIGN)), exit_codes.OK),
        (report(unsettled=3), exit_codes.OK),
        (report(finding(repaired="moved")), exit_codes.FINDINGS_REPAIRED),
        (report(finding(), finding(repaired="moved")), exit_codes.FINDINGS_LEFT),
        (report(incomplete={"main": "gone"}), exit_codes.FAILURE),
        (report(finding(), incomplete={"main": "gone"}), exit_codes.FINDINGS_LEFT),
    ],
)
def test_exit_codes(made: Report, code: int) -> None:
    assert fsck._exit_code(made) == code


def test_table_for_people_keeps_the_terminal_as_it_is() -> None:
    text = "\n".join(fsck.describe(report(finding(), finding(repaired="moved"))))
    assert "\x1b" not in text
    assert "/a\\x1b[2Jb" in text
    assert "1 left, 1 repaired" in text
    assert list(fsck.describe(report()))[-1] == "nothing is wrong"
    assert "nothing is wrong" not in list(fsck.describe(report(unsettled=1)))[-1]


def test_progress_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsck.time, "monotonic", lambda: 0.0)
    line = fsck._Progress(ProgressBar("reading"))
    line.start(1000, 300 << 20)(10, 100 << 20)
    assert line.text(50.0) == "10 of 1,000 objects, 100MiB of 300MiB, 2MiB/s, 1:40 left"


@pytest.mark.parametrize("rate", ["0", "fast", "-5MiB", "1.5"])
def test_rate_that_is_none_is_one_line(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck", "museum", "--deep", f"--rate={rate}"]) == exit_codes.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_options_of_deep_alone_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck", "museum", "--restart"]) == exit_codes.USAGE
    assert "--deep" in capsys.readouterr().err
