"""How a process of the daemon logs: set up once in each; `log_levels` changes how much.

`begin` decides by what standard error is. Under systemd it is the journal, which JOURNAL_STREAM
names by device and inode, so that what a service starts with its output elsewhere is not taken for
it (systemd.exec(5)); in the background it is `daemon.log`; else a terminal, or what a person has
put in its place.
"""

import logging
import os
import sys
import threading
from types import TracebackType
from typing import Any, Final

from artstorefs_daemon.log_file import STDERR, FileHandler, LogHandler
from artstorefs_daemon.log_format import JournalFormat, LineFormat

log = logging.getLogger(__name__)

FILE_NAME: Final = "daemon.log"


def begin(process: str, archive: str, *, file: str | None = None) -> None:
    """Log as `process` ("mount" or "transfer") from now on, to the file under the path `file` or
    else to standard error. Raises OSError."""
    form = JournalFormat if file is None and is_journal() else LineFormat
    written = form(process, os.getpid(), archive)
    handler = LogHandler(written) if file is None else FileHandler(written, file)
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # Nobody shows where in the source a line stems from, which half of a record's time goes into.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    sys.excepthook = _uncaught
    threading.excepthook = lambda found: _uncaught(
        found.exc_type, found.exc_value, found.exc_traceback
    )


def is_journal() -> bool:
    """Whether standard error is a stream of the journal."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(STDERR)
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def file() -> str | None:
    """The path of the file that this process logs to, if it is one."""
    return next((h.path for h in logging.getLogger().handlers if isinstance(h, FileHandler)), None)


def reopen() -> None:
    """After SIGHUP: whoever sent it may have moved the file away."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogHandler):
            handler.reopen()


def _uncaught(kind: type[BaseException], exc: Any, traceback: TracebackType | None) -> None:
    log.critical("nobody has caught this", exc_info=(kind, exc, traceback))
