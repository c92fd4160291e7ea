"""`artstorefs doctor`: whether this machine and the elements are as an archive needs them."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from artstorefs_tools import exit_codes
from artstorefs_tools.checkup import (
    Finding,
    check_clock,
    check_directories,
    check_elements,
    check_fuse,
    check_owner,
)
from artstorefs_tools.checkup_archived import check_archived
from artstorefs_tools.configuration_files import read_configuration
from artstorefs_tools.terminal import STATE_COLOURS, coloured

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration

_LEVEL_WIDTH: Final = len("warning") + 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Look whether everything is there that an archive needs, and say what to do where it is "
        "not: /dev/fuse, fusermount3, the clock, the configuration, room on the disks, whether "
        "each element and its medium answers and is the right one, whether what is in a cold "
        "storage class may be restored, and who can read secrets. Nothing is changed. Without "
        "NAME only the machine is looked at."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs doctor\n"
        "  artstorefs doctor museum\n"
        "  artstorefs doctor museum --json | jq '.[] | select(.level == \"wrong\")'"
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="archive, or path of its NAME.toml")
    parser.add_argument("--json", action="store_true", help="a list of findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Look; the exit code is 1 if something is wrong."""
    configuration = read_configuration(arguments.name) if arguments.name else None
    findings = []
    for finding in _findings(configuration):
        findings.append(finding)
        if not arguments.json:
            print(_line(finding), flush=True)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    is_wrong = any(finding.level == "wrong" for finding in findings)
    return exit_codes.FAILURE if is_wrong else exit_codes.OK


def _findings(configuration: "ArchiveConfiguration | None") -> Iterator[Finding]:
    yield from check_fuse()
    yield from check_clock()
    if configuration is not None:
        yield from check_directories(configuration)
        yield from check_owner(configuration)
        yield from check_elements(configuration)
        yield from check_archived(configuration)


def _line(finding: Finding) -> str:
    advice = f"; {finding.advice}" if finding.advice else ""
    level = coloured(finding.level, STATE_COLOURS[finding.level])
    blanks = " " * (_LEVEL_WIDTH - len(finding.level))
    return f"{level}{blanks} {finding.subject}: {finding.text}{advice}"
