"""`artstorefs init` of an archive that there is: a further element for it."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main


def archive_of(element: Path) -> str:
    record = json.loads((element / ".artstorefs" / "archive.json").read_bytes())
    return str(record["archive_id"])


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """The archive `museum`, whose element `main` is in the directory `main`."""
    assert add(tmp_path, "main") == exit_codes.OK
    return tmp_path


def add(places: Path, element: str, *options: str, to: str | None = None) -> int:
    place = f"{element}=local:{places / (to or element)}"
    return main(["init", "museum", "--element", place, "--config-dir", str(places), *options])


def test_a_further_element_is_of_the_same_archive(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = places / "museum.toml"
    toml.chmod(0o600)
    mine = "# what I have noted\n" + toml.read_text() + "\n[metrics]\n# none\n"
    toml.write_text(mine)
    assert add(places, "second") == exit_codes.OK
    assert "element second is in" in capsys.readouterr().out
    assert archive_of(places / "second") == archive_of(places / "main")
    assert toml.read_text().startswith(mine.rstrip())
    assert toml.stat().st_mode & 0o777 == 0o600
    elements = tomllib.loads(toml.read_text())["element"]
    assert [one["id"] for one in elements] == ["main", "second"]


def test_the_same_again_goes_on_after_a_kill_and_then_says_so(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The element carries the archive, and the configuration has not got it yet."""
    before = (places / "museum.toml").read_text()
    assert add(places, "second") == exit_codes.OK
    (places / "museum.toml").write_text(before)
    assert add(places, "second") == exit_codes.OK
    assert add(places, "second") == exit_codes.FAILURE
    assert "is there already" in capsys.readouterr().err


def test_an_element_whose_disk_is_not_there_is_not_made_anew(places: Path) -> None:
    shutil.rmtree(places / "main")
    (places / "main").mkdir()  # the mount point of the disk
    before = (places / "museum.toml").read_text()
    assert add(places, "second") == exit_codes.FAILURE
    assert list((places / "main").iterdir()) == []
    assert not (places / "second").exists()
    assert (places / "museum.toml").read_text() == before


def test_an_element_of_another_archive_is_refused(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = places / "other"
    other.mkdir()
    element = f"zoo=local:{places / 'zoo'}"
    assert main(["init", "museum", "--element", element, "--config-dir", str(other)]) == 0
    assert add(places, "second", to="zoo") == exit_codes.FAILURE
    assert "carry different archives" in capsys.readouterr().err
    assert archive_of(places / "zoo") != archive_of(places / "main")


@pytest.mark.parametrize("options", [("--copies", "2"), ("--mountpoint", "/srv/x")])
def test_what_is_for_a_new_archive_is_refused(places: Path, options: tuple[str, ...]) -> None:
    assert add(places, "second", *options) == exit_codes.USAGE
    assert not (places / "second").exists()


def test_places_that_overlap_are_refused(places: Path) -> None:
    assert add(places, "second", to="main/inside") == exit_codes.USAGE
    assert not (places / "main" / "inside").exists()
