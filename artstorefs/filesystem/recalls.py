"""Archived content is asked for, brought into the read cache, kept there for a time, and let go.

    archived ──asked──► recalling ──all in the cache, verified, pinned──► online ──time──► archived

Asking is a row of the index (`state/recalls.py`), and costs nothing twice; a start goes on with
what was asked for. What is asked for is brought by `recalling.py`; here is who asks, and who waits.

**What a read triggers.** With `on_archived_read = "fail"` nothing but an order brings content back.
With "recall" the first *read* of a descriptor does, and waits; open(2), stat(2) and listing never
do, so that `find -type f`, `ls`, `updatedb` and a file manager cost nothing. Two kinds of readers
are refused at open(2) instead, with EREMOTE, because what they want is not worth a tape:

- Who says O_NONBLOCK does not want to wait.
- Programs that are named in `[recall] not_for` look into every file, or into each that a window
  shows. The kernel tells the process; its name is what tells a thumbnailer from a person's viewer,
  and no amount of bytes does, since both begin with the first. Whoever cannot be named (in another
  PID namespace, or ended) is refused too: a recall by mistake may cost money, an EREMOTE does not.
"""

import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import trio

from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.cache_orders import SHOWN_ERRORS
from artstorefs.filesystem.errors import ContentArchived
from artstorefs.filesystem.source import ContentSource
from artstorefs.filesystem.walking import files_below
from artstorefs.state.index import Copy
from artstorefs.state.node import ContentState, Node
from artstorefs.state.recall_requests import RecallRequests
from artstorefs.state.recalls import RecallRows

ROWS = 256
"""Asked for, or dropped, in one transaction."""

READ_DAYS = 30.0
"""How long what a read has asked for stays, as with `artstorefs recall`."""

READ_WAIT_S = 300.0
"""How long a read waits. Until its answer a program cannot even be killed, so it is not for ever;
the content comes all the same, for the next attempt."""

READERS_MAX = 256
"""Reads that wait; each keeps a request of the kernel under way, and there is no end of these."""


