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
    parser.epilog = "example:\n  artstorefs flush museum && poweroff"
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")


def run(arguments: argparse.Namespace) -> int:
    """Flush; the exit code."""
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        return flush(client)
