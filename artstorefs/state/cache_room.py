"""The limit of the read cache (`cache_max`), and who has to go when it is reached.

Room is taken before anything is fetched, so that the cache is never larger than its limit. What was
used least recently goes first; what is pinned never goes. Nobody keeps a catalogue of the files: a
scan remembers the ones that were used least recently, and the next scan comes when they are gone.
"""

import heapq
import threading
import time
from dataclasses import dataclass
from typing import Final

from artstorefs.state.cache import CachedFile, CacheFiles, Place

CANDIDATES_MAX: Final = 32_768
"""Files that a scan remembers for eviction: 13 MiB of memory in a cache of small files, and one
scan, which takes a second for some 100,000 files, for so many evictions."""

LEFT_FREE_BYTES: Final = 1 << 30
LEFT_FREE_PART: Final = 20
"""What the cache leaves free on its disk for others, the spool among them: a GiB, or the twentieth
part of a small disk."""

FULL_DISK_S: Final = 60.0
"""How long the cache stays smaller after its disk was found full: others need that room."""


@dataclass(slots=True)
class CacheUse:
    """What the last scan has found."""

    files: int = 0
    """Contents of which something is there."""
    blocks: int = 0
    pinned_bytes: int = 0


class CacheRoom:
    """Thread-safe. What scans and removes blocks, and belongs in a thread."""

    def __init__(self, files: CacheFiles, limit_bytes: int) -> None:
        self.files = files
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        """Of files that are there, by the last scan and what came and went since. What is stored
        while a scan runs may be counted twice until the next: too much, and never too little."""
        self.taken_bytes = 0
        """Of files that are being fetched."""
        self.use = CacheUse()
        self._stored_since_scan_bytes = 0
        """Of a scan that is under way: it may or may not have seen them."""
        self._ceiling_bytes = limit_bytes
        self._ceiling_until_s = 0.0
        self._candidates: list[CachedFile] = []
        self._counting = threading.Lock()
        self._evicting = threading.Lock()

    def load(self) -> None:
        """At the start, before anything is fetched; blocks."""
        self.files.remove_incoming()
        with self._evicting:
            self._scan()

    @property
    def disk_is_full(self) -> bool:
        """Whether the disk was found full a moment ago."""
        return time.monotonic() < self._ceiling_until_s

    def take(self, size_bytes: int) -> bool:
        """Take room if there is any."""
        with self._counting:
            limit = self._ceiling_bytes if self.disk_is_full else self.limit_bytes
            if self.used_bytes + self.taken_bytes + size_bytes > limit:
                return False
            if not self._is_room_on_disk(self.taken_bytes + size_bytes):
                return False
            self.taken_bytes += size_bytes
            return True

    def _is_room_on_disk(self, size_bytes: int) -> bool:
        found = self.files.free_bytes()
        if found is None:
            return True  # storing makes the directory, or says what is wrong
        free_bytes, disk_bytes = found
        return free_bytes - size_bytes >= min(LEFT_FREE_BYTES, disk_bytes // LEFT_FREE_PART)

    def make_room(self, size_bytes: int) -> tuple[bool, list[Place]]:
        """Take room by evicting. Whether there was enough to evict, and what is gone. Blocks."""
        gone: list[Place] = []
        if size_bytes > self.limit_bytes:
            return False, gone
        with self._evicting:
            has_scanned = False
            while not self.take(size_bytes):
                if self._candidates:
                    found = self._candidates.pop()
                    freed = self.files.remove_unused(found)
                    if freed:
                        self.dropped(freed)
                        gone.append(found.place)
                        has_scanned = False  # which may not have seen all that can go
                elif has_scanned:
                    return False, gone
                else:
                    self._scan()
                    has_scanned = True
        return True, gone

    def pin(self, place: Place) -> bool:
        """Have a file stay; whether it is there, and not just being evicted. Blocks."""
        with self._evicting:
            return self.files.mark_pinned(place)

    def settle(self, taken_bytes: int, stored_bytes: int) -> None:
        """What was taken has become a file of so many bytes, 0 if none."""
        with self._counting:
            self.taken_bytes -= taken_bytes
            self.used_bytes += stored_bytes
            self._stored_since_scan_bytes += stored_bytes

    def dropped(self, size_bytes: int) -> None:
        """Files are gone that counted with so much."""
        with self._counting:
            self.used_bytes = max(0, self.used_bytes - size_bytes)

    def found_full_disk(self, size_bytes: int) -> None:
        """A block did not fit on the disk: for a while the cache has to do with less."""
        with self._counting:
            self._ceiling_bytes = max(0, self.used_bytes - 2 * size_bytes)
            self._ceiling_until_s = time.monotonic() + FULL_DISK_S

    def scan(self) -> CacheUse:
        """Look at all files anew; blocks."""
        with self._evicting:
            self._scan()
            return self.use

    def _scan(self) -> None:
        use = CacheUse()
        total = 0
        last_content = b""
        oldest: list[tuple[int, int, CachedFile]] = []  # a heap with the youngest of them first
        with self._counting:
            self._stored_since_scan_bytes = 0
        for number, found in enumerate(self.files.scan()):
            total += found.charged_bytes
            use.files += found.place.content != last_content
            use.blocks += found.place.index is not None
            last_content = found.place.content
            if found.is_pinned:
                use.pinned_bytes += found.charged_bytes
                continue
            heapq.heappush(oldest, (-found.used_ns, number, found))
            if len(oldest) > CANDIDATES_MAX:
                heapq.heappop(oldest)
        self._candidates = [found for _, _, found in sorted(oldest, key=lambda one: one[:2])]
        with self._counting:
            self.used_bytes = total + self._stored_since_scan_bytes  # too much, never too little
        self.use = use
