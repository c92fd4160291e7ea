"""`fsck` of the mounted archive, in a process of its own: hashing would take the interpreter from
the loop that serves the mount.

Only what reads is done here; a repair needs the archive for itself (`artstorefs fsck --repair`).
"""

import json
import subprocess
import sys
from typing import Any

import trio

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs_daemon.control.jobs import Notify
from artstorefs_daemon.control.protocol import FAILED, ControlError

END_S = 5.0
"""A check that is cancelled remembers how far it has come; it has so long for that."""

LINE_LIMIT_BYTES = 1 << 20


class Checks:
    """Of one archive, one at a time: two would read everything twice."""

    def __init__(self) -> None:
        self._is_running = False

    async def run(
        self, configuration: ArchiveConfiguration, options: dict[str, Any], notify: Notify
    ) -> dict[str, Any]:
        """Check; the report. Raises ControlError if one is under way, or if it fails."""
        if self._is_running:
            raise ControlError(FAILED, "a check is under way already; see jobs")
        self._is_running = True
        try:
            return await self._run(configuration, options, notify)
        finally:
            self._is_running = False

    async def _run(
        self, configuration: ArchiveConfiguration, options: dict[str, Any], notify: Notify
    ) -> dict[str, Any]:
        order = {"configuration": configuration.model_dump(mode="json"), **options}
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "artstorefs_daemon.check_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            await process.stdin.send_all(json.dumps(order).encode() + b"\n")
            return await _report(process.stdout, notify)
        except trio.BrokenResourceError:
            raise _ended() from None
        finally:
            await _end(process)


async def _report(stream: trio.abc.ReceiveStream, notify: Notify) -> dict[str, Any]:
    """What the process says at last; what it says before is progress."""
    unread = b""
    async for data in stream:
        unread += data
        *lines, unread = unread.split(b"\n")
        if len(unread) > LINE_LIMIT_BYTES:
            break
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "report" in message:
                report: dict[str, Any] = message["report"]
                return report
            if "error" in message:
                raise ControlError(FAILED, message["error"])
            await notify(message["progress"])
    raise _ended()


def _ended() -> ControlError:
    return ControlError(FAILED, "the check has ended without a report; see the daemon's log")


async def _end(process: trio.Process) -> None:
    """It ends when nobody listens any more."""
    with trio.CancelScope(shield=True):
        assert process.stdin is not None
        await process.stdin.aclose()
        with trio.move_on_after(END_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        assert process.stdout is not None
        await process.stdout.aclose()
