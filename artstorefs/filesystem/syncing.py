"""Content on the disk of the spool for good: what fsync(2) waits for, beside the log."""

import os

import trio

from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.open_file import OpenFile


async def sync_content(archive: Archive, file: OpenFile) -> None:
    """Have the content of an open spool file, and its name there, survive a power cut.

    Raises OSError. Content whose flush has failed is never taken for good again: it is refused
    until somebody writes it anew.
    """
    version, descriptor = file.version, os.dup(file.descriptor)
    try:
        await trio.to_thread.run_sync(archive.spool.sync_content, descriptor)
    except OSError as exc:
        archive.outcomes.refuse(file.node.ino, f"a flush of its content failed: {exc}")
        raise
    if file.unsynced_name:
        await trio.to_thread.run_sync(archive.spool.sync_directory)
        if file.version == version:
            file.unsynced_name = False
