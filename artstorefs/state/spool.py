"""The spool: files with content that no element has yet.

`spool/XX/INO.VERSION`, XX the last two hex digits of the inode number, both numbers in hexadecimal
and decimal. A version that is being carried to an element, or was, never changes again; whoever
writes then works on a copy with the next version.
"""

import os
from collections.abc import Iterable
from contextlib import suppress


def spool_name(ino: int, version: int) -> str:
    return f"{ino:x}.{version}"


def parse_spool_name(name: str) -> tuple[int, int]:
    """Inode number and version; ValueError for what is not a spool file's name."""
    ino, version = name.split(".")
    return int(ino, 16), int(version)


class Spool:
    """Paths and descriptors of spool files. All calls are single, short system calls."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for number in range(256):
            os.makedirs(os.path.join(directory, f"{number:02x}"), mode=0o700, exist_ok=True)

    def path(self, ino: int, version: int) -> str:
        return f"{self.directory}/{ino & 0xFF:02x}/{ino:x}.{version}"

    def path_of_name(self, name: str) -> str:
        ino, version = parse_spool_name(name)
        return self.path(ino, version)

    def create(self, ino: int, version: int) -> int:
        """A descriptor (read and write) of a new, empty spool file; an old one is emptied."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return os.open(self.path(ino, version), flags, 0o600)

    def open(self, ino: int, version: int, *, write: bool) -> int:
        """A descriptor of a spool file that exists; FileNotFoundError otherwise."""
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
        return os.open(self.path(ino, version), flags)

    def stat(self, ino: int, version: int) -> os.stat_result | None:
        try:
            return os.stat(self.path(ino, version))
        except FileNotFoundError:
            return None

    def size(self, names: Iterable[str]) -> int:
        """Bytes of content in these spool files, as far as they are there."""
        found = (self.stat(*parse_spool_name(name)) for name in names)
        return sum(one.st_size for one in found if one is not None)

    def remove(self, name: str) -> None:
        """Idempotent."""
        with suppress(FileNotFoundError):
            os.unlink(self.path_of_name(name))

    def sync_directory(self, ino: int) -> None:
        """Make the name of a new spool file survive a power cut. Blocks."""
        descriptor = os.open(f"{self.directory}/{ino & 0xFF:02x}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def put_aside(self, name: str) -> str:
        """Move a spool file that nothing refers to into `lost`; returns its new path."""
        lost = os.path.join(self.directory, "lost")
        os.makedirs(lost, mode=0o700, exist_ok=True)
        path = os.path.join(lost, name)
        os.link(self.path_of_name(name), path)
        os.unlink(self.path_of_name(name))
        return path

    def names(self) -> list[str]:
        """Every spool file there is; for the start and for `status`."""
        return [
            entry.name
            for number in range(256)
            for entry in os.scandir(os.path.join(self.directory, f"{number:02x}"))
        ]
