"""`artstorefs flush`: waits until the elements have everything that was written."""

import argparse

from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient
from artstorefs_tools.flushing import flush


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Wait until the elements have everything that was written before. Ctrl-C ends the waiting "
        "only. The exit code is 4, and the files are listed, if an element refuses something."
    )
    parser.epilog = (
        "examples:\n"
        "  artstorefs flush museum && poweroff\n"
        "  artstorefs flush museum --json | jq .failed"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--json", action="store_true", help="what is left, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Flush; the exit code."""
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        return flush(client, as_json=arguments.json)
