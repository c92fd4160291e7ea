"""`artstorefs rebuild`: the index from the elements alone, while the archive is not mounted."""

import argparse
import json

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import read_configuration
from artstorefs_tools.index_making import as_json, make_index


def configure(parser: argparse.ArgumentParser) -> None:
    """Set up the arguments."""
    parser.description = (
        "Make the index of an archive anew from what its elements hold. The archive must not be "
        "mounted, and nothing may be pending: what no element has is known to the index alone. "
        "The old index stays in use until the new one is whole, and is then kept in the state "
        "directory, in aside/. A rebuild that is ended early has changed nothing; start it again."
    )
    parser.epilog = (
        "what cannot be read is reported and left where it is, and the exit code is 1;\n"
        "the rest is in the new index, what has lost its directory in lost+found\n\n"
        "examples:\n  artstorefs rebuild museum\n  artstorefs rebuild museum --json"
    )
    parser.add_argument("name", metavar="NAME", help="archive, or path of its NAME.toml")
    parser.add_argument("--json", action="store_true", help="the result, as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Rebuild; the exit code."""
    from artstorefs.recovery.renew import describe

    report, seconds = make_index(read_configuration(arguments.name), arguments.name)
    if arguments.json:
        found = as_json(report, seconds)
        found |= {"pending": report.pending, "spool_lost": report.spool_lost}
        print(json.dumps(found))
    else:
        print(f"{describe(report)}, in {seconds:.1f} s")
        if report.aside:
            print(f"the index before is kept in {report.aside}")
    return exit_codes.FAILURE if report.unreadable else exit_codes.OK
