"""What a transfer process that died had staged on an element: temporaries that no key knows.

They are of this program only, and whatever they were to become is staged again from its source.
As further names of spool files they would keep the room of those after their removal.
"""

import logging
from collections.abc import Iterable

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ElementError
from artstorefs.core.log_fields import about
from artstorefs.elements.interface import Element

log = logging.getLogger(__name__)


def remove_leftovers(elements: Iterable[Element]) -> int:
    """Take them away and return how many; before anything is staged by this process.

    An element that fails keeps them until the next start.
    """
    removed = 0
    for element in elements:
        try:
            for found in list(element.leftovers()):
                element.remove(found.key)
                removed += 1
            element.barrier()
        except ElementError as exc:
            log.warning("temporaries of an earlier process stay: %s", exc, extra=about(exc))
    crash_point("start.leftovers_gone")
    return removed
