"""Amounts that a person gives on the command line."""

import re
from typing import Final

from artstorefs.core.errors import ConfigurationError
from artstorefs.core.sizes import parse_size
from artstorefs_tools.errors import UsageError

_UNITS_S: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?(s|min|h|d)?", re.ASCII)


def parse_rate(text: str | None) -> int | None:
    """Bytes a second of `--rate TEXT`. Raises UsageError."""
    if text is None:
        return None
    try:
        rate = parse_size(text)
    except (ConfigurationError, ValueError):
        rate = 0
    if rate <= 0:
        raise UsageError(f"--rate {text}: give a size for each second, 50MiB for example")
    return rate


def parse_duration(option: str, text: str) -> float:
    """Seconds of `OPTION TEXT`: `0`, `90s`, `30min`, `24h`, `7d`. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or (found[2] is None and float(found[1]) != 0):
        raise UsageError(f"{option} {text}: give a time, 24h or 7d for example")
    return float(found[1]) * _UNITS_S[found[2] or "s"]
