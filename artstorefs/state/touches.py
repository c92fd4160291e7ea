"""Directories whose times a new entry has changed, recorded with the next transaction.

Of the cost of a new file a fifth is the row of its directory: the same row, file after file. So in
memory the directory has its new times, change time and revision at once, and the index has them
with whatever is committed next: the closing of the files, most often, for a hundred at a time.

Nothing is lost with that. Whatever follows in the index, and so whatever an element is told, comes
after it; and after a kill, or a power cut, the new entries say when their directory was changed
(`untold`): they are in the log, and their directory's change time is older than they are. Where
that would not be so, because the clock was set back, it is recorded with the entry itself.
"""

from collections.abc import Callable

from artstorefs.state.database import Database
from artstorefs.state.log import Log
from artstorefs.state.node import Node
from artstorefs.state.row_sums import row_sum
from artstorefs.state.schema import FIRST_REMOVAL_ID

_RECORD = (
    "UPDATE nodes SET mtime_ns = ?, ctime_ns = ?, nlink = ?, revision = ?, sum = ? WHERE ino = ?"
)

ENTRIES_MAX = 1000
"""New entries that may wait together: a start looks at as many."""

_UNTOLD = f"""
    SELECT names.parent, max(child.created_ns) AS newest FROM (
        SELECT ino FROM log WHERE id < {FIRST_REMOVAL_ID} AND operation = 'file_create'
        ORDER BY id DESC LIMIT {ENTRIES_MAX}
    ) AS waiting JOIN nodes AS child ON child.ino = waiting.ino
    JOIN names ON names.id = waiting.ino
    JOIN nodes AS directory ON directory.ino = names.parent
    WHERE child.created_ns > directory.ctime_ns
    GROUP BY names.parent
"""


def touch(directory: Node, now_ns: int, links: int) -> None:
    """An entry has come or gone: what stat(2) shows of its directory. `links`: 1 for a directory
    that has come, -1 for one that has gone."""
    directory.mtime_ns = directory.ctime_ns = now_ns
    directory.nlink += links
    directory.revision += 1


class Touches:
    """What waits. Not thread-safe; nothing here suspends."""

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._execute = database.execute
        self._log = log
        self._waiting: dict[int, tuple[Node, int]] = {}
        self._entries = 0
        self._is_written = False
        self.added: Callable[[], None] | None = None
        """Has somebody call `record_all` soon, should no other transaction come; without it nothing
        waits."""
        database.deferred = self

    def may_wait(self, directory: Node, now_ns: int) -> bool:
        """Whether a new entry of this moment may leave its directory to the next transaction."""
        return (
            self.added is not None and self._entries < ENTRIES_MAX and now_ns > directory.ctime_ns
        )

    def add(self, directory: Node, uid: int) -> None:
        """`touch` has changed the directory, and the entry is committed."""
        self._waiting[directory.ino] = (directory, uid)
        self._entries += 1
        assert self.added is not None
        self.added()

    def record(self, directory: Node, uid: int) -> None:
        """Inside a transaction of the caller."""
        self._execute(
            _RECORD,
            (
                *(directory.mtime_ns, directory.ctime_ns, directory.nlink, directory.revision),
                *(row_sum(directory.values()), directory.ino),
            ),
        )
        self._log.node_changed(directory.ino, directory.file_id, created=False, uid=uid)

    def record_all(self) -> None:
        """In a transaction of its own, if anything waits. Raises StateError, and it still does."""
        if self._waiting:
            with self._database.transaction():
                pass

    def untold(self) -> list[tuple[int, int]]:
        """Inode numbers of directories whose newest entry came when the index was left, and when
        that was. For the start."""
        return self._execute(_UNTOLD).fetchall()

    # --------------------------------------------------------------- see `database.Deferred`

    def write(self) -> None:
        if self._waiting:
            self._is_written = True
            for directory, uid in self._waiting.values():
                self.record(directory, uid)

    def committed(self) -> None:
        if self._is_written:
            self._is_written = False
            self._waiting.clear()
            self._entries = 0
            self._log.announce()

    def rolled_back(self) -> None:
        if self._is_written:
            self._is_written = False
            self._log.discard()
