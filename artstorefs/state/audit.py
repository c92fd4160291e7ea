"""Who is told of each change, for a record of it: the seam between the tree and an audit log.

`Database.audit` is one, or None, and then nothing of this costs anything. Whoever changes the tree
says so inside the transaction that is the change, and just before the commit all of it is written
(`write`). So no change is committed without its record, and where a record cannot be written the
change can be refused. A kill between the two leaves a record of a change that nobody was told of
and that did not happen; what could not be committed for another reason is followed by a record that
says so.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from artstorefs.state.node import Node

Place = tuple[int, bytes]
"""A name: the inode number of its directory, and the name itself."""


class Who(Protocol):
    """A process that asks for something."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def pid(self) -> int: ...


class Audit(Protocol):
    """Used by the thread of the loop alone, except `sync`. Nothing here suspends."""

    who: Who | None
    """On whose behalf the next transaction is made. Whoever carries out a system call sets it."""

    def writes(self, ino: int, who: Who) -> None:
        """`who` has opened content for writing: sealing it, later, is on their behalf."""

    # ------------------------------------------------- inside a transaction of the caller

    def created(self, node: Node, place: Place) -> None:
        """A new node, and its first name."""

    def linked(self, node: Node, place: Place) -> None:
        """A further name."""

    def removed(self, node: Node, place: Place) -> None:
        """A name goes; said before anything has changed."""

    def expired(self, node: Node, place: Place, changed_ns: int) -> None:
        """A name goes, because nobody has changed the file since `changed_ns`."""

    def renamed(self, node: Node, place: Place, to: Place, replaced: Node | None) -> None:
        """`replaced` is what has been there; said before anything has changed."""

    def exchanged(self, node: Node, place: Place, other: Node, other_place: Place) -> None:
        """Two nodes take each other's names; said before anything has changed."""

    def owner_changed(self, node: Node, uid: int, before: tuple[int, int, int]) -> None:
        """Mode, owner and group were `before`, which may be what they are; `uid` changes them."""

    def sealed(self, node: Node, uid: int) -> None:
        """Its content is complete; `uid` has closed it."""

    def stored(
        self, node: Node, element: str, key: str, content: int, size: int, sha256: bytes | None
    ) -> None:
        """An element has its content, verified: now the SHA-256 is known."""

    def write(self) -> None:
        """At the end of the transaction, before it is committed. Raises StateError, StateFull."""

    def committed(self) -> None:
        """It has happened."""

    def rolled_back(self) -> None:
        """Nothing of the transaction has happened."""

    # -------------------------------------------------------------------------- at any time

    def note(self, operation: str, who: Who | None, details: Mapping[str, Any]) -> None:
        """Something that is no change of the tree, at once. Raises StateError, StateFull."""

    def sync(self) -> None:
        """Make all records so far survive a power cut. Blocks; any thread may call it. Raises
        OSError."""

    def close(self) -> None:
        """Nothing follows. Raises OSError."""
