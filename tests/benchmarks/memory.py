"""The state of memory in which a large file is written and read: as after a boot.

A copy between a program and the cache of the kernel is slowed by how that cache lies in memory. The
cache of FUSE consists of single pages; ext4 takes them by the dozen, next to one another. Pages
that were freed one by one are given out again one by one, the last one first: read against the
order of their addresses, they cost up to half as much again. How memory was used before is no
property of a filesystem, so both sides find it in large pieces.
"""

import mmap
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MADV_POPULATE_WRITE = 23
"""Linux 5.14, linux/mman.h; not in Python's mmap."""


def drop_caches() -> None:
    """As root: nothing of any file is in memory, and what it took is free."""
    if os.geteuid() == 0:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")


@contextmanager
def memory_in_large_pieces(size_bytes: int) -> Iterator[None]:
    """Until the end of the block free memory is, as far as root can have it so.

    `size_bytes` of it, at most half, are touched: a virtual machine gets memory from its host at
    the first touch, at a tenth of the speed of a write.
    """
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
    _populated(max(min(size_bytes, free_bytes // 2), 1), mmap.MADV_HUGEPAGE).close()
    held = _hold_single_pages()
    try:
        if os.geteuid() == 0:
            Path("/proc/sys/vm/compact_memory").write_text("1")
        yield
    finally:
        for mapping in held:
            mapping.close()


def _hold_single_pages() -> list[mmap.mmap]:
    """As many pages as each processor keeps freed ones on its list; these are given out first."""
    held = []
    processors = os.sched_getaffinity(0)
    try:
        for processor, pages in _freed_pages().items():
            if processor in processors and pages:
                os.sched_setaffinity(0, {processor})
                held.append(_populated(pages * mmap.PAGESIZE, mmap.MADV_NOHUGEPAGE))
    finally:
        os.sched_setaffinity(0, processors)
    return held


def _freed_pages() -> dict[int, int]:
    """By processor, the pages on its lists of freed ones (Documentation/filesystems/proc.rst)."""
    pages: dict[int, int] = defaultdict(int)
    processor = 0
    for line in Path("/proc/zoneinfo").read_text().splitlines():
        key, _, value = line.strip().partition(":")
        if key == "cpu":
            processor = int(value)
        elif key == "count":
            pages[processor] += int(value)
    return pages


def _populated(size_bytes: int, advice: int) -> mmap.mmap:
    mapping = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping.madvise(advice)
    mapping.madvise(MADV_POPULATE_WRITE)
    return mapping
