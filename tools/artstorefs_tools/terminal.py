"""What people see on a terminal: tables, and colour where it is wanted."""

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final, TextIO

_SGR: Final = {"red": 31, "green": 32, "yellow": 33, "bold": 1}
"""Select Graphic Rendition of ECMA-48, as every terminal has it."""

_ESCAPES: Final = re.compile("\x1b\\[[0-9]+m")

STATE_COLOURS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ok", "closed"), "green"),
    **dict.fromkeys(("warning", "unknown", "half-open"), "yellow"),
    **dict.fromkeys(("wrong", "unavailable", "open", "full", "critical"), "red"),
}
"""The words for how something is, wherever they are shown."""


def has_colour(stream: TextIO) -> bool:
    """Only on a terminal that knows it, and never with NO_COLOR (no-color.org)."""
    forbidden = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not forbidden and stream.isatty()


def coloured(text: str, colour: str | None, stream: TextIO | None = None) -> str:
    """`text` in a colour, where `stream` (standard output) has colours."""
    if colour is None or not has_colour(stream or sys.stdout):
        return text
    return f"\x1b[{_SGR[colour]}m{text}\x1b[0m"


def format_table(rows: list[list[str]], indent: str = "") -> Iterator[str]:
    """Lines with the columns of `rows` under each other; cells may be coloured, in any script."""
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell + " " * (width - columns_of(cell)) for cell, width in zip(row, widths, strict=True)
        )
        yield (indent + "  ".join(cells)).rstrip()


def columns_of(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    return sum(map(_columns, _ESCAPES.sub("", text)))


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
