"""What was meant by a path that is not there."""

import os
from itertools import islice
from typing import Final

from artstorefs.core.nearest import nearest

_NAMES_MAX: Final = 5000
"""Of a directory with more names these many are looked at: a mistake must not take a second."""


def nearest_path(path: str) -> str | None:
    """`path` with its first name that does not exist replaced by the nearest one beside it, if
    that exists then; only names are read, nothing is opened."""
    parts = path.split("/")
    for number, name in enumerate(parts):
        before, here = "/".join(parts[:number]), "/".join(parts[: number + 1])
        if not name or os.path.lexists(here):
            continue
        folder = before or ("/" if number else ".")
        meant = nearest(name, _names(folder))
        if meant is None:
            return None
        found = "/".join([*parts[:number], meant, *parts[number + 1 :]])
        return found if os.path.lexists(found) else None
    return None


def suggestion(path: str, otherwise: str = "") -> str:
    """`; did you mean RIGHT?`, or `; OTHERWISE`, to be added to a message about a missing path."""
    meant = nearest_path(path)
    text = otherwise if meant is None else f"did you mean {meant}?"
    return f"; {text}" if text else ""


def _names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, _NAMES_MAX)]
    except OSError:
        return []
