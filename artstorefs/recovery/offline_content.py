"""Content of elements that lies offline, as a rebuild and a check see it.

An element says by its offline.json that objects of it lie on a medium. Then an attr.json without
its object is nothing amiss, as long as nothing says otherwise: the index, which has a row for each
object that is there, and the medium itself, if it can be asked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from artstorefs.core import naming
from artstorefs.core.errors import DocumentError, ElementError, MediumWanted, ObjectAbsent
from artstorefs.core.offline_record import OFFLINE_LIMIT_BYTES, parse_offline_record
from artstorefs.elements.interface import Element
from artstorefs.elements.offline import Medium, WithMedium
from artstorefs.state.bulk import NewIndex
from artstorefs.state.image import Image


def has_content_offline(element: Element) -> bool:
    """Whether its offline.json says so, in whatever words. Raises ElementError."""
    try:
        data = element.read(naming.OFFLINE_KEY, 0, OFFLINE_LIMIT_BYTES + 1)
        parse_offline_record(data, f"element {element.id}: {naming.OFFLINE_KEY}")
    except ObjectAbsent:
        return False
    except DocumentError:  # it was written, and nothing takes it back
        return True
    return True


def note_offline(index: NewIndex, elements: Iterable[Element]) -> None:
    """Of a new index: what an element has no object of, and says that it may lie elsewhere. Raises
    ElementError."""
    for element in elements:
        if has_content_offline(element):
            index.note_offline(element.id, _object_keys(element))


def _object_keys(element: Element) -> Iterator[str]:
    for stat in element.list():
        if not (naming.is_sidecar(stat.key) or stat.key.startswith(naming.OWN_FOLDER)):
            yield stat.key


@dataclass(slots=True)
class OfflineContent:
    """Of one element, for a check. `sizes` by key: what its medium has; None if that is not there,
    `problem` says why."""

    element: str
    is_told: bool
    image: Image | None
    sizes: dict[str, int] | None
    problem: str
    cold: set[str] = field(default_factory=set)
    missed: int = 0
    """Objects that are offline, and could not be looked at."""

    def has(self, key: str, size: int) -> bool:
        """Whether an object that the element has not is where it should be, for all that can be
        known now."""
        if self.image is None:
            is_expected = self.is_told
        else:
            is_expected = self.image.is_offline(self.element, key)
        if not is_expected:
            return False
        if self.sizes is None:
            self.missed += 1
            return True
        return self.sizes.get(key) == size

    def note_cold(self, element: Element, keys: Iterable[str]) -> None:
        """Of a bucket: objects that are in a cold storage class by the index are listed like
        others, and cannot be read."""
        if self.image is not None and not element.capabilities.local_path:
            self.cold = {key for key in keys if self.image.is_offline(self.element, key)}
            self.missed = len(self.cold)
            self.problem = "they are in a cold storage class"

    def can_read(self, key: str, size: int) -> bool:
        """Whether it can be read now."""
        return self.sizes is not None and self.sizes.get(key) == size


def look_offline(
    element: Element, medium: Medium | None, image: Image | None
) -> tuple[OfflineContent, Element]:
    """What an element has offline, and from where its objects are read. Raises ElementError when
    the element cannot be asked; a medium that is not there is nothing to complain of."""
    told = has_content_offline(element)
    if medium is None or not told:
        problem = "no offline_path is configured"
        return OfflineContent(element.id, told, image, None if told else {}, problem), element
    try:
        with medium.opened() as opened:
            sizes = {stat.key: stat.size_bytes for stat in opened.list()}
    except MediumWanted as exc:
        return OfflineContent(element.id, told, image, None, exc.reason), element
    except ElementError as exc:
        return OfflineContent(element.id, told, image, None, str(exc)), element
    return OfflineContent(element.id, told, image, sizes, ""), WithMedium(element, medium)
