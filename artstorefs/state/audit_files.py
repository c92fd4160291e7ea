"""`state/audit`: the files of the audit log, one after the other; only the last one grows.

Lines are appended with one write(2) for all that belong together, so a kill leaves them whole. A
power cut may not: what was not synced may be cut off, or zeros. `AuditFiles` goes through the last
file when it is opened, and what does not continue the chain is kept apart, in a file `torn-…`. A
write that ended early, on a full disk, is taken back at once.

A new file is begun when the UTC day is another one, or the last one has `limit_bytes`.
"""

import calendar
import errno
import hashlib
import os
import threading
import time
from dataclasses import dataclass

from artstorefs.core.audit_record import (
    Head,
    file_name,
    head_of,
    link_of,
    parse_file_name,
)
from artstorefs.elements.durable import (
    fsync_directory,
    make_directories_durably,
    write_file_durably,
)

DIRECTORY = "audit"
"""In the state directory."""


@dataclass(frozen=True, slots=True)
class Torn:
    """What a power cut has left behind the last whole record."""

    kept: str
    size_bytes: int
    sha256: str


class AuditFiles:
    """Used by one thread, except `sync`."""

    def __init__(self, directory: str, limit_bytes: int, keep_days: int = 0) -> None:
        """Opens what there is; `torn` says what was put aside. Raises OSError."""
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._keep_days = keep_days
        self._syncing = threading.Lock()
        self._retired: list[int] = []
        self._is_dirty = self._has_new_name = False
        self._descriptor = -1
        self._size_bytes = 0
        self._day = ""
        self.head = Head()
        self.last_line = b""
        self.torn: Torn | None = None
        make_directories_durably(directory)
        names = audit_files(directory)
        if names:
            self._open_last(names)

    def _open_last(self, names: list[str]) -> None:
        path = os.path.join(self.directory, names[-1])
        first, self._day = parse_file_name(names[-1]) or (1, "")
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(path, "rb") as file:
            data = file.read()
        good = self._follow(data, first)
        if good < len(data):
            self._put_aside(data[good:], names[-1])
            os.ftruncate(self._descriptor, good)
        if good == 0:  # nothing of it has survived: the one before has the end
            self.head = Head(first - 1)
        if good == 0 and len(names) > 1:
            with open(os.path.join(self.directory, names[-2]), "rb") as file:
                before = file.read()
            self._follow(before, (parse_file_name(names[-2]) or (1, ""))[0])
        self._size_bytes = good

    def _follow(self, data: bytes, first: int) -> int:
        """Where the chain of the records in `data`, the first of which has number `first`, ends;
        `head` is there then. What the first one follows is in the file before: it is believed."""
        position = 0
        head: Head | None = None
        while (end := data.find(b"\n", position)) >= 0:
            line = data[position:end]
            link = link_of(line)
            if link is None or link.seq + 1 != (head.seq + 1 if head else first):
                break
            if head is not None and link != head:
                break
            head = head_of(line, link.seq + 1)
            self.last_line = line
            position = end + 1
        if head is not None:
            self.head = head
        return position

    def _put_aside(self, data: bytes, name: str) -> None:
        kept = f"torn-{self.head.seq:012}-{time.time_ns()}"
        write_file_durably(os.path.join(self.directory, kept), data)
        self.torn = Torn(kept, len(data), hashlib.sha256(data).hexdigest())

    # ----------------------------------------------------------------------------- writing

    def is_due(self, day: str) -> bool:
        """Whether the next record begins a new file."""
        return self._descriptor < 0 or day != self._day or self._size_bytes >= self._limit_bytes

    def begin_file(self, day: str) -> list[str]:
        """Returns the names of files that were kept for long enough, and are gone. Raises OSError.
        The old file is still to be synced, which is for `sync`: it may take a while."""
        path = os.path.join(self.directory, file_name(self.head.seq + 1, day))
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        before, self._descriptor = self._descriptor, descriptor
        self._size_bytes = os.fstat(descriptor).st_size
        self._day = day
        if before >= 0:
            self._retired.append(before)
        self._has_new_name = True
        return self._remove_old(day)

    def _remove_old(self, day: str) -> list[str]:
        removed: list[str] = []
        if not self._keep_days:
            return removed
        for name in audit_files(self.directory)[:-1]:
            begun = parse_file_name(name)
            if begun is not None and _days(day) - _days(begun[1]) > self._keep_days:
                os.unlink(os.path.join(self.directory, name))
                removed.append(name)
        return removed

    def append(self, data: bytes, head: Head) -> None:
        """Whole lines, after which the chain ends with `head`; all of them or none. OSError."""
        try:
            written = os.write(self._descriptor, data)
            if written < len(data):  # the disk is full, or we have reached a limit of the process
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, self._size_bytes)
            raise
        self._size_bytes += written
        self.head = head
        self._is_dirty = True

    def sync(self) -> None:
        """All of it survives a power cut. Any thread."""
        with self._syncing:
            while self._retired:
                os.fdatasync(self._retired[0])
                os.close(self._retired.pop(0))
            descriptor = self._descriptor  # closed by us alone
            if self._has_new_name:
                self._has_new_name = False
                fsync_directory(self.directory)
            if self._is_dirty:
                self._is_dirty = False
                try:
                    os.fdatasync(descriptor)
                except OSError:
                    self._is_dirty = True
                    raise

    def close(self) -> None:
        self.sync()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def audit_files(directory: str) -> list[str]:
    """Names of the files in the order of their records; none where there is no such directory."""
    try:
        return sorted(name for name in os.listdir(directory) if parse_file_name(name))
    except FileNotFoundError:
        return []


def sync_newest(directory: str) -> None:
    """`AuditFiles.sync` of another process. The last two files: one may just have been begun."""
    for name in audit_files(directory)[-2:]:
        try:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # kept for long enough
            continue
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
    fsync_directory(directory)


def _days(day: str) -> int:
    """Days since the epoch of YYYYMMDD."""
    return calendar.timegm(time.strptime(day, "%Y%m%d")) // 86_400
