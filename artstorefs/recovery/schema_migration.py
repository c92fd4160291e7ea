"""From one version of ArtStore's schema to the other, document by document.

`to_v2` rewrites v1.0 on an element, in place. A document is replaced whole or not at all, and
nothing else has to fit to it: v1.0 and v2.0 lie beside each other anyway. So what is ended early is
gone on with by doing the same again, which passes over what is v2.0 already.

    step  what                                          a crash after it leaves
    1     some documents staged, one barrier            each as v1.0 or v2.0, whole
    2     the index remembers how they look now         nothing; without it a look at the element
                                                        reads them, and finds nothing that is new

`to_v1` writes copies of an element's documents as v1.0 somewhere else, and says what they lose.

What is not v2.0 by its strict rules would not become so by another version in it: it is left.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from artstorefs.core import naming
from artstorefs.core.attributes import (
    ATTR_JSON_LIMIT_BYTES,
    FileAttributesV2,
    SchemaVersion,
    detect_schema,
    missing_fields,
    parse_attributes,
    render,
    to_v1_compatible,
    with_text_fields,
)
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import (
    DocumentError,
    DocumentInvalid,
    ElementDenied,
    KeyInvalid,
    ObjectAbsent,
)
from artstorefs.core.json_text import dump, parse_object
from artstorefs.elements.interface import Element, ObjectStat

BATCH = 128
"""Documents that share a barrier."""

SHOWN_PROBLEMS = 100


@dataclass(slots=True)
class Migration:
    """What was done. `problems` are lines for a person, the first hundred of them."""

    documents: int = 0
    migrated: int = 0
    before: int = 0
    """Documents that had the version already, or the copy of which was there."""
    left: int = 0
    """Those that cannot be read, or written in that version."""
    problems: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    """By field: of how many documents v1.0 has no place for it."""

    def problem(self, text: str) -> None:
        self.left += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(text)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A document as it was when it was read, and as it is now: size and mark."""

    key: str
    before: tuple[int, int]
    after: tuple[int, int]


Note = Callable[[list[Rewritten]], None]
OnProgress = Callable[[Migration], None]
Lost = Callable[[str, list[str]], None]
"""Is told of each copy: its key, and the fields that it has not got."""


def to_v2(element: Element, note: Note, on_progress: OnProgress, *, dry_run: bool) -> Migration:
    """Rewrite all v1.0 of an element. `note` is told of what is durable. Raises ElementError."""
    done = Migration()
    for batch in _batches(element):
        rewritten: list[tuple[ObjectStat, bytes]] = []
        for stat in batch:
            data = _as_v2(element, stat, done)
            if data is not None and not dry_run:
                element.replace(stat.key, data)
                rewritten.append((stat, data))
        if rewritten:
            marks = element.barrier()
            crash_point("migrate_schema.durable")
            note([_rewritten(element, stat, data, marks.get(stat.key)) for stat, data in rewritten])
            crash_point("migrate_schema.noted")
        on_progress(done)
    return done


def to_v1(element: Element, target: Element, lost: Lost, on_progress: OnProgress) -> Migration:
    """Write a v1.0 copy of each document of an element, under the same key, to `target`. Raises
    ElementError."""
    done = Migration()
    for batch in _batches(element):
        for stat in batch:
            found = _read(element, stat, done)
            if found is None:
                continue
            members, fields = to_v1_compatible(found[0])
            data = dump(members, stat.key, ATTR_JSON_LIMIT_BYTES)
            if fields:
                lost(stat.key, fields)
            for name in fields:
                done.lost[name] = done.lost.get(name, 0) + 1
            if _has(target, stat.key, data):
                done.before += 1
                continue
            target.replace(stat.key, data)
            done.migrated += 1
        target.barrier()
        on_progress(done)
    return done


def _batches(element: Element) -> Iterator[list[ObjectStat]]:
    """Every attr.json. The listing goes on while documents are replaced: one that it shows again is
    v2.0 by then."""
    sidecars = (stat for stat in element.list() if naming.is_sidecar(stat.key))
    while batch := list(islice(sidecars, BATCH)):
        yield batch


def _as_v2(element: Element, stat: ObjectStat, done: Migration) -> bytes | None:
    """The document as v2.0; None if there is nothing to do, or nothing that can be done."""
    where = f"{element.id}: {stat.key}"
    found = _read(element, stat, done)
    if found is None:
        return None
    document, version = found
    if version == "2.0":
        done.before += 1
        return None
    try:
        missing = missing_fields(document)
        if missing:
            raise DocumentInvalid(where, f"has no {', '.join(missing)}, which v2.0 has to have")
        data = render(with_text_fields(document))
    except DocumentError as exc:
        done.problem(str(exc))
        return None
    done.migrated += 1
    return data


def _read(
    element: Element, stat: ObjectStat, done: Migration
) -> tuple[FileAttributesV2, SchemaVersion] | None:
    """The document, and the version that it is in; None if there is none that can be used."""
    where = f"{element.id}: {stat.key}"
    done.documents += 1
    try:
        data = _bytes(element, stat.key)
        document = parse_attributes(data, where)
        return document, detect_schema(parse_object(data, where, ATTR_JSON_LIMIT_BYTES), where)
    except ObjectAbsent:  # removed since its name was read
        done.documents -= 1
    except DocumentError as exc:
        done.problem(str(exc))
    return None


def _bytes(element: Element, key: str) -> bytes:
    try:
        return element.read(key, 0, ATTR_JSON_LIMIT_BYTES + 1)
    except (ElementDenied, KeyInvalid) as exc:
        raise DocumentInvalid(f"{element.id}: {key}", exc.reason) from exc


def _has(target: Element, key: str, data: bytes) -> bool:
    with suppress(ObjectAbsent):
        return target.read(key, 0, len(data) + 1) == data
    return False


def _rewritten(element: Element, stat: ObjectStat, data: bytes, mark: int | None) -> Rewritten:
    if mark is None:
        mark = element.stat(stat.key).mark
    return Rewritten(stat.key, (stat.size_bytes, stat.mark), (len(data), mark))
