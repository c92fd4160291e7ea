"""Runs commands of `artstorefs` in a process that has all of it loaded, forked for each.

Loading takes longer than mounting. `python starter.py` reads a line for each command, a JSON list
of arguments, and answers with its exit code when it has ended; a daemon that it has left behind
is as any other. For tests that mount hundreds of times; crash points are off in it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .harness import MountedArchive

MOUNT_LIMIT_S = 60.0


class Starter:
    """One command at a time. Ended by `close`."""

    def __init__(self, toml: Path, environment: Mapping[str, str]) -> None:
        """`toml` stands in the command line of the process and of every daemon that it leaves, so
        that these are known for what they are."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(toml)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._is_running = False

    def begin(self, *arguments: str) -> None:
        """Start a command; if there is one already, after its end."""
        self.finish()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        self._is_running = True

    def finish(self) -> int:
        """Wait for the command; its exit code, 0 if there is none."""
        if not self._is_running:
            return 0
        assert self._process.stdout is not None
        self._is_running = False
        return int(self._process.stdout.readline())

    def mount(self, archive: "MountedArchive") -> None:
        """Mount; returns as soon as the mount answers, which is before the command has ended."""
        self.begin("mount", str(archive.toml), str(archive.mount))
        deadline = time.monotonic() + MOUNT_LIMIT_S
        while not is_alive(archive.mount):
            assert time.monotonic() < deadline, f"not mounted: {archive.log()[-4000:]}"
            time.sleep(0.01)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def is_alive(mount: Path) -> bool:
    """Whether a daemon answers there; the kernel alone would answer a stat of a dead mount."""
    try:
        os.statvfs(mount)
    except OSError:
        return False
    return os.path.ismount(mount)


def main() -> int:
    import artstorefs_daemon.mount_daemon  # noqa: F401  # what `mount` loads when it is run
    from artstorefs_tools.command_line import main as command_line

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)  # answers go to standard output, and nothing else
            os._exit(command_line(json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
