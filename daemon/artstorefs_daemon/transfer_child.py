"""The transfer process as the mount process has it: how it begins, and how it ends.

The first one of a mount is forked before there is any thread: nothing is loaded a second time, and
what both have loaded takes its memory once. One that has died is followed by a new program, for by
then there are threads, and a fork would copy their locks as they happen to be.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import NoReturn, Protocol
from uuid import UUID

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.transfer.jobs import encode
from artstorefs_daemon import logs
from artstorefs_daemon.transfer_process import serve_transfer

log = logging.getLogger(__name__)

_DESCRIPTORS_MAX = 1 << 20


class Process(Protocol):
    """What is needed of `subprocess.Popen`."""

    pid: int

    def wait(self) -> int: ...
    def poll(self) -> int | None: ...
    def kill(self) -> None: ...


class _Forked:
    """A process that was forked and not started as a program. From any thread: a status can be
    had from waitpid(2) once, and whoever comes second would be told that there is no such child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None
        self._asking = threading.Lock()

    def wait(self) -> int:
        with self._asking:
            if self._status is None:
                self._status = os.waitpid(self.pid, 0)[1]
            return self._status

    def poll(self) -> int | None:
        if self._status is None and self._asking.acquire(blocking=False):
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self._status = status if pid else None
            finally:
                self._asking.release()
        return self._status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class TransferChild:
    """A transfer process, and our end of the socket to it. It ends when that is closed."""

    def __init__(self, process: Process, ours: socket.socket) -> None:
        self.process = process
        self.ours = ours

    def introduce(self, archive_id: UUID, modes: Mapping[str, str]) -> None:
        """What it waits for before it looks at any element: whose they are, and which modes they
        are in by now."""
        self.ours.sendall(encode({"archive": str(archive_id), "modes": dict(modes)}))

    def dismiss(self) -> None:
        """For one that was never put to work: nothing it does has to be waited for."""
        self.ours.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def fork_transfer(
    configuration: ArchiveConfiguration, *, read_only: bool, inherited: int
) -> TransferChild:
    """The first one. Only for a process without threads. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        pid = os.fork()
    except BaseException:
        ours.close()
        theirs.close()
        raise
    if pid == 0:
        _serve_forked(theirs, configuration, read_only, inherited)
    theirs.close()
    return TransferChild(_Forked(pid), ours)


def _serve_forked(
    connection: socket.socket, configuration: ArchiveConfiguration, read_only: bool, inherited: int
) -> NoReturn:
    """In the child: as if it had been started as a program."""
    code = 70
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        kept = sorted({0, 1, 2, connection.fileno(), inherited})
        for before, after in zip(kept, [*kept[1:], _DESCRIPTORS_MAX], strict=True):
            os.closerange(before + 1, after)
        code = serve_transfer(connection, configuration, read_only=read_only, log_file=logs.file())
    except Exception:
        log.exception("the transfer process ends because of this")
    finally:
        os._exit(code)


def spawn_transfer(
    configuration: ArchiveConfiguration, *, read_only: bool, inherited: list[int]
) -> TransferChild:
    """One that follows another. Raises OSError."""
    log_file = logs.file()
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "artstorefs_daemon.transfer_process"),
                    str(theirs.fileno()),
                    configuration.model_dump_json(),
                    "ro" if read_only else "rw",
                    *([log_file] if log_file else []),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *inherited],
                start_new_session=True,
            )
    except BaseException:
        ours.close()
        raise
    return TransferChild(process, ours)
