"""Entries of `errors` of the control protocol (CONTROL.md): what is wrong with what."""

from typing import Any
from uuid import UUID

from artstorefs.filesystem.archive import Archive
from artstorefs_daemon.element_reports import timestamp


def error_entry(
    archive: Archive,
    ino: int | None,
    file_id: bytes,
    error: str,
    since_ns: int | None,
    place: str | None = None,
) -> dict[str, Any]:
    """Of a file; or, without `ino`, of what is to be removed at `place` on an element."""
    path = b"" if ino is None else archive.index.path(ino)
    return {
        "path": place or path.decode(errors="backslashreplace"),
        "file_id": str(UUID(bytes=file_id)) if file_id else "",
        "error": error,
        "since": None if since_ns is None else timestamp(since_ns / 1e9),
    }
