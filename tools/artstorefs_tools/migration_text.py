"""A migration, for people: what `artstorefs migrate` and `artstorefs jobs` say of it."""

from collections.abc import Iterator
from typing import Any

from artstorefs.core.sizes import format_size


def describe_migration(one: dict[str, Any]) -> Iterator[str]:
    """The lines of a migration for a person."""
    what = "everything" if one["path"] is None else one["path"]
    yield (
        f"migration {one['number']}: {what} from {one['source']} to {one['target']}, by user "
        f"{one['by']}: {one['phase']} since {one['since']}"
    )
    moved, size = one["files"] - one["files_left"], one["bytes"] - one["bytes_left"]
    yield (
        f"{max(moved, 0):,} of {one['files']:,} files and directories moved, "
        f"{format_size(max(size, 0))} of {format_size(one['bytes'])}"
    )
    if one["leaving"]:
        keep = duration_text(one["keep_source_s"])
        yield f"{one['leaving']:,} are still on {one['source']} too, each for {keep} after its move"
    if one["failed"]:
        yield f"{one['failed']:,} could not be moved so far"


def duration_text(seconds: float) -> str:
    """So much time, in the largest fitting unit."""
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.4g} {unit}"
    return f"{seconds:.4g} s"
