"""`artstorefs doctor`: finds what is missing, and says what to do."""

import json
import os
import shutil
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from artstorefs.elements.local import LocalElement
from artstorefs.recovery.layout import write_layout
from artstorefs_tools import checkup, exit_codes
from artstorefs_tools.command_line import main

from ..artstore import write_file

MOUNTS = (
    "21 1 {major}:{minor} / / rw shared:1 - {kind} /dev/vda rw\n"
    "22 21 0:20 / /proc rw - proc proc rw\n"
)


@pytest.fixture
def museum(tmp_path: Path) -> Path:
    """A configuration with one element that is there."""
    for name in ("main", "second"):
        LocalElement.initialize(str(tmp_path / name))
        element = LocalElement(name, str(tmp_path / name))
        write_layout(element, uuid4(), "museum")
        element.close()
    return write(tmp_path, "main")


def write(base: Path, *elements: str) -> Path:
    path = base / "museum.toml"
    places = [f'{name}_dir = "{base / name}"' for name in ("state", "cache", "runtime")]
    tables = [f'[[element]]\nid = "{name}"\npath = "{base / name}"' for name in elements]
    path.write_text("\n".join([*places, *tables]))
    return path


def found(
    path: Path | None, capsys: pytest.CaptureFixture[str], level: str
) -> tuple[int, list[dict[str, str]]]:
    """The exit code, and the findings of a level."""
    code = main(["doctor", *([str(path)] if path else []), "--json"])
    findings = json.loads(capsys.readouterr().out)
    return code, [finding for finding in findings if finding["level"] == level]


