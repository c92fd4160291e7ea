"""The medium that content of a local element lies on once it is archived: a disk in a cupboard.

A medium is a directory like an element's, with objects under the same keys and nothing else that
counts; its archive.json, whose `element_id` no element can have, tells it from an empty mount point
and from every other disk, and only `prepare` ever makes one. It is opened for each use and closed
after it, so that it can be unmounted whenever nothing is read or written there.

`WithMedium` is the element together with its medium, for whoever reads objects.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from artstorefs.core import naming
from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import ElementDenied, ElementError, MediumWanted, ObjectAbsent
from artstorefs.core.offline_record import medium_id
from artstorefs.elements.identified import check_identity, read_layout
from artstorefs.elements.interface import Element
from artstorefs.elements.local import LocalElement
from artstorefs.elements.wrapper import ElementWrapper


@dataclass(frozen=True, slots=True)
class Medium:
    """That of one element. Asks nothing before it is opened."""

    element: str
    path: str
    archive_id: UUID

    @contextmanager
    def opened(self) -> Iterator[Element]:
        """The medium, as an element whose id is that of the medium. Raises MediumWanted if it is
        not there, or another one is."""
        try:
            opened = LocalElement(medium_id(self.element), self.path)
        except ElementError as exc:
            raise self._wanted(exc) from exc
        try:
            try:
                check_identity(opened, self.archive_id, self.path)
            except ElementError as exc:
                raise self._wanted(exc) from exc
            yield opened
        finally:
            opened.close()

    def _wanted(self, exc: ElementError) -> MediumWanted:
        reason = f"the medium of element {self.element} is wanted there: {exc.reason}"
        return MediumWanted(self.element, self.path, reason)

    @contextmanager
    def opened_new(self) -> Iterator[Element]:
        """An empty directory, or what is the medium already, to be made the medium. Raises
        ElementDenied where something else lies, other ElementErrors of its place."""
        LocalElement.initialize(self.path)
        opened = LocalElement(medium_id(self.element), self.path)
        try:
            found = read_layout(opened)
            if found is not None and found.element_id != opened.id:
                reason = f"is element {found.element_id} of archive {found.archive_name}"
                raise ElementDenied(self.element, self.path, f"{reason}, and no medium of this one")
            yield opened
        finally:
            opened.close()


def medium_of(configuration: ElementConfiguration, archive_id: UUID) -> Medium | None:
    """The medium of an element, if it has one."""
    if configuration.offline_path is None:
        return None
    return Medium(configuration.id, str(configuration.offline_path), archive_id)


class WithMedium(ElementWrapper):
    """The `Element` inner; objects that it has not are read from the medium. As thread-safe."""

    def __init__(self, inner: Element, medium: Medium) -> None:
        super().__init__(inner)
        self._medium = medium

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object, wherever it is. MediumWanted if the element has it not, and the
        medium is not there; ObjectAbsent if neither has it."""
        with suppress(ObjectAbsent):
            return self._inner.read(key, offset, length)
        self._require_object(key)
        with self._medium.opened() as medium:
            return medium.read(key, offset, length)

    def open_read(self, key: str) -> BinaryIO:
        """An object as a stream, which stays good when the medium is let go of. As `read`."""
        with suppress(ObjectAbsent):
            return self._inner.open_read(key)
        self._require_object(key)
        with self._medium.opened() as medium:
            return medium.open_read(key)

    def _require_object(self, key: str) -> None:
        """Documents are nowhere but on the element."""
        if key.startswith(naming.OWN_FOLDER) or naming.is_sidecar(key):
            raise ObjectAbsent(self.id, key)
