"""What a disk may hold after a cut, from the record that dm-log-writes made of what was written.

The record (Linux, drivers/md/dm-log-writes.c; all little endian, in sectors of the size that the
superblock gives):

    superblock    magic, version, number of entries, sector size; one sector
    entry         sector, number of sectors, flags, length of a mark's text; one sector, with the
                  text of a mark behind the header; then the data, except for a discard

An entry stands there once its write was complete. One with FLUSH says that what stands before it is
on the disk; one with FUA is on the disk itself. All else that came after the last FLUSH may be on
the disk or not, whole or in parts, in any order.
"""

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import disk

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8

_SUPERBLOCK = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")

SUPERBLOCK_END = 2048

TORN_SHARE = 0.15
"""Of the writes that are not safe: those of which only some sectors are there."""


@dataclass(frozen=True, slots=True)
class Entry:
    offset: int
    """In bytes, on the disk."""
    flags: int
    start: int
    """Of the data, in the record."""
    size: int
    mark: str = ""


class BlockLog:
    """The entries of a record, in the order in which they were complete."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  # closed by `close`
        magic, version, count, self.sector = _SUPERBLOCK.unpack(self._read(0, _SUPERBLOCK.size))
        assert (magic, version) == (MAGIC, 1), "this is no record of dm-log-writes"
        self.entries = list(self._parse(count))

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)

    def _parse(self, count: int) -> Iterator[Entry]:
        position = self.sector
        for _ in range(count):
            head = self._read(position, self.sector)
            sector, sectors, flags, length = _ENTRY.unpack_from(head)
            mark = head[_ENTRY.size : _ENTRY.size + length].decode() if flags & MARK else ""
            size = 0 if flags & DISCARD else sectors * self.sector
            yield Entry(sector * self.sector, flags, position + self.sector, size, mark.strip("\0"))
            position += self.sector + size

    def data(self, entry: Entry) -> bytes:
        return self._read(entry.start, entry.size)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class State:
    """A disk as a cut may leave it. `marks` were made before."""

    marks: list[str]
    description: str


class CrashStates:
    """Random states of the disk `image` under its record, each written to `target` in turn."""

    def __init__(self, log: BlockLog, image: Path, target: Path, chance: random.Random) -> None:
        self._log = log
        self._safe = image
        self._target = target
        self._random = chance
        self._applied = 0

    def states(self, count: int) -> Iterator[State]:
        """In the order of the record, so that what is safe is written once. Changes `image`."""
        marks: list[str] = []
        seen = 0
        points = sorted(self._random.randrange(len(self._log.entries)) for _ in range(count))
        for point in points:
            marks += [entry.mark for entry in self._log.entries[seen:point] if entry.mark]
            seen = max(seen, point)
            flush = self._last_flush(point)
            self._make_safe(flush)
            disk.copy(self._safe, self._target)
            kept = self._add_unsafe(flush, point)
            yield State(list(marks), f"entry {point}, flush {flush}, {kept}")

    def _last_flush(self, point: int) -> int:
        while point > 0 and not self._log.entries[point].flags & FLUSH:
            point -= 1
        return point

    def _make_safe(self, end: int) -> None:
        with open(self._safe, "r+b", buffering=0) as file:
            for entry in self._log.entries[self._applied : end]:
                if entry.size:
                    file.seek(entry.offset)
                    file.write(self._log.data(entry))
        self._applied = max(self._applied, end)

    def _add_unsafe(self, flush: int, point: int) -> str:
        """Some of what came after the last flush; how much of it."""
        share = self._random.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        whole = torn = 0
        with open(self._target, "r+b", buffering=0) as file:
            for index in range(flush, point + 1):
                entry = self._log.entries[index]
                if not entry.size:
                    continue
                safe = entry.flags & FUA and index < point
                if not safe and self._random.random() >= share:
                    continue
                # ext4 has no answer to half a superblock but a person with e2fsck -b.
                may_tear = not safe and entry.offset >= SUPERBLOCK_END
                tears = may_tear and self._random.random() < TORN_SHARE
                self._write(file.fileno(), entry, tears)
                torn += tears
                whole += not tears
        return f"{whole} writes and {torn} torn ones after it"

    def _write(self, descriptor: int, entry: Entry, tears: bool) -> None:
        data = self._log.data(entry)
        if not tears:
            os.pwrite(descriptor, data, entry.offset)
            return
        sectors = range(0, entry.size, self._log.sector)
        if self._random.random() < 0.5:  # the first of them, else any
            chosen = list(sectors[: self._random.randrange(len(sectors))])
        else:
            chosen = [start for start in sectors if self._random.random() < 0.5]
        for start in chosen:
            os.pwrite(descriptor, data[start : start + self._log.sector], entry.offset + start)
