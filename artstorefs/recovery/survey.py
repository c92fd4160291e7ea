"""A look at whole elements for what others have changed: one listing, and no reading of what is as
we left it. Runs in the transfer process."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from artstorefs.core import naming
from artstorefs.core.errors import DocumentError, ElementError, ObjectAbsent, one_line
from artstorefs.core.node_record import LinkRecord
from artstorefs.elements.interface import Element, ObjectStat
from artstorefs.state.index import Copy
from artstorefs.state.outcomes import Observed
from artstorefs.state.reader import Reader
from artstorefs.transfer.documents import Accounts
from artstorefs.transfer.observe import is_changed, observe
from artstorefs.transfer.reading import REPORTED_MAX, read_document


@dataclass(slots=True)
class Survey:
    """What a look at the elements has found; `unreadable` names the first bad documents."""

    seen: int = 0
    added: int = 0
    observed: list[Observed] = field(default_factory=list)
    quarantined: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def survey(elements: dict[str, Element], reader: Reader, accounts: Accounts) -> Survey:
    """Look at every document of every element. An element that cannot be listed is in `errors`,
    and nothing is concluded from what its listing did not show."""
    found = Survey()
    for name, element in elements.items():
        try:
            for stat, copy in _documents(name, element, reader):
                found.seen += 1
                if copy is None or is_changed(stat, copy):
                    _read(element, stat, copy, reader, accounts, found)
        except ElementError as exc:
            found.errors.append(str(exc))
    return found


def _read(
    element: Element,
    stat: ObjectStat,
    copy: Copy | None,
    reader: Reader,
    accounts: Accounts,
    found: Survey,
) -> None:
    try:
        if copy is None:
            document = read_document(element, stat.key)
            found.added += not isinstance(document, LinkRecord)
            return
        observed = observe(element, stat, copy, reader, accounts)
    except ObjectAbsent:
        return  # removed since its name was read
    except DocumentError as exc:
        found.quarantined += 1
        if len(found.unreadable) < REPORTED_MAX:
            found.unreadable.append((one_line(stat.key), str(exc)))
        return
    if observed is not None:
        found.observed.append(observed)


def _documents(
    name: str, element: Element, reader: Reader
) -> Iterator[tuple[ObjectStat, Copy | None]]:
    """Every document with the copy that it belongs to, if the index knows one."""
    for stat in element.list():
        if naming.is_sidecar(stat.key):
            yield stat, reader.copy_under(name, naming.object_of(stat.key))
        elif naming.is_record(stat.key):
            yield stat, reader.copy_under(name, stat.key)


def as_message(found: Survey) -> dict[str, Any]:
    """For the mount process; `observed` goes as plain values."""
    return {
        "seen": found.seen,
        "added": found.added,
        "observed": [item.to_message() for item in found.observed],
        "quarantined": found.quarantined,
        "unreadable": found.unreadable,
        "errors": found.errors,
    }
