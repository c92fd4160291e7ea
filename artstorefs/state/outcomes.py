"""What is agreed with, and reported by, the transfer process: one transaction for each batch.

crash after                    state directory         element               the next start
1 `assign` committed           key in the log          nothing               carries it to that key
2 object written, flushed      as 1                    object, block list    finds it, goes on
3 attr.json written, flushed   as 1                    object, attr.json     writes the same again
4 `stored` committed           copy, removal logged    new and old content   carries out the removal
                               (of `copies = N`, the N-th; after the others the intent, and the
                               content in the spool, stay as they were before 1)
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
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from artstorefs.core.crash_points import crash_point
from artstorefs.core.naming import record_key
from artstorefs.state.copies import CopiesPolicy
from artstorefs.state.database import Database
from artstorefs.state.earlier_content import keep_earlier, take_reason
from artstorefs.state.expiring import drop_row
from artstorefs.state.index import Copy, Index
from artstorefs.state.log import OUTDATED, Assignment, Log, Removal
from artstorefs.state.node import ContentState, Node
from artstorefs.state.reserve import makes_room
from artstorefs.state.row_sums import give_revision, put_row_sum
from artstorefs.state.rows import put_copy
from artstorefs.state.spool import spool_name
from artstorefs.state.spool_sums import drop_spool_sum
from artstorefs.state.witnesses import has_joined, note_joined


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
    locked_ns: int | None = None
    """Until when the element keeps the object from everybody, if it was told that now."""

    @classmethod
    def of_copy(cls, copy: Copy, links: list[int], locked_ns: int | None) -> "Stored":
        """What an element has had before, and keeps from everybody by now."""
        return cls(
            *(copy.ino, copy.element, copy.key, copy.is_record),
            *(copy.revision, copy.content, copy.size),
            copy.sha256.hex() if copy.sha256 else None,
            copy.blocks.hex() if copy.blocks else None,
            *(copy.seen_size, copy.seen_modified_ns),
            links,
            locked_ns,
        )

    def copy(self) -> Copy:
        """What the element has now."""
        return Copy(
            *(self.ino, self.element, self.key, self.is_record),
            *(self.revision, self.content, self.size),
            bytes.fromhex(self.sha256) if self.sha256 else None,
            bytes.fromhex(self.blocks) if self.blocks else None,
            *(self.seen_size, self.seen_modified_ns),
            locked_ns=self.locked_ns,
        )


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

    def __init__(
        self,
        database: Database,
        index: Index,
        log: Log,
        policy: CopiesPolicy,
        adopted: Collection[str] = (),
    ) -> None:
        """`adopted`: ids of the elements that may have had nothing of ours before."""
        self._database = database
        self._unjoined = {name for name in adopted if not has_joined(database, name)}
        self._policy = policy
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
        if before is None:
            return
        place = (before.element, before.key)
        if place == (assignment.element, assignment.key):
            return
        copies = self._index.copies(ino)
        left = []
        if all((copy.element, copy.key) != place for copy in copies):
            left.append(list(place))
        elements = {copy.element for copy in copies} | {assignment.element}
        if before.element not in elements:
            # a name that goes now would leave its record there, where no copy is known
            links = [name.link_id for name in self._index.link_names(ino) if name.link_id]
            left += [[before.element, record_key(UUID(bytes=link_id))] for link_id in links]
        if left:
            self._log.removal(b"", Removal(ino=ino, remove=left), 0)

    @makes_room
    def copy_lost(self, node: Node, copy: Copy, why: str) -> bool:
        """A reader has found that a copy is damaged, or gone. Where others have the content it is
        made again from them, under another key; what is left of it goes into quarantine then.
        Whether that is so."""
        others = [
            other
            for other in self._policy.counted(self._index.copies(node.ino))
            if other != copy and self._policy.has_content(other, node)
        ]
        if not others or (copy.element, copy.key) in self._policy.lost:
            return False
        keep_earlier(self._database, node.ino, [copy], why, time.time_ns())
        with self._database.transaction():
            self._log.node_changed(node.ino, node.file_id, created=False, uid=node.uid)
        self._policy.lost.add((copy.element, copy.key))
        self._log.announce()
        return True

    def want_copies(self) -> int:
        """Log an intent for every node that too few elements have: more copies are wanted than
        before, or an element is not in the configuration any more. Returns how many these are."""
        if self._policy.wanted == 1:
            return 0
        elements = sorted(self._policy.elements)
        found = self._execute(
            "SELECT ino, file_id, uid FROM nodes WHERE nlink > 0"
            " AND ino NOT IN (SELECT ino FROM log WHERE ino IS NOT NULL)"
            " AND (SELECT count(*) FROM copies WHERE copies.ino = nodes.ino AND leaves_ns IS NULL"
            f" AND element IN ({', '.join('?' * len(elements))})) < ?",
            (*elements, self._policy.wanted),
        ).fetchall()
        if found:
            with self._database.transaction():
                for ino, file_id, uid in found:
                    give_revision(self._execute, ino)
                    self._log.node_changed(ino, file_id, created=False, uid=uid)
            self._log.announce()
        return len(found)

    def want_locks(self, inos: Sequence[int]) -> None:
        """Log an intent for files whose elements have still to lock them, see `locks.py`."""
        self._database.require_room()
        try:
            with self._database.transaction():
                for ino in inos:
                    node = self._index.node(ino)
                    if node is not None:
                        self._log.node_changed(node.ino, node.file_id, created=False, uid=node.uid)
        except BaseException:
            self._log.discard()
            raise
        crash_point("locks.wanted")
        self._log.announce()

    def tell_outdated(self) -> None:
        """Have elements told of what they have older revisions of, as a rebuild has found. What one
        has on which nothing may be changed is no copy any more: the file would be frozen by it."""
        outdated = json.loads(self._database.setting(OUTDATED) or "[]")
        if not outdated:
            return
        with self._database.transaction():
            for ino in outdated:
                node = self._index.node(ino)
                if node is not None:
                    self._tell_outdated(node)
            self._database.set_setting(OUTDATED, "[]")
        self._log.announce()

    def _tell_outdated(self, node: Node) -> None:
        for copy in self._index.copies(node.ino):
            if self._policy.is_current(node, copy):
                continue
            if copy.element in self._policy.frozen:
                self._execute(
                    "DELETE FROM copies WHERE ino = ? AND element = ?", (node.ino, copy.element)
                )
            else:
                self._log.node_changed(node.ino, node.file_id, created=False, uid=node.uid)

    @makes_room
    def refuse(self, ino: int, error: str) -> None:
        """No element can take the node now: kept in the log and shown until one does."""
        with self._database.transaction():
            self._log.failed(ino, error, refused=True)

    @makes_room
    def apply(
        self,
        stored: Sequence[Stored],
        removed: Sequence[int],
        failed: Sequence[Failed],
        removals_failed: Sequence[tuple[int, str, bool]] = (),
    ) -> list[int]:
        """Steps 4 and 6. Returns the nodes that changed meanwhile and have to go once more.
        `removals_failed`: as `BatchResult` has them; what was refused is kept to be shown."""
        again: list[int] = []
        moved: list[tuple[Node, int, str]] = []
        try:
            with self._database.transaction():
                for outcome in stored:
                    if outcome.element in self._unjoined:
                        note_joined(self._database, outcome.element)
                    if not self._stored(outcome, moved):
                        again.append(outcome.ino)
                for log_id in removed:
                    self._log.removed(log_id)
                for failure in failed:
                    self._log.failed(failure.ino, failure.error, refused=failure.refused)
                for log_id, error, refused in removals_failed:
                    if refused:
                        self._log.failed(log_id, error, refused=True)
        except BaseException:
            self._log.discard()
            raise
        self._unjoined.difference_update(outcome.element for outcome in stored)
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
        stays as it is here; all others become what the element has. The next rewrite carries both;
        of a node that other elements have too, it follows at once, or they would not know.
        """
        try:
            changed = self._observe(observed)
        except BaseException:
            self._log.discard()
            raise
        if changed:
            crash_point("observed.committed")
        for node, custom_text, carried_text, revision in changed:
            node.custom = custom_text
            node.carried = carried_text
            node.revision = revision
        self._log.announce()
        return len(changed)

    def _observe(
        self, observed: Sequence[Observed]
    ) -> list[tuple[Node, str | None, str | None, int]]:
        changed: list[tuple[Node, str | None, str | None, int]] = []
        with self._database.transaction():
            for item in observed:
                node = self._index.node(item.ino)
                if node is None:
                    continue
                custom = self._merged(node, item.custom)
                copies = self._policy.counted(self._index.copies(node.ino))
                is_shared = any(copy.element != item.element for copy in copies)
                values = (_text(custom), _text(item.carried), node.revision + is_shared)
                self._execute(
                    "UPDATE nodes SET custom = ?, carried = ?, revision = ? WHERE ino = ?",
                    (*values, node.ino),
                )
                drop_row(self._execute, node.ino)  # if it expires, the others have time anew
                if is_shared:
                    self._log.node_changed(node.ino, node.file_id, created=False, uid=node.uid)
                put_row_sum(self._execute, node.ino)
                self._execute(
                    "UPDATE copies SET seen_size = ?, seen_modified_ns = ?"
                    " WHERE ino = ? AND element = ?",
                    (item.seen_size, item.seen_modified_ns, item.ino, item.element),
                )
                changed.append((node, *values))
        return changed

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
        before = self._index.copies(node.ino)
        copy = _with_lock_of_before(outcome.copy(), before)
        superseded = [
            [old.element, old.key]
            for old in before
            if old.element == copy.element and old.key != copy.key
        ]
        put_copy(self._execute, copy)
        if copy.element in self._policy.locks.able:
            self._policy.locks.stored(node, copy)
        if self._database.audit is not None and is_new_content(copy, before):
            self._database.audit.stored(
                *(node, copy.element, copy.key, copy.content, copy.size, copy.sha256)
            )
        others = [old for old in before if old.element != copy.element]
        copies, is_moving = self._settle_move(node, [copy, *others])
        is_complete = self._policy.is_complete(node, copies) and not is_moving
        if is_complete:  # or a name may have moved since it was written, or lack on an element
            for name_id in outcome.links:
                self._execute("UPDATE names SET stored = 1 WHERE id = ?", (name_id,))
        spool = []
        content_state = node.content_state
        if content_state == ContentState.SEALED and self._policy.is_safe(node, copies):
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
        if is_complete:
            self._log.carried_out(node.ino)
        else:
            self._log.reopen(node.ino)
        return is_complete

    def _settle_move(self, node: Node, copies: list[Copy]) -> tuple[list[Copy], bool]:
        """The copies, and whether the node is still on its way to another element. Once that has
        it, as it is now, what the first has is to be removed in a while, and counts no more."""
        move = self._log.move_of(node.ino)
        if move is None:
            return copies, False
        there = next((copy for copy in copies if copy.element == move.target), None)
        if there is None or not self._policy.is_current(node, there):
            return copies, True
        leaves_ns = time.time_ns() + move.keep_ns
        settled = []
        for copy in copies:
            if copy.element == move.source:
                copy = replace(copy, leaves_ns=leaves_ns, moved_by=move.number)
                put_copy(self._execute, copy)
            settled.append(copy)
        self._log.moved(node.ino)
        return settled, False


def _with_lock_of_before(copy: Copy, before: Sequence[Copy]) -> Copy:
    """A new attr.json leaves the object as it is, and so its lock."""
    for old in before:
        is_same = (old.element, old.key, old.content) == (copy.element, copy.key, copy.content)
        if old.locked_ns and is_same and old.locked_ns > (copy.locked_ns or 0):
            return replace(copy, locked_ns=old.locked_ns)
    return copy


def is_new_content(copy: Copy, before: Sequence[Copy]) -> bool:
    """Whether an element has content that it did not have before, and not only a new attr.json."""
    had = {old.content for old in before if old.element == copy.element and not old.is_record}
    return not copy.is_record and copy.content not in had


def _text(document: dict[str, Any]) -> str | None:
    if not document:
        return None
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
