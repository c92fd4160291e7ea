"""Points at which a test lets a process die, as if by `kill -9`: nothing is flushed, closed, told.

Every step of a change of several steps has one, named in `artstorefs/RECOVERY.md`. Off, which is
always but in tests, `crash_point` is a function that does nothing. In a process that was started
with `ARTSTOREFS_CRASH=NAME[:COUNT[:MARKER]]` in its environment it sends the process SIGKILL when
NAME is reached for the COUNTth time (the first). MARKER is the path of a file that is made then;
where it is there already nothing dies, so that a process that is started again lives.

It stands in `core`, although it does something, because every other layer has steps.
"""

import os
import signal
from collections.abc import Callable

VARIABLE = "ARTSTOREFS_CRASH"


def _pass_by(name: str) -> None:
    """Nothing happens here."""


def armed(setting: str | None) -> Callable[[str], None]:
    """What `crash_point` is in a process with this value of the variable."""
    if not setting:
        return _pass_by
    wanted, _, rest = setting.partition(":")
    count, _, marker = rest.partition(":")
    left = int(count or "1")

    def reached(name: str) -> None:
        nonlocal left
        if name != wanted:
            return
        left -= 1
        if left == 0 and _mark(marker):
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def _mark(marker: str) -> bool:
    """Leave a sign that the point was reached; False if an earlier process has."""
    if not marker:
        return True
    try:
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True


crash_point: Callable[[str], None] = armed(os.environ.get(VARIABLE))
