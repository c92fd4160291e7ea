"""The modes that elements were put into, as they tell a new index themselves."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from artstorefs.core.errors import DocumentError, ElementError, ObjectAbsent
from artstorefs.core.mode_changes import ModeState
from artstorefs.core.mode_record import MODE_LIMIT_BYTES, parse_mode_record
from artstorefs.core.naming import MODE_KEY
from artstorefs.elements.interface import Element
from artstorefs.recovery.gather import is_readable_element
from artstorefs.state.element_modes import setting_of


def kept_modes(
    elements: Iterable[Element], earlier: Mapping[str, str], problem: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Rows of `settings`, of each element that has a mode.json newer than what `earlier`, those of
    an earlier index, say. `problem` is told of one that cannot be read: then the configuration
    counts. Raises ElementError when an element cannot be asked."""
    for element in elements:
        state = _read(element, problem)
        before = _since_ns(earlier.get(setting_of(element.id)))
        if state is not None and (state.since_ns or 0) > before:
            yield setting_of(element.id), state.to_json()


def _read(element: Element, problem: Callable[[str], None]) -> ModeState | None:
    where = f"element {element.id}: {MODE_KEY}"
    try:
        record = parse_mode_record(element.read(MODE_KEY, 0, MODE_LIMIT_BYTES + 1), where)
    except ObjectAbsent:
        return None
    except (DocumentError, ElementError) as exc:
        if isinstance(exc, ElementError) and not is_readable_element(element):
            raise
        problem(f"{exc}; which mode it was put into is not known, and the configuration counts")
        return None
    if record.element_id != element.id:
        problem(f"{where}: is of element {record.element_id!a}, and does not count")
        return None
    return record.state


def _since_ns(text: str | None) -> int:
    try:
        return (ModeState.from_json(text).since_ns or 0) if text else 0
    except (ValueError, TypeError, KeyError):
        return 0
