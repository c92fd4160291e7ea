"""Brings archived content that was asked for (`recalls.py`), and lets it go when its time is over.

One task for each element brings what is due there, in the order of asking, once `prepare` says that
the element has it at hand: the medium is there, the cold store has restored it. While the medium is
away the whole element waits, and `Recalls.wanted` says for what.

    asked → at hand → blocks fetched, each verified, and pinned → the whole hashed → online

Nothing counts before the last step, so a kill in between leaves blocks in the cache, and the row as
it was: the next start goes on, and fetches what is missing.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import trio

from artstorefs.core.errors import ArtStoreFSError, ElementUnavailable, StateError
from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Archive
from artstorefs.filesystem.cache_orders import CacheOrders
from artstorefs.filesystem.errors import ContentUnreachable
from artstorefs.filesystem.recalls import ROWS, Recalls
from artstorefs.filesystem.source import ContentSource
from artstorefs.state.node import ContentState, Node
from artstorefs.state.recalls import Recall

log = logging.getLogger(__name__)

BATCH_FILES = 64
"""Asked of an element, and brought, together: a few at a time of these."""

AT_ONCE = 4

LOOK_S = 5.0
"""Between two looks whether an element has at hand what is wanted, until somebody brings it."""

PAUSE_FIRST_S, PAUSE_LIMIT_S = 60.0, 1800.0
"""Until it is asked again whether a cold store has restored something: it takes minutes to days,
and each question is on the bill."""

HELD_PAUSE_S = 60.0
"""Until content whose time is over is let go of, if a program still has it open."""


@dataclass(slots=True)
class Prepared:
    """What an element says of objects that are wanted, by their keys. `error`: nothing can be had
    of it now. What is in neither is not there yet."""

    ready: set[str]
    failed: dict[str, str]
    error: str | None = None


Prepare = Callable[[str, list[str], float], Awaitable[Prepared]]
"""Asks an element for objects, to be kept at hand for so many days."""


class Recalling:
    """Of one mount. `run` does it, until cancelled."""

    def __init__(
        self,
        archive: Archive,
        source: ContentSource,
        recalls: Recalls,
        orders: CacheOrders,
        prepare: Prepare,
        is_held: Callable[[int], bool],
    ) -> None:
        """`is_held`: whether a program has a file open, by its inode number."""
        self._archive = archive
        self._source = source
        self._recalls = recalls
        self._rows = recalls.rows
        self._orders = orders
        self._prepare = prepare
        self._is_held = is_held
        self._came = trio.Event()
        orders.recalled = self._kept
        orders.lost = self._lost

    async def run(self) -> None:
        """Bring what is asked for, and let it go; once it is known what the cache has room for."""
        await self._source.read_cache.wait_loaded()
        async with trio.open_nursery() as nursery:
            for element in self._archive.elements:
                nursery.start_soon(self._serve, element)
            nursery.start_soon(self._let_go)

    # --------------------------------------------------------------------------------- bringing

    async def _serve(self, element: str) -> None:
        while True:
            asked = self._recalls.asked
            try:
                pause_s = await self.bring_some(element)
            except StateError as exc:
                log.warning("what was asked for is brought later: %s", exc, extra=about(exc))
                pause_s = LOOK_S
            except Exception:  # the mount goes on
                log.exception("what was asked for is brought later because of this")
                pause_s = LOOK_S
            with trio.move_on_after(pause_s):
                await asked.wait()
            if asked.is_set() and asked is self._recalls.asked:
                self._recalls.asked = trio.Event()

    async def bring_some(self, element: str) -> float:
        """A batch of what is due; seconds until there may be more."""
        now_ns = time.time_ns()
        due = self._rows.due(element, now_ns, BATCH_FILES)
        if not due:
            self._recalls.wanted.pop(element, None)
            next_ns = self._rows.next_due_ns(element)
            return float("inf") if next_ns is None else max(0.0, (next_ns - now_ns) / 1e9)
        found = [(one, node) for one in due if (node := self._node(one)) is not None]
        keys = {node.ino: self._key(node, element) for _, node in found}
        answer = Prepared(set(), {})
        if found:
            days = max(one.days for one, _ in found)
            answer = await self._prepare(element, sorted(set(keys.values())), days)
        if answer.error is not None:
            self._note_wanted(element, answer.error)
            return LOOK_S
        self._recalls.wanted.pop(element, None)
        late: list[Recall] = []
        ready: list[tuple[Recall, Node]] = []
        for one, node in found:
            key = keys[node.ino]
            if key in answer.failed:
                self._fail(one, answer.failed[key])
            elif key in answer.ready:
                ready.append((one, node))
            else:
                late.append(one)
        for one in late:
            pause_s = min(PAUSE_LIMIT_S, PAUSE_FIRST_S * 2 ** min(one.tries, 16))
            self._rows.postpone([one], now_ns + int(pause_s * 1e9))
        await self._bring_all(element, ready)
        return 0.0

    def _node(self, one: Recall) -> Node | None:
        """The file that is meant; of what is none any more the row goes."""
        node = self._archive.index.node(one.ino)
        is_so = node is not None and node.content == one.content and node.nlink > 0
        if node is None or not is_so or node.content_state != ContentState.ARCHIVED:
            self._rows.drop([one.ino])
            self._recalls.tell(one.ino, "has other content by now, or is gone")
            return None
        return node

    def _key(self, node: Node, element: str) -> str:
        copies = self._archive.index.copies(node.ino)
        return next((copy.key for copy in copies if copy.element == element), "")

    def _note_wanted(self, element: str, reason: str) -> None:
        if self._recalls.wanted.get(element) != reason:
            log.warning("what was asked for waits: %s", reason, extra=about(element=element))
            self._recalls.wanted[element] = reason
            self._recalls.tell_news()

    async def _bring_all(self, element: str, ready: list[tuple[Recall, Node]]) -> None:
        """A few at a time."""
        slots = trio.CapacityLimiter(AT_ONCE)
        came: list[Recall] = []

        async def bring(one: Recall, node: Node) -> None:
            async with slots:
                try:
                    await self._orders.bring_recalled(node)
                    came.append(one)
                except* ArtStoreFSError as group:
                    self._judge(one, group)

        async with trio.open_nursery() as nursery:
            for one, node in ready:
                nursery.start_soon(bring, one, node)
        if came:
            self._rows.came(came, time.time_ns())
            self._came.set()
        for one in came:
            self._recalls.tell(one.ino)

    def _judge(self, one: Recall, group: BaseExceptionGroup[ArtStoreFSError]) -> None:
        """What cannot be reached now is tried again; anything else is for a person."""
        errors = list(_leaves(group))
        unreachable = (ElementUnavailable, ContentUnreachable)
        if all(isinstance(error, unreachable) for error in errors):
            self._rows.postpone([one], time.time_ns() + int(LOOK_S * 1e9))
            return
        error = next(error for error in errors if not isinstance(error, unreachable))
        self._fail(one, str(error))

    def _fail(self, one: Recall, reason: str) -> None:
        path = self._archive.index.path(one.ino).decode(errors="backslashreplace")
        log.error("%s cannot be brought back: %s", path, reason, extra=about(path=path))
        self._rows.fail(one, reason)
        self._recalls.tell(one.ino, reason)

    # ----------------------------------------------------------------------------- letting go

    async def _let_go(self) -> None:
        while True:
            self._came = trio.Event()
            try:
                pause_s = self.let_go_of_expired()
            except StateError as exc:
                log.warning("what was recalled stays for now: %s", exc, extra=about(exc))
                pause_s = HELD_PAUSE_S
            with trio.move_on_after(pause_s):
                await self._came.wait()  # its time may be shorter

    def let_go_of_expired(self) -> float:
        """Of content whose time is over; seconds until the next is. Raises StateError."""
        now_ns = time.time_ns()
        expired = self._rows.expired(now_ns)
        gone = [ino for ino in expired if not self._is_held(ino)]
        if gone:
            self._rows.drop(gone)
            self._recalls.over()
        if len(gone) < len(expired):
            return HELD_PAUSE_S
        next_ns = self._rows.next_expiry_ns()
        return float("inf") if next_ns is None else max(0.0, (next_ns - now_ns) / 1e9)

    # ------------------------------------------------------------------------------ the cache

    def _kept(self) -> Iterator[Node]:
        """Files whose content is to stay in the cache."""
        after = 0
        while inos := self._rows.online(after, ROWS):
            for ino in inos:
                after = ino
                node = self._archive.index.node(ino)
                if node is not None:
                    yield node

    def _lost(self, node: Node) -> None:
        """The cache has not all of it any more."""
        self._rows.lost(node.ino, time.time_ns())
        self._recalls.asked.set()


def _leaves(group: BaseExceptionGroup[ArtStoreFSError]) -> Iterator[ArtStoreFSError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
