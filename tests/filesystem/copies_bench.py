"""An archive of three elements, without a mount; see `workbench.py`."""

import json
from pathlib import Path
from typing import Any

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.errors import ElementUnavailable
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.layout import write_layout
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .element_tree import Found, read_element
from .workbench import DIRECTORY, ME, HookedElement, Workbench

NAMES = ("main", "second", "third")


class CopiesBench(Workbench):
    """Of three elements, in directories of one filesystem. `away`: those that do not answer."""

    def __init__(self, base: Path, wanted: int = 2) -> None:
        self.wanted = wanted
        self.away: set[str] = set()
        self._opened: dict[str, LocalElement] = {}
        super().__init__(base)

    def place(self, name: str) -> Path:
        return self.root if name == "main" else self.base / name

    def configured(self, mode: str, settings: dict[str, Any]) -> ArchiveConfiguration:
        record = json.loads((self.root / ".artstorefs" / "archive.json").read_bytes())
        for name in NAMES[1:]:
            if not self.place(name).exists():
                LocalElement.initialize(str(self.place(name)))
                element = LocalElement(name, str(self.place(name)))
                write_layout(element, record["archive_id"], "test")
                element.close()
        before = super().configured(mode, settings)
        elements = [
            ElementConfiguration(id=name, path=self.place(name), priority=number)
            for number, name in enumerate(NAMES)
        ]
        return before.model_copy(update={"elements": tuple(elements), "copies": self.wanted})

    def elements_of_carrier(self) -> dict[str, Any]:
        self._opened = {name: LocalElement(name, str(self.place(name))) for name in NAMES[1:]}
        every = {"main": self.element, **self._opened}
        return {name: AwayElement(element, self) for name, element in every.items()}

    def close(self) -> None:
        for element in self._opened.values():
            element.close()
        super().close()

    def leave(self, *names: str) -> None:
        """These do not answer from now on, which has been noticed; the others do."""
        self.away = set(names)
        errors = self.link.reports.errors
        errors.clear()
        errors.update(dict.fromkeys(names, "nobody answers"))
        self.link.schedule.try_again_now()

    def trees(self) -> dict[str, dict[bytes, Found]]:
        """What each element that has anything tells, alone."""
        told = {name: read_element(self.place(name)) for name in NAMES}
        return {name: tree for name, tree in told.items() if tree}

    def copies(self, node: Node) -> dict[str, tuple[str, int]]:
        found = self.archive.index.copies(node.ino)
        return {copy.element: (copy.key, copy.revision) for copy in found}

    async def tried(self, times: int = 4) -> None:
        """Everything that can be carried is; what cannot has been tried."""
        for _ in range(times):
            self.link.schedule.try_again_now()
            await self.step()


class AwayElement(HookedElement):
    def __getattr__(self, name: str) -> Any:
        bench = self._bench
        assert isinstance(bench, CopiesBench)
        attribute = super().__getattr__(name)
        if self._element.id in bench.away and callable(attribute):

            def unanswered(*arguments: Any, **named: Any) -> Any:
                raise ElementUnavailable(self._element.id, "", "nobody answers")

            return unanswered
        return attribute


def same(trees: dict[str, dict[bytes, Found]], *names: str) -> dict[bytes, Found]:
    """The tree that exactly these elements tell."""
    assert sorted(trees) == sorted(names)
    first = trees[names[0]]
    for name in names[1:]:
        assert trees[name] == first
    return first


def inodes(bench: CopiesBench) -> list[int]:
    """Inode numbers of all objects, each as often as it has a name."""
    found = []
    for name in NAMES:
        for path in bench.place(name).rglob("*.attr.json"):
            if not path.is_relative_to(bench.place(name) / ".artstorefs"):
                found.append(path.with_name(path.name.removesuffix(".attr.json")).stat().st_ino)
    return found


async def make_tree(bench: CopiesBench) -> Node:
    """A file with two names, in directories, beside an empty one and a symbolic link."""
    directory = bench.make(b"d", mode=DIRECTORY)
    node = await bench.write(b"f", b"content", directory.ino)
    bench.tree.link(node.ino, ROOT_INO, b"further", ME)
    bench.xattrs.set(node, b"user.artist", b"Rembrandt", 0, ME)
    bench.make(b"empty")
    bench.tree.symlink(ROOT_INO, b"symlink", b"d/f", ME)
    return node
