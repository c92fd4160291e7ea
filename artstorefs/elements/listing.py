"""Listing what lies below a directory of a local element: complete, or an error.

One open descriptor a level, each opened for the listing alone: the position in a directory belongs
to the open file description, and two listings must not share one.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from artstorefs.elements.directories import DIRECTORY_FLAGS, Directories
from artstorefs.elements.interface import DEPTH_MAX, ObjectStat
from artstorefs.elements.os_errors import translated

# At the root of every ext filesystem, readable for root only, and no part of any archive.
LOST_AND_FOUND = "lost+found"


def walk(directories: Directories, path: str, skip: frozenset[str]) -> Iterator[ObjectStat]:
    """Everything below the directory `path`, but directories; nothing if it is positively absent.

    Directories whose key is in `skip` are left out. What is removed while the walk runs may be
    missing. Symlinks are shown and not followed. Raises `ElementError`: the element is checked at
    the end too, because a tree that is taken away in the middle looks like a short one.
    """
    with translated(directories.element, path):
        fd = _open(directories, path)
        if fd is not None:
            try:
                yield from _list_directory(fd, path, skip)
            finally:
                os.close(fd)
    directories.check_present()


def object_stat(key: str, found: os.stat_result) -> ObjectStat:
    """The part of a stat(2) result that elements tell."""
    return ObjectStat(key, found.st_size, found.st_mtime_ns, stat.S_ISREG(found.st_mode))


def _open(directories: Directories, path: str) -> int | None:
    try:
        with directories.opened(path) as shared:
            return os.open(".", DIRECTORY_FLAGS, dir_fd=shared)
    except FileNotFoundError:
        return None


def _list_directory(fd: int, path: str, skip: frozenset[str]) -> Iterator[ObjectStat]:
    for entry in _entries(fd):
        key = f"{path}/{entry.name}" if path else entry.name
        if key.count("/") < DEPTH_MAX - 1 and entry.is_dir(follow_symlinks=False):
            if key not in skip:
                yield from _list_child(fd, entry.name, key, skip)
            continue
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed since its name was read
        yield object_stat(key, found)


def _entries(fd: int) -> Iterator[os.DirEntry[str]]:
    # A directory that is removed while it is read answers ENOENT, and was empty by then.
    with os.scandir(fd) as entries, suppress(FileNotFoundError):
        yield from entries


def _list_child(parent: int, name: str, key: str, skip: frozenset[str]) -> Iterator[ObjectStat]:
    try:
        child = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return  # removed since its name was read
    try:
        yield from _list_directory(child, key, skip)
    finally:
        os.close(child)
