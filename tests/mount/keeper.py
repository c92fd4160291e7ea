"""The service manager of one archive, which keeps /dev/fuse from one daemon to the next as systemd
does for a unit with FileDescriptorStoreMax=.

It is a process of its own, as systemd is: while a mount waits for its next daemon, whoever has a
file open there cannot start that daemon, for a fork closes the file, and that waits as well.
"""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..harness import MountedArchive
from .conftest import make_archive, remove_archive

LIMIT_S = 30.0

START = 'exec env LISTEN_PID=$$ "$@"'


class Keeper:
    """The test's end: every method is done over there."""

    def __init__(self, archive: MountedArchive) -> None:
        self.archive = archive
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        places = (archive.base, archive.toml, archive.mount)
        self._process = context.Process(target=_keep, args=(theirs, *places), daemon=True)
        self._process.start()
        theirs.close()

    def start(self) -> "Keeper":
        """A daemon, which is given what is stored, until it is ready."""
        self._ask("start")
        return self

    def start_armed(self, crash_point: str) -> None:
        """The same, of one that is killed there, later or before it is ready."""
        self._ask("start_armed", crash_point)

    def end(self) -> None:
        """The daemon makes way."""
        self._ask("end")

    def kill(self) -> None:
        self._ask("kill")

    def forget(self) -> None:
        """Keep nothing any more."""
        self._ask("forget")

    @property
    def stored(self) -> list[str]:
        """The names of what is kept."""
        names: list[str] = self._ask("names")
        return names

    def close(self) -> None:
        with suppress(EOFError, OSError):
            self._connection.send(None)
        self._process.join(LIMIT_S)

    def _ask(self, method: str, *arguments: str) -> Any:
        self._connection.send((method, *arguments))
        assert self._connection.poll(2 * LIMIT_S), f"no answer to {method}"
        answer = self._connection.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


@contextmanager
def keeper_of_new_archive() -> Iterator[Keeper]:
    """Of one that is not mounted yet."""
    archive = make_archive()
    archive.stop()
    keeper = Keeper(archive)
    yield keeper
    keeper.close()
    remove_archive(archive)


def _keep(connection: Connection, base: Path, toml: Path, mount: Path) -> None:
    """In the other process. Whatever goes wrong ends it, and then nobody waits for a daemon."""
    manager = _Manager(base, toml, mount)
    try:
        while connection.poll(4 * LIMIT_S) and (asked := connection.recv()) is not None:
            method, *arguments = asked
            try:
                connection.send(getattr(manager, method)(*arguments))
            except Exception as exc:
                connection.send(AssertionError(f"{method}: {exc!r}"))
                return
    finally:
        manager.close()


class _Manager:
    def __init__(self, base: Path, toml: Path, mount: Path) -> None:
        self._words = [sys.executable, "-m", "artstorefs_tools.command_line"]
        self._words += ["mount", "-f", str(toml), str(mount)]
        self._address = str(base / "notify")
        self._log = base / "service.log"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.bind(self._address)
        self._listener.settimeout(LIMIT_S)
        self._stored: dict[str, int] = {}
        self._daemon: subprocess.Popen[bytes] | None = None

    def names(self) -> list[str]:
        return sorted(self._stored)

    def start(self) -> None:
        self._begin("")
        while "READY" not in self._hear():
            pass

    def start_armed(self, crash_point: str) -> None:
        daemon = self._begin(crash_point)
        said: dict[str, str] = {}
        self._listener.settimeout(0.05)
        while daemon.poll() is None and "READY" not in said:
            with suppress(TimeoutError):
                said = self._hear()
        self._hear_rest()

    def _begin(self, crash_point: str) -> "subprocess.Popen[bytes]":
        kept = list(self._stored.values())
        environment = {**os.environ, "NOTIFY_SOCKET": self._address}
        environment["ARTSTOREFS_CRASH"] = crash_point
        script = START
        if kept:
            environment |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": ":".join(self._stored)}
            (descriptor,) = kept
            script = f"{START} 3<&{descriptor}" + f" {descriptor}<&-" * (descriptor != 3)
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(
                ["bash", "-c", script, "bash", *self._words],
                env=environment,
                stderr=log,
                pass_fds=kept,
            )
        return self._daemon

    def _hear(self) -> dict[str, str]:
        """Do what the next message says."""
        data, descriptors, _, _ = socket.recv_fds(self._listener, 65536, 1)
        said = dict(line.split("=", 1) for line in data.decode().splitlines())
        if "FDSTOREREMOVE" in said:
            os.close(self._stored.pop(said["FDNAME"]))
        elif "FDSTORE" in said:
            self._stored[said["FDNAME"]] = descriptors.pop()
        for descriptor in descriptors:  # of a barrier
            os.close(descriptor)
        return said

    def _hear_rest(self) -> None:
        self._listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._hear()
        self._listener.settimeout(LIMIT_S)

    def end(self) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGUSR1)
        self._listener.settimeout(0.05)
        while self._daemon.poll() is None:
            with suppress(TimeoutError):
                self._hear()
        self._hear_rest()

    def kill(self) -> None:
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def forget(self) -> None:
        for descriptor in self._stored.values():
            os.close(descriptor)
        self._stored.clear()

    def close(self) -> None:
        self.forget()
        if self._daemon is not None and self._daemon.poll() is None:
            self.kill()
        self._listener.close()
