"""Copies that leave their element, because their files have been moved to another.

`state/moves.py` has the steps; here is when they are taken, and what forbids it for now.
"""

import logging

from artstorefs.core.log_fields import about
from artstorefs.core.modes import Operation, refusal
from artstorefs.filesystem.archive import Archive, now_ns
from artstorefs.state.index import Copy
from artstorefs.state.moves import Moves
from artstorefs.state.node import ContentState

log = logging.getLogger(__name__)

FILES_AT_ONCE = 128
"""Put on their way, or removed, in one transaction: some milliseconds, for which programs wait."""

POSTPONED_S = 60.0
"""Until what may not be removed yet is looked at again."""

LOOK_S = 0.25
"""Between two looks what has arrived, and what is to leave."""


class Departures:
    """Those of one archive."""

    def __init__(self, archive: Archive, moves: Moves) -> None:
        self._archive = archive
        self._moves = moves

    def remove_due(self) -> float:
        """Log the removal of some of those whose moment has come. After how many seconds there are
        more. Raises StateError, sqlite3.Error."""
        if self._remove():
            return 0.0
        next_ns = self._moves.next_due_ns()
        return float("inf") if next_ns is None else max(LOOK_S, (next_ns - now_ns()) / 1e9)

    def _remove(self) -> bool:
        """Remove from their elements what was to be kept until now; whether there is more."""
        due = self._moves.due(now_ns(), FILES_AT_ONCE)
        reasons = {copy: reason for copy in due if (reason := self._why_kept(copy)) is not None}
        going = [copy for copy in due if copy not in reasons]
        for copy in reasons:
            self._moves.keep_until(copy, now_ns() + int(POSTPONED_S * 1e9))
        for copy, reason in list(reasons.items())[:1]:
            log.warning(
                *("%d copies that were moved are kept longer, among them %s", len(reasons)),
                *(f"{copy.key}: {reason}",),
                extra=about(element=copy.element, key=copy.key),
            )
        if going:
            self._moves.remove(going)
        return len(due) == FILES_AT_ONCE

    def _why_kept(self, copy: Copy) -> str | None:
        """What forbids that a copy leaves now, if anything does."""
        archive = self._archive
        mode = archive.modes.in_force.get(copy.element)
        if mode is None or refusal(mode, Operation.CREATE, False):
            return f"element {copy.element} is in mode {mode or '(not in the configuration)'}"
        node = archive.index.node(copy.ino)
        if node is None:
            return None
        until = archive.guard.retained_until(node, copy.element)
        if until is not None:
            return f"is retained until {until}"
        others = [one for one in archive.index.copies(copy.ino) if one.element != copy.element]
        staying = [one for one in others if one.leaves_ns is None]
        is_elsewhere = node.content_state in (ContentState.OPEN, ContentState.SEALED)
        if not is_elsewhere and not any(archive.policy.has_content(one, node) for one in staying):
            return "no other element has the content now"
        return None
