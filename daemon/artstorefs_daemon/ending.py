"""How a daemon that serves a mount is told to end by a signal.

SIGTERM, SIGINT   unmount. Programs that have something open on the mount go on with it for
                  `OPEN_FILES_LIMIT_S`, then they get ENOTCONN; the log is drained.
SIGUSR1           make way for a successor, which is about to start (UPGRADE.md). The mount
                  stays, and whatever is asked waits for the successor, where somebody keeps the
                  connection; else it is refused with ENOTCONN until a new mount takes its
                  place: with nothing mounted programs would see an empty directory, and write
                  into it, or delete their copies of what is not there. The log is not drained:
                  the successor goes on with it.

Who shuts down by the control socket has `unmount`, and may wait for the last file.
"""

import logging
import signal

import trio

from artstorefs_daemon.fuse_library import pyfuse3
from artstorefs_daemon.mounting import Mounting

log = logging.getLogger(__name__)

OPEN_FILES_LIMIT_S = 5.0
"""A player or `tail -f` has its file open for as long as it likes; a stop has a limit of its own,
and what comes at the end of that is SIGKILL."""

REQUESTS_LIMIT_S = 2.0
"""How long requests that were read are still answered; those that wait for a server could take
a minute and a half."""

HANDED_REQUESTS_LIMIT_S = 10.0
"""The same before a successor, which can go on with the mount only if all are: a block that comes
from afar over a slow line takes some seconds, in which all else waits, and fails not."""


class Ending:
    """Serves the mount until it is gone or a signal ends it."""

    def __init__(self, mounting: Mounting) -> None:
        self._mounting = mounting
        self._serving = trio.CancelScope()
        self.for_successor = False
        self.is_unmounted = False

    @property
    def has_answered_all(self) -> bool:
        """Of what it has read; no request is lost with this process."""
        return not self._serving.cancelled_caught

    async def serve(self, requests_max: int) -> None:
        """Answer the kernel's requests; returns when there will be no more."""
        with self._serving:
            await pyfuse3.main(max_tasks=requests_max)

    async def on_signal(self) -> None:
        """Wait for the signals, until cancelled."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        async with trio.open_nursery() as tasks:
            with trio.open_signal_receiver(*numbers) as signals:
                async for number in signals:
                    if number == signal.SIGUSR1:
                        log.info("making way for a successor")
                        self.for_successor = True
                        tasks.start_soon(self._cut_off, HANDED_REQUESTS_LIMIT_S)
                    else:
                        log.info("unmounting because of signal %d", number)
                        await trio.to_thread.run_sync(self.unmount)
                        tasks.start_soon(self._cut_off_late)

    def unmount(self) -> None:
        """From any thread. What cannot be unmounted is served no more all the same: somebody wants
        us to end."""
        self.is_unmounted = self._mounting.detach()
        if not self.is_unmounted:
            pyfuse3.terminate()

    async def _cut_off_late(self) -> None:
        await trio.sleep(OPEN_FILES_LIMIT_S)
        log.warning("files are still open after %.0f s: they are cut off", OPEN_FILES_LIMIT_S)
        await self._cut_off(REQUESTS_LIMIT_S)

    async def _cut_off(self, limit_s: float) -> None:
        """Read no more requests; whoever still waits for an answer then gets an error."""
        pyfuse3.terminate()
        await trio.sleep(limit_s)
        self._serving.cancel()
