"""Which archive the elements are of: what they say themselves, or, of adopted ones that say nothing
yet, what the state directory remembers."""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import UUID, uuid4

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.errors import ConfigurationError, ElementUnavailable
from artstorefs.core.naming import is_sidecar
from artstorefs.elements.adoption import Adoption, Witness
from artstorefs.elements.identified import check_adopted, read_layout
from artstorefs.elements.interface import Element
from artstorefs.state import backup, files
from artstorefs.state.witnesses import read_witnesses


def archive_id(configuration: ArchiveConfiguration, elements: Mapping[str, Element]) -> UUID:
    """The id that all elements agree on. While they are all adopted ones that have none yet, it is
    that of the index, or of a backup, or else a new one.

    Raises ConfigurationError, and ElementError for one that cannot be asked, or is not there.
    """
    found: dict[UUID, str] = {}
    for described in configuration.elements:
        element = elements[described.id]
        record = read_layout(element)
        if record is not None:
            found.setdefault(record.archive_id, element.id)
        elif described.adopted:
            _require_there(configuration, described, element)
        else:
            raise ConfigurationError(
                configuration.name,
                f"element {element.id}",
                "is not an element of an archive yet; make it one with artstorefs init",
            )
    if len(found) > 1:
        raise ConfigurationError(
            configuration.name, "element", f"{' and '.join(found.values())} are of two archives"
        )
    return next(iter(found), None) or _remembered_id(configuration) or uuid4()


def _require_there(
    configuration: ArchiveConfiguration, described: ElementConfiguration, element: Element
) -> None:
    """Raise ElementUnavailable unless this is the adopted element; where nothing is known of it,
    unless ArtStore has written something there: it may be an empty mount point."""
    path = os.path.join(str(configuration.state_dir), files.INDEX)
    known: Sequence[Witness] | None = ()
    if os.path.exists(path):
        with suppress(sqlite3.Error):  # of a damaged index nothing is known
            known = read_witnesses(path, described.id)
    check_adopted(element, described.place, Adoption(lambda: known))
    if not known and not any(is_sidecar(found.key) for found in element.list()):
        reason = "no attr.json is there; is its disk mounted?"
        raise ElementUnavailable(element.id, described.place, reason)


def _remembered_id(configuration: ArchiveConfiguration) -> UUID | None:
    state = str(configuration.state_dir)
    for path in (os.path.join(state, files.INDEX), *backup.backups(state)):
        if os.path.exists(path):
            with suppress(sqlite3.Error):
                root_id = files.root_id_at(path)
                if root_id is not None:
                    return UUID(bytes=root_id)
    return None
