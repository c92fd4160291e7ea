"""What a local element has staged: temporaries in `.artstorefs/tmp/` and the list of changes.

`Staging` makes temporaries, remembers the changes in order, and makes contents durable when the
barrier asks for it. It does not touch the keys themselves: `local.py` moves temporaries there.

How contents become durable, by filesystem and number of files:

    filesystem honours syncfs, more than a few    one syncfs of the whole filesystem
    filesystem honours syncfs, a few              fsync of each, so that little work does not wait
                                                  for the gigabytes that others have written
    any other filesystem                          fsync of each while it is staged

Invariant: a change counts as stored only if no flush failed between its beginning and the end of
its barrier. The kernel reports a failed write once and then takes the pages for clean, so a flush
that fails taints everything that was under way, in this batch and in the next (`failures`).
"""

import enum
import errno
import hashlib
import itertools
import os
import secrets
import stat
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ElementError, ElementUnavailable, ObjectDamaged
from artstorefs.elements import durable
from artstorefs.elements.directories import Directories
from artstorefs.elements.interface import TEMPORARY_PREFIX
from artstorefs.elements.os_errors import translated
from artstorefs.elements.regular import open_regular

TEMPORARY_DIRECTORY = TEMPORARY_PREFIX.rstrip("/")
OBJECT_MODE = 0o640

# On an idle ext4 one syncfs is faster from two files on (four: 0.75 ms against 1.12 ms), but it
# waits for whatever others write too: up to here an fsync of each costs little, and is our own.
FLUSH_EACH_MAX = 4

_CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK_IMPOSSIBLE = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOENT}
)
_SENDFILE_BYTES = 1 << 30  # sendfile(2) moves at most 0x7ffff000 bytes a call


class Action(enum.Enum):
    """What the barrier does with a staged change."""

    CREATE = "move the temporary to the key, which must be free"
    REPLACE = "move the temporary over whatever the key holds"
    CONFIRM = "the key holds the object already: only flush it"
    REMOVE = "remove what the key holds"


@dataclass(slots=True)
class Change:
    """One staged change. `fd` is the open content where the barrier is to fsync it, else -1."""

    action: Action
    key: str
    failures_before: int
    temporary: str = ""
    size_bytes: int = 0
    sha256: str | None = None
    fd: int = -1

    def stores(self, size_bytes: int, sha256: str) -> bool:
        """Whether this change puts, or finds, exactly this object under its key."""
        return (self.size_bytes, self.sha256) == (size_bytes, sha256)


