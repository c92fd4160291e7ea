"""Paths on the mount of an archive, as its daemon knows them."""

import os
from typing import Any

from artstorefs_tools.errors import CommandError, UsageError
from artstorefs_tools.paths import suggestion


def inode_number(path: str, status: dict[str, Any]) -> int:
    """That of a path on the mount that an answer of `status` is of. Raises `CommandError`,
    `UsageError`."""
    mountpoint = str(status["mountpoint"])
    try:
        found, root = os.stat(path), os.stat(mountpoint)
    except OSError as exc:
        hint = suggestion(path) if isinstance(exc, FileNotFoundError) else ""
        raise CommandError(f"{exc.filename}: {exc.strerror}{hint}") from None
    if found.st_dev != root.st_dev:
        raise UsageError(f"{path} is not on the mount of {status['archive']}, {mountpoint}")
    return found.st_ino
