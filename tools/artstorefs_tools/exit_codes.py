"""The exit codes of `artstorefs`, for scripts. A released number keeps its meaning for ever.

`MEANINGS` is the one table: the help, the man page and README.md have theirs from here, and a test
compares them.
"""

from typing import Final

OK: Final = 0
FAILURE: Final = 1
"""What was asked for was not done, or not for everything; a line on stderr says why."""
USAGE: Final = 2
"""A command line or a configuration that cannot be used; nothing was done."""
NOT_MOUNTED: Final = 3
"""No daemon serves the archive, and the command needs one."""
CANNOT_BE_CARRIED: Final = 4
"""Everything else is on the elements, but some changes are refused by them; they are kept."""
FINDINGS_REPAIRED: Final = 5
"""fsck: something was wrong, and all of it is repaired."""
FINDINGS_LEFT: Final = 6
"""fsck: something is wrong and is left as it is."""
MOUNT_FAILURE: Final = 32
"""The daemon could not mount, or ended before it had: the number of mount(8)."""
INTERRUPTED: Final = 130
"""Ended by Ctrl-C, as shells number it: 128 + SIGINT."""

MEANINGS: Final[dict[str, tuple[int, str]]] = {
    "OK": (OK, "done"),
    "FAILURE": (FAILURE, "failed, or in part"),
    "USAGE": (USAGE, "wrong usage or configuration"),
    "NOT_MOUNTED": (NOT_MOUNTED, "not mounted"),
    "CANNOT_BE_CARRIED": (CANNOT_BE_CARRIED, "an element refuses some changes, which are kept"),
    "FINDINGS_REPAIRED": (FINDINGS_REPAIRED, "fsck repaired findings"),
    "FINDINGS_LEFT": (FINDINGS_LEFT, "fsck left findings"),
    "MOUNT_FAILURE": (MOUNT_FAILURE, "could not mount"),
    "INTERRUPTED": (INTERRUPTED, "Ctrl-C"),
}
"""Of each code its name, its number, and what it says."""

MOUNT_USAGE: Final = 1
"""mount(8): "incorrect invocation or permissions"."""


def of_mount(code: int) -> int:
    """What mount(8) calls `code`: its helpers have the exit codes that are in its man page."""
    if code == OK:
        return OK
    return MOUNT_USAGE if code == USAGE else MOUNT_FAILURE


def summary() -> str:
    """All of them in one sentence."""
    return "; ".join(f"{number} {meaning}" for number, meaning in MEANINGS.values())