def test_all_is_well(museum: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(museum.parent.rglob("*"))
    code, wrong = found(museum, capsys, "wrong")
    assert (code, wrong) == (exit_codes.OK, [])
    assert main(["doctor", str(museum)]) == exit_codes.OK
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok       element main: ") for line in lines)
    assert sorted(museum.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda base: shutil.rmtree(base / "main"), "main"),
        (lambda base: shutil.rmtree(base / "main" / ".artstorefs"), "main"),
        (lambda base: (base / "main").rename(base / "x"), "main"),
        (
            lambda base: shutil.copytree(base / "second", base / "main", dirs_exist_ok=True),
            "is element second of its archive",
        ),
    ],
    ids=["gone", "emptied", "moved", "exchanged"],
)
def test_element_that_is_not_there(
    damage: object, words: str, museum: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(damage)
    damage(museum.parent)
    code, (finding,) = found(museum, capsys, "wrong")
    assert code == exit_codes.FAILURE
    assert finding["subject"] == "element main"
    assert words in finding["text"]


@pytest.mark.parametrize("inside", ["", ".artstorefs"])
def test_element_that_nothing_can_be_written_to(
    inside: str,
    museum: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of root's, or on a disk that is mounted read-only; in mode ro that is as it should be."""
    sealed, access = museum.parent / "main" / inside, os.access
    monkeypatch.setattr(os, "access", lambda path, how: path != sealed and access(path, how))
    code, (finding,) = found(museum, capsys, "wrong")
    assert (code, finding["subject"]) == (exit_codes.FAILURE, "element main")
    assert finding["text"] == f"{sealed} cannot be written to"
    museum.write_text(f'{museum.read_text()}\nmode = "ro"')
    assert found(museum, capsys, "wrong") == (exit_codes.OK, [])


def test_elements_of_two_archives(museum: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, (finding,) = found(write(museum.parent, "main", "second"), capsys, "wrong")
    assert code == exit_codes.FAILURE
    assert finding["text"] == "main and second are of different archives"


def test_element_that_never_answers(
    museum: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "ELEMENT_LIMIT_S", 0.05)
    enough = threading.Event()
    monkeypatch.setattr(checkup, "_check_element", lambda *_: iter([enough.wait()]))
    _, (finding,) = found(museum, capsys, "wrong")
    assert "does not answer" in finding["text"]
    enough.set()


@pytest.mark.parametrize(
    ("kind", "words"), [("tmpfs", "a power cut takes the index"), ("nfs4", "SQLite's locks")]
)
def test_state_on_what_does_not_keep_it(
    kind: str,
    words: str,
    museum: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = os.stat(museum.parent).st_dev
    mounts = museum.parent / "mountinfo"
    text = MOUNTS.format(major=os.major(device), minor=os.minor(device), kind=kind)
    mounts.write_text(text)
    monkeypatch.setattr(checkup, "MOUNTS", mounts)
    _, (finding,) = found(museum, capsys, "wrong")
    assert finding["subject"].startswith("state_dir ")
    assert words in finding["text"]


def test_little_room(
    museum: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "LITTLE_ROOM_BYTES", 1 << 60)
    code, warnings = found(museum, capsys, "warning")
    assert code == exit_codes.OK
    keys = {finding["subject"].split()[0] for finding in warnings} - {"clock"}
    assert keys == {"state_dir", "cache_dir"}


@pytest.mark.parametrize("missing", [True, False])
def test_fuse_is_not_to_be_had(
    missing: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = tmp_path / "fuse"
    if not missing:
        device.mkdir()  # cannot be opened for writing, not even by root
    monkeypatch.setattr(checkup, "FUSE_DEVICE", device)
    code, (finding,) = found(None, capsys, "wrong")
    assert (code, finding["subject"]) == (exit_codes.FAILURE, str(device))
    assert finding["advice"] == "modprobe fuse" if missing else "chmod" in finding["advice"]


def test_person_needs_fusermount(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(checkup, "FUSE_CONFIGURATION", tmp_path / "fuse.conf")
    monkeypatch.setenv("PATH", str(tmp_path))
    _, (wrong,) = found(None, capsys, "wrong")
    assert (wrong["subject"], wrong["advice"]) == ("fusermount3", "apt-get install fuse3")
    program = tmp_path / "fusermount3"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    _, (wrong,) = found(None, capsys, "wrong")
    assert wrong["advice"] == f"chmod u+s {program}"
    program.chmod(0o4755)
    code, warnings = found(None, capsys, "warning")
    assert code == exit_codes.OK
    assert any("user_allow_other" in finding["text"] for finding in warnings)
    (tmp_path / "fuse.conf").write_text("# comment\nuser_allow_other\n")
    _, warnings = found(None, capsys, "warning")
    assert not any("user_allow_other" in finding["text"] for finding in warnings)


def test_secrets_that_others_can_read(
    museum: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = tmp_path / "credentials"
    secrets.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    secrets.chmod(0o644)
    table = (
        '[[element]]\nid = "main"\nkind = "s3"\nbucket = "photos"\n'
        f'endpoint = "http://127.0.0.1:9"\ncredentials_file = "{secrets}"\n'
    )
    museum.write_text(museum.read_text().partition("[[element]]")[0] + table)
    _, (wrong,) = found(museum, capsys, "wrong")  # the server is not asked
    assert (wrong["subject"], wrong["advice"]) == (str(secrets), f"chmod 600 {secrets}")
    secrets.chmod(0o600)
    _, (wrong,) = found(museum, capsys, "wrong")
    assert (wrong["subject"], "no connection" in wrong["text"]) == ("element main", True)


def test_an_adopted_element(museum: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = museum.parent / "artstore"
    write_file(root, "scan.tif", b"scan")
    path = write(museum.parent, "artstore")
    (wrong,) = found(path, capsys, "wrong")[1]
    assert wrong["text"].endswith("no .artstorefs is there; is the disk mounted?")
    path.write_text(f"{path.read_text()}\nadopted = true")
    assert found(path, capsys, "wrong") == (exit_codes.OK, [])
    shutil.rmtree(root)
    root.mkdir()
    assert found(path, capsys, "wrong")[1] == []  # without an index nothing is known of it
    assert list(root.iterdir()) == []
