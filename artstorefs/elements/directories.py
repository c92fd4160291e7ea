"""The directories of a local element: reached from the root descriptor, never through a symlink.

`Directories` owns the descriptor of the element's root, opened once, and a bounded cache of
descriptors of the directories in use. It answers the two questions on which everything else rests:

- *Where does a key lead?* Each component is opened with O_NOFOLLOW relative to the one before, so
  that no symlink in the element is ever followed, neither out of it nor within it.
- *What does a missing name mean?* An absent object only if the element is still where it was: the
  path leads to the directory that was opened, and its archive.json, once seen, is still there and
  the same to the byte. An
  unmounted disk leaves an empty mount point that answers ENOENT to everything; and because all
  access goes through the descriptor, nothing is ever written into that mount point either. An
  adopted element (`adoption.py`) may have no archive.json yet.

Paths are relative to the root, with "/", without a leading or trailing one; "" is the root.
Everything raises plain `OSError`, except `check_present` and `absent`.
"""

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from artstorefs.core.attributes import ATTR_JSON_LIMIT_BYTES
from artstorefs.core.errors import ElementError, ElementUnavailable, ObjectAbsent
from artstorefs.elements.adoption import Adoption
from artstorefs.elements.interface import ARCHIVE_KEY, OWN_DIRECTORY
from artstorefs.elements.os_errors import translated
from artstorefs.elements.regular import open_regular

DIRECTORY_MODE = 0o750
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

ARCHIVE_DOCUMENT_BYTES = 65_536
"""More than any archive.json has."""

# New files go to one hour, their changes mostly to recent ones; 64 descriptors are few beside the
# usual limit of 1,024 of a process, and a miss costs four openat.
CACHED_DIRECTORIES_MAX = 64


@dataclass(slots=True)
class _Handle:
    """An open directory; closed by whoever sees it neither cached nor used, under the lock."""

    fd: int
    users: int
    cached: bool


class Directories:
    """Open directories of one local element. Safe to use from many threads."""

    def __init__(self, element: str, path: str, adoption: Adoption | None = None) -> None:
        """Open the root; `ElementUnavailable` if `path` is not there or is no element."""
        self.element = element
        self.path = path
        self._adoption = adoption
        self._began_without_layout = False
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, _Handle] = OrderedDict()
        self._archive_document: bytes | None = None
        self._archive_stamp: tuple[int, ...] = ()
        try:
            with translated(element, path):
                self.root_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except ElementUnavailable as exc:
            raise self._unavailable(f"{exc.reason}; is the disk mounted?") from exc
        self._real_path = _path_of(self.root_fd)
        try:
            self.check_present()
        except ElementError:
            self.close()
            raise
        self._began_without_layout = self._archive_document is None

    @contextmanager
    def opened(self, path: str, touched: set[str] | None = None) -> Iterator[int]:
        """A descriptor of the directory, for the duration of the block.

        With `touched`, directories that are missing are made, and the path of each directory that
        got a new one in it is added there: its caller has to flush them.
        """
        if not path:
            yield self.root_fd
            return
        handle = self._cached(path) or self._add(path, self._walk(path, touched))
        try:
            yield handle.fd
        finally:
            with self._lock:
                handle.users -= 1
                _close_if_unused(handle)

    def check_present(self) -> None:
        """Raise `ElementUnavailable` unless the path still leads to this very element.

        A disk that was pulled and comes back may be another device, and has to be opened anew. The
        element is taken to be the same if its archive.json is, to the byte; whoever noticed it is
        told to come again, because what he has staged is not there.
        """
        try:
            there = os.stat(self.path)
            here = os.fstat(self.root_fd)
            if not os.path.samestat(there, here):
                if not self._reopen():
                    raise self._unavailable("another directory is there; is the disk mounted?")
                raise self._unavailable("its disk has been mounted anew")
            self._check_layout()
        except FileNotFoundError:
            reason = f"no {OWN_DIRECTORY} is there; is the disk mounted?"
            raise self._unavailable(reason) from None
        except OSError as exc:
            raise self._unavailable(exc.strerror or str(exc)) from exc

    def absent(self, key: str) -> ObjectAbsent:
        """The answer to ENOENT for `key`: `ObjectAbsent`, or raises if the element is not there."""
        self.check_present()
        return ObjectAbsent(self.element, key)

    def close(self) -> None:
        """Close all descriptors. Idempotent; calls that follow fail with EBADF."""
        with self._lock:
            handles = list(self._cache.values())
            self._cache.clear()
            for handle in handles:
                handle.cached = False
                _close_if_unused(handle)
            if self.root_fd >= 0:
                os.close(self.root_fd)
                self.root_fd = -1

    def _reopen(self) -> bool:
        """Take what the path leads to now for the root, if it is this element."""
        if self._archive_document is None and self._adoption is None:
            return False
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not self._is_this_element(fd):
                return False
            with self._lock:
                for path in list(self._cache):
                    self._evict(path)
                os.dup2(fd, self.root_fd, inheritable=False)
        finally:
            os.close(fd)
        return True

    def _is_this_element(self, root_fd: int) -> bool:
        document = _archive_document(root_fd)
        if self._archive_document is not None or self._adoption is None:
            return document == self._archive_document
        if document is not None:  # the first change was made meanwhile, by another process
            return self._adoption.problem_of_record(document) is None
        return self._adoption.problem_of_place(lambda key: _read_below(root_fd, key)) is None

    def forget_archive_document(self) -> None:
        """It is being written: the next one that is seen is the right one."""
        self._archive_document = None
        self._archive_stamp = ()

    def _check_layout(self) -> None:
        try:
            own = os.stat(OWN_DIRECTORY, dir_fd=self.root_fd, follow_symlinks=False)
        except FileNotFoundError:
            if self._adoption is not None and self._archive_document is None:
                return
            raise
        if not stat.S_ISDIR(own.st_mode):
            raise self._unavailable(f"{OWN_DIRECTORY} is not a directory")
        self._check_archive_document()

    def _check_archive_document(self) -> None:
        """Before the first archive.json is written an element is one without it. It is read again
        only where stat(2) says that it was written."""
        document = None
        with suppress(FileNotFoundError):
            found = os.stat(ARCHIVE_KEY, dir_fd=self.root_fd, follow_symlinks=False)
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if stamp == self._archive_stamp:
                return
            document = _archive_document(self.root_fd)
        if document is None:
            if self._archive_document is not None:
                raise self._unavailable(f"{ARCHIVE_KEY} is gone; is the disk mounted?")
            return
        if self._archive_document not in (None, document):
            reason = "put it back, or unmount and mount if it is right"
            raise self._unavailable(f"{ARCHIVE_KEY} is another one now; {reason}")
        if self._adoption is not None and self._began_without_layout:
            problem = self._adoption.problem_of_record(document)
            if problem is not None:
                raise self._unavailable(problem)
        self._archive_document, self._archive_stamp = document, stamp

    def _unavailable(self, reason: str) -> ElementUnavailable:
        return ElementUnavailable(self.element, self.path, reason)

    def _cached(self, path: str) -> _Handle | None:
        """The cached handle, if its directory is still the one that the path leads to.

        The kernel's own name of the descriptor tells, in one call: somebody may have removed the
        directory (" (deleted)" is appended), moved it, or put a symlink in its place.
        """
        with self._lock:
            handle = self._cache.get(path)
            if handle is None:
                return None
            self._cache.move_to_end(path)
            handle.users += 1
        if self._real_path and _path_of(handle.fd) == f"{self._real_path}/{path}":
            return handle
        with self._lock:
            if self._cache.get(path) is handle:
                self._evict(path)
            handle.users -= 1
            _close_if_unused(handle)
        return None

    def _add(self, path: str, fd: int) -> _Handle:
        handle = _Handle(fd, users=1, cached=True)
        with self._lock:
            if path in self._cache:
                self._evict(path)
            self._cache[path] = handle
            if len(self._cache) > CACHED_DIRECTORIES_MAX:
                self._evict(next(iter(self._cache)))
        return handle

    def _evict(self, path: str) -> None:
        handle = self._cache.pop(path)
        handle.cached = False
        _close_if_unused(handle)

    def _walk(self, path: str, touched: set[str] | None) -> int:
        fd, parent = self.root_fd, ""
        for component in path.split("/"):
            try:
                child = _enter(fd, parent, component, touched)
            finally:
                if fd != self.root_fd:
                    os.close(fd)
            fd, parent = child, f"{parent}/{component}" if parent else component
        return fd


