"""What the kernel believes for long, and has to be told of where it changes without its doing."""

import trio

from artstorefs_daemon.fuse_library import drop_attributes, pyfuse3


class KernelCaches:
    """Calls that wait for the kernel are made in a thread of `run`: it may be waiting for us."""

    def __init__(self) -> None:
        self._nodes: set[int] = set()
        self._entries: list[tuple[int, bytes]] = []
        self._added = trio.Event()

    def attributes_changed(self, ino: int) -> None:
        """Let the kernel ask again."""
        drop_attributes()
        self._nodes.add(ino)
        self._added.set()

    def entry_came(self, directory: int, name: bytes) -> None:
        """There is a name that the kernel may remember as not there, in a directory that it may
        have listed."""
        drop_attributes()
        self._entries.append((directory, name))
        self._added.set()

    def entry_went(self, directory: int, name: bytes, ino: int) -> None:
        """A name has gone that the kernel may remember, of a file that it may know."""
        self.entry_came(directory, name)
        self.attributes_changed(ino)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._added.wait()
            self._added = trio.Event()
            nodes, self._nodes = self._nodes, set()
            entries, self._entries = self._entries, []
            await trio.to_thread.run_sync(_forget, nodes, entries)


def _forget(nodes: set[int], entries: list[tuple[int, bytes]]) -> None:
    for ino in nodes:
        _forget_inode(ino, attr_only=True)
    for directory, name in entries:
        try:
            pyfuse3.invalidate_entry(directory, name)
        except FileNotFoundError:
            continue  # the kernel does not know this name
    for directory in {directory for directory, _ in entries}:
        _forget_inode(directory, attr_only=False)


def _forget_inode(ino: int, *, attr_only: bool) -> None:
    try:
        pyfuse3.invalidate_inode(ino, attr_only=attr_only)
    except FileNotFoundError:
        return  # the kernel does not know this inode: nothing is stale
