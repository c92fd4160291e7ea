"""What a check can find: the classes, one finding, and the report of a run.

A released class keeps its name for ever: scripts read it (`fsck --json`, README.md).
"""

from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Any
from uuid import UUID

from artstorefs.elements.interface import ObjectStat

SCHEMA = "artstorefs-fsck/1"


@unique
class FindingClass(Enum):
    """Name, what it is, and what `--repair` does about it."""

    OBJECT_WITHOUT_SIDECAR = (
        "object-without-sidecar",
        "an object that has no attr.json",
        "the index knows it: attr.json is written again; otherwise it is quarantined",
    )
    SIDECAR_WITHOUT_OBJECT = (
        "sidecar-without-object",
        "an attr.json whose object is not there",
        "the file is marked as damaged",
    )
    WRONG_SIZE = (
        "wrong-size",
        "an object that has not the size that its attr.json says",
        "the file is marked as damaged",
    )
    WRONG_HASH = (
        "wrong-hash",
        "an object that has not the SHA-256 that its attr.json says (--deep)",
        "the file is marked as damaged",
    )
    BLOCK_LIST = (
        "block-list",
        "a block list that is missing, is not the one that attr.json means, or is of no object",
        "one of no object is quarantined; reads of the others verify the whole object",
    )
    TWO_REVISIONS = (
        "two-revisions",
        "two documents with one file_id on one element",
        "the lower revision is quarantined, with its object, if the higher one is whole",
    )
    UNREADABLE = (
        "unreadable-document",
        "an attr.json or node record that cannot be read as one",
        "it is quarantined, and written again if the index knows its file",
    )
    MISSING_DOCUMENT = (
        "missing-document",
        "a node record or attr.json that the index knows and the element has not",
        "it is written again from the index",
    )
    MISSING_PARENT = (
        "missing-parent",
        "a document whose directory, or whose linked file, has no document",
        "nothing; a rebuilt index shows it in lost+found",
    )
    NAME_CLASH = (
        "name-clash",
        "two documents with one name in one directory",
        "nothing; rename one of them on the mount",
    )
    CYCLE = (
        "cycle",
        "directories that contain each other",
        "nothing; a rebuilt index shows them in lost+found",
    )
    LEFTOVER = (
        "leftover",
        "a temporary, or a spool file, that an interrupted step has left",
        "temporaries are quarantined; the next mount sorts the spool",
    )
    INDEX_DRIFT = (
        "index-drift",
        "the index says something else than the documents, contradicts itself, or has a row that is"
        " not as it was written",
        "the index is built again from the elements, if nothing waits in the log",
    )
    INDEX_DAMAGED = (
        "index-damaged",
        "the index, or its log, is no whole SQLite database",
        "nothing; the next mount recovers it",
    )
    SPOOL = (
        "spool",
        "content that waits for an element is not in the spool as the index says",
        "nothing; the next mount goes back to what is there",
    )
    SPOOL_HASH = (
        "spool-hash",
        "content that waits for an element has not the SHA-256 that it had before (--deep)",
        "the file is marked as damaged",
    )
    NOT_ORDINARY = (
        "not-ordinary",
        "a symlink, pipe or device inside the element",
        "nothing; it is never followed",
    )
    ARCHIVE_RECORD = (
        "archive-record",
        "archive.json is missing, unreadable, or of another archive or element",
        "nothing; the element is not checked any further",
    )
    FOREIGN = (
        "foreign",
        "a file outside of the layout, or an attr.json without posix section (no error)",
        "nothing",
    )
    CHANGED_BY_OTHERS = (
        "changed-by-others",
        "an attr.json that somebody else has written; a rescan takes it in (no error)",
        "nothing",
    )
    OFFLINE = (
        "offline",
        "content that was archived, on a medium that is not there now (no error)",
        "nothing",
    )

    def __init__(self, label: str, explanation: str, repair: str) -> None:
        self.label = label
        self.explanation = explanation
        self.repair = repair

    @property
    def is_error(self) -> bool:
        """False for what is only told."""
        told = (FindingClass.FOREIGN, FindingClass.CHANGED_BY_OTHERS, FindingClass.OFFLINE)
        return self not in told


@dataclass(slots=True)
class Finding:
    """One thing that is not as it should be.

    `concerns` are the file_ids and `seen` the keys on which the judgement rests: while one of them
    changes, nothing can be concluded. `seen` has None for a key that was not there.
    """

    kind: FindingClass
    detail: str
    element: str | None = None
    key: str | None = None
    file_id: bytes | None = None
    path: str | None = None
    concerns: frozenset[bytes] = frozenset()
    seen: dict[str, ObjectStat | None] = field(default_factory=dict)
    repaired: str | None = None

    @property
    def identity(self) -> tuple[str, str | None, str | None, str]:
        """Of two passes, the same finding."""
        return self.kind.label, self.element, self.key, self.detail

    def as_json(self) -> dict[str, Any]:
        """The documented form."""
        return {
            "class": self.kind.label,
            "error": self.kind.is_error,
            "element": self.element,
            "key": self.key,
            "file_id": str(UUID(bytes=self.file_id)) if self.file_id else None,
            "path": self.path,
            "detail": self.detail,
            "repaired": self.repaired,
        }


@dataclass(slots=True)
class Report:
    """What a run has seen, found and done."""

    archive: str
    deep: bool
    mounted: bool
    documents: int = 0
    objects: int = 0
    hashed_objects: int = 0
    hashed_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    incomplete: dict[str, str] = field(default_factory=dict)
    """Elements (or the index) that could not be read to the end, and why: nothing follows from
    what was not seen there."""
    unsettled: int = 0
    """What looked wrong and kept changing, so that it could not be judged."""

    @property
    def left(self) -> list[Finding]:
        return [f for f in self.findings if f.kind.is_error and f.repaired is None]

    @property
    def repaired(self) -> list[Finding]:
        return [f for f in self.findings if f.repaired is not None]

    def as_json(self) -> dict[str, Any]:
        """The documented form."""
        return {
            "schema": SCHEMA,
            "archive": self.archive,
            "deep": self.deep,
            "mounted": self.mounted,
            "documents": self.documents,
            "objects": self.objects,
            "hashed_objects": self.hashed_objects,
            "hashed_bytes": self.hashed_bytes,
            "left": len(self.left),
            "repaired": len(self.repaired),
            "unsettled": self.unsettled,
            "incomplete": self.incomplete,
            "findings": [finding.as_json() for finding in self.findings],
        }
