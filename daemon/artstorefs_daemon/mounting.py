"""The two ways to a mount: by ourselves (root, or anybody by way of fusermount3), and by the stub
of root's that does it for a daemon without privileges (`mount_stub.py`)."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.mount_options import MountOptions
from artstorefs_daemon.fuse_library import Backing
from artstorefs_daemon.mount_table import is_there
from artstorefs_daemon.mounted import fuse_device, is_connected
from artstorefs_daemon.mountpoint import (
    fuse_options,
    place_to_mount,
    read_further_ahead,
    unmount,
)
from artstorefs_daemon.service_manager import ServiceManager
from artstorefs_daemon.stub_client import MountStub

log = logging.getLogger(__name__)


def descriptor_path(device: int) -> str:
    """libfuse takes an open /dev/fuse for a mountpoint (fuse_session_mount)."""
    return f"/dev/fd/{device}"


def _stored_name(number: int) -> str:
    return f"fuse-{number:08x}"


class Mounting(Protocol):
    """One mount of an archive. `backing`: who binds spool files, if not we; `owner`: user and group
    to whom the root directory of a new archive belongs."""

    mountpoint: str
    options: MountOptions
    backing: Backing | None
    owner: tuple[int, int]

    def place(self, device: int | None) -> AbstractContextManager[tuple[str, set[str]]]:
        """Where libfuse shall mount, and with which options; by the end it has the place of a dead
        mount, if there was one. `device`: of a mount that is there already, see `resume`. Raises
        ArtStoreFSError."""

    def resume(self, manager: ServiceManager, number: int | None) -> int | None:
        """/dev/fuse of the mount that the daemon before has left under this number, if it is kept.
        What else may be kept is not any more, as soon as we mount. Raises ArtStoreFSError."""

    def leave(self, manager: ServiceManager, number: int, device: int) -> bool:
        """Have it kept for the next daemon; whether it is."""

    def settle(self) -> None:
        """The mount is there."""

    def detach(self) -> bool:
        """Take the mount away, lazily; from any thread. Whether it could be tried."""

    async def keep(self) -> None:
        """A task beside the loop."""


class MountByOurselves:
    backing: Backing | None = None

    def __init__(self, configuration: ArchiveConfiguration, options: MountOptions) -> None:
        self._configuration = configuration
        self.mountpoint = str(configuration.mountpoint)
        self.options = options
        self.owner = os.geteuid(), os.getegid()

    @contextmanager
    def place(self, device: int | None) -> Iterator[tuple[str, set[str]]]:
        options = fuse_options(self._configuration.name, self.options)
        if device is not None:
            yield descriptor_path(device), options
            return
        with place_to_mount(self.mountpoint, str(self._configuration.runtime_dir)) as place:
            yield place, options

    def resume(self, manager: ServiceManager, number: int | None) -> int | None:
        device = manager.take_stored("" if number is None else _stored_name(number))
        if device is None or self._serves(device):
            return device
        log.info("it is mounted anew: it was unmounted meanwhile")
        os.close(device)
        return None

    def _serves(self, device: int) -> bool:
        number = fuse_device(f"/proc/self/fdinfo/{device}")
        return is_connected(device) and is_there(os.path.abspath(self.mountpoint), number)

    def leave(self, manager: ServiceManager, number: int, device: int) -> bool:
        return manager.store(_stored_name(number), device)

    def settle(self) -> None:
        read_further_ahead(self.mountpoint)

    def detach(self) -> bool:
        unmount(self.mountpoint)
        return True

    async def keep(self) -> None:
        return


class MountByStub:
    """The stub knows all but whether it shall be read-only. The mount is root's, as far as the tree
    is concerned too."""

    owner = 0, 0

    def __init__(
        self, stub: MountStub, configuration: ArchiveConfiguration, options: MountOptions
    ) -> None:
        self.backing: Backing | None = stub
        self._stub = stub
        self._archive = configuration.name
        self.mountpoint = str(configuration.mountpoint)
        self.options = options

    @contextmanager
    def place(self, device: int | None) -> Iterator[tuple[str, set[str]]]:
        if device is None:
            device = self._stub.mount(read_only=self.options.read_only)
        yield descriptor_path(device), {f"fsname={self._archive}", "subtype=artstorefs"}

    def resume(self, manager: ServiceManager, number: int | None) -> int | None:
        return None if number is None else self._stub.resume(number)

    def leave(self, manager: ServiceManager, number: int, device: int) -> bool:
        try:
            self._stub.leave(number)
        except OSError as exc:
            log.warning("the next daemon has to mount anew: %s", exc)
            return False
        return True

    def settle(self) -> None:
        try:
            self._stub.settle()
        except OSError as exc:
            log.info("reading ahead stays as it is: %s", exc)

    def detach(self) -> bool:
        try:
            self._stub.unmount()
        except OSError as exc:
            log.error(
                "%s stays mounted: %s; the next mount clears it, or: umount -l %s",
                *(self.mountpoint, exc, self.mountpoint),
            )
            return False
        return True

    async def keep(self) -> None:
        await self._stub.keep_connected()
