"""Long methods that go on without the client that has asked for them.

    running ──► done, failed        by itself
            └─► cancelled           by `job_cancel`

A job lives in memory: it ends with the mount, and the next one counts from 1 again.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import trio

from artstorefs_daemon.control.protocol import FAILED, INVALID_PARAMS, ControlError, failure_of
from artstorefs_daemon.control.roles import Peer
from artstorefs_daemon.element_reports import timestamp

Notify = Callable[[dict[str, Any]], Awaitable[None]]
"""Takes the progress of a method."""

Work = Callable[[Notify], Awaitable[dict[str, Any]]]

RUNNING_MAX = 16
"""Each may keep an element or the disk busy; more are no use."""

ENDED_MAX = 50

LISTED_ENTRIES = 3
"""Of each list in the results of a list of jobs: all of all could be more than a line holds."""


class Job:
    """One of them."""

    def __init__(self, number: int, method: str, params: dict[str, Any], by: Peer) -> None:
        self.number = number
        self.state = "running"
        self.progress: dict[str, Any] | None = None
        self._method, self._params, self._by = method, params, by
        self._result: dict[str, Any] | None = None
        self._error: str | None = None
        self._started_s = time.time()
        self._ended_s: float | None = None
        self._news = trio.Event()
        self._scope = trio.CancelScope()

    async def run(self, work: Work) -> None:
        """Do it, to its end; whatever that is, it ends nothing else."""
        state = "cancelled"
        try:
            with self._scope:
                try:
                    self._result = await work(self._take_progress)
                    state = "done"
                except Exception as exc:
                    self._error = str(failure_of(exc, self._method))
                    state = "failed"
        finally:
            self.state, self._ended_s = state, time.time()
            self._tell()

    async def _take_progress(self, progress: dict[str, Any]) -> None:
        self.progress = progress
        self._tell()
        await trio.lowlevel.checkpoint()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def follow(self) -> AsyncGenerator[dict[str, Any], None]:
        """Its progress until it has ended: what there is, and then what is new. Who is slow misses
        some."""
        told: dict[str, Any] | None = None
        while True:
            news = self._news
            if self.progress is not None and self.progress is not told:
                told = self.progress
                yield told
            elif self.state != "running":
                return
            else:
                await news.wait()

    async def cancel(self) -> None:
        """End it, and wait for its end; what it has done stays."""
        self._scope.cancel()
        while self.state == "running":
            await self._news.wait()

    def describe(self, *, whole: bool) -> dict[str, Any]:
        """As the protocol has it."""
        result = self._result if whole or self._result is None else _shortened(self._result)
        return {
            "job": self.number,
            "method": self._method,
            "params": self._params,
            "state": self.state,
            "progress": self.progress,
            "result": result,
            "error": self._error,
            "started_at": timestamp(self._started_s),
            "ended_at": None if self._ended_s is None else timestamp(self._ended_s),
            "by": {"uid": self._by.uid, "pid": self._by.pid},
        }


class Jobs:
    """Those of one mount. `run` has to be running for `start`."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._last = 0
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Carry them out until it is cancelled, and they with it."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def start(self, method: str, params: dict[str, Any], by: Peer, work: Work) -> Job:
        """Begin a job. Raises ControlError if there are too many."""
        assert self._nursery is not None
        if sum(job.state == "running" for job in self._jobs.values()) >= RUNNING_MAX:
            reason = f"{RUNNING_MAX} jobs are running; wait for one, or cancel one (job_cancel)"
            raise ControlError(FAILED, reason)
        self._last += 1
        job = self._jobs[self._last] = Job(self._last, method, params, by)
        self._nursery.start_soon(job.run, work)
        self._forget()
        return job

    def _forget(self) -> None:
        ended = [job.number for job in self._jobs.values() if job.state != "running"]
        for number in ended[:-ENDED_MAX]:
            del self._jobs[number]

    def job(self, number: int) -> Job:
        """One that runs, or of the last that have ended. Raises ControlError."""
        try:
            return self._jobs[number]
        except KeyError:
            raise ControlError(INVALID_PARAMS, f"there is no job {number} (any more)") from None

    def describe(self) -> list[dict[str, Any]]:
        """All, the oldest first."""
        self._forget()
        return [job.describe(whole=False) for job in self._jobs.values()]


def _shortened(result: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value[:LISTED_ENTRIES] if isinstance(value, list) else value
        for key, value in result.items()
    }
