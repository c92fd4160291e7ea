"""A planted bug, loaded by the daemon in the guest: content and names of files are not synced."""

import os


def _skip(descriptor: int) -> None:
    """Says that it has synced, and has not."""


os.fsync = _skip
