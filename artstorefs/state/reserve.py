"""`state/reserve`: room that is given up when the disk of the state directory is full.

A full disk must not be a trap. Deleting a file, closing one, and recording that an element has
taken another are all transactions, and each makes room only once it has been committed, for which
SQLite's log needs room first. So a few MiB are allocated ahead; when such a change (`makes_room`)
finds the disk full a step of them is given up, and the change is made once more. In steps, because
whatever else fills the disk takes what it can get.

    HELD        the room is there. A full disk refuses whatever is not of those changes
    GIVEN_UP    some of it, or all. Only those changes are made: nothing else may take the room that
                they live on, so new files and writing wait, or are refused, until it is held again
    IMPOSSIBLE  the filesystem does not allocate ahead: everything is done as long as it works

It is held again once the disk has half as much room beside it, so that it does not come and go. A
part of it is kept for the next start, which needs some files before anybody can read or delete.
"""

import enum
import errno
import functools
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from artstorefs.core.errors import StateFull
from artstorefs.core.log_fields import about

log = logging.getLogger(__name__)

RESERVE_BYTES = 16 << 20
"""A deletion takes 4 to 20 KiB of SQLite's log: some thousand of them, and checkpoints between."""

SHARE = 20
"""On a small disk not more than this part of it."""

STEPS = 8
"""The reserve is given up in so many parts; the last of them only by a start, which needs some for
SQLite's index of its log, first of all."""

LOW_BYTES = 1 << 20
"""With less room than this on the disk a start gives everything up before anything is opened."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

Method = TypeVar("Method", bound=Callable[..., Any])


class ReserveState(enum.Enum):
    HELD = "held"
    GIVEN_UP = "given up"
    IMPOSSIBLE = "impossible"


class Reserve:
    """One file of a state directory. `hold` costs nothing while it is held; on a full disk it is a
    few system calls, and the one time when there is room again some milliseconds."""

    def __init__(self, state_directory: str) -> None:
        self._directory = state_directory
        self._path = os.path.join(state_directory, "reserve")
        room = os.statvfs(state_directory)
        self.size_bytes = min(RESERVE_BYTES, room.f_blocks * room.f_frsize // SHARE)
        self.state = ReserveState.GIVEN_UP

    def start(self) -> None:
        """Hold it, or give it up so that this start has room."""
        if self._free_bytes() < LOW_BYTES:
            self._cut_off(0)
        else:
            self.hold()

    def stop(self) -> None:
        """Keep something for the next start; the database is closed and needs nothing more."""
        if not self.hold():
            with suppress(OSError):
                self._allocate(self._step_bytes)

    def hold(self) -> bool:
        """Whether the room is there (or cannot be had at all), after allocating it if need be."""
        if self.state is not ReserveState.GIVEN_UP:
            return True
        held = 0
        try:
            held = self._held_bytes()
            missing = self.size_bytes - held
            if missing > 0 and self._free_bytes() < missing + self.size_bytes // 2:
                return False
            self._allocate(self.size_bytes)
        except OSError as exc:
            if exc.errno in _FULL:
                self._cut_off(held)
                return False
            told = ("no room is kept in reserve on the state directory's disk: %s", exc)
            log.warning(*told, extra=about(exc))
            self.state = ReserveState.IMPOSSIBLE
            return True
        self.state = ReserveState.HELD
        return True

    def give_up(self) -> bool:
        """A step of it; whether there was something to give up."""
        if self.state is ReserveState.IMPOSSIBLE:
            return False
        if self.state is ReserveState.HELD:
            log.warning("the state directory's disk is full: its reserve is being given up")
        return self._cut_off(max(self._held_bytes() - self._step_bytes, self._step_bytes))

    @property
    def _step_bytes(self) -> int:
        return self.size_bytes // STEPS

    def _cut_off(self, size_bytes: int) -> bool:
        self.state = ReserveState.GIVEN_UP
        try:
            held = self._held_bytes()
            if held > size_bytes:
                os.truncate(self._path, size_bytes)
        except OSError as exc:
            log.warning("the reserve cannot be given up: %s", exc, extra=about(exc))
            return False
        return held > self._held_bytes()

    def _held_bytes(self) -> int:
        try:
            return os.stat(self._path).st_blocks * 512
        except FileNotFoundError:
            return 0

    def _allocate(self, size_bytes: int) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
        finally:
            os.close(descriptor)

    def _free_bytes(self) -> int:
        room = os.statvfs(self._directory)
        blocks = room.f_bfree if os.geteuid() == 0 else room.f_bavail
        return blocks * room.f_frsize


def makes_room(method: Method) -> Method:
    """For a method that is one transaction of `self._database`, and one that a full disk must
    allow: it is made again with what the reserve gives up."""

    @functools.wraps(method)
    def made(self: Any, *arguments: Any, **named: Any) -> Any:
        while True:
            try:
                return method(self, *arguments, **named)
            except StateFull:
                reserve = self._database.reserve
                if reserve is None or not reserve.give_up():
                    raise

    return cast(Method, made)
