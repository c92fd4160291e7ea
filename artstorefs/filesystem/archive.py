"""One archive as the filesystem works on it: its state, its elements, its clock.

Passed to the parts of the filesystem instead of a handful of arguments; owns nothing but the
references and the few rules that all parts need.
"""

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.log_fields import about
from artstorefs.core.modes import Operation
from artstorefs.elements.counters import Counters
from artstorefs.elements.interface import Element
from artstorefs.filesystem.damage import Damage
from artstorefs.filesystem.guard import Guard
from artstorefs.filesystem.lifetimes import Lifetimes
from artstorefs.state.changes import Changes
from artstorefs.state.copies import CopiesPolicy
from artstorefs.state.database import Database
from artstorefs.state.element_modes import ElementModes
from artstorefs.state.index import Index
from artstorefs.state.log import Log
from artstorefs.state.node import Node
from artstorefs.state.offline import Offline
from artstorefs.state.outcomes import Outcomes
from artstorefs.state.spool import Spool

_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a system call, as FUSE tells it."""

    uid: int
    gid: int
    pid: int
    umask: int


@dataclass(slots=True)
class Archive:
    id: UUID
    configuration: ArchiveConfiguration
    database: Database
    index: Index
    log: Log
    changes: Changes
    outcomes: Outcomes
    spool: Spool
    elements: Mapping[str, Element]
    policy: CopiesPolicy
    counters: Mapping[str, Counters] = field(default_factory=dict)
    """Of what this process does with the elements."""
    read_only: bool = False
    damage: Damage = field(default_factory=Damage)
    offline: Offline = field(init=False)
    modes: ElementModes = field(init=False)
    guard: Guard = field(init=False)
    lifetimes: Lifetimes = field(init=False)

    def __post_init__(self) -> None:
        self.modes = ElementModes(self.database, self.configuration.elements, self.policy.frozen)
        self.offline = Offline(self.database, self.index, self.log)
        self.guard = Guard(
            *(self.index, self.policy, self.modes, self.offline),
            *(lambda: self.configuration.seal_after_s, now_ns),
            read_only=self.read_only,
        )
        locks = self.policy.locks
        locks.able |= {one.id for one in self.configuration.elements if _may_lock(one)}
        locks.until_ns = self.guard.lock_until_ns
        self.lifetimes = Lifetimes(
            *(self.index, self.modes, self.guard, lambda: self.configuration.expire_grace_days)
        )

    def about(
        self,
        node: Node,
        exc: BaseException | None = None,
        *,
        element: str | None = None,
        key: str | None = None,
    ) -> dict[str, dict[str, str]]:
        """`log_fields.about` for what concerns a file."""
        try:
            path = self.index.path(node.ino)
        except sqlite3.Error:  # what is wrong with the index has a line of its own
            path = None
        return about(exc, file_id=node.file_id, path=path, element=element, key=key)

    def acting(self, who: Caller) -> None:
        """The next change of the tree is on behalf of `who`."""
        if self.database.audit is not None:
            self.database.audit.who = who

    def writes(self, ino: int, who: Caller) -> None:
        """`who` is about to change content."""
        if self.database.audit is not None:
            self.database.audit.writes(ino, who)

    def note(self, operation: str, who: Caller | None = None, **details: Any) -> None:
        """For the audit log, if there is one: what is no change of the tree, such as a mount.
        Raises StateError where nothing may be done without a record."""
        if self.database.audit is not None:
            self.database.audit.note(operation, who, details)

    def require(self, operation: Operation, node: Node) -> None:
        """`Guard.require`: raises ForbiddenByMode, Retained."""
        self.guard.require(operation, node)


def _may_lock(element: ElementConfiguration) -> bool:
    return element.kind == "s3" and element.object_lock != "off"


def now_ns() -> int:
    return time.time_ns()


def clamp_time(value_ns: int) -> int:
    """A time that 64 bits of nanoseconds can hold: from 1677 to 2262, as the kernel would clamp."""
    return max(-_INT64, min(_INT64 - 1, value_ns))
