"""Fills the index of an archive that is not mounted with many files: past the mount, in bulk.

The files are archived: nodes, names and copies as the transfer of real files leaves them, with an
object and a sidecar on the element only where a test asks for them.
"""

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path
from uuid import UUID

from artstorefs.core.naming import object_key, record_key, sidecar_key
from artstorefs.core.timestamps import timestamp_ns
from artstorefs.state.database import Database
from artstorefs.state.index import FIRST_INO, ROOT_INO, Copy, Name
from artstorefs.state.node import COLUMNS, ContentState, Node

DIRECTORY_FILES = 100_000
SIZE_BYTES = 12_345
SIDECAR_BYTES = 900
CHUNK = 20_000

_MOMENT_NS = timestamp_ns("2026-01-01T00:00:00Z")


def add_files(state: Path, count: int, pending: bool = False) -> list[str]:
    """`count` files in directories of DIRECTORY_FILES below the root. `pending`: they are empty
    files that no element knows. Returns the names of the directories."""
    database = Database(str(state / "state.db"))
    try:
        return _add_files(database, count, pending)
    finally:
        database.close()


def _add_files(database: Database, count: int, pending: bool) -> list[str]:
    highest = database.execute("SELECT max(ino) FROM nodes").fetchone()[0]
    ino = max(highest + 1, FIRST_INO)
    directories: list[str] = []
    for first in range(0, count, DIRECTORY_FILES):
        name = f"many{ino}"
        directories.append(name)
        directory = ino
        size = min(DIRECTORY_FILES, count - first)
        _add(database, _directory(directory, name), pending=False)
        for start in range(directory + 1, directory + 1 + size, CHUNK):
            stop = min(start + CHUNK, directory + 1 + size)
            _add(database, (_file(n, directory, pending) for n in range(start, stop)), pending)
        ino = directory + 1 + size
    return directories


Row = tuple[Node, Name, Copy | None]


_INSERT_NODE = f"INSERT INTO nodes ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_INSERT_NAME = (
    "INSERT INTO names (id, parent, name, ino, link_id, stored) VALUES (?, ?, ?, ?, ?, 1)"
)
_INSERT_COPY = f"INSERT INTO copies VALUES ({', '.join('?' * len(fields(Copy)))})"


def _add(database: Database, rows: Iterator[Row], pending: bool) -> None:
    made = list(rows)
    copies = [copy for _, _, copy in made if copy is not None]
    with database.transaction():
        database.connection.executemany(_INSERT_NODE, (node.values() for node, _, _ in made))
        database.connection.executemany(
            _INSERT_NAME, ((n.id, n.parent, n.name, n.ino, n.link_id) for _, n, _ in made)
        )
        database.connection.executemany(_INSERT_COPY, (astuple(copy) for copy in copies))
    if pending:
        _log(database.connection, [node for node, _, _ in made])
    database.checkpoint()


def _log(connection: sqlite3.Connection, nodes: list[Node]) -> None:
    now = time.time_ns()
    with connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO log (id, operation, status, ino, file_id, created_ns, updated_ns, uid)"
            " VALUES (?, 'file_create', 'pending', ?, ?, ?, ?, 0)",
            [(node.ino, node.ino, node.file_id, now, now) for node in nodes],
        )


def _node(ino: int, mode: int, size: int, content: int, state: ContentState) -> Node:
    return Node(
        *(ino, os.urandom(16), mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, 0, size),
        *(_MOMENT_NS,) * 4,
        *(0, None, '{"artist":"Rembrandt"}' if size else None, None, None),
        *(1, content, state, "main"),
    )


def _directory(ino: int, name: str) -> Iterator[Row]:
    node = _node(ino, stat.S_IFDIR | 0o755, 0, 0, ContentState.EMPTY)
    yield node, Name(ino, ROOT_INO, name.encode(), ino, None), None


def _file(ino: int, directory: int, pending: bool) -> Row:
    name = Name(ino, directory, f"a picture of average length {ino}.jpg".encode(), ino, None)
    if pending:
        return _node(ino, stat.S_IFREG | 0o644, 0, 0, ContentState.EMPTY), name, None
    node = _node(ino, stat.S_IFREG | 0o644, SIZE_BYTES, 1, ContentState.ARCHIVED)
    key = key_of(node, name)
    copy = Copy(
        *(
            ino,
            "main",
            key,
            False,
            1,
            1,
            SIZE_BYTES,
            os.urandom(32),
            None,
            SIDECAR_BYTES,
            _MOMENT_NS,
        ),
    )
    return node, name, copy


def key_of(node: Node, name: Name) -> str:
    """Where the object is; an hour for every 50,000 files."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(_MOMENT_NS // 10**9 + 3600 * (node.ino // 50_000), UTC)
    return object_key(name.name, "anna", moment, UUID(bytes=node.file_id))


def make_objects(state: Path, element: Path) -> None:
    """Every sidecar that the index knows, with the size and time that it remembers, and the object
    beside it: a look at the element asks once more for each file that it has not seen. Content is
    looked at by nobody: files are holes, and the objects of a folder have one inode."""
    connection = sqlite3.connect(state / "state.db")
    objects: dict[str, str] = {}
    for (key,) in connection.execute("SELECT key FROM copies WHERE NOT is_record"):
        path, sidecar = f"{element}/{key}", f"{element}/{sidecar_key(key)}"
        if os.path.exists(sidecar):  # made before
            continue
        folder = os.path.dirname(path)
        if folder not in objects:
            os.makedirs(folder, exist_ok=True)
            objects[folder] = path
            _make_hole(path, SIZE_BYTES)
        else:
            os.link(objects[folder], path)
        _make_hole(sidecar, SIDECAR_BYTES)
        os.utime(sidecar, ns=(_MOMENT_NS, _MOMENT_NS))
    connection.close()


def _make_hole(path: str, size_bytes: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
    os.truncate(descriptor, size_bytes)
    os.close(descriptor)


def memory_kib(pid: int) -> dict[str, int]:
    """Memory of a process from /proc/PID/status; VmHWM is the most that was ever resident, which
    counts pages of files that are mapped (RssFile) as well."""
    values = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "VmRSS", "RssAnon", "RssFile"):
            values[name] = int(value.split()[0])
    return values


__all__ = ["add_files", "key_of", "make_objects", "memory_kib", "record_key"]
