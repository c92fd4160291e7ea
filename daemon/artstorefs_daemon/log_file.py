"""Where lines of the log go: standard error, which of a daemon in the background is `daemon.log`.

Two processes write that file, and so does whatever prints to their standard error: an interpreter
that gives up, a C library. So it has no descriptor of its own: it is 1 and 2 of both processes, in
append mode, and each line is one write(2), which the kernel does not mix with another.

Either process may find it too large, or gone. Whether the name still means the file that we write
is asked before each line; if not, it is opened anew. That covers the other process's rotation and
an external logrotate's, with or without its SIGHUP. A rotation is done under a lock of the file
that is rotated, and who gets the lock second finds another file under the name, and does nothing.
"""

import contextlib
import fcntl
import logging
import os
from typing import Final

from artstorefs.elements.durable import rename_over, write_all
from artstorefs_daemon.log_format import LineFormat

STDOUT, STDERR = 1, 2

FILE_LIMIT_BYTES: Final = 10 << 20
"""Some 60,000 lines: what a person still looks through."""

FILES_KEPT: Final = 4
"""Beside the one that is written: `daemon.log.1` is the newest."""


class LogHandler(logging.Handler):
    """Writes the lines to standard error, whatever that is."""

    def __init__(self, form: LineFormat) -> None:
        super().__init__()
        self.form = form
        self.lost = 0
        """Lines that could not be written, on a full disk for example; the next one tells."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.form.line(record)
        except Exception as exc:  # a wrong `%`, or an argument that cannot be shown: a bug of ours
            line = self._plain(record, f"a record that cannot be shown: {exc!r}: {record.msg!r}")
        try:
            self.prepare()
            if self.lost:
                told = self._plain(record, f"{self.lost} lines of this log could not be written")
                write_all(STDERR, told.encode())
                self.lost = 0
            write_all(STDERR, line.encode(errors="backslashreplace"))
        except OSError:
            self.lost += 1  # there is nowhere to say so

    def prepare(self) -> None:
        """Before each line. Raises OSError."""

    def reopen(self) -> None:
        """Somebody may have moved what is written away."""

    def _plain(self, record: logging.LogRecord, message: str) -> str:
        plain = logging.LogRecord(record.name, logging.ERROR, "", 0, "%s", (message,), None)
        return self.form.line(plain)


class FileHandler(LogHandler):
    """The same where standard error is the file under `path`."""

    def __init__(self, form: LineFormat, path: str, limit_bytes: int = FILE_LIMIT_BYTES) -> None:
        """Makes standard output and standard error that file. Raises OSError."""
        super().__init__(form)
        self.path = path
        self._limit_bytes = limit_bytes
        self._identity = (0, 0)
        self._open()

    def prepare(self) -> None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self._open()
            return
        if (status.st_dev, status.st_ino) != self._identity:
            self._open()
        elif status.st_size >= self._limit_bytes:
            self._rotate()

    def reopen(self) -> None:
        with self.lock or contextlib.nullcontext():
            self.prepare()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            os.dup2(descriptor, STDOUT)
            os.dup2(descriptor, STDERR)
        finally:
            os.close(descriptor)
        self._identity = (status.st_dev, status.st_ino)

    def _rotate(self) -> None:
        locked = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(locked, fcntl.LOCK_EX)
            status = os.fstat(locked)
            is_ours = os.path.samestat(status, os.stat(self.path))
            if is_ours and status.st_size >= self._limit_bytes:
                for number in range(FILES_KEPT - 1, 0, -1):
                    with contextlib.suppress(FileNotFoundError):
                        rename_over(f"{self.path}.{number}", f"{self.path}.{number + 1}")
                rename_over(self.path, f"{self.path}.1")
        except FileNotFoundError:
            pass  # the other process has just moved it, and not made the next one yet
        finally:
            os.close(locked)
        self._open()
