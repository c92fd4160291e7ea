"""The tree that the documents of all elements make together: is it one?

Only asked when every element was read whole: a parent that was not seen may be on the other one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from artstorefs.elements.interface import ObjectStat
from artstorefs.recovery.fsck_documents import Facts
from artstorefs.recovery.fsck_findings import Finding, FindingClass
from artstorefs.recovery.fsck_survey import ElementSurvey
from artstorefs.state.image import Image


def check_tree(
    surveys: list[ElementSurvey], root_id: bytes, image: Image | None
) -> Iterator[Finding]:
    """Two documents of one node, names twice, parents and files that are not there, cycles."""
    stats = {survey.element.id: survey.stats for survey in surveys}
    every: dict[bytes, list[Facts]] = defaultdict(list)
    for survey in surveys:
        for facts in survey.facts:
            every[facts.file_id].append(facts)
    newest = {file_id: max(all_, key=lambda f: f.revision) for file_id, all_ in every.items()}
    yield from _revisions(every, newest, stats)
    yield from _places(newest, root_id, stats, image)
    yield from _clashes(newest.values(), root_id, stats)
    yield from _cycles(newest, root_id, stats)


def _finding(
    kind: FindingClass,
    facts: Facts,
    detail: str,
    stats: dict[str, dict[str, ObjectStat]],
    concerns: Iterable[bytes] = (),
    *also: str,
) -> Finding:
    there = stats[facts.element]
    return Finding(
        *(kind, detail, facts.element, facts.key, facts.file_id),
        concerns=frozenset([facts.file_id, *concerns]),
        seen={key: there.get(key) for key in (facts.key, *also)},
    )


def _revisions(
    every: dict[bytes, list[Facts]],
    newest: dict[bytes, Facts],
    stats: dict[str, dict[str, ObjectStat]],
) -> Iterator[Finding]:
    for file_id, all_ in every.items():
        best = newest[file_id]
        for facts in all_ if len(all_) > 1 else ():
            if facts is not best and facts.element == best.element:
                detail = f"revision {facts.revision}; {best.key} has revision {best.revision}"
                kind = FindingClass.TWO_REVISIONS
                yield _finding(kind, facts, detail, stats, (), best.key)


def _places(
    newest: dict[bytes, Facts],
    root_id: bytes,
    stats: dict[str, dict[str, ObjectStat]],
    image: Image | None,
) -> Iterator[Finding]:
    kind = FindingClass.MISSING_PARENT
    for facts in newest.values():
        parent = newest.get(facts.parent)
        if facts.file_id == root_id:
            if facts.parent != root_id or facts.name:
                yield _finding(kind, facts, "is the root and stands in a directory", stats)
        elif parent is None or not parent.is_directory:
            name = _path(image, facts.parent)
            detail = f"its directory {name} has no node record"
            yield _finding(kind, facts, detail, stats, [facts.parent])
        if facts.target is not None and facts.target not in newest:
            detail = f"its file {_path(image, facts.target)} has no document"
            yield _finding(kind, facts, detail, stats, [facts.target])
    if newest and root_id not in newest:
        some = next(iter(newest.values()))
        yield _finding(kind, some, "the root directory has no node record", stats, [root_id])


def _path(image: Image | None, file_id: bytes) -> str:
    return (image.path(file_id) if image is not None else None) or str(UUID(bytes=file_id))


def _clashes(
    newest: Iterable[Facts], root_id: bytes, stats: dict[str, dict[str, ObjectStat]]
) -> Iterator[Finding]:
    taken: dict[tuple[bytes, bytes], Facts] = {}
    for facts in newest:
        if facts.file_id == root_id:
            continue
        other = taken.setdefault((facts.parent, facts.name), facts)
        if other is not facts:
            detail = f"has the name {ascii(facts.name)[1:]} of {other.key}"
            kind = FindingClass.NAME_CLASH
            yield _finding(kind, facts, detail, stats, [other.file_id, facts.parent])


def _cycles(
    newest: dict[bytes, Facts], root_id: bytes, stats: dict[str, dict[str, ObjectStat]]
) -> Iterator[Finding]:
    """Each directory of a cycle is reported once, by the first of its directories met."""
    done = {root_id}
    for start in newest.values():
        chain: list[bytes] = []
        at = start.file_id if start.is_directory else root_id
        while at in newest and at not in done and at not in chain:
            chain.append(at)
            at = newest[at].parent
        if at in chain:
            ring = chain[chain.index(at) :]
            first = newest[min(ring)]
            detail = f"{len(ring)} directories contain each other"
            yield _finding(FindingClass.CYCLE, first, detail, stats, ring)
        done.update(chain)
