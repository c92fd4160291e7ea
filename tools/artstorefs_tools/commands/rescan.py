"""`artstorefs rescan`: takes in what others changed on the elements."""

import argparse
import json

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient
from artstorefs_tools.progress import ProgressBar


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Read every attr.json and node record on the elements again, and take in what others have "
        "added or changed there. What cannot be used is quarantined and stays where it is."
    )
    parser.epilog = "examples:\n  artstorefs rescan museum\n  artstorefs rescan museum --json"
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--json", action="store_true", help="the numbers, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Rescan; the exit code."""
    location = locate_archive(arguments.name)
    client = ControlClient(location.runtime_dir, location.argument)
    with client, ProgressBar("looking at the elements"):
        result = client.call_with_progress("rescan", lambda _: None)
    kinds = ("seen", "changed", "added", "quarantined")
    if arguments.json:
        print(json.dumps({kind: int(result.get(kind) or 0) for kind in kinds}, indent=2))
        return exit_codes.OK
    print(", ".join(f"{int(result.get(kind) or 0):,} {kind}" for kind in kinds))
    return exit_codes.OK
