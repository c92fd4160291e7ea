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
from artstorefs_daemon.mountpoint import (
    fuse_options,
    place_to_mount,
    read_further_ahead,
    unmount,
)
from artstorefs_daemon.stub_client import MountStub

log = logging.getLogger(__name__)


class Mounting(Protocol):
    """One mount of an archive. `backing`: who binds spool files, if not we; `owner`: user and group
    to whom the root directory of a new archive belongs."""

    mountpoint: str
    options: MountOptions
    backing: Backing | None
    owner: tuple[int, int]

    def place(self) -> AbstractContextManager[tuple[str, set[str]]]:
        """Where libfuse shall mount, and with which options; by the end it has the place of a dead
        mount, if there was one. Raises ArtStoreFSError."""

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
    def place(self) -> Iterator[tuple[str, set[str]]]:
        with place_to_mount(self.mountpoint, str(self._configuration.runtime_dir)) as place:
            yield place, fuse_options(self._configuration.name, self.options)

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
    def place(self) -> Iterator[tuple[str, set[str]]]:
        """libfuse takes an open /dev/fuse for a mountpoint (fuse_session_mount)."""
        device = self._stub.mount(read_only=self.options.read_only)
        yield f"/dev/fd/{device}", {f"fsname={self._archive}", "subtype=artstorefs"}

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
