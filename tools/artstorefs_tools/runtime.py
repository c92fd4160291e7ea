"""Which daemon serves a mount: the mount itself knows."""

import os
from pathlib import Path
from typing import Final

from artstorefs_daemon.mount_table import MountEntry
from artstorefs_tools.configuration_files import locate_archive

RUNTIME_DIR_ATTRIBUTE: Final = "user.artstore.runtime_dir"
"""Read-only, on the root of a mount: where its control socket is."""


def runtime_dir(entry: MountEntry) -> Path:
    """Where the daemon of a mount listens: the mount itself knows, else its archive's name tells.

    The name is no help for a mount from a configuration elsewhere; asking the mount is not
    possible for root where a user mounted without allow_other.
    """
    try:
        return Path(os.fsdecode(os.getxattr(entry.mountpoint, RUNTIME_DIR_ATTRIBUTE)))
    except OSError:
        return locate_archive(entry.source).runtime_dir
