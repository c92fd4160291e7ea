"""Points at which a test lets a process die, as if by `kill -9`: nothing is flushed, closed, told.

Every step of a change of several steps has one, named in `artstorefs/RECOVERY.md`. Off, which is
always but in tests, `crash_point` is a function that does nothing. Otherwise it sends the process
SIGKILL where the variable `ARTSTOREFS_CRASH` of its environment says:

    NAME[:COUNT]   when NAME is reached for the COUNTth time (the first)
    /PATH          where the file PATH says so, in the same words; it may come and change while the
                   process runs. Whichever process gets there first renames it to PATH.reached, and
                   dies alone.

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
    times: dict[str, int] = {}

    def reached(name: str) -> None:
        wanted = _read(setting) if setting.startswith("/") else setting
        if wanted.partition(":")[0] != name:
            return
        times[wanted] = times.get(wanted, 0) + 1
        if times[wanted] < int(wanted.partition(":")[2] or "1"):
            return
        if setting.startswith("/") and not _take(setting):
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return reached


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _take(path: str) -> bool:
    """Leave a sign that the point was reached; False if another process has."""
    try:
        os.link(path, path + ".reached")
        os.unlink(path)
    except (FileExistsError, FileNotFoundError):
        return False
    return True


crash_point: Callable[[str], None] = armed(os.environ.get(VARIABLE))
