"""A control socket over a service that is none, and clients for it."""

import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import trio

from artstorefs.core.configuration import ArchiveConfiguration, parse_configuration
from artstorefs.core.directories import SYSTEM_DIRECTORIES
from artstorefs_daemon.control.limits import Limits
from artstorefs_daemon.control.server import ControlSocket
from artstorefs_daemon.log_levels import LogLevels
from artstorefs_daemon.reloading import Reloading

from .status_sample import status

UNLIMITED = Limits(
    client_units_per_s=1e6, share_units_per_s=1e6, connections_per_s=1e6, send_s=10.0
)
"""For tests of what is answered, not of how often."""

STATUS = status()

MODE: dict[str, Any] = {
    "element": "main",
    "mode": "rw",
    "configured": "rw",
    "phase": "preparing",
    "target": "ro",
    "since": "2026-01-02T03:04:05Z",
    "by": 1000,
    "why": "so",
    "retain_until": None,
    "intents": 1,
    "writers": 0,
    "error": None,
}


EXPIRING: dict[str, Any] = {
    "files": 12,
    "bytes": 3 << 20,
    "first_removal": "2026-01-09T03:04:05Z",
    "removed": 0,
    "paused": None,
    "expiring": [
        {
            "path": "/inbox/scan\n.tif",
            "file_id": "00000000-0000-4000-8000-000000000000",
            "size": 3 << 20,
            "links": 2,
            "changed": "2025-12-02T03:04:05Z",
            "shown": "2026-01-02T03:04:05Z",
            "removal": "2026-01-09T03:04:05Z",
        }
    ],
    "next": "17.4",
}


BACKUP: dict[str, Any] = {
    "path": "/var/lib/artstorefs/museum/backup/index-20260102T030405Z.db",
    "bytes": 4096,
    "made_at": "2026-01-02T03:04:05Z",
    "is_new": True,
}


def configured(text: str = "") -> ArchiveConfiguration:
    element = '[[element]]\nid = "main"\npath = "/objects"\n'
    return parse_configuration(f"{text}\n{element}", "museum.toml", SYSTEM_DIRECTORIES)


class StubSurveys:
    last: ClassVar[dict[str, Any]] = {"seen": 5, "changed": 1, "added": 0, "errors": []}

    def __init__(self) -> None:
        self.asked = 0

    def ask(self) -> int:
        self.asked += 1
        return self.asked

    async def look(self) -> AsyncIterator[int]:
        for seen in (0, 3):
            yield seen
            await trio.lowlevel.checkpoint()


class StubMigrations:
    """Nothing was ever moved."""

    last = None


class StubLink:
    def __init__(self) -> None:
        self.surveys = StubSurveys()
        self.log_levels = LogLevels()
        self.told: list[dict[str, str | None]] = []
        self.settle_s = 1.0

    async def tell_log_levels(self) -> None:
        self.told.append(dict(self.log_levels.changed))

    def change_settling(self, settle_s: float) -> None:
        self.settle_s = settle_s


class StubArchive:
    """`notes` is what the audit log of the archive is told."""

    def __init__(self) -> None:
        self.configuration = configured()
        self.notes: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def note(self, operation: str, who: Any, **details: Any) -> None:
        if self.failure:
            raise self.failure
        self.notes.append((operation, who.uid, who.gid, who.pid, details))


class StubModeChanges:
    """`asked` is what was asked for; what it answers is always the same."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def describe(self) -> list[dict[str, Any]]:
        return [self.describe_one("main")]

    def describe_one(self, element: str) -> dict[str, Any]:
        return MODE | {"element": element}

    def begin(self, element: str, mode: str, who: Any, why: str) -> None:
        self.asked.append((element, mode, who.uid, why))

    def cancel(self, element: str, who: Any, why: str) -> None:
        self.asked.append((element, None, who.uid, why))

    async def follow(self, element: str) -> AsyncIterator[dict[str, Any]]:
        for intents in (2, 1):
            await trio.lowlevel.checkpoint()
            yield {"phase": "preparing", "intents": intents, "writers": 0, "error": None}


class StubExpiring:
    """`asked`: after what; True: for a look, or that the clock is believed."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def files(self, after: str | None) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        self.asked.append(after)
        return EXPIRING

    def believe_clock(self) -> None:
        self.ask()

    def ask(self) -> None:
        self.asked.append(True)


