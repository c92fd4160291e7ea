"""Asks the daemon for `status` (CONTROL.md), at most every half second, whoever wants to know.

The connection is kept, so that a crowd on the control socket does not keep the monitor out.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import trio

log = logging.getLogger(__name__)

FRESH_S: Final = 0.5
"""A younger answer is not asked for again."""

ANSWER_LIMIT_S: Final = 3.0
"""A loop that takes longer hangs, as far as whoever waits for it is concerned."""

LINE_LIMIT_BYTES: Final = 8 << 20
_REQUEST: Final = b'{"jsonrpc": "2.0", "id": 1, "method": "status"}\n'


@dataclass(frozen=True, slots=True)
class Answer:
    """`status`: None where there was none, and `error` says why in one line."""

    status: dict[str, Any] | None
    error: str
    asked_s: float
    """Seconds since the epoch."""


class StatusSource:
    """`latest` may be called by many at a time; one of them asks."""

    def __init__(self, socket_path: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._path = socket_path
        self._monotonic_s = monotonic_s
        self._asking = trio.Lock()
        self._stream: trio.SocketStream | None = None
        self._answer = Answer(None, "nobody has asked yet", 0.0)
        self._answered_s = float("-inf")

    async def latest(self) -> Answer:
        """What the daemon says now, or has said half a second ago at most. Never raises."""
        async with self._asking:
            if self._monotonic_s() - self._answered_s >= FRESH_S:
                self._answer = await self._ask()
                self._answered_s = self._monotonic_s()
            return self._answer

    async def aclose(self) -> None:
        """Nobody asks any more."""
        if self._stream is not None:
            await self._stream.aclose()

    async def _ask(self) -> Answer:
        asked_s = time.time()
        try:
            with trio.fail_after(ANSWER_LIMIT_S):
                return Answer(await self._status(), "", asked_s)
        except trio.TooSlowError:
            error = f"the daemon does not answer within {ANSWER_LIMIT_S:g} s"
        except (OSError, ValueError, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            error = f"the daemon does not answer: {exc or type(exc).__name__}"
        return Answer(None, " ".join(error.split()), asked_s)

    async def _status(self) -> dict[str, Any]:
        """Over the connection that there is; a daemon that was started anew has ended it."""
        if self._stream is not None:
            try:
                return await self._exchange(self._stream)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                log.debug("a new connection to the daemon: %r", exc)
        self._stream = await trio.open_unix_socket(self._path)
        return await self._exchange(self._stream)

    async def _exchange(self, stream: trio.SocketStream) -> dict[str, Any]:
        """What ends this early leaves the connection in the middle of an answer: it is closed."""
        try:
            await stream.send_all(_REQUEST)
            line = bytearray()
            while not line.endswith(b"\n"):
                received = await stream.receive_some(65_536)
                if not received:
                    raise ConnectionResetError("it has closed the connection")
                line += received
                if len(line) > LINE_LIMIT_BYTES:
                    raise ValueError("the answer is too long")
            answer = json.loads(line)
            status = answer.get("result") if isinstance(answer, dict) else None
            if not isinstance(status, dict):
                raise ValueError(f"{answer!r:.200}")
            return status
        except BaseException:
            self._stream = None
            await trio.aclose_forcefully(stream)
            raise
