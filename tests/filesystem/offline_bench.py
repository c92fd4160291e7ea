"""An archive whose element has a medium, and a daemon that moves content there when it is told."""

import json
import shutil
from pathlib import Path
from typing import Any

import trio

from artstorefs.core.mode_changes import ModeState
from artstorefs.core.modes import ElementMode
from artstorefs.elements.offline import Medium, WithMedium
from artstorefs.filesystem.cache_orders import CacheOrders
from artstorefs.filesystem.read_cache import ReadCache
from artstorefs.filesystem.recalling import Recalling
from artstorefs.filesystem.recalls import Recalls
from artstorefs.filesystem.source import ContentSource
from artstorefs.state.fetch import FetchJob, Urgency
from artstorefs.state.node import Node
from artstorefs.transfer.fetching import fetch
from artstorefs_daemon.offline_work import OfflineWork
from artstorefs_daemon.offlining import Offlining

from .workbench import Workbench


class OfflineBench(Workbench):
    """One element, whose medium is the directory `medium`, prepared unless a test says not."""

    def __init__(self, base: Path, *, prepared: bool = True, **settings: Any) -> None:
        self.medium = base / "medium"
        self.fetched: list[FetchJob] = []
        self.asked: list[dict[str, Any]] = []
        self.medium.mkdir(parents=True, exist_ok=True)
        super().__init__(base, **settings)
        if prepared:
            assert self.work.prepare({"prepare_medium": "main"})["error"] is None

    def configured(self, mode: str, settings: dict[str, Any]) -> Any:
        changes = {"offline_path": self.medium}
        if "on_archived_read" in settings:
            changes["on_archived_read"] = settings.pop("on_archived_read")
        configuration = super().configured(mode, settings)
        element = configuration.elements[0].model_copy(update=changes)
        return configuration.model_copy(update={"elements": (element,)})

    def open(self, *arguments: Any) -> None:
        super().open(*arguments)
        self.work = OfflineWork(self.configuration, self.archive.id)
        self.offlining = Offlining(self.archive, self.link)
        self.link.ask = self.ask  # type: ignore[method-assign]
        source = self.contents._source
        self.orders = CacheOrders(self.archive, source)
        self.recalls = Recalls(self.archive, source)
        self.recalling = Recalling(
            *(self.archive, source, self.recalls, self.orders),
            *(self.offlining.prepare_recall, self.contents.is_held),
        )

    def make_source(self) -> ContentSource:
        return ContentSource(self.archive, self._send)

    @property
    def cache(self) -> ReadCache:
        return self.contents._source.read_cache

    def _send(self, number: int, job: FetchJob | None, urgency: Urgency) -> None:
        if job is not None:
            self.fetched.append(job)
            trio.lowlevel.spawn_system_task(self._fetch, number, job)

    async def _fetch(self, number: int, job: FetchJob) -> None:
        medium = Medium("main", str(self.medium), self.archive.id)
        element = WithMedium(self.element, medium)
        answer = await trio.to_thread.run_sync(fetch, element, job, self.cache.files)
        self.cache.answered(number, type(answer).from_message(answer.to_message()))

    async def ask(self, kind: str, element: str, **more: Any) -> dict[str, Any]:
        """A transfer process that answers at once."""
        message = json.loads(json.dumps({kind: element, **more}))
        self.asked.append(message)
        answer_to = self.work.take if kind == "offline" else self.work.recall
        return dict(json.loads(json.dumps(answer_to(message, self.elements_of_carrier()))))

    def put_into(self, mode: ElementMode) -> None:
        """The element, at once."""
        state = self.archive.modes.states["main"]
        self.archive.modes.put("main", ModeState(state.configured, mode))

    async def move(self) -> float:
        """Move all that can be moved; seconds until the next attempt."""
        while not (pause_s := await self.offlining._look("main")):
            await self.drain()
        await self.drain()
        return pause_s

    async def archived(self, name: bytes, data: bytes) -> Node:
        """A file whose content is on the medium alone."""
        node = await self.write(name, data)
        await self.drain()
        self.put_into(ElementMode.AR)
        await self.move()
        return node

    async def bring(self) -> float:
        """Bring all that was asked for and can be had; seconds until the next attempt."""
        while not (pause_s := await self.recalling.bring_some("main")):
            await trio.lowlevel.checkpoint()
        return pause_s

    def unmount(self) -> None:
        """The medium goes into its cupboard: an empty directory is left."""
        self.medium.rename(self.base / "cupboard")
        self.medium.mkdir()

    def mount(self) -> None:
        """And comes back."""
        shutil.rmtree(self.medium)
        (self.base / "cupboard").rename(self.medium)

    def state(self, node: Node) -> str:
        return self.xattrs.get(node, b"user.artstore.state").decode()

    def objects(self, place: Path) -> dict[str, bytes]:
        """What lies there but for documents, by key."""
        return {
            str(path.relative_to(place)): path.read_bytes()
            for path in place.rglob("*")
            if path.is_file() and ".artstorefs" not in path.parts and path.suffix != ".json"
        }
