"""The log of intents: what the elements still have to be told.

A node that changed has one pending row (`file_create` while no element knows it, `file_update`
after), however often it changes before it is carried out: intents merge. What must be removed from
the elements has rows of its own (`file_delete`), which no change of a node ever touches.

`data` of file_create and file_update is NULL until the intent is assigned, then the object
    {"element": id, "key": key, "content": version, "is_record": bool}
which is committed before the transfer process is told, so that after any crash the key that may
hold something is known and used again.

`move` is NULL, or of a node that is to come from one element to another
    [element that it leaves, element that it comes to, nanoseconds that the first keeps it,
     number of the migration]
however the node changes meanwhile, until the second has it as it is then.

`data` of file_delete:
    {"ino": ino, "remove": [[element, key], …], "spool": [name, …], "after": [ino, revision] | null,
     "keep": [time, why] | null, "content_only": bool}
It waits while the transfer process works on `ino`. `after` holds it back until an element has that
revision of that node: a rename over a file removes the old file only once the new one is safe
under its name. `keep`: what is removed is put in quarantine first, because of `why`; `time` in
nanoseconds is that of the quarantine, so that doing it again makes no second copy. `content_only`:
attr.json stays, because the object is somewhere else by now (`offline.py`).
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from artstorefs.state.database import Database
from artstorefs.state.node import ContentState
from artstorefs.state.schema import FIRST_REMOVAL_ID

UNRECORDED = "unrecorded"
"""Setting: inode numbers, as a JSON list, of directories that a rebuild, or a look at the elements,
has made up and that no element knows. They are logged as soon as something in them is, which needs
them to be found."""

OUTDATED = "outdated"
"""Setting: inode numbers, as a JSON list, of files of which a rebuild has found older revisions on
elements: the next start has them told of the newest."""

_IS_CLOSED = (
    "(ino IS NULL OR ino IN"
    f" (SELECT ino FROM nodes WHERE content_state != {int(ContentState.OPEN)}))"
)

NodeChanged = Callable[[int], None]
RemovalLogged = Callable[[int, "Removal"], None]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a node's next copy goes: committed before anything is written there."""

    element: str
    key: str
    content: int
    is_record: bool

    def to_json(self) -> str:
        return json.dumps(
            {
                "element": self.element,
                "key": self.key,
                "content": self.content,
                "is_record": self.is_record,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Assignment":
        return cls(**json.loads(text))


class Move(NamedTuple):
    """What is to become of a node's copies: none on `source` any more, one on `target`."""

    source: str
    target: str
    keep_ns: int
    """How long the copy on `source` stays there after that."""
    number: int
    """Of the migration."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Data of a file_delete."""

    ino: int
    remove: list[list[str]] = field(default_factory=list)
    spool: list[str] = field(default_factory=list)
    after: list[int] | None = None
    keep: list[Any] | None = None
    content_only: bool = False

    def to_json(self) -> str:
        return json.dumps(
            {
                "ino": self.ino,
                "remove": self.remove,
                "spool": self.spool,
                "after": self.after,
                "keep": self.keep,
                "content_only": self.content_only,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Removal":
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Failure:
    """An intent that an element has refused or could not carry out so far."""

    ino: int | None
    """None of a removal."""
    file_id: bytes
    error: str
    since_ns: int
    status: str
    place: str | None = None
    """Of a removal what is to go: element and key."""


class Log:
    """Writes happen inside a transaction of the caller, except where the name says `now`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._execute = database.execute
        self._waiting: set[int] = {
            row[0] for row in self._execute("SELECT ino FROM log WHERE ino IS NOT NULL")
        }
        self._last_removal_id: int = (
            self._execute("SELECT max(?, max(id)) FROM log", (FIRST_REMOVAL_ID,)).fetchone()[0]
            or FIRST_REMOVAL_ID
        )
        self._unrecorded = self._load_unrecorded()
        self._fresh: list[int] = []
        self._done: list[int] = []
        self._fresh_removals: list[tuple[int, Removal]] = []
        self.on_node_changed: NodeChanged = lambda ino: None
        self.on_removal_logged: RemovalLogged = lambda log_id, removal: None

    # ----------------------------------------------------- inside the caller's transaction

    def node_changed(self, ino: int, file_id: bytes, *, created: bool, uid: int) -> None:
        """The elements have to learn of a change of this node; merges with what waits."""
        if self._unrecorded:
            self._log_ancestors(ino, uid)
        self._fresh.append(ino)
        if ino in self._waiting:
            return
        now = time.time_ns()
        self._execute(
            "INSERT OR IGNORE INTO log (id, operation, status, ino, file_id, created_ns,"
            " updated_ns, uid) VALUES (?, ?, 'pending', ?, ?, ?, ?, ?)",
            (ino, "file_create" if created else "file_update", ino, file_id, now, now, uid),
        )

    def attributes_changed(self, ino: int, keys: Iterable[str]) -> None:
        """These custom attributes are ours until the element has been told of them."""
        for key in keys:
            self._execute("INSERT OR IGNORE INTO changed_attributes VALUES (?, ?)", (ino, key))

    def _log_ancestors(self, ino: int, uid: int) -> None:
        """Log the directories above a node that no element knows."""
        at: int | None = ino
        while at is not None:
            if at in self._unrecorded:
                self._unrecorded.discard(at)
                self._database.set_setting(UNRECORDED, json.dumps(sorted(self._unrecorded)))
                row = self._execute("SELECT file_id FROM nodes WHERE ino = ?", (at,)).fetchone()
                if row is not None:
                    self.node_changed(at, row[0], created=True, uid=uid)
            above = self._execute("SELECT parent FROM names WHERE id = ?", (at,)).fetchone()
            at = above[0] if above else None

    def made_up(self, inos: Iterable[int]) -> None:
        """Directories that no element knows: they are told of once something in them is."""
        self._unrecorded.update(inos)
        self._database.set_setting(UNRECORDED, json.dumps(sorted(self._unrecorded)))

    def is_made_up(self, ino: int) -> bool:
        return ino in self._unrecorded

    def _load_unrecorded(self) -> set[int]:
        return set(json.loads(self._database.setting(UNRECORDED) or "[]"))

    def removal(self, file_id: bytes, removal: Removal, uid: int) -> None:
        """Objects, documents and spool files that nothing refers to any more."""
        now = time.time_ns()
        self._last_removal_id += 1
        log_id = self._last_removal_id
        self._execute(
            "INSERT INTO log (id, operation, status, file_id, data, created_ns, updated_ns, uid)"
            " VALUES (?, 'file_delete', 'pending', ?, ?, ?, ?, ?)",
            (log_id, file_id, removal.to_json(), now, now, uid),
        )
        self._fresh_removals.append((log_id, removal))

    def drop_node(self, ino: int) -> Assignment | None:
        """The node is gone: nothing to carry out any more. Returns what was under way."""
        assignment = self.assignment(ino)
        if self._execute("DELETE FROM log WHERE id = ?", (ino,)).rowcount:
            self._done.append(ino)
            self._fresh.append(ino)  # removals may wait for it
            self._execute("DELETE FROM changed_attributes WHERE ino = ?", (ino,))
        return assignment

    def assign(self, ino: int, assignment: Assignment) -> None:
        self._execute(
            "UPDATE log SET data = ?, updated_ns = ? WHERE id = ?",
            (assignment.to_json(), time.time_ns(), ino),
        )

    def move(self, ino: int, file_id: bytes, move: Move, uid: int) -> None:
        """The node is to be moved, beside what the elements have to learn of it anyway."""
        self.node_changed(ino, file_id, created=False, uid=uid)
        self._execute("UPDATE log SET move = ? WHERE id = ?", (json.dumps(move), ino))

    def moved(self, ino: int) -> None:
        """It was; or it is to stay after all."""
        self._execute("UPDATE log SET move = NULL WHERE id = ?", (ino,))

    def carried_out(self, ino: int) -> None:
        self._execute("DELETE FROM log WHERE id = ?", (ino,))
        self._execute("DELETE FROM changed_attributes WHERE ino = ?", (ino,))
        self._done.append(ino)

    def reopen(self, ino: int) -> None:
        """Carried out, but the node has changed meanwhile: what follows is a new intent."""
        self._execute(
            "UPDATE log SET operation = 'file_update', data = NULL, error = NULL,"
            " status = 'pending', updated_ns = ? WHERE id = ?",
            (time.time_ns(), ino),
        )

    def removed(self, log_id: int) -> None:
        self._execute("DELETE FROM log WHERE id = ?", (log_id,))

    def failed(self, ino: int, error: str, *, refused: bool) -> None:
        """Keep the reason where `status` and the file's xattr show it; it is tried again."""
        self._execute(
            "UPDATE log SET error = ?, status = ?, updated_ns = ? WHERE id = ?",
            (error, "failed" if refused else "pending", time.time_ns(), ino),
        )

    # ------------------------------------------------------------------- after the commit

    def announce(self) -> None:
        """Tell who drains the log what the committed transaction added."""
        if self._fresh:
            self._waiting.update(self._fresh)
            for ino in self._fresh:
                self.on_node_changed(ino)
            self._fresh.clear()
        self._waiting.difference_update(self._done)
        self._done.clear()
        if self._fresh_removals:
            for log_id, removal in self._fresh_removals:
                self.on_removal_logged(log_id, removal)
            self._fresh_removals.clear()

    def discard(self) -> None:
        """The transaction was rolled back."""
        self._unrecorded = self._load_unrecorded()
        self._fresh.clear()
        self._done.clear()
        self._fresh_removals.clear()

    # ------------------------------------------------------------------------------ reads

    def assignment(self, ino: int) -> Assignment | None:
        row = self._execute("SELECT data FROM log WHERE id = ?", (ino,)).fetchone()
        return Assignment.from_json(row[0]) if row and row[0] else None

    def move_of(self, ino: int) -> Move | None:
        """Where the node is to be moved, if it is."""
        row = self._execute("SELECT move FROM log WHERE id = ?", (ino,)).fetchone()
        return Move(*json.loads(row[0])) if row and row[0] else None

    def changed_attributes(self, ino: int) -> set[str]:
        """Keys of custom attributes that were set or removed here and not carried yet."""
        rows = self._execute("SELECT key FROM changed_attributes WHERE ino = ?", (ino,))
        return {row[0] for row in rows}

    def is_waiting(self, ino: int) -> bool:
        return ino in self._waiting

    def waiting_nodes(self) -> list[int]:
        """Inode numbers with an intent, in the order in which the intents were logged."""
        rows = self._execute("SELECT ino FROM log WHERE ino IS NOT NULL ORDER BY created_ns, id")
        return [row[0] for row in rows]

    def removals(self) -> list[tuple[int, Removal]]:
        rows = self._execute(
            "SELECT id, data FROM log WHERE operation = 'file_delete' ORDER BY id"
        ).fetchall()
        return [(log_id, Removal.from_json(data)) for log_id, data in rows]

    def failure(self, ino: int) -> str | None:
        row = self._execute("SELECT error FROM log WHERE id = ?", (ino,)).fetchone()
        return row[0] if row else None

    def failures(self, limit: int = 100) -> list[Failure]:
        return self._failures("TRUE", limit)

    def failures_of_closed(self, limit: int = 100) -> list[Failure]:
        """Those that are tried again: what is open cannot be carried, and why it failed before may
        be over."""
        return self._failures(_IS_CLOSED, limit)

    def count_failures_of_closed(self) -> int:
        found = self._execute(
            f"SELECT count(*) FROM log WHERE error IS NOT NULL AND {_IS_CLOSED}"
        ).fetchone()
        return int(found[0])

    def _failures(self, condition: str, limit: int) -> list[Failure]:
        rows = self._execute(
            "SELECT ino, file_id, error, updated_ns, status, data FROM log"
            f" WHERE error IS NOT NULL AND {condition} ORDER BY created_ns, id LIMIT ?",
            (limit,),
        )
        return [
            Failure(ino, file_id, error, since_ns, status, _place_of(ino, data))
            for ino, file_id, error, since_ns, status, data in rows
        ]

    def summary(self) -> dict[str, Any]:
        """See `summary_of`; for a large log rather `queues.read_standing`, in a thread."""
        return summary_of(self._execute)


def _place_of(ino: int | None, data: str | None) -> str | None:
    """Of a file_delete the first that is to be removed, for a person."""
    if ino is not None or data is None:
        return None
    try:
        places = Removal.from_json(data).remove
    except (ValueError, TypeError):  # a row that is damaged is told of by others
        return None
    return next((": ".join(place) for place in places), None)


def summary_of(execute: Callable[[str], sqlite3.Cursor]) -> dict[str, Any]:
    """Number of intents, bytes that no element has, age of the oldest, number refused."""
    count, oldest, failed = execute(
        "SELECT count(*), min(created_ns), sum(error IS NOT NULL) FROM log"
    ).fetchone()
    size = execute(
        "SELECT sum(n.size) FROM log l JOIN nodes n ON n.ino = l.ino"
        " WHERE n.content_state IN (2, 3)"
    ).fetchone()[0]
    age = None if oldest is None else max(0.0, (time.time_ns() - oldest) / 1e9)
    return {
        "intents": int(count),
        "bytes": int(size or 0),
        "oldest_age_s": age,
        "failed": int(failed or 0),
    }
