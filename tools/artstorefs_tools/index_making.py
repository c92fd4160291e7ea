"""The index of an archive, made from what its elements hold, with progress: `rebuild`, `adopt`."""

import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from artstorefs_tools.progress import ProgressBar

if TYPE_CHECKING:
    from artstorefs.core.configuration import ArchiveConfiguration
    from artstorefs.recovery.gather import Progress
    from artstorefs.recovery.rebuild import Report


def make_index(configuration: "ArchiveConfiguration", told: str) -> tuple["Report", float]:
    """Make it as the user whom the archive belongs to, which root becomes for good; what was found,
    and how many seconds it took. `told`: what the archive is called to the person, and the bar.

    Raises PendingChanges, ArchiveInUse, ConfigurationError, ElementError.
    """
    from artstorefs.elements import durable
    from artstorefs.elements.opening import open_elements
    from artstorefs.recovery.renew import rebuild_index
    from artstorefs.state.lock import StateLock
    from artstorefs_daemon.accounts import account
    from artstorefs_daemon.archive_identity import archive_id
    from artstorefs_daemon.privileges import become_owner

    become_owner(configuration)
    state = str(configuration.state_dir)
    started = time.monotonic()
    with ExitStack() as opened:
        if not os.path.isdir(state):
            durable.make_directories_durably(state)
        lock = StateLock(state, configuration.name)
        lock.acquire()
        opened.callback(lock.release)
        bar = opened.enter_context(ProgressBar(told))
        elements = open_elements(configuration.elements)
        for element in elements.values():
            opened.callback(element.close)
        report = rebuild_index(
            *(configuration.name, state, elements, archive_id(configuration, elements)),
            account,
            partial(_show, bar),
        )
    for problem in report.problems:
        print(f"artstorefs: {problem}", file=sys.stderr)
    return report, time.monotonic() - started


def as_json(report: "Report", seconds: float) -> dict[str, object]:
    """What was found, for a script."""
    return {
        "nodes": report.nodes,
        "documents": report.documents,
        "lost_and_found": report.lost,
        "renamed": report.renamed,
        "unreadable": report.unreadable,
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
