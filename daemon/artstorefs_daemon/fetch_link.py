"""What the read cache asks of the transfer process, on its way there and back.

Requests wait here while there is no transfer process, and a new one is told again what the one
before it has not answered.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from artstorefs.filesystem.read_cache import ReadCache
from artstorefs.state.fetch import FetchJob, Urgency
from artstorefs.transfer.jobs import answer_of, fetch_message

Tell = Callable[[dict[str, Any]], Awaitable[None]]


class FetchLink:
    """`cache` is set once, before anything is sent."""

    def __init__(self) -> None:
        self.cache: ReadCache | None = None
        self._open_channel()

    def _open_channel(self) -> None:
        # not bounded here: whoever waits for a block has one request under way
        self._sending, self._waiting = trio.open_memory_channel[dict[str, Any]](math.inf)

    def send(self, number: int, job: FetchJob | None, urgency: Urgency) -> None:
        """Tell the transfer process, this one or the next."""
        self._sending.send_nowait(fetch_message(number, job, urgency))

    async def run(self, tell: Tell) -> None:
        """Tell a transfer process that has just begun, for as long as it lives."""
        if self.cache is None:
            return
        await trio.to_thread.run_sync(self.cache.files.remove_incoming)  # of the one before
        self._open_channel()  # what is in the other one is unanswered
        for number, job, urgency in self.cache.unanswered():
            self.send(number, job, urgency)
        async for message in self._waiting:
            await tell(message)

    def take(self, message: dict[str, Any]) -> None:
        """The answer of a transfer process."""
        if self.cache is not None:
            self.cache.answered(*answer_of(message))