class Staging:
    """The staged changes of one local element. Safe to use from many threads."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._element = directories.element
        self._trusts_syncfs = durable.honours_syncfs(directories.root_fd)
        self._lock = threading.Lock()
        self._batch: list[Change] = []
        self._latest: dict[str, Change] = {}
        self._contents = 0
        self._failures = 0
        self._own_prefix = f"{os.getpid()}-{secrets.token_hex(4)}-"
        self._numbers = itertools.count()

    def latest(self, key: str) -> Change | None:
        """What was last staged for `key` and waits for a barrier."""
        return self._latest.get(key)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for a barrier."""
        return not self._batch

    def is_own(self, name: str) -> bool:
        """Whether a name in the temporary directory is one of this process."""
        return name.startswith(self._own_prefix)

    def stage_file(self, key: str, source_path: str, size_bytes: int, sha256: str | None) -> None:
        """Stage a new object, by hard link where that works, else by a verified copy."""
        change = self._begin(Action.CREATE, key, size_bytes, sha256)
        source = open_regular(source_path)
        try:
            self._check_size(key, "the source", source, size_bytes)
            with translated(self._element, key), self._directory() as directory:
                # After a failed flush the pages of the source may pass for clean and be on no
                # disk, which only writing them anew can mend.
                found = os.fstat(source)
                doubtful = self._failures or found.st_mode & durable.FLUSH_FAILED
                is_shared = found.st_nlink > 1  # by another element: two copies would be one
                if not (doubtful or is_shared) and _link(source, directory, change.temporary):
                    change.fd = os.dup(source)
                else:
                    self._copy(change, source, directory)
            crash_point("staging.temporary_made")
            self._append(change)
        except BaseException:
            self.drop([change])
            raise
        finally:
            os.close(source)

    def stage_document(self, key: str, data: bytes, before: os.stat_result | None) -> None:
        """Stage a document of `data`. Who could read the one `before` can read this one too."""
        change = self._begin(Action.REPLACE, key)
        try:
            with translated(self._element, key), self._directory() as directory:
                self._create(change, directory)
                if before is not None:
                    _give_access(change.fd, before)
                durable.write_all(change.fd, data)
            self._append(change)
        except BaseException:
            self.drop([change])
            raise

    def stage_confirmation(self, key: str, fd: int, size_bytes: int, sha256: str) -> None:
        """Stage what the key holds, open as `fd` (taken over), to be flushed once more."""
        change = Change(Action.CONFIRM, key, self._failures, "", size_bytes, sha256, fd)
        try:
            self._append(change)
        except BaseException:
            self.drop([change])
            raise

    def stage_removal(self, key: str) -> None:
        """Stage the removal of what the key holds or will hold."""
        self._append(Change(Action.REMOVE, key, self._failures))

    def take(self) -> list[Change]:
        """The staged changes in order; the list starts anew."""
        with self._lock:
            batch, self._batch, self._latest = self._batch, [], {}
            self._contents = 0
        return batch

    def flush_contents(self, batch: list[Change]) -> None:
        """Make the content of every change durable, as the table above says."""
        if any(change.failures_before != self._failures for change in batch):
            reason = "a flush failed while this was being staged; stage it again"
            raise ElementUnavailable(self._element, "", reason)
        contents = sum(change.action is not Action.REMOVE for change in batch)
        if self._trusts_syncfs and contents > FLUSH_EACH_MAX:
            self._flush(self._directories.root_fd, "", durable.syncfs)
            return
        for change in batch:
            if change.fd >= 0:
                self._flush(change.fd, change.key, os.fsync)

    def flush_directories(self, paths: set[str]) -> None:
        """Make the names in these directories durable; one that is gone needs nothing."""
        if self._trusts_syncfs and len(paths) > FLUSH_EACH_MAX:
            self._flush(self._directories.root_fd, "", durable.syncfs)
            return
        for path in paths:
            with (
                translated(self._element, path),
                suppress(FileNotFoundError),
                self._directories.opened(path) as fd,
            ):
                self._flush(fd, path, durable.fsync_directory)

    def drop(self, changes: list[Change]) -> None:
        """Close and remove the temporaries of these changes, those that are still there.

        What cannot be removed now is found by `leftovers` after the next start.
        """
        for change in changes:
            if change.fd >= 0:
                os.close(change.fd)
                change.fd = -1
            if change.temporary:
                with suppress(OSError), self._directory() as directory:
                    os.unlink(change.temporary, dir_fd=directory)
                change.temporary = ""

    def _begin(
        self, action: Action, key: str, size_bytes: int = 0, sha256: str | None = None
    ) -> Change:
        name = f"{self._own_prefix}{next(self._numbers)}"
        return Change(action, key, self._failures, name, size_bytes, sha256)

    def _append(self, change: Change) -> None:
        if change.fd >= 0 and not self._trusts_syncfs:
            self._flush(change.fd, change.key, os.fsync)
        with self._lock:
            self._batch.append(change)
            self._latest[change.key] = change
            if change.fd < 0:
                return
            self._contents += 1
            if not self._trusts_syncfs or self._contents > FLUSH_EACH_MAX:
                os.close(change.fd)
                change.fd = -1

    def _directory(self) -> AbstractContextManager[int]:
        """The temporary directory; that it may be made anew each time needs no flush."""
        return self._directories.opened(TEMPORARY_DIRECTORY, set())

    def _create(self, change: Change, directory: int) -> None:
        change.fd = os.open(change.temporary, _CREATE_FLAGS, OBJECT_MODE, dir_fd=directory)
        os.fchmod(change.fd, OBJECT_MODE)  # whatever the umask is

    def _copy(self, change: Change, source: int, directory: int) -> None:
        self._create(change, directory)
        offset = 0
        while moved := os.sendfile(change.fd, source, offset, _SENDFILE_BYTES):
            offset += moved
        self._check_size(change.key, "the copy", change.fd, change.size_bytes)
        if change.sha256 is not None and sha256_of(change.fd) != change.sha256:
            raise ObjectDamaged(self._element, change.key, "the copy has another SHA-256")

    def _check_size(self, key: str, what: str, fd: int, size_bytes: int) -> None:
        found = os.fstat(fd).st_size
        if found != size_bytes:
            reason = f"{what} has {found} bytes, not {size_bytes}"
            raise ObjectDamaged(self._element, key, reason)

    def _flush(self, fd: int, key: str, function: Callable[[int], None]) -> None:
        try:
            with translated(self._element, key):
                function(fd)
        except ElementError:
            with self._lock:
                self._failures += 1
            raise


def sha256_of(fd: int) -> str:
    """SHA-256 of a whole open file, as 64 hex digits; moves its position."""
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", buffering=0, closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _give_access(fd: int, like: os.stat_result) -> None:
    """Owner, as far as we may, and mode of a document by somebody else."""
    mine = os.fstat(fd)
    for uid in (like.st_uid, -1):  # if not the owner, then the group
        with suppress(PermissionError):
            if (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
                os.fchown(fd, uid, like.st_gid)
            break
    if like.st_mode != mine.st_mode:
        os.fchmod(fd, like.st_mode & 0o666)


def _link(source: int, directory: int, name: str) -> bool:
    """Give an open file a further name and the mode of objects; False where that cannot be.

    By way of /proc, so that it is the file that was opened and checked, whatever has been done to
    its path since. Another device, a filesystem without links, the owner or the security settings
    may be against it; a copy is always possible.
    """
    try:
        if stat.S_IMODE(os.fstat(source).st_mode) != OBJECT_MODE:
            os.fchmod(source, OBJECT_MODE)
        os.link(f"/proc/self/fd/{source}", name, dst_dir_fd=directory, follow_symlinks=True)
    except OSError as exc:
        if exc.errno in _LINK_IMPOSSIBLE:
            return False
        raise
    return True
