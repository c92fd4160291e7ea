"""A planted bug, loaded by the daemon in the guest: SQLite's log is not synced where it is due."""

import os


def _skip(descriptor: int) -> None:
    """Says that it has synced, and has not."""


os.fdatasync = _skip
