"""A workbench whose element is one over a network, which the mount process reads through the cache.

The element is a local one, for the transfer process's side alone; what the mount process has in its
place fails the test when anything is asked of it. Fetches are carried out at once, in a thread, or,
after `hold`, when the test says so.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from artstorefs.elements.interface import Capabilities
from artstorefs.filesystem.read_cache import ReadCache
from artstorefs.filesystem.source import ContentSource
from artstorefs.state.fetch import FetchJob, FetchKind, Urgency
from artstorefs.state.node import Node
from artstorefs.transfer.fetching import fetch

from .large_files import REQUEST
from .workbench import HookedElement, Workbench


class FarElement:
    """What the mount process has of an element over a network: nothing that it may ask."""

    kind = "far"
    capabilities = Capabilities(local_path=False, links=False)

    def __init__(self, id: str) -> None:
        self.id = id

    def close(self) -> None:
        """Nothing is open."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the mount process asks an element over a network: {name}")


class FarBench(Workbench):
    """`told` has every job that the transfer process was told of, with its urgency; `hurried` the
    numbers of those that became urgent."""

    def __init__(self, base: Path, **settings: Any) -> None:
        self.told: list[tuple[int, FetchJob, Urgency]] = []
        self.hurried: list[int] = []
        self._held: trio.Event | None = None
        super().__init__(base, **settings)

    def make_source(self) -> ContentSource:
        for element in self.archive.elements.values():
            element.close()
        self.archive.elements = {"main": FarElement("main")}  # type: ignore[dict-item]
        return ContentSource(self.archive, self._send)

    @property
    def cache(self) -> ReadCache:
        return self.contents._source.read_cache

    def hold(self) -> None:
        """Fetches wait from now on for `let_go`."""
        self._held = trio.Event()

    def let_go(self) -> None:
        assert self._held is not None
        self._held.set()
        self._held = None

    def _send(self, number: int, job: FetchJob | None, urgency: Urgency) -> None:
        if job is None:
            self.hurried.append(number)
            return
        trio.lowlevel.spawn_system_task(self._carry_out, number, job)
        self.told.append((number, job, urgency))

    async def _carry_out(self, number: int, job: FetchJob) -> None:
        if self._held is not None:
            await self._held.wait()
        element = HookedElement(self.element, self)
        answer = await trio.to_thread.run_sync(fetch, element, job, self.cache.files)
        self.cache.answered(number, type(answer).from_message(answer.to_message()))

    # -------------------------------------------------------------------------- what happened

    def fetched(self, kind: FetchKind = FetchKind.BLOCK) -> list[int]:
        """Numbers of the blocks that were asked for, of whatever file, in order."""
        return [job.index for _, job, _ in self.told if job.kind is kind]

    def times_fetched(self) -> Counter[int]:
        return Counter(self.fetched())

    def cached(self) -> dict[str, int]:
        """Name below `objects` and size of every file that the cache has."""
        root = Path(self.cache.files.directory) / "objects"
        return {str(p.relative_to(root)): p.stat().st_size for p in root.rglob("*") if p.is_file()}

    def cached_path(self, ending: str) -> Path:
        (name,) = [name for name in self.cached() if name.endswith(ending)]
        return Path(self.cache.files.directory) / "objects" / name

    async def settled(self) -> None:
        """Until nothing is being fetched, and nothing verified."""
        await trio.testing.wait_all_tasks_blocked()
        while self.cache._fetches:
            await next(iter(self.cache._fetches.values())).done.wait()
            await trio.testing.wait_all_tasks_blocked()


async def read_all(bench: Workbench, node: Node) -> bytes:
    """As a sequential reader of its own."""
    handle = await bench.open_file(node, os.O_RDONLY)
    try:
        parts = [
            bytes(await bench.contents.read(handle, start, REQUEST))
            for start in range(0, node.size, REQUEST)
        ]
    finally:
        bench.contents.release(handle)
    return b"".join(parts)


async def read_at(bench: Workbench, node: Node, offset: int, length: int) -> bytes:
    """One request of a reader of its own."""
    handle = await bench.open_file(node, os.O_RDONLY)
    try:
        return bytes(await bench.contents.read(handle, offset, length))
    finally:
        bench.contents.release(handle)
