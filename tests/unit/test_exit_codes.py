"""One table of exit codes: the module's, and the same in the help, README.md and the man page."""

import re
from pathlib import Path

from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import build_parser
from artstorefs_tools.man_pages import man_pages

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_code_has_a_name_a_number_and_a_meaning() -> None:
    constants = {name: value for name, value in vars(exit_codes).items() if type(value) is int}
    assert constants.pop("MOUNT_USAGE") == 1  # of mount(8), which has a table of its own
    assert {name: number for name, (number, _) in exit_codes.MEANINGS.items()} == constants
    assert len(set(constants.values())) == len(constants)


def test_help_has_them() -> None:
    text = " ".join(build_parser(()).format_help().split())
    for number, meaning in exit_codes.MEANINGS.values():
        assert f"{number} {meaning}" in text


def test_readme_has_them() -> None:
    table = README.partition("<!-- exit codes -->")[2].partition("<!-- /exit codes -->")[0]
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    expected = [(str(n), name, meaning) for name, (n, meaning) in exit_codes.MEANINGS.items()]
    assert rows == expected


def test_man_page_has_them() -> None:
    page = dict(man_pages())["artstorefs.1"]
    listed = page.partition(".SH EXIT STATUS\n")[2].partition(".SH")[0]
    rows = re.findall(r"\.TP\n\\fB(\d+)\\fR\n(.*)", listed)
    expected = [(str(number), meaning) for number, meaning in exit_codes.MEANINGS.values()]
    assert [(number, text.replace("\\-", "-")) for number, text in rows] == expected
