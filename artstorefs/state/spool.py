"""The spool: files with content that no element has yet.

`spool/INO.VERSION`, the inode number in hexadecimal and the version of the content in decimal, all
in one directory: spread over 256, which a filesystem places far apart, a create took four times as
long. A version that is being carried to an element, or was, never changes again; whoever
writes then works on a copy with the next version.
"""

import itertools
import os
import re
import stat
from contextlib import suppress

from artstorefs.core.crash_points import crash_point
from artstorefs.elements.durable import FLUSH_FAILED, flush, make_directories_durably

SYNCED = stat.S_IXUSR
"""Permission bit, without a meaning for us otherwise, of a spool file whose content was synced for
a program. It becomes durable with the content itself. After a power cut it tells a file that was
durably cut off to nothing from one of which nothing has come to the disk."""

# Numbers of up to 63 bits, as SQLite has them, in the one form in which we write them.
_NAME = re.compile(r"(0|[1-9a-f][0-9a-f]{0,14})\.(0|[1-9][0-9]{0,17})", re.ASCII)

LOST = "lost"
"""Directory in the spool for files that nothing refers to: kept for a person to look at."""


def spool_name(ino: int, version: int) -> str:
    return f"{ino:x}.{version}"


def parse_spool_name(name: str) -> tuple[int, int]:
    """Inode number and version; ValueError for what is not exactly a spool file's name.

    `0a.1` would read as inode 10 too: whoever moved or removed it would hit the file of another.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!a} is not the name of a spool file")
    ino, version = name.split(".")
    return int(ino, 16), int(version)


PASSING = "passing."
"""What temporary files begin with; a start removes what a kill has left of them."""


class Spool:
    """Paths and descriptors of spool files. All calls are single, short system calls."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        make_directories_durably(directory)

    def path(self, ino: int, version: int) -> str:
        return f"{self.directory}/{ino:x}.{version}"

    def path_of_name(self, name: str) -> str:
        ino, version = parse_spool_name(name)
        return self.path(ino, version)

    def temporary_path(self, ino: int) -> str:
        """Of a file that one element's content passes through on its way to another."""
        return f"{self.directory}/{PASSING}{ino:x}.{os.getpid()}"

    def create_temporary(self, ino: int) -> int:
        """A descriptor of the new file with that path. Not durable: the element will be."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(self.temporary_path(ino), flags, 0o600)

    def remove_temporary(self, name: str) -> None:
        """What a process that was killed has left of `temporary_path`."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.directory, name))

    def create(self, ino: int, version: int) -> int:
        """A descriptor (read and write) of a new, empty spool file; an old one is emptied."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(self.path(ino, version), flags, 0o600)
        crash_point("spool.created")
        return descriptor

    def open_or_create(self, ino: int, version: int) -> int:
        """A descriptor (read and write) of a spool file, as it is, or of a new one."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path(ino, version), flags, 0o600)
        crash_point("spool.opened")
        return descriptor

    def open(self, ino: int, version: int, *, write: bool) -> int:
        """A descriptor of a spool file that exists; FileNotFoundError otherwise."""
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
        return os.open(self.path(ino, version), flags)

    def stat(self, ino: int, version: int) -> os.stat_result | None:
        try:
            return os.stat(self.path(ino, version))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Idempotent."""
        with suppress(FileNotFoundError):
            os.unlink(self.path_of_name(name))

    def sync_content(self, descriptor: int) -> None:
        """Make content survive a power cut, for a program. Blocks. The descriptor is closed here;
        it is none that somebody closes before, who begins the next version of the content."""
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if not mode & (SYNCED | FLUSH_FAILED):
                os.fchmod(descriptor, mode | SYNCED)
            try:
                flush(descriptor)
            except OSError:
                os.fchmod(descriptor, mode | FLUSH_FAILED)  # synced is at most what was before
                raise
        finally:
            os.close(descriptor)

    def sync_directory(self) -> None:
        """Make the names of new spool files survive a power cut. Blocks."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def put_aside(self, name: str) -> str:
        """Move a spool file that nothing refers to into `lost`; returns its new path.

        Never over what is kept there already. It has two names for a moment; a crash then leaves
        both, and the next call takes the first away.
        """
        lost = os.path.join(self.directory, LOST)
        os.makedirs(lost, mode=0o700, exist_ok=True)
        source = self.path_of_name(name)
        path = os.path.join(lost, name)
        for number in itertools.count(1):
            try:
                os.link(source, path)
                break
            except FileExistsError:
                if os.path.samefile(source, path):
                    break
                path = os.path.join(lost, f"{name}.{number}")
        crash_point("put_aside.linked")
        os.unlink(source)
        return path

    def names(self) -> list[str]:
        """Every spool file there is; for the start and for `status`."""
        with os.scandir(self.directory) as entries:
            return [entry.name for entry in entries if entry.name != LOST]
