"""Files with credentials: nobody but their user may be able to read them."""

import os
import stat
from collections.abc import Mapping
from typing import Final

OTHERS: Final = 0o077


def why_no_secret(
    path: str, uid: int | None = None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """Why a file is not to be used: others can read or change it, or it is neither root's nor that
    of the user who is to read it, by default ours; with what to do. None: all is well, or it is
    missing, which is said where it is read.

    What systemd has put into CREDENTIALS_DIRECTORY is its business: the directory is this service's
    alone, and the file has an access list, whose mask stat(2) shows as rights of a group.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    given = environment.get("CREDENTIALS_DIRECTORY")
    if given and os.path.dirname(os.path.realpath(path)) == os.path.realpath(given):
        return None
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid not in (0, os.geteuid() if uid is None else uid):
        return f"{path} belongs to user {found.st_uid}, who can change it; chown it"
    if mode & OTHERS:
        return f"{path} may be read by others ({mode:04o}); chmod 600 {path}"
    return None
