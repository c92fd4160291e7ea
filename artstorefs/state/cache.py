"""The files of the read cache: blocks of content that elements over a network hold.

    objects/AB/SHA256            content of one block; SHA256 is that of the content, AB its start
    objects/AB/SHA256.d/NUMBER   of content of several blocks: block NUMBER, from 0 on
    objects/AB/SHA256.d/list     the block list of that content, behind a SHA-256 of its own
    incoming/TOKEN               what is being written; emptied at every start

The names are the whole catalogue: a file that is there is a block that is there. It is written
under `incoming` and then renamed, so it is there whole, or not at all, whenever a process dies;
what a power cut leaves is found wrong, like any damage, because nothing here is believed before it
is hashed. Everything may be removed by anybody at any time.

The time of change of a file is when it was used last. Two permission bits, which mean nothing else
on a file of ours, are its other properties: `PINNED`, and `WHOLE` on a list.

Calls block, for as long as the disk of the cache takes.
"""

import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from artstorefs.core.block_list import (
    BLOCK_BYTES_LIMIT,
    BlockList,
    list_size,
    parse_block_list,
    render_block_list,
)
from artstorefs.core.errors import DocumentInvalid
from artstorefs.elements.durable import rename_new, write_all

PINNED: Final = stat.S_IXUSR
"""Permission bit of what is never evicted."""

WHOLE: Final = stat.S_IXGRP
"""Permission bit of a list: the content was hashed whole once, and has its SHA-256."""

OBJECTS, INCOMING, LIST = "objects", "incoming", "list"

PAGE_BYTES: Final = 4096
"""A file takes whole pages of the disk; so it is counted."""

_CONTENT = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_HERE: Final = -100  # AT_FDCWD of <fcntl.h>
_ATTEMPTS: Final = 3
"""At storing: an eviction may remove an empty directory just when it is needed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file of the cache: block `index` of the content with this SHA-256; its list if None.

    `is_single`: the content has one block.
    """

    content: bytes
    index: int | None
    is_single: bool

    @property
    def name(self) -> str:
        """Its path below `objects`."""
        digits = self.content.hex()
        if self.is_single:
            return f"{digits[:2]}/{digits}"
        return f"{digits[:2]}/{digits}.d/{LIST if self.index is None else self.index}"


@dataclass(frozen=True, slots=True)
class CachedFile:
    """What a scan finds: its place, size on the disk, time of its last use."""

    place: Place
    charged_bytes: int
    used_ns: int
    is_pinned: bool


