"""SQLite's log of the index, as the transfer process has it."""

import os


class LogFile:
    """SQLite's log of the index, to be flushed."""

    def __init__(self, database_path: str) -> None:
        self._descriptor = os.open(database_path + "-wal", os.O_RDONLY | os.O_CLOEXEC)

    def sync(self) -> None:
        """Make every transaction committed so far survive a power cut (see `database.py`)."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
