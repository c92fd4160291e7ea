"""`artstorefs attr` on the files of an ordinary filesystem: bytes in, JSON out, and back."""

import json
import os
from pathlib import Path

import pytest

from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main
from artstorefs_tools.commands.attr import describe, parse_words, read


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "night watch.jpg"
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("word", "raw"),
    [
        ("artist=Rembrandt", b"Rembrandt"),
        ("year=1642", b'"1642"'),
        ("year:=1642", b"1642"),
        ("tags:=[ 1, true ]", b"[1,true]"),
        ('title:="De Nachtwacht"', b"De Nachtwacht"),
        ("empty=", b""),
        ("formula=a=b:=c", b"a=b:=c"),
        ("two=one\ntwo", b"one\ntwo"),
    ],
)
def test_text_stays_text_and_json_its_type(picture: Path, word: str, raw: bytes) -> None:
    assert main(["attr", str(picture), word]) == exit_codes.OK
    assert os.getxattr(picture, "user." + word.partition("=")[0].removesuffix(":")) == raw


def test_words_with_a_slash_before_the_equals_sign_are_paths() -> None:
    assert parse_words(["./a=b", "/x=y/z", "plain"]) == (["./a=b", "/x=y/z", "plain"], {})


def test_shown_lines_can_be_typed_again(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["artist=Rembrandt", "year:=1642", "code=1642", 'lines:="a\\nb"', 'l:=["ü", null]']
    assert main(["attr", str(picture), *words]) == exit_codes.OK
    before = read(str(picture))
    shown = [line.removeprefix("  ") for line in describe(before)][1:]
    for name in os.listxattr(picture):
        os.removexattr(picture, name)
    assert main(["attr", str(picture), *shown]) == exit_codes.OK
    assert read(str(picture)) == before
    assert capsys.readouterr().out == ""


def test_json_has_an_object_for_each_file(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.setxattr(picture, "user.year", b"1642")
    os.setxattr(picture, "user.raw", b"\xff")
    assert main(["attr", str(picture), "--json"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out) == [
        {
            "path": str(picture),
            "custom_attributes": {"raw": {"$b64": "/w=="}, "year": 1642},
            "artstore": {},
        }
    ]


def test_one_bad_file_does_not_stop_the_others(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attr", "/no/such", str(picture), "a=b"]) == exit_codes.FAILURE
    assert capsys.readouterr().err == "artstorefs: /no/such: a: No such file or directory\n"
    assert os.getxattr(picture, "user.a") == b"b"


def test_remove_names_what_is_not_there(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.setxattr(picture, "user.a", b"b")
    assert main(["attr", str(picture), "--remove", "a"]) == exit_codes.OK
    assert os.listxattr(picture) == []
    assert main(["attr", str(picture), "--remove", "a"]) == exit_codes.FAILURE
    assert f"{picture}: a: there is no such attribute" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["a:=nope", "a:=NaN", "a:={"])
def test_what_is_not_json_changes_nothing(
    picture: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attr", str(picture), word]) == exit_codes.USAGE
    assert "is not JSON" in capsys.readouterr().err
    assert os.listxattr(picture) == []
