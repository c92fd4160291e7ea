"""Which element takes a new file: sequential fill, pure (DESIGN.md section 7).

The element with the lowest priority number that takes new files and has room for this one; of
equal priority, the one that comes first in the configuration.
"""

from collections.abc import Iterable, Mapping

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.modes import ElementMode, Operation, refusal
from artstorefs.elements.interface import Capacity

RESERVE_LIMIT_BYTES = 64 << 20
"""Room left on every element, a hundredth of it up to this, so that attr.json files can still be
rewritten when no object fits any more."""

RESERVE_FILES = 8
"""Inodes left on every element: an object needs up to six with its attr.json and directories."""


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
        if capacity is None or capacity.free_bytes is None:
            return element.id
        if capacity.free_files is not None and capacity.free_files < RESERVE_FILES:
            continue
        reserve = min(RESERVE_LIMIT_BYTES, (capacity.total_bytes or 0) // 100)
        if capacity.free_bytes >= size_bytes + reserve:
            return element.id
    return None