def _archive_document(root_fd: int) -> bytes | None:
    """archive.json below a root; None if none is there. OSError for what is no ordinary file."""
    try:
        own = os.open(OWN_DIRECTORY, DIRECTORY_FLAGS, dir_fd=root_fd)
        try:
            fd = open_regular(os.path.basename(ARCHIVE_KEY), own)
        finally:
            os.close(own)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise OSError(exc.errno, f"{ARCHIVE_KEY}: {exc.strerror}") from exc
    try:
        return os.read(fd, ARCHIVE_DOCUMENT_BYTES)
    finally:
        os.close(fd)


def _read_below(root_fd: int, key: str) -> bytes | None:
    """An attr.json below a root that is none of an element yet; None for what is no ordinary file,
    and whatever else is in the way."""
    fd = os.dup(root_fd)
    try:
        *directories, name = key.split("/")
        for component in directories:
            child = os.open(component, DIRECTORY_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = child
        found = open_regular(name, fd)
        try:
            return os.read(found, ATTR_JSON_LIMIT_BYTES + 1)
        finally:
            os.close(found)
    except OSError:
        return None
    finally:
        os.close(fd)


def parent_of(path: str) -> str:
    """The directory that holds `path`; of a name in the root, and of the root, it is ""."""
    return path.rpartition("/")[0]


def ancestors_of(path: str) -> Iterator[str]:
    """The directories above `path`, up to the root."""
    while path:
        path = parent_of(path)
        yield path


def _enter(parent_fd: int, parent: str, name: str, touched: set[str] | None) -> int:
    try:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=parent_fd)
    except FileNotFoundError:
        if touched is None:
            raise
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, DIRECTORY_MODE, dir_fd=parent_fd)
        made = True
    touched.add(parent)
    fd = os.open(name, DIRECTORY_FLAGS, dir_fd=parent_fd)
    if made:
        os.fchmod(fd, DIRECTORY_MODE)  # whatever the umask is
    return fd


def _close_if_unused(handle: _Handle) -> None:
    if not handle.cached and not handle.users:
        os.close(handle.fd)


def _path_of(fd: int) -> str:
    """The kernel's name of an open directory; "" without /proc, which turns the cache off."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}").rstrip("/")
    except OSError:
        return ""
