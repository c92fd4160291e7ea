"""All of one element: what lies there, read document by document and judged key by key.

LESSONS 3: an error of reading ends the survey of the element, and nothing follows from what it has
not shown. What can positively not be a document (not JSON, a symlink) is a finding, and no error.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from artstorefs.core import naming
from artstorefs.core.attributes import ATTR_JSON_LIMIT_BYTES, FileAttributesV2
from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import DocumentError, ElementError, ObjectAbsent
from artstorefs.core.node_record import RECORD_LIMIT_BYTES
from artstorefs.core.quarantine import QUARANTINE_FOLDER
from artstorefs.elements.adoption import Adoption
from artstorefs.elements.identified import read_layout, reader_of
from artstorefs.elements.interface import Element, ObjectStat
from artstorefs.elements.offline import medium_of
from artstorefs.recovery.fsck_documents import (
    Document,
    Facts,
    differences,
    is_by_others,
    parse_document,
)
from artstorefs.recovery.fsck_findings import Finding, FindingClass
from artstorefs.recovery.offline_content import OfflineContent, look_offline
from artstorefs.state.image import Image
from artstorefs.transfer.documents import Accounts

_OWN_FILES = frozenset(
    naming.OWN_FOLDER + name
    for name in ("archive.json", "mode.json", "offline.json", "README.txt", "restore.py")
)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What an attr.json says of its object."""

    file_id: bytes
    size: int
    sha256: bytes
    blocks: bytes | None


@dataclass(slots=True)
class ElementSurvey:
    """What one element holds. `incomplete` says why it is not known whole."""

    element: Element
    stats: dict[str, ObjectStat] = field(default_factory=dict)
    facts: list[Facts] = field(default_factory=list)
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    """By the key of the object."""
    documents: int = 0
    findings: list[Finding] = field(default_factory=list)
    incomplete: str | None = None
    archive_id: UUID | None = None
    offline: OfflineContent | None = None
    source: Element = field(init=False)
    """From where objects are read: the element, and its medium if that is there."""

    def __post_init__(self) -> None:
        self.source = self.element

    def found(
        self,
        kind: FindingClass,
        key: str,
        detail: str,
        file_id: bytes | None = None,
        *also: str,
    ) -> None:
        """Note a finding about `key`, which rests on `also` as well."""
        self.findings.append(
            Finding(
                *(kind, detail, self.element.id, key, file_id),
                concerns=frozenset([file_id] if file_id else []),
                seen={name: self.stats.get(name) for name in (key, *also)},
            )
        )

    def objects(self) -> Iterator[tuple[str, Sidecar]]:
        """Every object that has a sidecar and the right size, and can be read, in order."""
        for key, sidecar in sorted(self.sidecars.items(), key=lambda item: item[0]):
            stat = self.stats.get(key)
            if self.offline is not None and key in self.offline.cold:
                is_right = False
            elif stat is not None:
                is_right = stat.size_bytes == sidecar.size
            else:
                is_right = self.offline is not None and self.offline.can_read(key, sidecar.size)
            if is_right:
                yield key, sidecar


def survey_element(
    element: Element,
    archive_id: UUID | None,
    image: Image | None,
    accounts: Accounts,
    adoption: Adoption | None = None,
    described: ElementConfiguration | None = None,
) -> ElementSurvey:
    """Look at everything. `archive_id` is that of the index, or of another element; `adoption` of
    an element that may have no archive.json yet; `described`: what tells of its medium."""
    survey = ElementSurvey(element)
    try:
        if not _check_layout(survey, archive_id, adoption):
            survey.incomplete = "does not say that it belongs to this archive"
            return survey
        survey.stats = {stat.key: stat for stat in element.list()}
        for stat in survey.stats.values():
            if not stat.is_ordinary:
                survey.found(FindingClass.NOT_ORDINARY, stat.key, "is no regular file")
            elif naming.is_sidecar(stat.key) or naming.is_record(stat.key):
                _read_document(survey, stat, image, accounts)
        for key in survey.stats:
            _judge_key(survey, key, image)
        medium = None
        if described is not None and survey.archive_id is not None:
            medium = medium_of(described, survey.archive_id)
        survey.offline, survey.source = look_offline(element, medium, image)
        for key, sidecar in survey.sidecars.items():
            _judge_object(survey, survey.offline, key, sidecar)
        survey.offline.note_cold(element, survey.sidecars)
        if survey.offline.missed:
            detail = f"{survey.offline.missed} objects were not looked at: {survey.offline.problem}"
            survey.found(FindingClass.OFFLINE, naming.OFFLINE_KEY, detail)
        for stat in element.leftovers():
            survey.stats[stat.key] = stat
            survey.found(FindingClass.LEFTOVER, stat.key, "was staged and never used")
    except ElementError as exc:
        survey.incomplete = str(exc)
        survey.findings = []
    return survey


def _check_layout(
    survey: ElementSurvey, archive_id: UUID | None, adoption: Adoption | None
) -> bool:
    """Whether the element says that it is one of this archive."""
    key = naming.ARCHIVE_KEY
    kind = FindingClass.ARCHIVE_RECORD
    try:
        record = read_layout(survey.element)
    except DocumentError as exc:
        survey.found(kind, key, exc.reason)
        return False
    if record is None:
        problem = "is not there"
        if adoption is not None:
            problem = adoption.problem_of_place(reader_of(survey.element)) or ""
            survey.archive_id = archive_id
        if problem:
            survey.found(kind, key, problem)
        return not problem
    survey.archive_id = record.archive_id
    if record.element_id != survey.element.id:
        survey.found(kind, key, f"element_id is {record.element_id!a}")
    if archive_id is not None and record.archive_id != archive_id:
        survey.found(kind, key, f"archive_id is {record.archive_id}, not {archive_id}")
        return False
    return True


