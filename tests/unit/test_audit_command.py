"""`artstorefs audit`: the records that are asked for, in each form, and whether the chain holds."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from artstorefs.core.audit_record import Head, file_name, head_of, record_line
from artstorefs.core.errors import ConfigurationError
from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main
from artstorefs_tools.configuration_files import read_configuration

RECORDS: list[dict[str, Any]] = [
    {"time": "2026-11-01T00:00:00.000000Z", "op": "start", "after_clean_end": True},
    {
        "time": "2026-11-02T10:00:00.000000Z",
        "op": "create",
        "uid": 7,
        "gid": 7,
        "pid": 12,
        "user": "anna",
        "command": "cp",
        "path": "/loans/a\u202eb",
        "kind": "file",
    },
    {"time": "2026-11-03T00:00:00.000000Z", "op": "rename", "path": "/x", "to": "/loans/x"},
    {"time": "2026-11-04T00:00:00.000000Z", "op": "remove", "path": {"$b64": "L2xvYW5zMv8="}},
    {"time": "2026-11-05T00:00:00.000000Z", "op": "create", "path": "=2+3", "user": "@SUM(A1)"},
]


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "museum.toml"
    places = [f'{name}_dir = "{tmp_path / name}"' for name in ("state", "cache", "runtime")]
    element = ["[audit]", "enabled = true", "[[element]]", 'id = "main"', 'path = "/srv/objects"']
    path.write_text("\n".join([*places, *element]))
    return path


@pytest.fixture
def file(toml: Path) -> Path:
    """The one file of the log, with RECORDS."""
    path = toml.parent / "state" / "audit" / file_name(1, "20261101")
    path.parent.mkdir(parents=True)
    head, lines = Head(), []
    for record in RECORDS:
        lines.append(record_line(head, json.dumps(record, separators=(",", ":"))[1:-1]))
        head = head_of(lines[-1], head.seq + 1)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def shown(capsys: pytest.CaptureFixture[str], toml: Path, *options: str) -> str:
    assert main(["audit", str(toml), *options]) == exit_codes.OK
    return capsys.readouterr().out


def numbers(capsys: pytest.CaptureFixture[str], toml: Path, *options: str) -> list[int]:
    text = shown(capsys, toml, "--json", *options)
    return [json.loads(line)["seq"] for line in text.splitlines()]


@pytest.mark.usefixtures("file")
def test_choice(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert numbers(capsys, toml) == [1, 2, 3, 4, 5]
    assert numbers(capsys, toml, "--since", "2026-11-02T10:00:00Z") == [2, 3, 4, 5]
    assert numbers(capsys, toml, "--until", "2026-11-02T11:00:00+01:00") == [1]
    assert numbers(capsys, toml, "--since", "2026-11-02", "--until", "2026-11-04") == [2, 3]
    assert numbers(capsys, toml, "--path", "/loans") == [2, 3]
    assert numbers(capsys, toml, "--path", "/") == [1, 2, 3, 4, 5]
    assert numbers(capsys, toml, "--path", "/loans/") == [2, 3]
    assert numbers(capsys, toml, "--path", "/loan") == []
    assert numbers(capsys, toml, "--since", "90m") in ([], [1, 2, 3, 4, 5])  # by the clock here


@pytest.mark.usefixtures("file")
def test_lines_for_people(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, toml).splitlines()
    assert len(lines) == 5
    assert lines[1].endswith("create '/loans/a\\u202eb' by anna cp[12] kind=file")
    assert " rename '/x' to '/loans/x'" in lines[2]


@pytest.mark.usefixtures("file")
def test_spreadsheet(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(shown(capsys, toml, "--csv"))))
    assert [row["seq"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[3]["path"] == "/loans2\\xff"
    assert rows[0]["details"] == '{"after_clean_end": true}'
    assert (rows[4]["path"], rows[4]["user"]) == ("'=2+3", "'@SUM(A1)")  # no formulas


def test_verification(toml: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the chain holds: 5 records, 1 to 5" in shown(capsys, toml, "--verify")
    verdict = json.loads(shown(capsys, toml, "--verify", "--json"))
    assert (verdict["good"], verdict["records"], verdict["last"]) == (True, 5, 5)
    file.write_bytes(file.read_bytes().replace(b"anna", b"otto"))
    assert main(["audit", str(toml), "--verify"]) == exit_codes.FAILURE
    told = capsys.readouterr().out
    assert f"{file.name}:3: record 2 before it was changed" in told
    assert "THE CHAIN IS BROKEN" in told
    file.write_bytes(file.read_bytes() + b'{"prev":')
    assert main(["audit", str(toml), "--verify"]) == exit_codes.FAILURE
    assert "the last line has no end" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.usefixtures("file")
def test_wrong_time(toml: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(toml), option, "yesterday"]) == exit_codes.USAGE
    assert "yesterday: is no ISO 8601 time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("enabled = 3", "audit.enabled: 3 is not allowed; it must be true or false"),
        ("enabld = true", "audit.enabld: true is set, but there is no such key; did you mean enab"),
        (
            'file_max = "1KiB"',
            'audit.file_max: 1024 is not allowed; it must be a size from "64KiB"',
        ),
    ],
)
def test_mistakes_in_the_configuration(toml: Path, text: str, words: str) -> None:
    toml.write_text(toml.read_text().replace("enabled = true", text))
    with pytest.raises(ConfigurationError) as raised:
        read_configuration(str(toml))
    assert words in str(raised.value)