class StubBackups:
    """The index has changed since the newest one."""

    def progress(self) -> dict[str, Any]:
        return {"bytes": 0, "bytes_total": 4096}

    async def make(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return BACKUP


class StubService:
    """What the control socket asks of the service."""

    def __init__(self) -> None:
        self.flushes = 0
        self.statuses = 0
        self.failure: Exception | None = None
        self.status_s = 0.0
        self.more_flushing = trio.Event()
        self.more_flushing.set()
        self.errors: list[dict[str, Any]] = []
        self.link = StubLink()
        self.archive = StubArchive()
        self.mode_changes = StubModeChanges()
        self.expiring = StubExpiring()
        self.migrations = StubMigrations()
        self.backups = StubBackups()

    def count_nodes(self) -> int:
        return 9

    async def status(self) -> dict[str, Any]:
        self.statuses += 1
        await trio.sleep(self.status_s)
        if self.failure:
            raise self.failure
        return dict(STATUS)

    async def flush(self) -> AsyncIterator[dict[str, int]]:
        self.flushes += 1
        for pending in (2, 1, 0):
            yield {"pending": pending, "bytes": 0}
            await self.more_flushing.wait()
            await trio.lowlevel.checkpoint()
        if self.failure:
            raise self.failure

    def outcome_of_flush(self) -> dict[str, Any]:
        return {"pending": 0, "failed": 0, "errors": self.errors}


class Server:
    """Serves at `path`; `next_configuration` is what reading it again gives."""

    def __init__(self, path: str, limits: Limits = UNLIMITED) -> None:
        self.path = path
        self.service: Any = StubService()
        self.stopped = 0
        self.clients: list[Client] = []
        self.next_configuration: Callable[[], ArchiveConfiguration] = configured
        self.reloading = Reloading(self.service, lambda: self.next_configuration())
        self.control = ControlSocket(self.service, self._stop, self.reloading, limits)

    def _stop(self) -> None:
        self.stopped += 1

    async def connect(self) -> "Client":
        for _ in range(100):
            try:
                self.clients.append(Client(await trio.open_unix_socket(self.path)))
                return self.clients[-1]
            except OSError:
                await trio.sleep(0.01)
        raise AssertionError("no control socket")

    async def clients_are(self, number: int) -> None:
        for _ in range(1000):
            if self.control.slots.taken == number:
                return
            await trio.sleep(0.01)
        raise AssertionError(f"{self.control.slots.taken} clients, not {number}")


class Client:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.unread = b""

    async def line(self) -> dict[str, Any] | None:
        """The next answer, None at the end of the connection."""
        while b"\n" not in self.unread:
            try:
                data = await self.stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ask(self, request: Any) -> dict[str, Any]:
        """The next line after a request: an answer, or the first progress."""
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        await self.stream.send_all(data + b"\n")
        answer = await self.line()
        assert answer is not None
        return answer

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result, without the progress."""
        answer = await self.ask({"id": 1, "method": method, "params": params})
        while "method" in answer:
            answer = await self.line() or {}
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def error(self, method: str, **params: Any) -> tuple[int, str]:
        """Code and message of the refusal."""
        answer = await self.ask({"id": 1, "method": method, "params": params})
        while "method" in answer:
            answer = await self.line() or {}
        return answer["error"]["code"], answer["error"]["message"]


async def serving(directory: Path, limits: Limits = UNLIMITED) -> AsyncIterator[Server]:
    """For a fixture: a server until the test is over."""
    made = Server(os.path.join(directory, "control.sock"), limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.control.serve, made.path)
        yield made
        for client in made.clients:
            await client.stream.aclose()
        nursery.cancel_scope.cancel()
