"""`artstorefs rescan`: takes in what others changed on the elements."""

import argparse
import json
import sys
from functools import partial
from typing import Any

from artstorefs.core.errors import one_line
from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import locate_archive
from artstorefs_tools.control_client import ControlClient, JsonObject
from artstorefs_tools.progress import ProgressBar

KINDS = ("seen", "changed", "added", "unknown", "vanished", "quarantined")
"""Of what is counted; `status` explains them."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Look at everything on the elements, and take in what others have added or changed there. "
        "What they have removed is named, and stays in the tree until it is removed on the mount. "
        "What cannot be used is named and stays where it is. "
        "With rescan_interval_s in the configuration that is done by itself now and then."
    )
    parser.epilog = "examples:\n  artstorefs rescan museum\n  artstorefs rescan museum --json"
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--json", action="store_true", help="the numbers, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Rescan; the exit code."""
    location = locate_archive(arguments.name)
    client = ControlClient(location.runtime_dir, location.argument)
    with client, ProgressBar("looking at the elements") as bar:
        result = client.call_with_progress("rescan", partial(_show, bar))
    numbers = {kind: _number(result.get(kind)) for kind in KINDS}
    if arguments.json:
        print(json.dumps(numbers, indent=2))
    else:
        print(", ".join(f"{number:,} {kind}" for kind, number in numbers.items()))
        for one in _list(result.get("gone")):
            print(one_line(f"{one.get('path')}: {one.get('error')}"))
    errors = _list(result.get("errors"))
    for error in errors:
        print(f"artstorefs: {one_line(str(error))}", file=sys.stderr)
    return exit_codes.FAILURE if errors else exit_codes.OK


def _show(bar: ProgressBar, progress: JsonObject) -> None:
    seen, known = _number(progress.get("seen")), _number(progress.get("known"))
    bar.show(min(seen, known), known or None, f"{seen:,} documents")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
