"""How far ahead of a program its file is read: further and further while it reads on, and not at
all while it jumps about.

Counted in blocks, because a fetch has a block. The blocks ahead double with each block that the
program enters in order; a program that enters another one begins anew, so random reading costs the
blocks that it needs and no others.
"""

from typing import Final

AHEAD_BYTES: Final = 32 << 20
"""How far at most: what a line of 1 Gbit/s brings in a quarter of a second, and few enough bytes to
be wasted by a program that stops."""

SETTLED_BYTES: Final = 2 << 20
"""A program that has read this much of its first block in order will want the next one."""


class ReadAhead:
    """Of one open file. `wanted` is told of every read, and says which blocks will be wanted."""

    def __init__(self, block_bytes: int, count: int, ahead_bytes: int = AHEAD_BYTES) -> None:
        """`count`: blocks of the file; `ahead_bytes`: how far at most."""
        self._count = count
        self._most = max(1, ahead_bytes // block_bytes)
        self._last = -2
        self._window = 0
        self._read_bytes = 0
        self._told = -1

    def wanted(self, index: int, length: int, *, is_sequential: bool) -> range:
        """The blocks ahead of `index`, in which `length` bytes are read, that nobody has been told
        of since the reading in order began."""
        if index == self._last + 1:
            self._window = min(max(1, 2 * self._window), self._most)
        elif index not in (self._last, self._last - 1):
            self._window, self._read_bytes, self._told = 0, 0, index
        self._last = max(index, self._last) if index == self._last - 1 else index
        self._read_bytes = self._read_bytes + length if is_sequential else 0
        if self._read_bytes >= SETTLED_BYTES:
            self._window = max(1, self._window)
        begin = max(self._last, self._told) + 1
        end = min(self._last + 1 + self._window, self._count)
        if end <= begin:
            return range(0)
        self._told = end - 1
        return range(begin, end)
