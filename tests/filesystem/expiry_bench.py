"""Benches with files that expire, and with clocks that are set by the test."""

from pathlib import Path
from typing import Any

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import ArtStoreFSError
from artstorefs.core.expiry import DAY_NS
from artstorefs.filesystem.clean_up import CleanUp
from artstorefs.state.index import ROOT_INO
from artstorefs.state.lived_time import LivedTime
from artstorefs.state.node import Node
from artstorefs_daemon.expiring import Expiring

from .test_copies import CopiesBench
from .workbench import Workbench

LIFE_DAYS = 30
GRACE_DAYS = 7
BEGUN_NS = 1_800_000_000_000_000_000


class Expiry:
    """What a bench has for it: clocks, and looks. `lives`: days, by the id of the element."""

    lives: dict[str, int]
    days = 0.0
    """That have passed by the machine's clock."""
    lived_days = 0.0
    """For which the kernel has run."""
    is_synchronised = False

    def with_lives(self, before: ArchiveConfiguration) -> ArchiveConfiguration:
        elements = tuple(
            one.model_copy(update={"expire_after_days": self.lives.get(one.id)})
            for one in before.elements
        )
        return before.model_copy(update={"elements": elements})

    def begin(self, bench: Any) -> None:
        """At a start of the daemon."""
        self.gone: list[tuple[int, bytes]] = []
        bench.archive.guard.now_ns = self.wall_ns
        lived = LivedTime(
            *(bench.archive.database, self.wall_ns, self.boot_ns),
            lambda: self.is_synchronised,
        )
        clean_up = CleanUp(
            bench.archive,
            bench.contents.is_held,
            lambda directory, name, ino: self.gone.append((directory, name)),
        )
        self.expiring = Expiring(bench.archive, clean_up, bench.link, lambda exc: False, lived)

    def wall_ns(self) -> int:
        return BEGUN_NS + int(self.days * DAY_NS)

    def boot_ns(self) -> int:
        return int(self.lived_days * DAY_NS)

    def live(self, days: float) -> None:
        """Days that pass while it is mounted."""
        self.days += days
        self.lived_days += days

    async def shown(self) -> list[str]:
        """Paths, after a look."""
        await self.expiring.look()
        return [one["path"] for one in (await self.expiring.files(None))["expiring"]]


class ExpiryBench(Expiry, Workbench):
    """Of one element."""

    def __init__(self, base: Path, **settings: Any) -> None:
        self.lives = {"main": LIFE_DAYS}
        super().__init__(base, **settings)

    def configured(self, mode: str, settings: dict[str, Any]) -> ArchiveConfiguration:
        return self.with_lives(super().configured(mode, settings))

    def open(self, *arguments: Any) -> None:
        super().open(*arguments)
        self.begin(self)

    def configure(self, days: int | None) -> None:
        """In the configuration, and a start."""
        self.lives = {} if days is None else {"main": days}
        self.configuration = self.configured("edit", {})
        self.restart()

    async def keep(self, name: bytes, days_old: float = 0, parent: int = ROOT_INO) -> Node:
        """A file that an element has, last changed so long ago."""
        node = await self.write(name, b"content", parent)
        self.age(node, days_old)
        await self.drain()
        return node

    def age(self, node: Node, days_old: float) -> None:
        with self.archive.changes.attributes(node, self.wall_ns() - int(days_old * DAY_NS), 0):
            pass

    def expires(self, node: Node) -> str | None:
        """The attribute."""
        try:
            return self.xattrs.get(node, b"user.artstore.expires").decode()
        except ArtStoreFSError:
            return None

    def names(self, parent: int = ROOT_INO) -> set[bytes]:
        return {name for _, name, _ in self.tree.children(parent, 3, 1000)}


class SeveralBench(Expiry, CopiesBench):
    """Three elements, two copies of each file; files expire from some of the elements."""

    def __init__(self, base: Path, **lives: int) -> None:
        self.lives = lives
        super().__init__(base)

    def configured(self, mode: str, settings: dict[str, Any]) -> ArchiveConfiguration:
        return self.with_lives(super().configured(mode, settings))

    def open(self, *arguments: Any) -> None:
        super().open(*arguments)
        self.begin(self)
