"""An archive without a mount and without a transfer process: every step is taken by the test.

Real parts throughout: the state directory, a local element, the filesystem, and `TransferLink` with
a wire in place of its socket. What it sends is kept in `sent` until `carry` hands it to a `Carrier`
and the answer back, so that a test can do anything in between, or lose the answer.
"""

import json
import os
import stat
from collections import deque
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any
from uuid import uuid4

import trio
import trio.testing

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.elements.local import LocalElement
from artstorefs.elements.quarantine import Quarantine
from artstorefs.filesystem.archive import Archive, Caller
from artstorefs.filesystem.attributes import Attributes
from artstorefs.filesystem.content import Contents, Handle
from artstorefs.filesystem.source import ContentSource
from artstorefs.filesystem.spool_budget import SpoolBudget
from artstorefs.filesystem.tree import Tree
from artstorefs.filesystem.xattr import Xattrs
from artstorefs.recovery.boots import BOOT
from artstorefs.recovery.fsck import Options, check
from artstorefs.recovery.fsck_findings import Report
from artstorefs.recovery.layout import write_layout
from artstorefs.recovery.start import recover
from artstorefs.recovery.survey import Part, Survey, survey
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node
from artstorefs.state.reader import Reader
from artstorefs.state.spool import Spool
from artstorefs.transfer.carrier import Carrier
from artstorefs.transfer.documents import Account
from artstorefs.transfer.jobs import RemoveJob, StoreJob
from artstorefs.transfer.log_file import LogFile
from artstorefs_daemon.mount_daemon import open_archive
from artstorefs_daemon.transfer_link import TransferLink

from ..artstore import read_attributes

ME = Caller(uid=0, gid=0, pid=1, umask=0o022)
FILE = stat.S_IFREG | 0o644
DIRECTORY = stat.S_IFDIR | 0o755


def fake_account(uid: int) -> Account:
    return Account(f"user{uid}", "")


class HookedElement:
    """A local element that asks `before(operation, key)` first; what that raises is the answer."""

    def __init__(self, element: LocalElement, bench: "Workbench") -> None:
        self._element = element
        self._bench = bench

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._element, name)
        if name not in {"put", "replace", "remove", "barrier", "stat", "read", "open_read"}:
            return attribute

        def hooked(*arguments: Any, **named: Any) -> Any:
            if self._bench.before is not None:
                self._bench.before(name, arguments[0] if arguments else "")
            return attribute(*arguments, **named)

        return hooked


