"""A check of a mounted archive, begun by the control method `fsck`: `python -m
artstorefs_daemon.check_process`.

The first line of its standard input says what to check; each line of its standard output is
progress, or at last the report or the error. When its input ends nobody wants to know any more:
it remembers how far it has come, and ends.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import ArtStoreFSError
from artstorefs.recovery.fsck import Options, check
from artstorefs.recovery.fsck_findings import Report
from artstorefs_daemon.accounts import account

NICENESS = 10
"""Programs on the mount come first, and then the transfer process."""

PROGRESS_S = 0.25

FINDINGS_MAX = 100
"""In a report; a line has to hold them, and nobody reads more. `counts` has all."""


def report_message(report: Report) -> dict[str, Any]:
    """As the control socket has it: what is wrong comes before what is only told."""
    found = sorted(report.findings, key=lambda finding: not finding.kind.is_error)
    return {
        **report.as_json(),
        "counts": dict(Counter(finding.kind.label for finding in found)),
        "findings": [finding.as_json() for finding in found[:FINDINGS_MAX]],
    }


class _Progress:
    """Tells how far it is: now and then, and at the end."""

    def __init__(self) -> None:
        self._done = {"objects": 0, "bytes": 0}
        self._total: dict[str, int] = {}
        self._told_s = 0.0

    def start(self, objects: int, size: int) -> "_Progress":
        self._total = {"objects_total": objects, "bytes_total": size}
        self(0, 0)
        return self

    def __call__(self, objects: int, size: int) -> None:
        self._done["objects"] += objects
        self._done["bytes"] += size
        now_s = time.monotonic()
        is_last = self._done["objects"] == self._total["objects_total"]
        if now_s - self._told_s >= PROGRESS_S or is_last:
            self._told_s = now_s
            _say({"progress": {**self._done, **self._total}})


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _end_with_input() -> None:
    """In a thread: whoever has begun this closes our input when it wants no more, or dies."""
    os.read(0, 1)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def main() -> int:
    """Check; the exit code."""
    logging.basicConfig(level=logging.WARNING, format="check: %(levelname)s: %(message)s")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    os.nice(NICENESS)
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    order = json.loads(line)
    configuration = ArchiveConfiguration.model_validate(order["configuration"])
    options = Options(deep=order["deep"], restart=order["restart"], rate=order["rate"])
    try:
        threading.Thread(target=_end_with_input, daemon=True).start()
        report = check(configuration, account, options, _Progress().start)
        _say({"report": report_message(report)})
    except (ArtStoreFSError, OSError) as exc:
        _say({"error": str(exc)})
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
