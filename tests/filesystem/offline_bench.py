"""An archive whose element has a medium, and a daemon that moves content there when it is told."""

import json
import shutil
from pathlib import Path
from typing import Any

from artstorefs.core.mode_changes import ModeState
from artstorefs.core.modes import ElementMode
from artstorefs.state.node import Node
from artstorefs_daemon.offline_work import OfflineWork
from artstorefs_daemon.offlining import Offlining

from .workbench import Workbench


class OfflineBench(Workbench):
    """One element, whose medium is the directory `medium`, prepared unless a test says not."""

    def __init__(self, base: Path, *, prepared: bool = True, **settings: Any) -> None:
        self.medium = base / "medium"
        self.medium.mkdir(parents=True, exist_ok=True)
        super().__init__(base, **settings)
        if prepared:
            assert self.work.prepare({"prepare_medium": "main"})["error"] is None

    def configured(self, mode: str, settings: dict[str, Any]) -> Any:
        configuration = super().configured(mode, settings)
        element = configuration.elements[0].model_copy(update={"offline_path": self.medium})
        return configuration.model_copy(update={"elements": (element,)})

    def open(self, *arguments: Any) -> None:
        super().open(*arguments)
        self.work = OfflineWork(self.configuration, self.archive.id)
        self.offlining = Offlining(self.archive, self.link)
        self.link.ask = self.ask  # type: ignore[method-assign]

    async def ask(self, kind: str, element: str, **more: Any) -> dict[str, Any]:
        """A transfer process that answers at once."""
        message = json.loads(json.dumps({kind: element, **more}))
        answer = self.work.take(message, self.elements_of_carrier())
        return dict(json.loads(json.dumps(answer)))

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
