"""A migration of files from one storage element to another, as a table of its phases. Pure.

                 ┌──pause── paused ──resume──┐
                 ▼                           │
    begin ──► copying ──copied──► keeping ──emptied──► done
                 │ (also paused)
                 └──cancel──► cancelled

    copying    file by file: its content on the target, read back and hashed there; its attr.json;
               then, in one transaction, the target's copy is the one that counts, and the source's
               is marked with the moment at which it is to be removed
    paused     the same, but no further file is begun
    keeping    every file has come to the target, or cannot leave; what is left on the source is
               removed when its moment has come
    done       the source has nothing more of what was moved
    cancelled  what had not come to the target stays on the source; what had stays on the target,
               and a migration back would find it on the source until its moment has come

What was decided for a file is in its row of the log and in the rows of its copies
(`state/moves.py`); this is only what was asked for, and how far it has come. One at a time is in
copying or paused.
"""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from artstorefs.core.errors import ArtStoreFSError


@unique
class Phase(StrEnum):
    """Where a migration is."""

    COPYING = "copying"
    PAUSED = "paused"
    KEEPING = "keeping"
    DONE = "done"
    CANCELLED = "cancelled"


@unique
class Event(StrEnum):
    """What takes it further."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    COPIED = "copied"
    EMPTIED = "emptied"


STEPS: Final = MappingProxyType(
    {
        (Phase.COPYING, Event.PAUSE): Phase.PAUSED,
        (Phase.PAUSED, Event.RESUME): Phase.COPYING,
        (Phase.COPYING, Event.CANCEL): Phase.CANCELLED,
        (Phase.PAUSED, Event.CANCEL): Phase.CANCELLED,
        (Phase.COPYING, Event.COPIED): Phase.KEEPING,
        (Phase.KEEPING, Event.EMPTIED): Phase.DONE,
    }
)

UNDER_WAY: Final = frozenset({Phase.COPYING, Phase.PAUSED})

KEEP_SOURCE_S: Final = 24 * 3600.0
"""How long the source keeps what was moved, unless somebody says otherwise."""


class MigrationRefused(ArtStoreFSError):
    """Files cannot be moved so, or a migration is not where that can be done with it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What was asked for. `root`: inode number of the directory, or file, below which everything
    is moved; None: all that the source has. `rate`: bytes a second at most. `files`, `bytes`: what
    the source had at the beginning. `since_ns`: when it came into its phase."""

    number: int
    source: str
    target: str
    keep_ns: int
    uid: int
    begun_ns: int
    since_ns: int
    files: int
    bytes: int
    root: int | None = None
    rate: int | None = None
    phase: Phase = Phase.COPYING

    @property
    def is_under_way(self) -> bool:
        """Whether files are still to be moved."""
        return self.phase in UNDER_WAY

    @property
    def empties_source(self) -> bool:
        """Whether nothing new is to come to the source, until it is empty."""
        return self.root is None and (self.is_under_way or self.phase is Phase.KEEPING)

    def after(self, event: Event, now_ns: int) -> "Migration":
        """What it is then. Raises MigrationRefused."""
        phase = STEPS.get((self.phase, event))
        if phase is None:
            raise MigrationRefused(
                f"migration {self.number} is {self.phase}: there is nothing to {event}"
            )
        return replace(self, phase=phase, since_ns=now_ns)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Migration":
        """Raises ValueError, TypeError or KeyError for what is none."""
        values = json.loads(text)
        values["phase"] = Phase(values["phase"])
        return cls(**values)
