"""What a repair writes into the index: intents that write documents again, and marks of damage.

A mark says that the content of a file, in this version, is known to be wrong; it stays until the
file has other content, or a check finds it right again. Kept in the settings, as
`damaged INO` → {"content": version, "error": text}.
"""

import json

from artstorefs.core.naming import object_of
from artstorefs.state.database import Database
from artstorefs.state.log import Log
from artstorefs.state.node import Node
from artstorefs.state.row_sums import give_revision

_PREFIX = "damaged "


def damage_of(database: Database, node: Node) -> str | None:
    """What a check has found wrong with the current content of `node`."""
    return _current(database.setting(f"{_PREFIX}{node.ino}"), node.content)


def damaged_inos(database: Database, limit: int) -> list[int]:
    """Files with a mark, also of content that they have no more."""
    rows = database.execute(
        "SELECT key FROM settings WHERE key GLOB ? ORDER BY key LIMIT ?", (f"{_PREFIX}*", limit)
    )
    return [int(row[0].removeprefix(_PREFIX)) for row in rows]


def _current(text: str | None, content: int) -> str | None:
    if text is None:
        return None
    mark = json.loads(text)
    return str(mark["error"]) if mark["content"] == content else None


class Mending:
    """The writes of a repair. Nobody else has the archive open; each call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = Log(database)

    def close(self) -> None:
        self._database.close()

    def write_again(self, file_id: bytes) -> bool:
        """Have the document of a node, or of a further link, written by the next mount. False if
        the index does not know it."""
        execute = self._database.execute
        with self._database.transaction():
            execute("UPDATE names SET stored = 0 WHERE link_id = ?", (file_id,))
            row = execute(
                "SELECT ino, file_id, uid FROM nodes WHERE file_id = ? OR ino ="
                " (SELECT ino FROM names WHERE link_id = ?)",
                (file_id, file_id),
            ).fetchone()
            if row is not None:
                give_revision(execute, row[0])
                self._log.node_changed(row[0], row[1], created=False, uid=row[2])
        self._log.announce()
        return row is not None

    def mark_damaged(self, file_id: bytes, error: str) -> bool:
        """Have the file show what is wrong with it. False if the index does not know it."""
        row = self._database.execute(
            "SELECT ino, content FROM nodes WHERE file_id = ?", (file_id,)
        ).fetchone()
        if row is None:
            return False
        with self._database.transaction():
            mark = json.dumps({"content": row[1], "error": error})
            self._database.set_setting(f"{_PREFIX}{row[0]}", mark)
        return True

    def clear_damage(self, damaged: set[bytes]) -> None:
        """Take the marks from all files but these: every object has just been hashed."""
        execute = self._database.execute
        with self._database.transaction():
            for ino in damaged_inos(self._database, 1 << 30):
                row = execute("SELECT file_id FROM nodes WHERE ino = ?", (ino,)).fetchone()
                if row is None or row[0] not in damaged:
                    execute("DELETE FROM settings WHERE key = ?", (f"{_PREFIX}{ino}",))


def note_seen(
    database: Database, element: str, rows: list[tuple[str, tuple[int, int], tuple[int, int]]]
) -> None:
    """Documents that were rewritten without a change of what they say: key, and size and mark of
    before and after. What somebody else had written before, and nobody has looked at, stays to be
    looked at."""
    with database.transaction():
        for key, before, after in rows:
            database.execute(
                "UPDATE copies SET seen_size = ?, seen_modified_ns = ?"
                " WHERE element = ? AND key = ? AND seen_size = ? AND seen_modified_ns = ?",
                (*after, element, object_of(key), *before),
            )
