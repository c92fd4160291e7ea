"""What the start decides about each node and each spool file: two tables, and nothing else.

Pure. `tests/unit/test_recovery_decisions.py` proves that exactly one row of a table fits whatever
can be found, so nothing is decided by the order of the rows, and nothing is left undecided.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from artstorefs.state.node import ContentState

ANY = None
"""In a row: whatever it is."""


class SpoolFile(enum.Enum):
    """The spool file of a node's current content."""

    ABSENT = "is not there"
    WHOLE = "has the size that the index says"
    OTHER = "has another size"
    WRITTEN = "is open for writing: by a program that has outlived the daemon (passthrough.py)"


class NodeAction(enum.Enum):
    """What becomes of a node."""

    KEEP = "it is as it should be"
    PURGE = "it was deleted while it was open, and nobody has it open any more"
    SEAL = "whoever wrote it is gone: what the spool has is the content"
    SEAL_EMPTY = "it was created or cut to nothing, and nothing was written"
    REVERT = "a power cut took its content: what an element has is the content"
    SHORTEN = "a power cut took content that no element has: what the spool has is the content"


@dataclass(frozen=True, slots=True)
class FoundNode:
    """What the start finds of a node."""

    named: bool
    state: ContentState
    spool_file: SpoolFile
    on_an_element: bool
    """An element is known to hold some content of it, and the spool has nothing of what followed,
    none of which was synced for a program as far as we know. Of what it has a part may have been
    synced: that stays, whatever was appended or cut off without the record of it."""
    handed: bool
    """The daemon before has handed us descriptors of it (handing_over.py)."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One case; where it says ANY it does not matter."""

    named: bool
    state: ContentState | None
    spool_file: SpoolFile | None
    on_an_element: bool | None
    handed: bool | None
    action: NodeAction


_OPEN, _SEALED = ContentState.OPEN, ContentState.SEALED

NODES = (
    NodeRow(False, ANY, ANY, ANY, False, NodeAction.PURGE),
    NodeRow(False, ANY, ANY, ANY, True, NodeAction.KEEP),
    NodeRow(True, ContentState.EMPTY, ANY, ANY, ANY, NodeAction.KEEP),
    NodeRow(True, ContentState.ARCHIVED, ANY, ANY, ANY, NodeAction.KEEP),
    # killed while somebody had it open
    NodeRow(True, _OPEN, SpoolFile.ABSENT, ANY, False, NodeAction.SEAL_EMPTY),
    NodeRow(True, _OPEN, SpoolFile.WHOLE, ANY, False, NodeAction.SEAL),
    NodeRow(True, _OPEN, SpoolFile.OTHER, ANY, False, NodeAction.SEAL),
    NodeRow(True, _OPEN, SpoolFile.WRITTEN, ANY, False, NodeAction.KEEP),  # until it lets go of it
    NodeRow(True, _OPEN, ANY, ANY, True, NodeAction.KEEP),
    NodeRow(True, _SEALED, SpoolFile.WHOLE, ANY, ANY, NodeAction.KEEP),
    NodeRow(True, _SEALED, SpoolFile.WRITTEN, ANY, ANY, NodeAction.KEEP),
    # a power cut before an fsync
    NodeRow(True, _SEALED, SpoolFile.ABSENT, True, ANY, NodeAction.REVERT),
    NodeRow(True, _SEALED, SpoolFile.OTHER, True, ANY, NodeAction.REVERT),
    NodeRow(True, _SEALED, SpoolFile.ABSENT, False, ANY, NodeAction.SHORTEN),
    NodeRow(True, _SEALED, SpoolFile.OTHER, False, ANY, NodeAction.SHORTEN),
)


class SpoolAction(enum.Enum):
    """What becomes of a spool file."""

    KEEP = "it is the content of a node, or a removal in the log names it"
    REMOVE = "it was made for content that was never begun: nobody was told of anything in it"
    PUT_ASIDE = "nothing means it: kept in spool/lost, and reported"


@dataclass(frozen=True, slots=True)
class FoundSpoolFile:
    """What the start finds of a spool file, after the nodes have been decided."""

    is_content: bool
    """A node with content in the spool has this version."""
    to_be_removed: bool
    """A removal in the log names it."""
    is_ahead: bool
    """Its node is there and has not come to this version."""


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """One case; where it says ANY it does not matter."""

    is_content: bool | None
    to_be_removed: bool | None
    is_ahead: bool | None
    action: SpoolAction


SPOOL = (
    SpoolRow(True, ANY, ANY, SpoolAction.KEEP),
    SpoolRow(False, True, ANY, SpoolAction.KEEP),
    SpoolRow(False, False, True, SpoolAction.REMOVE),  # killed before the record of it
    SpoolRow(False, False, False, SpoolAction.PUT_ASIDE),
)


def decide_node(found: FoundNode) -> NodeAction:
    return NodeAction(_only_row(NODES, found).action)


def decide_spool_file(found: FoundSpoolFile) -> SpoolAction:
    return SpoolAction(_only_row(SPOOL, found).action)


def rows_that_fit(table: Sequence[Any], found: FoundNode | FoundSpoolFile) -> list[Any]:
    """The rows of NODES or SPOOL that speak of what was found: one, or the table is wrong."""
    names = found.__slots__
    return [
        row
        for row in table
        if all(getattr(row, name) in (ANY, getattr(found, name)) for name in names)
    ]


def _only_row(table: Sequence[Any], found: FoundNode | FoundSpoolFile) -> Any:
    (row,) = rows_that_fit(table, found)
    return row
