"""A new mount in the place of a dead one, with no moment in between at which nothing is mounted.

Whoever looks at such a moment sees an empty directory: rsync --delete empties a copy of it, and
what is written there lies under the mount ever after. So the new one is mounted aside, attached
below the dead one (MOVE_MOUNT_BENEATH, Linux 6.5), and the dead one taken away, which shows it.
On older kernels the two steps are the other way round, some microseconds apart.

Only root may do this. mount(8) has no option for it, and would look at the dead mount first, which
fails. The stub of a daemon without privileges needs `take_place` alone; standard library only.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from artstorefs_daemon import stub_system as system


@contextmanager
def replaced_mount(mountpoint: str, aside: str) -> Iterator[str]:
    """Yields where to mount: `aside`, a directory that is made for it. What is mounted there by the
    end has then taken the place of what was on `mountpoint`. Raises OSError."""
    remove_aside(aside)
    os.mkdir(aside, 0o700)
    try:
        yield aside
        mount = system.copied_mount(aside)
        try:
            take_place(mount, lambda: os.open(mountpoint, os.O_PATH | os.O_CLOEXEC))
        finally:
            os.close(mount)
    finally:
        remove_aside(aside)


def remove_aside(aside: str) -> None:
    """The place, and what an attempt that was killed may have left mounted there."""
    try:
        system.detach(aside)
    except FileNotFoundError:
        return
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # not a mountpoint
            raise
    os.rmdir(aside)


def take_place(mount: int, open_point: Callable[[], int]) -> None:
    """Attach a mount that is nowhere yet in the place of the topmost of a directory, of which
    `open_point` makes a descriptor. Raises OSError."""
    old = open_point()
    try:
        try:
            system.attach(mount, old, beneath=True)
            is_attached = True
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            is_attached = False
        system.detach(f"/proc/self/fd/{old}")
    finally:
        os.close(old)
    if not is_attached:
        cover(mount, open_point)


def cover(mount: int, open_point: Callable[[], int]) -> None:
    """Attach a mount that is nowhere yet on top of a directory. Raises OSError."""
    point = open_point()
    try:
        system.attach(mount, point, beneath=False)
    finally:
        os.close(point)
