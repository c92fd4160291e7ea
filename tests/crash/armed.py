"""Commands, and the daemons that they start, which die at a crash point once that is armed.

One is enough for all tests of a process, and most of what these take is to load the program.
"""

import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from artstorefs.core.crash_points import VARIABLE

from ..harness import COMMAND_LIMIT_S
from ..starter import Starter

REACH_LIMIT_S = 30.0
"""How long a point may take to be reached: seconds on a machine that is busy."""


class Armed:
    """`starter` starts them, with `environment` beside what they are armed by."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="asfs-")
        self._switch = Path(self._directory.name) / "crash"
        self._reached = self._switch.with_name("crash.reached")
        self.starter = Starter({VARIABLE: str(self._switch), **(environment or {})})

    def close(self) -> None:
        """No daemon is left by then."""
        self.starter.close()
        self._directory.cleanup()

    def arm(self, point: str) -> None:
        """The first process that comes to `point` dies."""
        self._reached.unlink(missing_ok=True)
        temporary = self._switch.with_suffix(".new")
        temporary.write_text(point)
        temporary.rename(self._switch)

    def kill_command(self, point: str, *arguments: str) -> None:
        """Run a command, which has to die there."""
        self.arm(point)
        self.starter.begin(*arguments)
        assert self.starter.finish(COMMAND_LIMIT_S) == -signal.SIGKILL

    def disarm(self) -> None:
        self._switch.unlink(missing_ok=True)
        self._reached.unlink(missing_ok=True)

    @property
    def is_reached(self) -> bool:
        """Whether a process has died at the point that was armed last."""
        return self._reached.exists()

    def wait_until_reached(self) -> None:
        deadline = time.monotonic() + REACH_LIMIT_S
        while not self.is_reached:
            assert time.monotonic() < deadline, "the point was never reached: nothing is shown"
            time.sleep(0.01)
