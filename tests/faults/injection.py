"""A fault at one system call of a running process, by strace."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ATTACH_LIMIT_S = 20

MAIN = " in the main thread"

_LINE = re.compile(r"^(\d+) +(\w+)\(")


class Tracer:
    """strace on a process and all its threads, until it is left."""

    def __init__(self, pid: int, output: Path, *arguments: str) -> None:
        assert shutil.which("strace"), "strace is missing"
        self.output = output
        self._pid = str(pid)
        output.write_bytes(b"")
        self._process = subprocess.Popen(
            ["strace", "-f", "-p", str(pid), "-o", str(output), *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stderr: list[str] = []
        self._attached = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._attached.wait(ATTACH_LIMIT_S)
        # It may have ended since: with a process that the fault has killed at once.
        if not any("attached" in line for line in self._stderr):
            self.__exit__()
            raise AssertionError(f"strace did not attach: {self._stderr}")

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._stderr.append(line)
            if "attached" in line:
                self._attached.set()
        self._attached.set()

    def injected(self) -> list[str]:
        """Names of the calls that have been failed so far, those of the main thread with `MAIN`."""
        lines = self.output.read_text(errors="replace").splitlines()
        found = [_LINE.match(line) for line in lines if "(INJECTED)" in line]
        return [match[2] + (MAIN if match[1] == self._pid else "") for match in found if match]

    def counts(self) -> dict[str, int]:
        """The most calls of each name that any one thread has made."""
        calls: Counter[tuple[str, str]] = Counter()
        for line in self.output.read_text(errors="replace").splitlines():
            match = _LINE.match(line)
            if match:
                calls[match[2], match[1]] += 1
        most: dict[str, int] = {}
        for (name, _), count in calls.items():
            most[name] = max(most.get(name, 0), count)
        return most

    def __enter__(self) -> "Tracer":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # detaches
        try:
            self._process.wait(ATTACH_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(ATTACH_LIMIT_S)
        if self._process.stderr is not None:
            self._process.stderr.close()


def counting(pid: int, output: Path, calls: tuple[str, ...]) -> Tracer:
    return Tracer(pid, output, f"--trace={','.join(calls)}")


def failing(pid: int, output: Path, call: str, fault: str, index: int) -> Tracer:
    """The `index`-th such call of each thread fails: `fault` is `error=EIO`, `signal=SIGKILL`, or
    `retval=0`, a write that writes nothing."""
    return Tracer(pid, output, f"--trace={call}", f"--inject={call}:{fault}:when={index}")


@contextlib.contextmanager
def time_limit(pid: int, limit_s: float) -> Iterator[list[int]]:
    """Kill the daemon if it takes longer, which ends whatever waits for it; the list then is not
    empty."""
    late: list[int] = []

    def expire() -> None:
        late.append(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(limit_s, expire)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
