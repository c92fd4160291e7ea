"""A mount that starts while its element, a directory, is not there, or something else is there."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness import MountedArchive
from .conftest import Limits, eventually
from .test_element_disks import CANNOT_BE_CARRIED, check_carried, state_of

START_LIMIT_S = 15.0
"""Of a start that takes one or two seconds, on a machine that does other things."""

ARCHIVE = ".artstorefs/archive.json"


def nothing(element: Path) -> None:
    """The directory is gone."""


def empty_directory(element: Path) -> None:
    """A mount point without its disk."""
    element.mkdir()


def without_archive_json(element: Path) -> None:
    """What a copy that was cut off may look like."""
    (element / ".artstorefs/tmp").mkdir(parents=True)
    (element / ".artstorefs/nodes").mkdir()


def other_element(element: Path) -> None:
    """Two disks of one archive that were exchanged."""
    without_archive_json(element)
    document = json.loads((away(element) / ARCHIVE).read_bytes())
    (element / ARCHIVE).write_text(json.dumps({**document, "element_id": "second"}))


def other_archive(element: Path) -> None:
    """The disk of somebody else."""
    base = element.parent / f"other-{time.monotonic_ns()}"
    made = MountedArchive(base)
    (made.element / "2026").mkdir()
    (made.element / "2026" / "theirs").write_bytes(b"theirs")
    made.element.rename(element)


def damaged_archive_json(element: Path) -> None:
    """A document that says nothing."""
    without_archive_json(element)
    (element / ARCHIVE).write_bytes(b"{")


INSTEAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing": (nothing, "No such file or directory; is the disk mounted?"),
    "empty": (empty_directory, "no .artstorefs is there; is the disk mounted?"),
    "no archive.json": (without_archive_json, "no .artstorefs/archive.json is there; is its disk"),
    "damaged archive.json": (damaged_archive_json, "put back the one of this archive"),
    "other element": (other_element, "is element second of this archive; are two disks exch"),
}


def away(element: Path) -> Path:
    return element.with_name("away")


def put_instead(archive: MountedArchive, make: Callable[[Path], None]) -> dict[str, object]:
    """Something else in the place of the element; what it is."""
    archive.element.rename(away(archive.element))
    make(archive.element)
    return snapshot(archive.element)


def put_back(archive: MountedArchive) -> None:
    if archive.element.exists():
        archive.element.rename(archive.element.with_name(f"instead-{time.monotonic_ns()}"))
    away(archive.element).rename(archive.element)


def snapshot(root: Path) -> dict[str, object]:
    """Everything below a directory, with content and times."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in [root, *root.rglob("*")]
        if path.exists()
    }


def start_in_time(archive: MountedArchive) -> None:
    began = time.monotonic()
    archive.start()
    assert time.monotonic() - began < START_LIMIT_S


def wait_unavailable(archive: MountedArchive, words: str) -> None:
    """`status` says so in one line that names element, place, reason and what to do."""

    def error() -> str:
        (element,) = archive.status()["elements"]
        assert (element["state"] == "unavailable") == bool(element["error"])
        return str(element["error"])

    line = eventually(error, lambda text: words in text)
    assert line.startswith(f"element main: {archive.element}: ")
    assert "\n" not in line
    shown = archive.run("status", str(archive.toml)).stdout.splitlines()
    assert f"  {line}" in shown[shown.index("unavailable, and asked again until it is there:") :]


def mounted_with_one_file(limits: Limits) -> tuple[MountedArchive, dict[str, bytes]]:
    archive = limits.archive()
    wanted = {"old": os.urandom(70_000)}
    (archive.mount / "old").write_bytes(wanted["old"])
    os.setxattr(archive.mount / "old", "user.k", b"v")
    archive.flush()
    return archive, wanted


def check_served(archive: MountedArchive, wanted: dict[str, bytes]) -> None:
    """Metadata and what is in the spool; what only the element has is EIO, at once."""
    assert set(os.listdir(archive.mount)) == wanted.keys()
    assert (archive.mount / "old").stat().st_size == len(wanted["old"])
    assert os.getxattr(archive.mount / "old", "user.k") == b"v"
    with pytest.raises(OSError, match="Input/output error") as raised:
        (archive.mount / "old").read_bytes()
    assert raised.value.errno == errno.EIO
    for name in wanted.keys() - {"old"}:
        assert (archive.mount / name).read_bytes() == wanted[name]
        assert state_of(archive.mount / name) == b"pending"


