"""Runs commands of `artstorefs` in processes that are forked from one which has all of it loaded.

Loading takes longer than mounting, and the tests start more than a thousand commands. `python
starter.py DESCRIPTOR [PROGRAM]` reads requests from that socket: arguments, working directory, and
where the output goes. It answers with the process id, and with the exit code at the end. What is
forked has no more than a new process has, and a daemon that it leaves behind is as any other.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .harness import MountedArchive

MOUNT_LIMIT_S = 60.0
REQUEST_BYTES = 1 << 16

LOADED = (
    "artstorefs.core.configuration_text",
    "artstorefs.recovery.fsck",
    "artstorefs_daemon.mount_daemon",
    "xattr",
)
"""What commands load only when they are run."""

PER_TEST = "PYTEST_CURRENT_TEST"
"""A variable that pytest sets anew for each test, and that no program reads."""


class Starter:
    """One command at a time. Ended by `close`, and with the process that has made it."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, program: str | None = None
    ) -> None:
        """Every command has `environment` beside our own. `program`: the path of what is run in the
        place of the command line."""
        self._environment = _own_environment()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *([program] if program else [])],
                pass_fds=[theirs.fileno()],
                env={**self._environment, **(environment or {})},
            )
        self._pid = 0
        self._is_certain = True
        """Not if a test was interrupted while it waited for the number of a process."""
        self._using = threading.Lock()
        self._owner = os.getpid()

    def begin(self, *arguments: str, s3: bool = False, output: tuple[int, ...] = ()) -> None:
        """Start a command; if there is one already, after its end. `s3`: it needs that. `output`:
        descriptors in the place of its standard output and standard error."""
        self.finish()
        request = json.dumps({"arguments": arguments, "directory": os.getcwd(), "s3": s3}).encode()
        assert len(request) <= REQUEST_BYTES, "too many arguments for one command"
        self._is_certain = False
        socket.send_fds(self._socket, [request], output)
        self._pid = self._answer()
        self._is_certain = True

    def finish(self, limit_s: float | None = None) -> int:
        """Wait for the command; its exit code, 0 if there is none. TimeoutError: it is killed."""
        if not self._pid:
            return 0
        self._socket.settimeout(limit_s)
        try:
            return self._answer()
        except BaseException:  # the time limit of a test, too: the next answer is the next one's
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._socket.settimeout(None)
            self._answer()
            raise
        finally:
            self._socket.settimeout(None)
            self._pid = 0

    def _answer(self) -> int:
        answer = self._socket.recv(100)
        assert answer, "the process that starts commands has ended"
        return int(answer)

    def run(
        self, arguments: tuple[str, ...], limit_s: float, *, s3: bool = False
    ) -> subprocess.CompletedProcess[str] | None:
        """As `subprocess.run`, with what the command says. None: it has to be a new process, for
        the environment has become another one since, or another thread has a command running."""
        if self._environment != _own_environment() or self._owner != os.getpid():
            return None
        if not self._is_certain:
            return None
        if not self._using.acquire(blocking=False):
            return None
        try:
            with (
                open(os.memfd_create("stdout"), "r+") as output,
                open(os.memfd_create("stderr"), "r+") as errors,
            ):
                self.begin(*arguments, s3=s3, output=(output.fileno(), errors.fileno()))
                try:
                    code = self.finish(limit_s)
                finally:
                    output.seek(0)
                    errors.seek(0)
                return subprocess.CompletedProcess(arguments, code, output.read(), errors.read())
        except TimeoutError:
            raise subprocess.TimeoutExpired(arguments, limit_s) from None
        finally:
            self._using.release()

    def mount(self, archive: "MountedArchive") -> None:
        """Mount; returns as soon as the mount answers, which is before the command has ended."""
        self.begin("mount", str(archive.toml), str(archive.mount))
        deadline = time.monotonic() + MOUNT_LIMIT_S
        while not is_alive(archive.mount):
            assert time.monotonic() < deadline, f"not mounted: {archive.log()[-4000:]}"
            time.sleep(0.01)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(60)


def is_alive(mount: Path) -> bool:
    """Whether a daemon answers there; the kernel alone would answer a stat of a dead mount."""
    try:
        os.statvfs(mount)
    except OSError:
        return False
    return os.path.ismount(mount)


def _own_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != PER_TEST}


# -------------------------------------------------------------------- the process that is loaded


def main(descriptor: int, program: str | None = None) -> int:
    from artstorefs_tools.command_line import COMMANDS, command_module

    for name in (*LOADED, *(command_module(name) for name in COMMANDS)):
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with whoever asks it
    requests = socket.socket(fileno=descriptor)
    with suppress(ConnectionError):  # whoever asks has ended
        while True:
            request, output, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 2)
            if not request:
                break
            wanted = json.loads(request)
            if wanted["s3"]:
                load_s3()
            gc.freeze()  # a child that collects would copy all of it
            child = os.fork()
            if child == 0:
                requests.close()
                run_command(wanted, output, program)
            for one in output:
                os.close(one)
            requests.send(b"%d" % child)
            requests.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return 0


@functools.cache
def load_s3() -> None:
    """With what botocore reads of the service, which takes every client a seventh of a second."""
    importlib.import_module("artstorefs.elements.s3_opening")
    importlib.import_module("artstorefs.elements.s3_connection").load_models()


def run_command(request: dict[str, Any], output: list[int], program: str | None) -> NoReturn:
    """In the process that was forked for it; ends as an interpreter does."""
    from artstorefs_tools.command_line import main as command_line

    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for target, one in enumerate(output, start=1):
            os.dup2(one, target)
            os.close(one)
        os.chdir(request["directory"])
        if program is None:
            code = command_line(request["arguments"])
        else:
            sys.argv = [program, *request["arguments"]]
            runpy.run_path(program, run_name="__main__")
    except SystemExit as exc:  # with a code: of argparse, or of a whole program
        code = int(exc.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
