"""Sizes as people write them in a configuration and read them in `status`."""

import re
from typing import Final

_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_UNITS: Final[dict[str, int]] = (
    {unit.lower(): 1024**power for power, unit in enumerate(_BINARY)}
    | {unit.lower(): 1000**power for power, unit in enumerate(_DECIMAL)}
    | {"": 1}
)
_SIZE = re.compile(r"\s*([0-9]{1,20})(?:\.([0-9]{1,9}))?\s*([A-Za-z]{0,3})\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of a size such as "1TiB", "1.5 GiB", "500 MB", "4096"; rounded down to whole bytes.

    KiB, MiB, ... are powers of 1024 (IEC 80000-13), kB, MB, ... powers of 1000, in any case.
    Raises ValueError, with one line for a person.
    """
    match = _SIZE.fullmatch(text)
    factor = _UNITS.get(match[3].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size; write for example 500MB, 1.5GiB or 1TiB")
    whole, fraction = match[1], match[2] or ""
    return int(whole + fraction) * factor // int("1" + "0" * len(fraction))


def format_size(size_bytes: int) -> str:
    """A size for a person, in the largest binary unit that leaves a 1 before the point.

    One decimal, rounded down, so that what is said to be there is there: 1536 -> "1.5 KiB".
    """
    power = 0
    while power + 1 < len(_BINARY) and abs(size_bytes) >= 1024 ** (power + 1):
        power += 1
    if power == 0:
        return f"{size_bytes} B"
    tenths = abs(size_bytes) * 10 // 1024**power
    sign = "-" if size_bytes < 0 else ""
    return f"{sign}{tenths // 10}.{tenths % 10} {_BINARY[power]}"