def _read_document(
    survey: ElementSurvey, stat: ObjectStat, image: Image | None, accounts: Accounts
) -> None:
    limit = ATTR_JSON_LIMIT_BYTES if naming.is_sidecar(stat.key) else RECORD_LIMIT_BYTES
    survey.documents += 1
    try:
        document = parse_document(survey.element.read(stat.key, 0, limit + 1), stat.key)
    except ObjectAbsent:
        return  # removed since it was listed
    except DocumentError as exc:
        survey.found(FindingClass.UNREADABLE, stat.key, exc.reason, _known(survey, stat.key, image))
        return
    file_id = document.file_id.bytes
    if isinstance(document, FileAttributesV2):
        survey.sidecars[naming.object_of(stat.key)] = Sidecar(
            *(file_id, document.file_size, bytes.fromhex(document.checksum)),
            bytes.fromhex(document.posix.blocks)
            if document.posix and document.posix.blocks
            else None,
        )
    if document.posix is None:
        if _had_posix(survey, stat.key, image):
            detail = "has lost its posix section, without which it says nothing of the tree"
            survey.found(FindingClass.UNREADABLE, stat.key, detail, file_id)
        else:
            survey.found(FindingClass.FOREIGN, stat.key, "has no posix section", file_id)
        return
    survey.facts.append(Facts.of(survey.element.id, stat.key, document))
    if image is not None:
        _compare(survey, stat, document, image, accounts)


def _compare(
    survey: ElementSurvey, stat: ObjectStat, document: Document, image: Image, accounts: Accounts
) -> None:
    file_id = document.file_id.bytes
    if isinstance(document, FileAttributesV2):
        folder, _, name = naming.object_of(stat.key).rpartition("/")
        told = (document.storage_path or folder).rstrip("/")
        if (told, document.storage_filename) != (folder, name):
            survey.found(FindingClass.INDEX_DRIFT, stat.key, "names another object", file_id)
    found = differences(document, survey.element.id, stat, image, accounts)
    if found:
        detail = "; ".join(found)
        survey.found(FindingClass.INDEX_DRIFT, stat.key, f"the index says {detail}", file_id)
    elif is_by_others(document, survey.element.id, stat, image):
        survey.found(FindingClass.CHANGED_BY_OTHERS, stat.key, "written by others", file_id)


def _had_posix(survey: ElementSurvey, key: str, image: Image | None) -> bool:
    """Whether the index has it as one of ours: what others write has revision 0 there."""
    copy = image.copy_at(survey.element.id, naming.object_of(key)) if image is not None else None
    return copy is not None and copy.revision > 0


def _known(survey: ElementSurvey, key: str, image: Image | None) -> bytes | None:
    """The file_id that the index, or the key of a record, has for a document."""
    if naming.is_record(key):
        try:
            return UUID(key.rpartition("/")[2].removesuffix(naming.RECORD_SUFFIX)).bytes
        except ValueError:
            return None
    return _file_id_at(survey, naming.object_of(key), image)


def _file_id_at(survey: ElementSurvey, key: str, image: Image | None) -> bytes | None:
    """The file_id that the index has for an object, or else that of its key."""
    copy = image.copy_at(survey.element.id, key) if image is not None else None
    if image is not None and copy is not None:
        return image.file_id(copy.ino)
    file_id = naming.object_file_id(key)
    return file_id.bytes if file_id is not None else None


def _judge_key(survey: ElementSurvey, key: str, image: Image | None) -> None:
    """Whether something that is no document belongs here."""
    if naming.is_sidecar(key) or naming.is_record(key) or key in survey.sidecars:
        return
    if key.startswith(QUARANTINE_FOLDER) or key in _OWN_FILES or not survey.stats[key].is_ordinary:
        return
    base = key.removesuffix(naming.BLOCKS_SUFFIX)
    sidecar = naming.sidecar_key(key)
    if base != key and (base in survey.sidecars or naming.object_file_id(base)):
        if base not in survey.sidecars or survey.sidecars[base].blocks is None:
            detail = "no attr.json means this block list"
            file_id = _file_id_at(survey, base, image)
            survey.found(
                FindingClass.BLOCK_LIST, key, detail, file_id, base, naming.sidecar_key(base)
            )
    elif sidecar in survey.stats:
        return  # unreadable, which is a finding already
    elif naming.object_file_id(key):
        survey.found(
            FindingClass.OBJECT_WITHOUT_SIDECAR,
            *(key, "has no attr.json", _file_id_at(survey, key, image), sidecar),
        )
    else:
        survey.found(FindingClass.FOREIGN, key, "is nothing that the layout knows")


def _judge_object(
    survey: ElementSurvey, offline: OfflineContent, key: str, sidecar: Sidecar
) -> None:
    """Whether the object of an attr.json is there, in its size, with its block list."""
    document = naming.sidecar_key(key)
    stat = survey.stats.get(key)
    if stat is None and offline.has(key, sidecar.size):
        return
    if stat is None:
        kind, detail = FindingClass.SIDECAR_WITHOUT_OBJECT, "has no object"
        survey.found(kind, document, detail, sidecar.file_id, key)
        return
    if stat.size_bytes != sidecar.size:
        detail = f"has {stat.size_bytes} bytes, {sidecar.size} are right"
        survey.found(FindingClass.WRONG_SIZE, key, detail, sidecar.file_id, document)
    blocks = naming.blocks_key(key)
    if sidecar.blocks is not None and blocks not in survey.stats:
        survey.found(FindingClass.BLOCK_LIST, blocks, "is not there", sidecar.file_id, document)
