"""The spool's limit: writers wait while it is full, then get ENOSPC (`spool_full`, `spool_wait_s`).

The spool is also full while its disk is: when a write finds no room there, and while the state
directory's reserve is given up.

While a file is written it counts with the bytes that made it longer; from then on with the blocks
that it had when it was closed, until its spool file is removed. They are remembered, for they
change: what a disk sets aside behind the end (XFS), writes down only later (ext4) or packs (btrfs)
would stay behind in the sum, a little with every file.
"""

from collections.abc import Callable, Mapping

import trio

from artstorefs.filesystem.errors import SpoolFull

WAIT_S = 30.0
"""How long a writer waits for the elements to take something before it gets ENOSPC: long enough
for a slow element, short enough for the person at the keyboard to still know what they did."""

_BLOCK_BYTES = 512
"""The unit of st_blocks (POSIX leaves it open; Linux has this one)."""

DISK_INTERVAL_S = 0.25
"""Whoever makes room on a disk does not tell us: it is tried again so often."""


class SpoolBudget:
    """`used_bytes` may pass the limit only by what one write adds while others wait."""

    def __init__(
        self,
        limit_bytes: int,
        found: Mapping[tuple[int, int], int] | None = None,
        wait_s: float = WAIT_S,
        disk_is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`found`: bytes of each spool file that is there already, by inode number and version."""
        self._disk_is_full = disk_is_full
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._closed: dict[int, int] = {}
        """Blocks with which each spool file counts that nobody writes; see `_key`."""
        for (ino, version), size_bytes in (found or {}).items():
            self.close(ino, version, 0, size_bytes)
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

    def change_limit(self, limit_bytes: int) -> None:
        """From now on; who waits looks whether it is enough."""
        self.limit_bytes = limit_bytes
        self.release(0)

    def change_wait(self, wait_s: float) -> None:
        """For those who begin to wait from now on."""
        self._wait_s = wait_s

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

    def close(self, ino: int, version: int, charged_bytes: int, allocated_bytes: int) -> None:
        """Nobody writes a spool file any more: in place of what was charged meanwhile it counts
        with what it takes now."""
        before = self.reopen(ino, version)
        self.charge(allocated_bytes - charged_bytes - before)
        if allocated_bytes:
            self._closed[_key(ino, version)] = allocated_bytes // _BLOCK_BYTES

    def reopen(self, ino: int, version: int) -> int:
        """The bytes with which it counts; whoever writes it now is charged with them."""
        return self._closed.pop(_key(ino, version), 0) * _BLOCK_BYTES

    def give_back(self, ino: int, version: int, size_bytes: int) -> None:
        """A closed spool file takes so much less now."""
        if size_bytes:
            self.close(ino, version, 0, max(0, self._closed_bytes(ino, version) - size_bytes))
            self.release(0)

    def remove(self, ino: int, version: int) -> None:
        """A closed spool file is not there any more."""
        self.release(self.reopen(ino, version))

    def _closed_bytes(self, ino: int, version: int) -> int:
        return self._closed.get(_key(ino, version), 0) * _BLOCK_BYTES

    def release(self, size_bytes: int) -> None:
        """What was taken is free again; who waits looks whether it is enough."""
        self.charge(-size_bytes)
        self._freed.set()
        self._freed = trio.Event()


def _key(ino: int, version: int) -> int:
    """One number instead of two: a third of the memory, where a million files may wait."""
    return ino << 32 | version
