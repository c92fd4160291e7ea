"""Carrying out staged changes on a local element: what a barrier does to the keys themselves.

`Publication` moves temporaries to their keys, removes what is to be removed, makes and prunes the
directories for it, and knows which directories must be flushed afterwards. It is called by the
barrier of `local.py` only, by one thread at a time.

Each worker of a process has an element object, and so a `Publication`, of its own. What one of them
makes or prunes the others must know of (`_Shared`): a directory that is empty now may be the one
that somebody else is about to put a file into, and one that was made anew is not durable because it
was before.
"""

import errno
import os
import re
import stat
import threading

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ObjectExists
from artstorefs.elements import durable
from artstorefs.elements.directories import Directories, ancestors_of
from artstorefs.elements.os_errors import translated
from artstorefs.elements.staging import TEMPORARY_DIRECTORY, Action, Change

# Directories that exist only for the files in them: hours, days, months, years, and node records.
_PRUNED = re.compile(r"\d{4}(/\d\d){0,3}|\.artstorefs/nodes/[0-9A-Za-z]{2}", re.ASCII)


class _Shared:
    """What all publications to one root in this process know, under `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held for each change: no directory goes between being opened and being used."""
        self.known_durable: set[str] = set()
        """Directories that were flushed after the last change of what is in them."""
        self.changes = 0
        """How often a directory was made or pruned."""
        self.users = 0
        """Publications that are open: each keeps a descriptor of the root, so that another
        directory cannot have its number meanwhile."""


_shared: dict[tuple[int, int], _Shared] = {}
_sharing = threading.Lock()


class Publication:
    """Carries out the changes of one local element."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._element = directories.element
        root = os.fstat(directories.root_fd)
        self._root = (root.st_dev, root.st_ino)
        self._is_open = True
        with _sharing:
            self._shared = _shared.setdefault(self._root, _Shared())
            self._shared.users += 1
        self._changes_before = 0

    def close(self) -> None:
        """Before the descriptor of the root is closed. Idempotent. What is known is forgotten with
        the last one: another disk may come in the place of this one."""
        with _sharing:
            if self._is_open:
                self._is_open = False
                self._shared.users -= 1
                if not self._shared.users:
                    del _shared[self._root]

    def carry_out(self, batch: list[Change]) -> set[str]:
        """Carry out the changes in order; returns the directories that must be flushed for it.

        The `temporary` of a change that was moved is emptied. The first failure ends it.
        """
        shared = self._shared
        touched: set[str] = set()
        with self._directories.opened(TEMPORARY_DIRECTORY, touched) as temporaries:
            for change in batch:
                with translated(self._element, change.key), shared.lock:
                    changed: set[str] = set()
                    try:
                        self._carry_out_one(change, temporaries, changed)
                    finally:
                        shared.known_durable -= changed
                        shared.changes += len(changed) > 1
                        touched |= changed
                crash_point("barrier.change_published")
        # Whoever made the directories above may not have flushed them: a process that died, or
        # another thread.
        with shared.lock:
            self._changes_before = shared.changes
            for path in tuple(touched):
                touched.update(
                    above for above in ancestors_of(path) if above not in shared.known_durable
                )
        return touched

    def flushed(self, touched: set[str]) -> None:
        """Remember that what `carry_out` returned has been flushed."""
        with self._shared.lock:
            if self._shared.changes == self._changes_before:
                self._shared.known_durable |= touched

    def failed(self) -> None:
        """Forget what was flushed: something of it was changed and not flushed."""
        with self._shared.lock:
            self._shared.known_durable.clear()

    def _carry_out_one(self, change: Change, temporaries: int, touched: set[str]) -> None:
        directory, _, name = change.key.rpartition("/")
        touched.add(directory)
        if change.action is Action.REMOVE:
            self._unlink(directory, name)
            crash_point("barrier.unlinked")
            self._prune(directory, touched)
            return
        with self._directories.opened(directory, touched) as fd:
            if change.action is Action.CREATE:
                self._create(change, temporaries, name, fd)
            elif change.action is Action.REPLACE:
                os.rename(change.temporary, name, src_dir_fd=temporaries, dst_dir_fd=fd)
        change.temporary = ""

    def _create(self, change: Change, temporaries: int, name: str, directory: int) -> None:
        try:
            durable.rename_new(change.temporary, temporaries, name, directory)
        except FileExistsError:
            raise ObjectExists(self._element, change.key) from None

    def _unlink(self, directory: str, name: str) -> None:
        try:
            with self._directories.opened(directory) as fd:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    raise PermissionError(errno.EACCES, "is not a regular file")
                os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            return  # perhaps a removal that a crash cut off: its directory is flushed all the same

    def _prune(self, directory: str, touched: set[str]) -> None:
        """Remove the directory and those above it that exist only for files, while empty."""
        while _PRUNED.fullmatch(directory):
            above, _, name = directory.rpartition("/")
            try:
                with self._directories.opened(above) as fd:
                    os.rmdir(name, dir_fd=fd)
            except FileNotFoundError:
                pass  # pruned by a removal that a crash or a failure cut off
            except OSError:
                return  # not empty, or another reason to leave it
            touched |= {directory, above}
            directory = above
