"""`artstorefs log`: shows how much a mounted archive logs, and changes it."""

import argparse
import json
from typing import Any

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, understood
from artstorefs_tools.errors import UsageError
from artstorefs_tools.terminal import format_table

LEVELS = ("debug", "info", "warning", "error", "critical", "default")
"""The last one takes back what was changed."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Show which parts of a mounted archive log how much, or change it for one part and all "
        "below it, until the archive is unmounted. A part is a module or package of the program."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs log museum\n"
        "  artstorefs log museum artstorefs.transfer debug\n"
        "  artstorefs log museum artstorefs.transfer default"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("logger", metavar="LOGGER", nargs="?", help="like artstorefs.transfer")
    parser.add_argument("level", metavar="LEVEL", nargs="?", help=", ".join(LEVELS))
    parser.add_argument("--json", action="store_true", help="the answer, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Show or change levels; the exit code."""
    params = _params(arguments.logger, arguments.level)
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        result = client.call("log_level", params)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return exit_codes.OK
    with understood(location.argument, "log_level"):
        rows = [[logger, level.lower()] for logger, level in result["levels"].items()]
    print("\n".join(format_table(rows)))
    return exit_codes.OK


def _params(logger: str | None, level: str | None) -> dict[str, Any]:
    if logger is None:
        return {}
    if level is None:
        raise UsageError(f"which level for {logger}? {', '.join(LEVELS)}")
    if level.lower() not in LEVELS:
        raise UsageError(f"{level} is no level; there are {', '.join(LEVELS)}")
    return {"logger": logger, "level": None if level.lower() == "default" else level.upper()}
