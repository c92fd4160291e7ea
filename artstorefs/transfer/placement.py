"""Which element takes a new file: sequential fill, pure (DESIGN.md section 7).

The element with the lowest priority number that takes new files and has room for this one; of
equal priority, the one that comes first in the configuration.
"""

import enum
from collections.abc import Iterable, Mapping

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.modes import ElementMode, Operation, refusal
from artstorefs.elements.interface import Capacity

RESERVE_LIMIT_BYTES = 64 << 20
"""Room left on every element, a hundredth of it up to this, so that attr.json files can still be
rewritten when no object fits any more."""

RESERVE_FILES = 8
"""Inodes left on every element: an object needs up to six with its attr.json and directories."""

WARNING = (10, 20 << 30, 25)
CRITICAL = (2, 2 << 30, 5)
"""Percent of the size, and bytes: less room than the larger of the two is told as such. The bytes
count for the second percentage of the size at most, or a small element would be in alarm empty."""


class Room(enum.Enum):
    """What `status` says of the room on an element, and what there is to do."""

    UNKNOWN = "unknown"
    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    FULL = "full"


def room_of(capacity: Capacity | None) -> Room:
    """How much room there is; FULL: new files go to another element, if there is one."""
    if capacity is None or capacity.free_bytes is None:
        return Room.UNKNOWN
    if not _has_room(capacity, 1):
        return Room.FULL
    total, total_files = capacity.total_bytes or 0, capacity.total_files or 0
    for room, level in ((Room.CRITICAL, CRITICAL), (Room.WARNING, WARNING)):
        percent, size_bytes, percent_max = level
        few_bytes = max(total * percent // 100, min(size_bytes, total * percent_max // 100))
        if capacity.free_bytes < few_bytes:
            return room
        if capacity.free_files is not None and capacity.free_files < total_files * percent // 100:
            return room
    return Room.OK


def choose_element(
    elements: Iterable[ElementConfiguration],
    capacities: Mapping[str, Capacity],
    size_bytes: int,
) -> str | None:
    """Id of the element for a file of this size; None when no element can take it.

    An element whose capacity is not known is taken: it will answer for itself.
    """
    for element in sorted(elements, key=lambda element: element.priority):
        if refusal(ElementMode(element.mode), Operation.CREATE, False):
            continue
        capacity = capacities.get(element.id)
        if capacity is None or _has_room(capacity, size_bytes):
            return element.id
    return None


def _has_room(capacity: Capacity, size_bytes: int) -> bool:
    """Whether an object of this size fits, and leaves the reserve. An element that does not say
    how much room it has will answer for itself."""
    if capacity.free_bytes is None:
        return True
    if capacity.free_files is not None and capacity.free_files < RESERVE_FILES:
        return False
    reserve = min(RESERVE_LIMIT_BYTES, (capacity.total_bytes or 0) // 100)
    return capacity.free_bytes >= size_bytes + reserve
