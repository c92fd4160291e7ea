"""The spool's limit: writers wait while it is full, then get ENOSPC (`spool_full`, `spool_wait_s`).

The spool is also full while its disk is: when a write finds no room there, and while the state
directory's reserve is given up.

While a file is written it counts with the bytes that made it longer, from then on with the blocks
that it has, until its spool file is removed.
"""

from collections.abc import Callable

import trio

from artstorefs.filesystem.errors import SpoolFull

WAIT_S = 30.0
"""How long a writer waits for the elements to take something before it gets ENOSPC: long enough
for a slow element, short enough for the person at the keyboard to still know what they did."""

DISK_INTERVAL_S = 0.25
"""Whoever makes room on a disk does not tell us: it is tried again so often."""


class SpoolBudget:
    """`used_bytes` may pass the limit only by what one write adds while others wait."""

    def __init__(
        self,
        limit_bytes: int,
        used_bytes: int = 0,
        wait_s: float = WAIT_S,
        disk_is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._disk_is_full = disk_is_full
        self.limit_bytes = limit_bytes
        self.used_bytes = used_bytes
        self._wait_s = wait_s
        self._freed = trio.Event()

    @property
    def room_bytes(self) -> int:
        return self.limit_bytes - self.used_bytes

    def has_room(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self.limit_bytes and not self._disk_is_full()

    def take(self, size_bytes: int) -> bool:
        """Reserve room now if there is any."""
        if not self.has_room(size_bytes):
            return False
        self.used_bytes += size_bytes
        return True

    async def wait(self, size_bytes: int, ino: int) -> None:
        """Reserve room as soon as there is some; SpoolFull when there is none for too long."""
        with trio.move_on_after(self._wait_s):
            while not self.take(size_bytes):
                await self._wait_freed()
            return
        raise SpoolFull(ino)

    def deadline_s(self) -> float:
        """When, of trio's clock, a write that begins now and finds the disk full is refused."""
        return trio.current_time() + self._wait_s

    async def wait_for_disk(self, deadline_s: float, ino: int) -> None:
        """A while, after which it may be tried again; SpoolFull after the deadline."""
        if trio.current_time() >= deadline_s:
            raise SpoolFull(ino)
        await self._wait_freed()

    async def _wait_freed(self) -> None:
        with trio.move_on_after(DISK_INTERVAL_S):
            await self._freed.wait()

    def charge(self, size_bytes: int) -> None:
        """Count what is there already, beyond the limit if need be; negative to correct."""
        self.used_bytes = max(0, self.used_bytes + size_bytes)

    def release(self, size_bytes: int) -> None:
        """A spool file was removed."""
        self.charge(-size_bytes)
        self._freed.set()
        self._freed = trio.Event()
