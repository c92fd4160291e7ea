"""`artstorefs config`: the configuration with every default, and whether it is right."""

import json
import tomllib
from pathlib import Path

import pytest

from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main
from artstorefs_tools.configuration_files import read_configuration


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "museum.toml"
    places = [f'{name}_dir = "{tmp_path / name}"' for name in ("state", "cache", "runtime")]
    element = ["[[element]]", 'id = "main"', 'path = "/srv/objects"']
    path.write_text("\n".join(["settle_s = 2.5", 'spool_max = "1GiB"', *places, *element]))
    return path


def test_all_of_it_is_shown_and_means_the_same(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", str(path)]) == exit_codes.OK
    shown = capsys.readouterr().out
    assert "\nsettle_s = 2.5\n" in shown
    assert '\n# cache_max = "50GiB"\n' in shown
    copy = tmp_path / "copy.toml"
    copy.write_text(shown)
    assert read_configuration(str(copy)) == read_configuration(str(path))


def test_as_json_with_every_default(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", str(path), "--json"]) == exit_codes.OK
    values = json.loads(capsys.readouterr().out)
    assert (values["name"], values["spool_max"], values["copies"]) == ("museum", 1 << 30, 1)
    assert values["element"][0]["mode"] == "edit"


def test_check_of_what_is_right(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", str(path), "--check"]) == exit_codes.OK
    assert capsys.readouterr().out == f"{path} is right: archive museum, 1 element\n"


@pytest.mark.parametrize("option", [[], ["--check"], ["--json"]])
def test_mistake_is_one_line_with_file_key_and_what_is_allowed(
    path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(path.read_text().replace("settle_s = 2.5", "setle_s = 2.5"))
    assert main(["config", str(path), *option]) == exit_codes.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert str(path) in shown.err
    assert "settle_s" in shown.err  # the nearest right one


def test_what_is_shown_is_toml_for_a_bucket_too(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = path.read_text().replace('path = "/srv/objects"', 'kind = "s3"\nbucket = "photos"')
    path.write_text(text)
    assert main(["config", str(path)]) == exit_codes.OK
    (element,) = tomllib.loads(capsys.readouterr().out)["element"]
    assert (element["kind"], element["bucket"]) == ("s3", "photos")
