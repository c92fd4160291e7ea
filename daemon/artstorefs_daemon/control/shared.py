"""Answers that take work: who waits for the same one gets the same one.

An answer is never older than the question: whoever asks waits for the next one that is begun. What
making them takes, in the loop or beside it, is limited to a part of the time, after some that are
free, so that asking again and again delays nothing but the next answer.
"""

from collections.abc import Awaitable, Callable

import trio

from artstorefs_daemon.control.protocol import ControlError, failure_of

PART = 0.02
"""Of the time at most."""

CREDIT_S = 0.5
"""So much work is free; it comes back with the time."""

DEBT_S = 0.2
"""However long an answer took, the next one is begun after ten seconds."""


class SharedAnswer:
    """Of the method `name`. `make` gives the answer; if it fails, it fails for all who wait."""

    def __init__(self, name: str, make: Callable[[], Awaitable[bytes]]) -> None:
        self._name = name
        self._make = make
        self._next: _Round | None = None
        self._making = trio.Lock()
        self._credit_s = CREDIT_S
        self._counted_s = -1.0
        self.made = 0
        """How many have been made."""

    async def get(self) -> bytes:
        """An answer that was begun after this call."""
        if self._next is None:
            self._next = _Round()
        mine = self._next
        async with self._making:  # whoever comes first makes it for all
            if not mine.is_over:
                await self._wait_for_credit()
                self._next = None
                await self._fill(mine)
        if mine.failure is not None:
            raise ControlError(mine.failure.code, str(mine.failure))  # each gets one of its own
        return mine.answer

    async def _wait_for_credit(self) -> None:
        now_s = trio.current_time()
        if self._counted_s >= 0:
            self._credit_s += (now_s - self._counted_s) * PART
        self._credit_s, self._counted_s = min(CREDIT_S, self._credit_s), now_s
        if self._credit_s < 0:
            await trio.sleep(-self._credit_s / PART)
            self._credit_s = 0.0

    async def _fill(self, mine: "_Round") -> None:
        """Make it. If whoever does is cancelled, the next of those who wait begins anew."""
        begun_s = trio.current_time()
        try:
            mine.answer = await self._make()
        except Exception as exc:
            mine.failure = failure_of(exc, self._name)
        finally:
            self._counted_s = trio.current_time()
            self._credit_s = max(-DEBT_S, self._credit_s - (self._counted_s - begun_s))
        mine.is_over = True
        self.made += 1


class _Round:
    """One answer, and all who wait for it."""

    def __init__(self) -> None:
        self.is_over = False
        self.answer = b""
        self.failure: ControlError | None = None