class Workbench:
    """`tree`, `contents`, `attributes`, `xattrs` as the daemon has them; time is trio's clock."""

    def __init__(self, base: Path, *, root: Path | None = None, **settings: Any) -> None:
        """A new archive in `base`, or the one that is there; `root` is of another's element."""
        self.base = base
        self.root = root or base / "element"
        self.before: Callable[[str, str], None] | None = None
        self.is_sound = True
        """Whether a check at the end of the test has to find nothing."""
        if not self.root.exists():
            LocalElement.initialize(str(self.root))
            element = LocalElement("main", str(self.root))
            write_layout(element, uuid4(), "test")
            element.close()
        self.configuration = self.configured(settings.pop("mode", "edit"), settings)
        os.makedirs(base / "state", exist_ok=True)
        self.open()

    def configured(self, mode: str, settings: dict[str, Any]) -> ArchiveConfiguration:
        """What the configuration file would say."""
        return ArchiveConfiguration(
            name="test",
            state_dir=self.base / "state",
            cache_dir=self.base / "cache",
            runtime_dir=self.base / "run",
            elements=(ElementConfiguration(id="main", path=self.root, mode=mode),),
            **{"settle_s": 0.0, **settings},
        )

    def open(
        self,
        closed_one: Callable[[], None] | None = None,
        handed: Set[int] = frozenset(),
    ) -> None:
        """A start: open the state directory, recover, take over the log. `closed_one`: the test
        seals what is closed, by `contents.seal_closed`. `handed`: what was open before."""
        self.archive: Archive = open_archive(self.configuration, read_only=False)
        used = recover(self.archive, handed)
        self.budget = SpoolBudget(self.configuration.spool_max, used, wait_s=0.05)
        self.contents = Contents(
            self.archive,
            self.make_source(),
            self.budget,
            attributes_changed=lambda ino: None,
            closed_one=closed_one,
        )
        self.tree = Tree(self.archive, self.contents.is_held)
        self.attributes = Attributes(self.archive, self.contents)
        self.xattrs = Xattrs(
            self.archive, lambda caller, gid: caller.gid == gid, self.contents.is_written
        )
        self.link = TransferLink(self.archive, self.budget)
        self.link.load()
        self.sent: deque[dict[str, Any]] = deque()
        self.link._stream = self  # the wire: `send_all` is below
        self.start_carrier()

    def make_source(self) -> ContentSource:
        """Where contents come from; a bench with an element over a network has its own."""
        return ContentSource(self.archive)

    def start_carrier(self) -> None:
        """A new transfer process, so to speak."""
        database = self.archive.database.path
        self.reader = Reader(database)
        self.element = self.make_element()
        self.log_file = LogFile(database)
        self.carrier = Carrier(
            self.reader,
            self.log_file.sync,
            self.elements_of_carrier(),
            Spool(str(self.base / "state" / "spool")),
            fake_account,
            Quarantine({"main": self.root}, self.base / "state"),
        )

    def make_element(self) -> LocalElement:
        return LocalElement("main", str(self.root))

    def elements_of_carrier(self) -> dict[str, Any]:
        return {"main": HookedElement(self.element, self)}

    def restart(self, *, power_cut: bool = False) -> None:
        """The daemon is killed with everything in it, and started again; `power_cut`: by another
        kernel, so that what was not synced may not be whole."""
        if power_cut:
            with self.archive.database.transaction():
                self.archive.database.set_setting(BOOT, "of another kernel")
        self._close_descriptors()
        self.close()
        self.open()

    def hand_over(self, *handles: Handle) -> list[Handle]:
        """The daemon makes way for another one, which goes on with what is open."""
        handed = self.contents.handing_over.describe(dict(enumerate(handles)))
        self._close_descriptors()
        self.close()
        self.open(handed=handed.inos)
        return list(self.contents.handing_over.take(handed).values())

    def _close_descriptors(self) -> None:
        for file in list(self.contents._files.values()):
            if file.descriptor >= 0:
                os.close(file.descriptor)

    def close(self) -> None:
        """Nothing serves the archive any more; `open` is the next start."""
        self.reader.close()
        self.log_file.close()
        self.element.close()
        self.archive.database.close()
        for element in self.archive.elements.values():
            element.close()

    def fsck(self, **options: Any) -> Report:
        """A check of the archive as it is; `repair=True` needs it closed."""
        return check(self.configuration, fake_account, Options(**options))

    def check_soundness(self) -> None:
        """At the end of a test: a check finds nothing wrong, and ArtStore could read what we have
        written, unless the test has said that it does damage."""
        if self.is_sound:
            check_neighbourliness(self.root)
            report = self.fsck()
            assert not report.incomplete
            assert not report.left, "\n".join(str(finding) for finding in report.left)

    # ----------------------------------------------------------------------------- transfer

    async def send_all(self, data: bytes) -> None:
        self.sent.append(json.loads(data))

    async def send(self) -> bool:
        """Have everything that is due sent; whether there was anything."""
        self.link.change_hurry(1)
        try:
            sent = False
            while await self.link._send_batch():
                sent = True
        finally:
            self.link.change_hurry(-1)
        return sent

    def carry(self) -> dict[str, Any]:
        """Carry out the oldest batch that was sent; the answer, which is not handed over yet."""
        message = self.sent.popleft()
        store = [StoreJob(**values) for values in message["store"]]
        remove = [RemoveJob(**values) for values in message["remove"]]
        result = self.carrier.carry(message["batch"], store, remove).to_message()
        return json.loads(json.dumps(result))

    def answer(self, message: dict[str, Any]) -> None:
        self.link._take(message)

    async def step(self) -> None:
        """Send, carry out, hand the answers over: once."""
        await self.send()
        while self.sent:
            self.answer(self.carry())

    async def drain(self) -> None:
        """Until nothing is pending; what fails for ever fails the test."""
        for _ in range(40):
            await self.step()
            if self.link.schedule.is_empty:
                return
        raise AssertionError(f"still pending: {self.link.schedule}")

    def look(self) -> tuple[Survey, list[Part]]:
        """A look at the element, which nobody takes over."""
        parts: list[Part] = []
        return survey({"main": self.element}, self.reader, fake_account, parts.append), parts

    def rescan(self) -> dict[str, Any]:
        """`artstorefs rescan`, by a transfer process that answers at once."""
        surveys = self.link.surveys
        number = surveys.begin()

        def tell(part: Part) -> None:
            surveys.take(json.loads(json.dumps({"survey": number, "part": part.to_message()})))

        found = survey({"main": self.element}, self.reader, fake_account, tell)
        surveys.take(json.loads(json.dumps({"survey": number, "end": found.to_message()})))
        return surveys.last

    # -------------------------------------------------------------------------- short cuts

    def make(self, name: bytes, parent: int = ROOT_INO, mode: int = FILE) -> Node:
        return self.tree.create(parent, name, mode, ME)

    async def write(self, name: bytes, data: bytes, parent: int = ROOT_INO) -> Node:
        """`echo data > name`: create or truncate, write, close."""
        node = self.tree.lookup(parent, name)
        if node is None:
            node = self.tree.create(parent, name, FILE, ME, open_content=True)
            handle = self.contents.created(node, os.O_WRONLY, 0)
        else:
            handle = await self.contents.open(node, os.O_WRONLY | os.O_TRUNC, 0)
        try:
            if data:
                await self.contents.write(handle, 0, data)
        finally:
            self.contents.release(handle)
        return node

    async def sum_waiting(self) -> None:
        """Have all content that waits in the spool summed now, as the daemon does after a while."""
        await self.contents.sums.sum_waiting()

    async def open_file(self, node: Node, flags: int = os.O_RDWR) -> Handle:
        return await self.contents.open(node, flags, 0)

    async def content(self, node: Node) -> bytes:
        handle = await self.contents.open(node, os.O_RDONLY, 0)
        try:
            data = bytearray()
            while part := await self.contents.read(handle, len(data), node.size + 1 - len(data)):
                data += part  # a request gives 1 MiB at most
            return bytes(data)
        finally:
            self.contents.release(handle)

    def unlink(self, name: bytes, parent: int = ROOT_INO) -> None:
        self.tree.unlink(parent, name, ME)

    def rename(
        self, name: bytes, new: bytes, parent: int = ROOT_INO, to: int = ROOT_INO, flags: int = 0
    ) -> None:
        self.tree.rename(parent, name, to, new, flags, ME)

    def spool_bytes(self) -> int:
        """Disk space of everything in the spool, removed or not."""
        spool = self.archive.spool
        return sum(os.stat(spool.path_of_name(name)).st_blocks * 512 for name in spool.names())

    def spool_files(self) -> dict[str, bytes]:
        """Name and content of everything in the spool."""
        spool = self.archive.spool
        return {name: Path(spool.path_of_name(name)).read_bytes() for name in spool.names()}

    def keys(self) -> list[str]:
        """Everything on the element but what says whose it is."""
        return sorted(
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_file() and path.parent != self.root / ".artstorefs"
        )


def check_neighbourliness(root: Path) -> None:
    """Every attr.json of ours follows ArtStore's rules, whoever reads them strictly. SEMANTICS says
    so of what we write: those that have no `posix` section others have written."""
    for path in root.rglob("*.attr.json"):
        data = path.read_bytes()
        if b'"posix"' in data:
            attributes = read_attributes(data)
            assert f"{root / attributes.key}.attr.json" == str(path)


async def jump(seconds: float, clock: trio.testing.MockClock) -> None:
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()