def charged_bytes(size_bytes: int) -> int:
    """What a file of this size counts with."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def charged_list_bytes(object_bytes: int) -> int:
    """What the list of an object of this size counts with, at most."""
    return charged_bytes(list_size(object_bytes) + 65)


class CacheFiles:
    """The files below `cache_dir`. Safe to use from many threads and processes."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, place: Place) -> str:
        return f"{self.directory}/{OBJECTS}/{place.name}"

    # -------------------------------------------------------------------------------- use

    def open(self, place: Place) -> int | None:
        """A descriptor for reading; None if the file is not there, or cannot be opened."""
        try:
            return os.open(self.path(place), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None

    def is_there(self, place: Place) -> bool:
        return os.path.exists(self.path(place))

    def mark_used(self, descriptor: int) -> None:
        """Now is its last use. A disk that takes no times leaves the order of writing."""
        with suppress(OSError):
            _touch(descriptor)

    def store(self, place: Place, data: bytes) -> None:
        """Put a file there, whole or not at all; one that is there is left. Raises OSError."""
        target = self.path(place)
        incoming = f"{self.directory}/{INCOMING}"
        for left in range(_ATTEMPTS - 1, -1, -1):
            temporary = f"{incoming}/{secrets.token_hex(8)}"
            try:
                os.makedirs(incoming, mode=0o700, exist_ok=True)
                os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
                _write_new(temporary, data)
                with suppress(FileExistsError):
                    rename_new(temporary, _HERE, target, _HERE)
                return
            except FileNotFoundError:  # somebody has removed a directory
                if not left:
                    raise
            finally:
                with suppress(OSError):
                    os.unlink(temporary)

    def remove(self, place: Place) -> int:
        """Remove a file; what it has counted with, 0 if it was not there."""
        path = self.path(place)
        try:
            size = os.lstat(path).st_size
            os.unlink(path)
        except OSError:
            return 0
        if not place.is_single:
            with suppress(OSError):  # not empty
                os.rmdir(os.path.dirname(path))
        return charged_bytes(size)

    def remove_unused(self, found: CachedFile) -> int:
        """The same, unless it has been used or pinned since it was found."""
        try:
            status = os.lstat(self.path(found.place))
        except OSError:
            return 0
        if status.st_mtime_ns != found.used_ns or status.st_mode & PINNED:
            return 0
        return self.remove(found.place)

    def set_mark(self, place: Place, mark: int, *, on: bool = True) -> bool:
        """Set or clear `PINNED` or `WHOLE`; whether the file is there."""
        descriptor = self.open(place)
        if descriptor is None:
            return False
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.fchmod(descriptor, mode | mark if on else mode & ~mark)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def mark_pinned(self, place: Place) -> bool:
        """Have a file stay, and be used now; whether it is there."""
        descriptor = self.open(place)
        if descriptor is None:
            return False
        with os.fdopen(descriptor, "rb"):
            try:
                os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) | PINNED)
                _touch(descriptor)
            except OSError:
                return False
        return True

    def remove_content(self, content: bytes) -> int:
        """Remove whatever there is of a content, unless it is pinned; what it has counted with."""
        several = Place(content, None, False)
        places = [Place(content, 0, True), several]
        with suppress(OSError):
            names = os.listdir(os.path.dirname(self.path(several)))
            places += [Place(content, int(name), False) for name in names if name != LIST]
        return sum(self.remove(place) for place in places if not self.has_mark(place, PINNED))

    def has_mark(self, place: Place, mark: int) -> bool:
        try:
            return bool(os.lstat(self.path(place)).st_mode & mark)
        except OSError:
            return False

    def count_blocks(self, content: bytes) -> int:
        """How many blocks of content of several are there."""
        directory = os.path.dirname(self.path(Place(content, None, False)))
        try:
            return sum(name != LIST for name in os.listdir(directory))
        except OSError:
            return 0

    # ------------------------------------------------------------------------------- lists

    def store_list(self, content: bytes, blocks: BlockList) -> None:
        """Keep the list of content of several blocks. Raises OSError."""
        self.store(Place(content, None, False), encode_list(blocks))

    def read_list(self, content: bytes, object_bytes: int) -> BlockList | None:
        """The list that is kept for content of this size; a wrong one is removed, and is None."""
        place = Place(content, None, False)
        descriptor = self.open(place)
        if descriptor is None:
            return None
        try:
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(list_size(object_bytes) + 66)
                blocks = decode_list(data)
                self.mark_used(file.fileno())
            if blocks.object_bytes == object_bytes:
                return blocks
        except (OSError, DocumentInvalid):
            pass
        self.remove(place)
        return None

    def free_bytes(self) -> tuple[int, int] | None:
        """Room on the disk for us, and its size; None where it cannot be asked."""
        try:
            status = os.statvfs(self.directory)
        except OSError:
            return None
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    # ------------------------------------------------------------------------------- start

    def remove_incoming(self) -> None:
        """What processes that have ended were writing. Called when nobody else writes."""
        incoming = f"{self.directory}/{INCOMING}"
        with suppress(OSError):
            for name in os.listdir(incoming):
                with suppress(OSError):
                    os.unlink(f"{incoming}/{name}")

    def scan(self) -> Iterator[CachedFile]:
        """Every file of ours, in no order. What cannot be a block by its size is removed; names
        that are none of ours are left alone, and not counted."""
        for directory in _subdirectories(f"{self.directory}/{OBJECTS}"):
            for entry in _entries(directory):
                name = entry.name
                if _CONTENT.fullmatch(name):
                    yield from self._found(Place(bytes.fromhex(name), 0, True), entry)
                elif name.endswith(".d") and _CONTENT.fullmatch(name[:-2]):
                    yield from self._scan_blocks(bytes.fromhex(name[:-2]), entry.path)

    def _scan_blocks(self, content: bytes, directory: str) -> Iterator[CachedFile]:
        for entry in _entries(directory):
            if entry.name == LIST:
                yield from self._found(Place(content, None, False), entry)
            elif _NUMBER.fullmatch(entry.name):
                yield from self._found(Place(content, int(entry.name), False), entry)
        with suppress(OSError):  # not empty
            os.rmdir(directory)

    def _found(self, place: Place, entry: "os.DirEntry[str]") -> Iterator[CachedFile]:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return
        if not stat.S_ISREG(status.st_mode) or entry.path != self.path(place):
            return
        if status.st_size == 0 or (place.index is not None and status.st_size > BLOCK_BYTES_LIMIT):
            self.remove(place)
            return
        charged = charged_bytes(status.st_size)
        yield CachedFile(place, charged, status.st_mtime_ns, bool(status.st_mode & PINNED))


def encode_list(blocks: BlockList) -> bytes:
    """A list with what tells later whether it is still what it was."""
    rendered = render_block_list(blocks)
    return hashlib.sha256(rendered).hexdigest().encode() + b"\n" + rendered


def decode_list(data: bytes) -> BlockList:
    """The list in what `encode_list` has made. Raises DocumentInvalid."""
    digest, _, rendered = data.partition(b"\n")
    if hashlib.sha256(rendered).hexdigest().encode() != digest:
        raise DocumentInvalid("block list in the cache", "does not have its SHA-256")
    return parse_block_list(rendered, "block list in the cache")


def _write_new(path: str, data: bytes) -> None:
    """Not synced: what a power cut takes of it is found, and fetched again."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _touch(descriptor: int) -> None:
    """By the clock that a program reads: the kernel's own times are up to 10 ms behind it."""
    now_ns = time.time_ns()
    os.utime(descriptor, ns=(now_ns, now_ns))


def _subdirectories(directory: str) -> Iterator[str]:
    for entry in _entries(directory):
        if len(entry.name) == 2:
            yield entry.path


def _entries(directory: str) -> Iterator["os.DirEntry[str]"]:
    """None of a directory that is gone, or cannot be read."""
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except OSError:
        return