@dataclass(slots=True)
class Order:
    """What somebody has asked for, and how far that is. `files`, `bytes`: that are brought for it;
    `waiting`, `online`: files that were asked for before, and are there."""

    files: int = 0
    bytes: int = 0
    waiting: int = 0
    online: int = 0
    done_files: int = 0
    done_bytes: int = 0
    failed: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)
    left: dict[int, int] = field(default_factory=dict)
    """Inode number to size of what is not there yet; only if somebody `waits`."""
    left_bytes: int = 0
    elements: set[str] = field(default_factory=set)
    """From where it comes."""
    waits: bool = False
    request: str | None = None
    """Its row of `recall_requests`, if somebody is to be told of it."""
    seen: bytearray = field(default_factory=bytearray)
    """A byte for each inode number that was looked at: a file may have several names."""

    def is_new(self, ino: int) -> bool:
        """Whether a file is looked at for the first time."""
        if ino >= len(self.seen):
            self.seen.extend(bytes(ino + 1 + len(self.seen) // 8 - len(self.seen)))
        is_new, self.seen[ino] = not self.seen[ino], 1
        return is_new

    def to_message(self) -> dict[str, Any]:
        names = ("files", "bytes", "waiting", "online", "failed", "errors")
        return {name: getattr(self, name) for name in names}


class Recalls:
    """Of one mount. Nothing suspends but what is async."""

    def __init__(self, archive: Archive, source: ContentSource) -> None:
        self._archive = archive
        self._source = source
        self.rows = RecallRows(archive.database)
        self.requests = RecallRequests(archive.database)
        self.tells = False
        """Whether somebody is to be told when what was asked for together is there."""
        self.done: Callable[[], None] = lambda: None
        """Told when that may be so."""
        self.wanted: dict[str, str] = {}
        """Elements that have not at hand what was asked for, and what they say."""
        self.over: Callable[[], None] = lambda: None
        """Told when content was let go of."""
        self.asked = trio.Event()
        """Set when there may be something to be brought; who waits for it makes a new one."""
        self._news = trio.Event()
        self._watching: list[Order] = []
        self._readers = 0
        self._not_for = archive.configuration.recall.programs
        self._by_reading = {
            one.id for one in archive.configuration.elements if one.on_archived_read == "recall"
        }
        archive.guard.state_of_archived = self.state
        archive.guard.bring = self.bring

    # ------------------------------------------------------------------------------- questions

    def state(self, node: Node) -> str:
        """Of a file whose content is archived: `archived`, `recalling`, `online`."""
        row = self.rows.get(node)
        return "archived" if row is None else row.state

    def admits(self, node: Node, flags: int, programs: Callable[[], Collection[str]]) -> bool:
        """Whether who opens this archived content for reading may wait for it. `programs`: what the
        process is called, none if that is not known."""
        if flags & os.O_NONBLOCK or not self._by_reading.intersection(self._holders(node)):
            return False
        names = programs()
        return bool(names) and not self._not_for.intersection(names)

    def _holders(self, node: Node) -> Iterator[str]:
        return (copy.element for copy in self._source.current_copies(node))

    async def bring(self, node: Node) -> None:
        """For a read: until the content is there. Raises ContentArchived if it is not to be, or is
        late."""
        if not self._by_reading.intersection(self._holders(node)):
            if self._archive.offline.is_away(node):
                raise ContentArchived(node.ino)
            return  # it was opened before its element came into mode ar, and is still there
        if self._readers >= READERS_MAX:
            raise ContentArchived(node.ino)
        self._readers += 1
        try:
            order = self._add(Order(waits=True), [node], READ_DAYS)
            with trio.move_on_after(READ_WAIT_S), self._watching_for(order):
                while order.left:
                    await self._news.wait()
        finally:
            self._readers -= 1
        if self.state(node) != "online":
            raise ContentArchived(node.ino)

    # -------------------------------------------------------------------------------- orders

    async def estimate(self, nodes: Iterable[Node]) -> Order:
        """What asking for all below these would bring."""
        order = Order()
        for node in nodes:
            async with aclosing(files_below(self._archive.index, node)) as files:
                async for file in files:
                    if order.is_new(file.ino) and self._copy(file) is not None:
                        self._count(order, file)
        return order

    async def ask(
        self, nodes: Sequence[Node], days: float, uid: int = 0, *, waits: bool = False
    ) -> Order:
        """Ask for all archived content below these, for this user, who `waits` (`follow`) or not.
        Raises StateError."""
        order = Order(waits=waits)
        if not self.tells:
            return await self._ask(order, nodes, days)
        order.request = str(uuid4())
        path = self._archive.index.path(nodes[0].ino)
        self.requests.begin(order.request, uid, path, time.time_ns())
        await self._ask(order, nodes, days)
        self.requests.is_whole(order.request, order.files, order.bytes)
        self.done()
        return order

    async def _ask(self, order: Order, nodes: Iterable[Node], days: float) -> Order:
        some: list[Node] = []
        for node in nodes:
            async with aclosing(files_below(self._archive.index, node)) as files:
                async for file in files:
                    some.append(file)
                    if len(some) >= ROWS:
                        self._add(order, some, days)
                        some = []
        return self._add(order, some, days)

    def _add(self, order: Order, files: list[Node], days: float) -> Order:
        wanted: list[tuple[Node, str]] = []
        for file in files:
            copy = self._copy(file) if order.is_new(file.ino) else None
            if copy is not None:
                wanted.append((file, copy.element))
                if self._count(order, file) != "online" and order.waits:
                    order.left[file.ino] = file.size
                    order.left_bytes += file.size
                    order.elements.add(copy.element)
        if wanted:
            self.rows.ask(wanted, days, time.time_ns(), order.request)
            self.asked.set()
        return order

    def _count(self, order: Order, file: Node) -> str:
        state = self.state(file)
        if state == "archived":
            order.files += 1
            order.bytes += file.size
        else:
            order.waiting += state == "recalling"
            order.online += state == "online"
        return state

    def _copy(self, file: Node) -> Copy | None:
        """From where archived content comes; None of what is none."""
        if file.content_state != ContentState.ARCHIVED or not self._archive.guard.is_archived(file):
            return None
        return next(iter(self._source.current_copies(file)), None)

    async def release(self, nodes: Iterable[Node]) -> int:
        """Nobody needs what is below these any more, and what was not brought yet is not brought.
        How many files that were. Raises StateError."""
        count = 0
        for node in nodes:
            async with aclosing(files_below(self._archive.index, node)) as files:
                async for file in files:
                    if self.rows.get(file) is not None:
                        self.rows.drop([file.ino])
                        self.tell(file.ino, "was let go of by somebody else")
                        count += 1
        if count:
            self.over()
        return count

    async def follow(
        self, order: Order, notify: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        """Until all of an order is there, or cannot be had."""
        with self._watching_for(order):
            for number, ino in enumerate(list(order.left)):
                self._look_again(order, ino)  # some may have come since it was asked for
                if number % ROWS == 0:
                    await trio.lowlevel.checkpoint()
            while order.left:
                news = self._news
                await notify(self._progress(order))
                await news.wait()
            await notify(self._progress(order))

    def _look_again(self, order: Order, ino: int) -> None:
        if ino not in order.left:
            return
        node = self._archive.index.node(ino)
        row = None if node is None else self.rows.get(node)
        if row is None or row.state != "recalling":
            error = None if row is not None and row.state == "online" else "was let go of"
            self._take(order, ino, row.error if row is not None and row.error else error)

    def _progress(self, order: Order) -> dict[str, Any]:
        elements = sorted(order.elements & self.wanted.keys()) if order.left else []
        return {
            "files": order.done_files,
            "bytes": order.done_bytes,
            "files_total": order.done_files + order.failed + len(order.left),
            "bytes_total": order.done_bytes + order.left_bytes,
            "wanted": self.wanted[elements[0]] if elements else None,
        }

    @contextmanager
    def _watching_for(self, order: Order) -> Iterator[None]:
        self._watching.append(order)
        try:
            yield
        finally:
            self._watching.remove(order)

    def tell(self, ino: int, error: str | None = None) -> None:
        """A file has come, or cannot be had."""
        for order in self._watching:
            if ino in order.left:
                self._take(order, ino, error)
        self.tell_news()

    def _take(self, order: Order, ino: int, error: str | None) -> None:
        size = order.left.pop(ino)
        order.left_bytes -= size
        if error is None:
            order.done_files += 1
            order.done_bytes += size
            return
        order.failed += 1
        if len(order.errors) < SHOWN_ERRORS:
            path = self._archive.index.path(ino).decode(errors="backslashreplace")
            order.errors.append({"path": path, "error": error})

    def tell_news(self) -> None:
        """Have those who wait look again."""
        self.done()
        self._news.set()
        self._news = trio.Event()
