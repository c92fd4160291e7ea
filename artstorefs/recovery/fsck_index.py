"""The index against itself, and against the elements."""

from collections.abc import Iterator
from uuid import UUID

from artstorefs.core import naming
from artstorefs.recovery.fsck_findings import Finding, FindingClass
from artstorefs.recovery.fsck_survey import ElementSurvey
from artstorefs.state.image import Image
from artstorefs.state.index import Copy


def check_index(image: Image) -> Iterator[Finding]:
    """What the index contradicts itself in, whatever the log has for it: an image is of one moment,
    and each change is one transaction."""
    for text, file_ids in image.structure_problems():
        file_id = file_ids[0] if file_ids else None
        yield Finding(FindingClass.INDEX_DRIFT, text, None, None, file_id)
    for ino, file_id in image.wrong_rows():
        detail = f"a row of inode {ino} is not as it was written"
        yield Finding(FindingClass.INDEX_DRIFT, detail, None, None, file_id)


def check_copies(
    image: Image, surveys: dict[str, ElementSurvey], configured: frozenset[str]
) -> Iterator[Finding]:
    """What the index says that an element has, and it has not. An element that was not read whole,
    or not at all, says nothing of what it lacks."""
    for copy, file_id in image.all_copies():
        survey = surveys.get(copy.element)
        if copy.element not in configured:
            detail = f"the index has a copy on element {copy.element}, which is not configured"
            yield Finding(FindingClass.INDEX_DRIFT, detail, copy.element, copy.key, file_id)
        elif survey is not None and survey.incomplete is None:
            yield from _check_copy(copy, file_id, survey)
    for link_id, file_id in image.links():
        yield from _check_link(image, link_id, file_id, surveys)


def _check_copy(copy: Copy, file_id: bytes, survey: ElementSurvey) -> Iterator[Finding]:
    if copy.key in survey.stats:
        return
    sidecar = naming.sidecar_key(copy.key)
    if copy.is_record:
        kind, detail = FindingClass.MISSING_DOCUMENT, "is not there"
    elif sidecar not in survey.stats:
        kind, detail = FindingClass.SIDECAR_WITHOUT_OBJECT, "neither object nor attr.json are there"
    else:
        return
    yield Finding(
        *(kind, detail, copy.element, copy.key, file_id),
        concerns=frozenset([file_id]),
        seen={copy.key: None},
    )


def _check_link(
    image: Image, link_id: bytes, file_id: bytes, surveys: dict[str, ElementSurvey]
) -> Iterator[Finding]:
    """The record of a further hard link, on the element that has the file."""
    key = naming.record_key(UUID(bytes=link_id))
    node = image.node(file_id)
    for copy in image.copies(node.ino) if node is not None else ():
        survey = surveys.get(copy.element)
        if survey is None or survey.incomplete is not None or key in survey.stats:
            continue
        yield Finding(
            *(FindingClass.MISSING_DOCUMENT, "is not there", copy.element, key, link_id),
            concerns=frozenset([link_id, file_id]),
            seen={key: None},
        )
