"""What is agreed with, and reported by, the transfer process: one transaction for each batch.

crash after                    state directory         element               the next start
1 `assign` committed           key in the log          nothing               carries it to that key
2 object written, flushed      as 1                    object, block list    finds it, goes on
3 attr.json written, flushed   as 1                    object, attr.json     writes the same again
4 `stored` committed           copy, removal logged    new and old content   carries out the removal
5 old content, spool removed   removal logged          new content           removes nothing
6 `removed` committed          nothing pending         new content           nothing

A large object has a block list beside it (`NAME.blocks`). The two are staged, flushed and removed
together: attr.json refers to a list only once the list is durable, whatever removes an object by
its key removes the list first, and both can be put, and removed, again.

The transfer process syncs SQLite's log before it touches an element, so that after a power cut the
element is never ahead of what the state directory remembers, and nothing is removed before the
record of its successor is safe.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from artstorefs.core.crash_points import crash_point
from artstorefs.state.database import Database
from artstorefs.state.earlier_content import take_reason
from artstorefs.state.index import Index
from artstorefs.state.log import Assignment, Log, Removal
from artstorefs.state.node import ContentState, Node
from artstorefs.state.reserve import makes_room
from artstorefs.state.row_sums import put_row_sum
from artstorefs.state.spool import spool_name
from artstorefs.state.spool_sums import drop_spool_sum


@dataclass(frozen=True, slots=True)
class Stored:
    """An element has, verified, this revision of a node (and all its link records)."""

    ino: int
    element: str
    key: str
    is_record: bool
    revision: int
    content: int
    size: int
    sha256: str | None
    blocks: str | None
    seen_size: int
    seen_modified_ns: int
    links: list[int]


@dataclass(frozen=True, slots=True)
class Observed:
    """Somebody else has written a node's attr.json."""

    ino: int
    element: str
    custom: dict[str, Any]
    carried: dict[str, Any]
    seen_size: int
    seen_modified_ns: int

    def to_message(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Failed:
    """An element did not take a node. `refused`: a person has to do something about it."""

    ino: int
    error: str
    refused: bool


class Outcomes:
    """Not thread-safe; nothing here suspends."""

    def __init__(self, database: Database, index: Index, log: Log) -> None:
        self._database = database
        self._execute = database.execute
        self._index = index
        self._log = log

    @makes_room
    def assign(self, assignments: Sequence[tuple[int, Assignment]]) -> None:
        """Step 1: commit where each node's next copy goes, before anything is written there.

        What an earlier attempt may have left under another key is removed by a logged intent.
        """
        try:
            with self._database.transaction():
                for ino, assignment in assignments:
                    self._abandon(ino, assignment)
                    self._log.assign(ino, assignment)
        except BaseException:
            self._log.discard()
            raise
        crash_point("assign.committed")
        self._log.announce()

    def _abandon(self, ino: int, assignment: Assignment) -> None:
        before = self._log.assignment(ino)
        if before is None or before.key == assignment.key:
            return
        if all(copy.key != before.key for copy in self._index.copies(ino)):
            left = Removal(ino=ino, remove=[[before.element, before.key]])
            self._log.removal(b"", left, 0)

    @makes_room
    def refuse(self, ino: int, error: str) -> None:
        """No element can take the node now: kept in the log and shown until one does."""
        with self._database.transaction():
            self._log.failed(ino, error, refused=True)

    @makes_room
    def apply(
        self, stored: Sequence[Stored], removed: Sequence[int], failed: Sequence[Failed]
    ) -> list[int]:
        """Steps 4 and 6. Returns the nodes that changed meanwhile and have to go once more."""
        again: list[int] = []
        moved: list[tuple[Node, int, str]] = []
        try:
            with self._database.transaction():
                for outcome in stored:
                    if not self._stored(outcome, moved):
                        again.append(outcome.ino)
                for log_id in removed:
                    self._log.removed(log_id)
                for failure in failed:
                    self._log.failed(failure.ino, failure.error, refused=failure.refused)
        except BaseException:
            self._log.discard()
            raise
        if stored:
            crash_point("stored.committed")
        if removed:
            crash_point("removed.committed")
        for node, content_state, element in moved:
            node.content_state = content_state
            node.element = element
        self._log.announce()
        return again

    @makes_room
    def observe(self, observed: Sequence[Observed]) -> int:
        """Take over what others have written into attr.json; returns the number of nodes.

        An attribute that was set or removed here, which somebody was told, and not carried yet
        stays as it is here; all others become what the element has. The next rewrite carries both.
        """
        changed: list[tuple[Node, str | None, str | None]] = []
        with self._database.transaction():
            for item in observed:
                node = self._index.node(item.ino)
                if node is None:
                    continue
                custom = self._merged(node, item.custom)
                values = (_text(custom), _text(item.carried))
                self._execute(
                    "UPDATE nodes SET custom = ?, carried = ? WHERE ino = ?", (*values, node.ino)
                )
                put_row_sum(self._execute, node.ino)
                self._execute(
                    "UPDATE copies SET seen_size = ?, seen_modified_ns = ?"
                    " WHERE ino = ? AND element = ?",
                    (item.seen_size, item.seen_modified_ns, item.ino, item.element),
                )
                changed.append((node, *values))
        if changed:
            crash_point("observed.committed")
        for node, custom_text, carried_text in changed:
            node.custom = custom_text
            node.carried = carried_text
        return len(changed)

    def _merged(self, node: Node, theirs: dict[str, Any]) -> dict[str, Any]:
        ours: dict[str, Any] = json.loads(node.custom) if node.custom else {}
        changed = self._log.changed_attributes(node.ino)
        merged = {key: value for key, value in theirs.items() if key not in changed}
        return merged | {key: ours[key] for key in changed if key in ours}

    def _stored(self, outcome: Stored, moved: list[tuple[Node, int, str]]) -> bool:
        """Whether the node needs nothing more."""
        node = self._index.node(outcome.ino)
        if node is None:
            gone = Removal(ino=outcome.ino, remove=[[outcome.element, outcome.key]])
            self._log.removal(b"", gone, 0)
            return True
        old = [copy for copy in self._index.copies(node.ino) if copy.element == outcome.element]
        superseded = [[copy.element, copy.key] for copy in old if copy.key != outcome.key]
        self._execute(
            "INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(outcome.ino, outcome.element, outcome.key, outcome.is_record),
                *(outcome.revision, outcome.content, outcome.size),
                bytes.fromhex(outcome.sha256) if outcome.sha256 else None,
                bytes.fromhex(outcome.blocks) if outcome.blocks else None,
                *(outcome.seen_size, outcome.seen_modified_ns),
            ),
        )
        if node.revision == outcome.revision:  # or a name may have moved since it was written
            for name_id in outcome.links:
                self._execute("UPDATE names SET stored = 1 WHERE id = ?", (name_id,))
        spool = []
        content_state = node.content_state
        if node.content == outcome.content and content_state == ContentState.SEALED:
            spool.append(spool_name(node.ino, node.content))
            drop_spool_sum(self._execute, node.ino)
            content_state = ContentState.ARCHIVED
        if content_state in (ContentState.ARCHIVED, ContentState.EMPTY):
            self._execute(
                "UPDATE nodes SET content_state = ?, element = ? WHERE ino = ?",
                (content_state, outcome.element, node.ino),
            )
            put_row_sum(self._execute, node.ino)
            moved.append((node, content_state, outcome.element))
        if superseded or spool:
            keep = take_reason(self._database, node.ino, superseded) if superseded else None
            removal = Removal(ino=node.ino, remove=superseded, spool=spool, keep=keep)
            self._log.removal(node.file_id, removal, node.uid)
        if node.revision == outcome.revision:
            self._log.carried_out(node.ino)
            return True
        self._log.reopen(node.ino)
        return False


def _text(document: dict[str, Any]) -> str | None:
    if not document:
        return None
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
