"""What pyfuse3's loop takes from trio, with less waiting between two requests.

pyfuse3 gets its scheduler from its module attribute `trio`; that is how `pyfuse3.asyncio` replaces
it. Everything here is trio's own but two things, which together cost a third of a small request:

    the lock that one worker holds while it waits: trio's is handed from worker to worker, which is
    a whole turn of the loop for each request;
    waiting for the device: the next request is most often a moment away, and going to sleep for it
    takes longer than looking for it (`SPIN_NS`). What comes is read at once, as often as `STREAK`
    times before the other tasks have a turn.
"""

from collections.abc import Callable

import trio

STREAK = 16
"""Requests read without a turn for other tasks: at most a few milliseconds."""

SPIN_NS = 50_000
"""How long the next request is looked for after one: most programs have one within 30 µs."""

open_nursery = trio.open_nursery
ClosedResourceError = trio.ClosedResourceError


class Lock(trio.abc.Instrument):
    """Mutual exclusion of pyfuse3's workers, of which one at a time waits for the device.

    Whoever lets go of it keeps running, and most often comes back with its request answered; so
    the next worker has it only once the one before suspends.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()
        trio.lowlevel.add_instrument(self)

    async def __aenter__(self) -> None:
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(self, *exc_info: object) -> None:
        self._held = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task has suspended: a worker perhaps, in the middle of its request."""
        if not self._held and self._waiting:
            self._waiting.unpark()


class LowLevel:
    """`trio.lowlevel` as far as pyfuse3 uses it."""

    current_trio_token = staticmethod(trio.lowlevel.current_trio_token)
    current_task = staticmethod(trio.lowlevel.current_task)
    notify_closing = staticmethod(trio.lowlevel.notify_closing)

    def __init__(self, poll: Callable[[int, int], int]) -> None:
        """`poll(descriptor, spin_ns)`: whether something is there, looked for that long."""
        self._poll = poll
        self._streak = 0

    async def wait_readable(self, descriptor: int) -> None:
        """Until the device has a request. The caller reads before anything else runs."""
        if self._streak < STREAK and self._poll(descriptor, SPIN_NS):
            self._streak += 1
            return
        self._streak = 0
        await trio.lowlevel.wait_readable(descriptor)


lowlevel: LowLevel
"""Set by fuse_library.py, which has the function that polls."""
