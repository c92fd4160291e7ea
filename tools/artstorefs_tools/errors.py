"""What the command line can fail with, each with the exit code that it becomes.

They never become the errno of a system call, so they are not in `artstorefs.core.errors`.
"""

from typing import ClassVar

from artstorefs.core.errors import ArtStoreFSError
from artstorefs_tools import exit_codes


class CommandError(ArtStoreFSError):
    """A command could not do what it was asked for; `str()` is one line for a person."""

    exit_code: ClassVar[int] = exit_codes.FAILURE


class UsageError(CommandError):
    """The command line is at odds with itself or with the configuration."""

    exit_code = exit_codes.USAGE


class NotMounted(CommandError):
    """No daemon serves the archive, or nothing is mounted in the place."""

    exit_code = exit_codes.NOT_MOUNTED
