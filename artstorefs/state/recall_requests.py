"""What was asked for together, for whoever is to be told when all of it is there: the rows of the
table `recall_requests`, which are there only where somebody is to be told.

    being asked   while the tree is walked                    is_whole 0
    asked         some of its rows of `recalls` are not done  is_whole 1, done_ns NULL
    done          to be told, again from `due_ns` on          done_ns
                  (told, or given up: the row goes)

A start counts as whole what a kill has cut off: who asked was told nothing, and may ask again.
"""

from dataclasses import dataclass

from artstorefs.state.database import Database

_COLUMNS = "id, asked_ns, uid, path, files, bytes, failed, done_ns, due_ns, tries"
_LEFT = (
    "SELECT 1 FROM recalls WHERE recalls.request = recall_requests.id"
    " AND until_ns IS NULL AND error IS NULL"
)
_FAILED = "SELECT count(*) FROM recalls WHERE request = recall_requests.id AND error IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Request:
    """One row. `path`: the first of what was asked for; `files`, `bytes`: that were to come."""

    id: str
    asked_ns: int
    uid: int
    path: bytes
    files: int
    bytes: int
    failed: int
    done_ns: int | None
    due_ns: int
    tries: int


class RecallRequests:
    """Not thread-safe; nothing here suspends. Every change is one transaction, or raises
    StateError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._execute = database.execute

    def begin(self, identifier: str, uid: int, path: bytes, now_ns: int) -> None:
        """Something is being asked for."""
        self._change(
            f"INSERT INTO recall_requests ({_COLUMNS}, is_whole)"
            " VALUES (?, ?, ?, ?, 0, 0, 0, NULL, ?, 0, 0)",
            *(identifier, now_ns, uid, path, now_ns),
        )

    def is_whole(self, identifier: str, files: int, size: int) -> None:
        """All of it has been asked for; of what is no file nobody is told."""
        self._change(
            "UPDATE recall_requests SET is_whole = 1, files = ?, bytes = ? WHERE id = ?",
            *(files, size, identifier),
        )

    def are_whole(self) -> None:
        """At a start: nobody asks for more."""
        if not self.is_empty:
            self._change("UPDATE recall_requests SET is_whole = 1")

    def note_done(self, now_ns: int) -> int:
        """Find those of which nothing is left; how many there are to be told."""
        if self.is_empty:
            return 0
        with self._database.transaction():
            self._execute(
                "UPDATE recall_requests SET done_ns = ?, due_ns = ?,"
                f" failed = ({_FAILED})"
                f" WHERE is_whole AND done_ns IS NULL AND NOT EXISTS ({_LEFT})",
                (now_ns, now_ns),
            )
            self._execute("DELETE FROM recall_requests WHERE done_ns IS NOT NULL AND files = 0")
        query = "SELECT count(*) FROM recall_requests WHERE done_ns IS NOT NULL"
        return int(self._execute(query).fetchone()[0])

    def next(self) -> Request | None:
        """The one that is to be told next, if there is any."""
        row = self._execute(
            f"SELECT {_COLUMNS} FROM recall_requests WHERE done_ns IS NOT NULL"
            " ORDER BY due_ns LIMIT 1"
        ).fetchone()
        return None if row is None else Request(*row)

    def postpone(self, identifier: str, due_ns: int) -> None:
        """Nobody could be told."""
        self._change(
            "UPDATE recall_requests SET tries = tries + 1, due_ns = ? WHERE id = ?",
            *(due_ns, identifier),
        )

    def drop(self, identifier: str) -> None:
        """It was told, or is not told any more."""
        self._change("DELETE FROM recall_requests WHERE id = ?", identifier)

    @property
    def is_empty(self) -> bool:
        return self._execute("SELECT 1 FROM recall_requests LIMIT 1").fetchone() is None

    def _change(self, statement: str, *values: str | float | bytes) -> None:
        with self._database.transaction():
            self._execute(statement, values)
