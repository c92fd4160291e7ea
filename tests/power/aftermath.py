"""An archive as a cut has left it, opened without a mount: recovered, read, carried out.

The state directory and the element have been copied off the image, so that what happens here is
seen by nobody else; `Workbench` gives every part of the daemon but FUSE and the second process.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.layout import write_layout
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from ..crash.load import Node as SeenNode
from ..filesystem.element_tree import read_element
from ..filesystem.workbench import Workbench
from .observed import Observed

SETTINGS = """\
name = "test"
state_dir = "/run/disk/state"
cache_dir = "/run/disk/cache"
runtime_dir = "/run/artstorefs"
settle_s = {settle_s}
[[element]]
id = "main"
path = "/run/disk/element"
"""


def make_element(path: Path) -> None:
    """What `artstorefs init` makes: an element of a new archive."""
    LocalElement.initialize(str(path))
    element = LocalElement("main", str(path))
    try:
        write_layout(element, uuid4(), "test")
    finally:
        element.close()


class Aftermath(Workbench):
    """`base` has `state` and `element` as the cut left them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "element"
        self.before = None
        self.pending, self.assigned = count_pending(base / "state" / "state.db")
        self.configuration = ArchiveConfiguration(
            name="test",
            state_dir=base / "state",
            cache_dir=base / "cache",
            runtime_dir=base / "runtime",
            settle_s=0.0,
            elements=(ElementConfiguration(id="main", path=self.root),),
        )
        (base / "state").mkdir(exist_ok=True)  # the cut may have come before it was there
        self.open()

    def check_index(self) -> None:
        found = self.archive.database.execute("PRAGMA integrity_check").fetchall()
        assert found == [("ok",)], f"the index is damaged: {found}"

    async def observe(self, name: str) -> Observed:
        """What a directory at the top shows; nothing in one that is not there."""
        seen: dict[str, tuple[SeenNode, int, int]] = {}
        top = self.tree.lookup(ROOT_INO, os.fsencode(name))
        if top is not None:
            await self._observe(top, "", seen)
        return Observed(seen)

    async def _observe(
        self, directory: Node, above: str, seen: dict[str, tuple[SeenNode, int, int]]
    ) -> None:
        for _, name, node in self.tree.children(directory.ino, 0, 10_000):
            path = above + os.fsdecode(name)
            found = SeenNode(node.mode, mtime_ns=node.mtime_ns)
            if stat.S_ISREG(node.mode):
                found.data = await self.content(node)
                assert len(found.data) == node.size, path
                found.xattrs = self._xattrs(node)
            elif node.target is not None:
                found.target = os.fsdecode(node.target)
            seen[path] = (found, node.ino, node.nlink)
            if node.is_directory:
                await self._observe(node, path + "/", seen)

    def _xattrs(self, node: Node) -> dict[str, bytes]:
        return {os.fsdecode(name): self.xattrs.get(node, name) for name in self.xattrs.list(node)}

    async def sqlite_rows(self, journal_mode: str) -> int:
        """Rows in the SQLite database that an application kept in the archive; it is sound."""
        observed = await self.observe(f"sqlite-{journal_mode}")
        return _count_rows(observed, self.base / journal_mode)

    async def check_elements(self, wanted: dict[str, Observed]) -> None:
        """Carry out the log; then the elements alone show the same."""
        await self.drain()
        tree = read_element(self.root)
        expected = set()
        for directory, observed in wanted.items():
            for path, (node, _, links) in observed.nodes.items():
                found = tree[os.fsencode(f"/{directory}/{path}")]
                assert found.mode == node.mode or node.target, path
                assert found.content == node.data, path
                assert os.fsdecode(found.target or b"") == node.target, path
                assert {f"user.{key}" for key in found.custom} == node.xattrs.keys(), path
                assert stat.S_ISDIR(node.mode) or len(found.paths) == links, path
                expected.add(os.fsencode(f"/{directory}/{path}"))
        own = {path for path in tree if os.fsdecode(path.split(b"/")[1]) in wanted}
        assert len(own - expected) <= len(wanted), f"more than the tree has: {own - expected}"


def _count_rows(observed: Observed, place: Path) -> int:
    place.mkdir()
    for path, (node, _, _) in observed.nodes.items():
        if path != "db-shm":  # a cut takes it
            (place / path).write_bytes(node.data)
    if not (place / "db").exists():
        return 0
    database = sqlite3.connect(place / "db")
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return 0
        count, last = database.execute("SELECT count(*), max(id) FROM rows").fetchone()
        assert count == (last or 0), f"{count} rows, the last is {last}"
        return int(count)
    finally:
        database.close()


def count_pending(database: Path) -> tuple[int, int]:
    """Intents in the log, and those that are assigned to an element; nothing is changed."""
    if not database.exists():
        return 0, 0
    copy = database.with_name("copy.db")
    try:
        for suffix in ("", "-wal"):
            source = Path(f"{database}{suffix}")
            if source.exists():
                Path(f"{copy}{suffix}").write_bytes(source.read_bytes())
        connection = sqlite3.connect(copy)
        try:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return 0, 0
            rows = connection.execute("SELECT ino, data FROM log").fetchall()
        finally:
            connection.close()
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
    return len(rows), sum(1 for ino, data in rows if ino is not None and data is not None)


@contextmanager
def aftermath(base: Path) -> Iterator[Aftermath]:
    opened = Aftermath(base)
    try:
        yield opened
    finally:
        opened.close()
