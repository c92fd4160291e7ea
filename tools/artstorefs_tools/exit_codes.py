"""The exit codes of `artstorefs`, for scripts. A released number keeps its meaning for ever."""

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
INTERRUPTED: Final = 130
"""Ended by Ctrl-C, as shells number it: 128 + SIGINT."""
