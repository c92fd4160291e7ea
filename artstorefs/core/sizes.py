"""Sizes as people write them: `50GiB`, `500MB`, `1048576`. Exact: no rounding when read."""

import re
from fractions import Fraction
from typing import Final

SIZE_ALLOWED: Final = 'a size such as "50GiB", "500MB" or 1048576 (bytes)'
"""What `parse_size` accepts, for messages."""

_PREFIXES: Final = "kMGTPE"
_UNITS: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{f"{p.lower()}b": 1000**n for n, p in enumerate(_PREFIXES, start=1)},
    **{f"{p.lower()}ib": 1024**n for n, p in enumerate(_PREFIXES, start=1)},
}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")


def parse_size(text: str) -> int:
    """The number of bytes that `text` names; units are case-insensitive, `KB` is 1000, `KiB` 1024.

    Raises `ValueError` for anything else, and for a size that is no whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not {SIZE_ALLOWED}")
    size = Fraction(match[1]) * unit
    if size.denominator != 1:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size_bytes: int) -> str:
    """`size_bytes` for a person, in the largest fitting binary unit: `512B`, `1.5GiB`, `50GiB`.

    At most one decimal, so `parse_size` gives back the same number only where that is exact.
    """
    units = ["B", *(f"{p.upper()}iB" for p in _PREFIXES)]
    exponent = min(max(abs(size_bytes).bit_length() - 1, 0) // 10, len(units) - 1)
    value = f"{size_bytes / 1024**exponent:.1f}".removesuffix(".0")
    if value == "1024" and exponent + 1 < len(units):  # 1023.96 KiB is 1 MiB, not 1024 KiB
        return f"1{units[exponent + 1]}"
    return value + units[exponent]