@pytest.mark.slow
@pytest.mark.parametrize("instead", INSTEAD)
def test_mount_starts_without_its_element_and_goes_on_when_it_is_back(
    limits: Limits, instead: str
) -> None:
    """SEMANTICS: ELEM-16, ELEM-17"""
    make, words = INSTEAD[instead]
    archive, wanted = mounted_with_one_file(limits)
    archive.stop()
    (archive.element / ".artstorefs/README.txt").unlink()
    before = put_instead(archive, make)
    start_in_time(archive)
    wanted["new"] = os.urandom(300_000)
    (archive.mount / "new").write_bytes(wanted["new"])
    check_served(archive, wanted)
    wait_unavailable(archive, words)
    assert archive.run("flush", str(archive.toml), check=False).returncode == CANNOT_BE_CARRIED
    archive.kill()
    start_in_time(archive)
    check_served(archive, wanted)
    assert snapshot(archive.element) == before
    put_back(archive)
    check_carried(archive, wanted)
    (element,) = archive.status()["elements"]
    assert (element["state"], element["error"]) == ("ok", None)
    eventually((archive.element / ".artstorefs/README.txt").exists, bool)


@pytest.mark.slow
def test_directory_of_another_archive_refuses_the_mount(limits: Limits) -> None:
    """SEMANTICS: ELEM-17"""
    archive, wanted = mounted_with_one_file(limits)
    archive.stop()
    before = put_instead(archive, other_archive)
    done = archive.run("mount", str(archive.toml), str(archive.mount), check=False)
    assert done.returncode not in (0, 1)
    (line,) = done.stderr.strip().splitlines()
    where = f"element main: {archive.element}"
    assert line.startswith(f"artstorefs: {where}: belongs to another archive, test (")
    assert not os.path.ismount(archive.mount)
    assert snapshot(archive.element) == before
    put_back(archive)
    archive.start()
    check_carried(archive, wanted)


@pytest.mark.slow
def test_element_that_comes_back_as_another_archive_gets_nothing(limits: Limits) -> None:
    """SEMANTICS: ELEM-17"""
    archive, wanted = mounted_with_one_file(limits)
    archive.stop()
    put_instead(archive, nothing)
    start_in_time(archive)
    wanted["new"] = os.urandom(300_000)
    (archive.mount / "new").write_bytes(wanted["new"])
    other_archive(archive.element)
    before = snapshot(archive.element)
    wait_unavailable(archive, "belongs to another archive, test (")
    assert archive.run("flush", str(archive.toml), check=False).returncode == CANNOT_BE_CARRIED
    check_served(archive, wanted)
    assert snapshot(archive.element) == before
    put_back(archive)
    check_carried(archive, wanted)


@pytest.mark.slow
def test_archive_json_that_becomes_that_of_another_while_mounted(limits: Limits) -> None:
    """SEMANTICS: ELEM-17"""
    archive, wanted = mounted_with_one_file(limits)
    path = archive.element / ARCHIVE
    ours = path.read_bytes()
    path.write_bytes(MountedArchive(limits.base / "other").element.joinpath(ARCHIVE).read_bytes())
    before = snapshot(archive.element)
    wanted["new"] = os.urandom(300_000)
    (archive.mount / "new").write_bytes(wanted["new"])
    wait_unavailable(archive, " another ")  # archive, or archive.json: by who has used it before
    assert archive.run("flush", str(archive.toml), check=False).returncode == CANNOT_BE_CARRIED
    assert snapshot(archive.element) == before
    path.write_bytes(ours)
    check_carried(archive, wanted)


@pytest.mark.slow
def test_what_others_changed_on_an_element_that_was_away_is_taken_over(limits: Limits) -> None:
    """SEMANTICS: ELEM-5, ELEM-16"""
    archive, _ = mounted_with_one_file(limits)
    archive.stop()
    (sidecar,) = archive.element.rglob("old_*.attr.json")
    document = json.loads(sidecar.read_bytes())
    document["custom_attributes"]["k"] = "theirs"
    sidecar.write_text(json.dumps(document))
    put_instead(archive, nothing)
    start_in_time(archive)
    wait_unavailable(archive, "is the disk mounted?")
    assert os.getxattr(archive.mount / "old", "user.k") == b"v"
    put_back(archive)
    path = archive.mount / "old"
    eventually(lambda: os.getxattr(path, "user.k"), lambda value: value == b"theirs")


@pytest.mark.slow
@pytest.mark.parametrize("instead", ["nothing", "no archive.json"])
def test_without_an_index_the_element_has_to_be_there(limits: Limits, instead: str) -> None:
    """SEMANTICS: ELEM-16"""
    archive, wanted = mounted_with_one_file(limits)
    archive.stop()
    shutil.rmtree(archive.state)
    before = put_instead(archive, INSTEAD[instead][0])
    done = archive.run("mount", str(archive.toml), str(archive.mount), check=False)
    assert done.returncode not in (0, 1)
    (line,) = done.stderr.strip().splitlines()
    assert "main: " in line
    assert snapshot(archive.element) == before
    put_back(archive)
    start_in_time(archive)
    check_carried(archive, wanted)
