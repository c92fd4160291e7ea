"""`artstorefs reload`: has a mounted archive read its configuration again."""

import argparse
import json

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Have the daemon of a mounted archive read its configuration again, as SIGHUP and "
        "`systemctl reload` do. Limits, times and groups change at once. If anything else has "
        "changed, nothing is taken over, and a line says which keys need a restart."
    )
    parser.epilog = "examples:\n  artstorefs reload museum\n  artstorefs reload museum --json"
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--json", action="store_true", help="the answer, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Reload; the exit code."""
    location = locate_archive(arguments.name)
    with ControlClient(location.runtime_dir, location.argument) as client:
        result = client.call_with_progress("reload", lambda _: None)
    changed = [str(key) for key in result.get("changed") or []]
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"changed: {', '.join(changed)}" if changed else "nothing has changed")
    return exit_codes.OK
