"""What `init` and `adopt` share: whom a new archive is for, and the writing of its file."""

import os
import pwd
import secrets
from pathlib import Path

from artstorefs.core.crash_points import crash_point
from artstorefs_tools.errors import CommandError, UsageError

SERVICE_USER = "artstorefs"
"""As whom artstorefs@.service runs."""


def user_for(wanted: str | None) -> str | None:
    """The account for a new archive, of which only root can choose."""
    if wanted is not None and os.geteuid() != 0:
        raise UsageError("only root can make an archive for another user")
    if wanted is None and os.geteuid() == 0:
        return SERVICE_USER if any(one.pw_name == SERVICE_USER for one in pwd.getpwall()) else None
    return None if wanted == "root" else wanted


def write_new_file(path: Path, data: bytes) -> None:
    """Write a file durably and whole; `CommandError` if there is one."""
    from artstorefs.elements import durable

    # XDG Base Directory Specification: a person's own configuration directories have mode 0700.
    durable.make_directories_durably(path.parent, 0o755 if os.geteuid() == 0 else 0o700)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        durable.write_file_durably(temporary, data, mode=0o644)
        crash_point("init.configuration_staged")
        durable.rename_new(temporary.name, folder, path.name, folder)
        durable.fsync_directory(folder)
    except FileExistsError:
        raise CommandError(f"{path} was made by somebody else meanwhile; it is left") from None
    finally:
        temporary.unlink(missing_ok=True)
        os.close(folder)


def absolute(path: str) -> str:
    """`path` from the working directory and the home, with the symlinks on the way resolved."""
    return os.path.realpath(os.path.expanduser(path))
