"""`artstorefs rescan`: takes in what others changed on the elements."""

import argparse

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Read every attr.json and node record on the elements again, and take in what others have "
        "added or changed there. What cannot be used is quarantined and stays where it is."
    )
    parser.epilog = "example:\n  artstorefs rescan museum"
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")


def run(arguments: argparse.Namespace) -> int:
    """Rescan; the exit code."""
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        result = client.call_with_progress("rescan", lambda _: None)
    kinds = ("seen", "changed", "added", "quarantined")
    print(", ".join(f"{int(result.get(kind) or 0):,} {kind}" for kind in kinds))
    return exit_codes.OK
