"""The man pages: whole, as the parsers and the models say, and good for their tools."""

import argparse
import importlib.metadata
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.configuration_keys import tables
from artstorefs.core.mount_options import OPTIONS
from artstorefs_tools.command_line import COMMANDS, build_parser, subparsers
from artstorefs_tools.man_pages import man_pages
from artstorefs_tools.shared_files import shared_files

NO_DATE = 'missing date, using ""'
"""A date would make every build another, or go stale."""


@cache
def pages() -> dict[str, str]:
    return dict(man_pages())


def plain(page: str) -> str:
    """A page without marks."""
    text = re.sub(r"\\f[BIR]|\\&", "", pages()[page])
    return text.replace("\\-", "-").replace("\\[u2026]", "…").replace("\\e", "\\")


def terms(page: str) -> list[str]:
    """What the lists of a page explain."""
    return re.findall(r"^\.TP\n(.*)$", plain(page), re.MULTILINE)


def test_there_is_a_page_for_every_command() -> None:
    expected = {f"artstorefs-{name}.1" for name in COMMANDS}
    assert set(pages()) == expected | {"artstorefs.1", "artstorefs.toml.5", "mount.artstorefs.8"}
    listed = set(terms("artstorefs.1"))
    assert {f"artstorefs-{name}(1)" for name in COMMANDS} <= listed


@pytest.mark.parametrize("command", COMMANDS)
def test_page_has_every_argument_and_example_of_its_command(command: str) -> None:
    page = f"artstorefs-{command}.1"
    parser = subparsers(build_parser({command}))[command]
    listed = " ".join(terms(page))
    for action in parser._actions:
        if action.help != argparse.SUPPRESS:
            for word in action.option_strings or [str(action.metavar)]:
                assert word in listed
    assert f".nf\nartstorefs {command}" in plain(page)
    assert " ".join((parser.description or "").split()) in plain(page)


def test_page_of_the_configuration_has_every_key_with_what_is_allowed() -> None:
    text, listed = plain("artstorefs.toml.5"), terms("artstorefs.toml.5")
    for model in (ArchiveConfiguration, ElementConfiguration, *tables().values()):
        for name, field in model.model_fields.items():
            if field.alias is None and name not in tables():
                assert listed.count(name) == 1, name
                assert f"Allowed: {field.description}." in text


def test_page_of_mount_has_every_option() -> None:
    assert set(OPTIONS) <= set(terms("mount.artstorefs.8"))


@pytest.mark.slow
def test_mandoc_and_man_have_no_complaint(tmp_path: Path) -> None:
    paths = []
    for name, text in pages().items():
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in lint.stdout.splitlines() if NO_DATE not in line] == []
    # `man` itself takes a quarter of a second for each page; this is what it runs
    roff = subprocess.run(
        ["groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-z", *paths],
        capture_output=True,
        text=True,
        check=True,
    )
    assert roff.stderr == ""


def test_installation_has_them_where_man_and_the_shells_look() -> None:
    installed = {str(file) for file in importlib.metadata.files("artstorefs") or ()}
    for path, _ in shared_files():
        if path.stem in ("artstorefs", "_artstorefs", "artstorefs.toml", "mount.artstorefs"):
            assert any(file.endswith(f"/share/{path}") for file in installed), path
