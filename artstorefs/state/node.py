"""A node of the tree as the filesystem works with it: one row of the table `nodes`."""

import enum
import stat
from operator import attrgetter
from typing import Any


class ContentState(enum.IntEnum):
    """Where a regular file's current content is.

        EMPTY ──► OPEN ──► SEALED ──► ARCHIVED
          ▲        │ ▲        │           │
          └────────┘ └────────┴───────────┘

    OPEN      in the spool, and somebody may be writing it: size and mtime of the spool file are
              the truth, so that a write costs no transaction and a killed daemon loses nothing
    SEALED    in the spool, complete, waiting to be carried to an element
    ARCHIVED  an element holds it
    EMPTY     there is none: size 0, and every node that is not a regular file
    """

    EMPTY = 0
    ARCHIVED = 1
    SEALED = 2
    OPEN = 3


COLUMNS = (
    "ino",
    "file_id",
    "mode",
    "uid",
    "gid",
    "nlink",
    "rdev",
    "size",
    "atime_ns",
    "mtime_ns",
    "ctime_ns",
    "created_ns",
    "creator",
    "target",
    "custom",
    "xattrs",
    "carried",
    "revision",
    "content",
    "content_state",
    "element",
)


_values = attrgetter(*COLUMNS)


class Node:
    """Field names and meanings are the columns of `nodes` (see `schema.create_tables`).

    There is at most one object for each inode number in the mount process, so whoever holds one
    sees every change. Only `artstorefs.state.changes` and the content of open files change it.
    """

    __slots__ = (*COLUMNS, "__weakref__")

    ino: int
    file_id: bytes
    mode: int
    uid: int
    gid: int
    nlink: int
    rdev: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    created_ns: int
    creator: int
    target: bytes | None
    custom: str | None
    xattrs: str | None
    carried: str | None
    revision: int
    content: int
    content_state: int
    element: str | None

    def __init__(self, *values: Any) -> None:
        (
            self.ino,
            self.file_id,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.rdev,
            self.size,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.created_ns,
            self.creator,
            self.target,
            self.custom,
            self.xattrs,
            self.carried,
            self.revision,
            self.content,
            self.content_state,
            self.element,
        ) = values

    def __repr__(self) -> str:
        return f"<Node {self.ino} {self.file_id.hex()} mode={self.mode:o} size={self.size}>"

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    def values(self) -> tuple[Any, ...]:
        """The row, in the order of COLUMNS."""
        return _values(self)

    def restore(self, values: tuple[Any, ...]) -> None:
        """Take back what a rolled-back transaction changed."""
        Node.__init__(self, *values)
