"""`artstorefs rebuild`: the index from the elements alone, while the archive is not mounted."""

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from artstorefs_tools import exit_codes
from artstorefs_tools.configuration_files import read_configuration
from artstorefs_tools.progress import ProgressBar

if TYPE_CHECKING:
    from artstorefs.recovery.gather import Progress
    from artstorefs.recovery.rebuild import Report


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
    from artstorefs.elements import durable
    from artstorefs.elements.opening import open_elements
    from artstorefs.recovery.renew import describe, rebuild_index
    from artstorefs.state.lock import StateLock
    from artstorefs_daemon.accounts import account
    from artstorefs_daemon.mount_daemon import archive_id
    from artstorefs_daemon.privileges import become_owner

    configuration = read_configuration(arguments.name)
    become_owner(configuration)
    state = str(configuration.state_dir)
    started = time.monotonic()
    with ExitStack() as opened:
        if not os.path.isdir(state):
            durable.make_directories_durably(state)
        lock = StateLock(state, configuration.name)
        lock.acquire()
        opened.callback(lock.release)
        bar = opened.enter_context(ProgressBar("rebuild"))
        elements = open_elements(configuration.elements)
        for element in elements.values():
            opened.callback(element.close)
        report = rebuild_index(
            arguments.name,
            state,
            elements,
            archive_id(configuration, elements),
            account,
            partial(_show, bar),
        )
    seconds = time.monotonic() - started
    for problem in report.problems:
        print(f"artstorefs: {problem}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(_as_json(report, seconds)))
    else:
        print(f"{describe(report)}, in {seconds:.1f} s")
        if report.aside:
            print(f"the index before is kept in {report.aside}")
    return exit_codes.FAILURE if report.unreadable else exit_codes.OK


def _as_json(report: "Report", seconds: float) -> dict[str, object]:
    return {
        "nodes": report.nodes,
        "documents": report.documents,
        "lost_and_found": report.lost,
        "renamed": report.renamed,
        "unreadable": report.unreadable,
        "pending": report.pending,
        "spool_lost": report.spool_lost,
        "problems": report.problems,
        "index_before": report.aside,
        "seconds": round(seconds, 3),
    }


def _show(bar: ProgressBar, progress: "Progress") -> None:
    left = "" if progress.left_s is None else f", {progress.left_s:.0f} s left"
    text = (
        f"{progress.documents:,} of {progress.total:,} documents, "
        f"{progress.rate:,.0f} a second{left}"
    )
    bar.show(progress.documents, progress.total, text)
