"""Repair, where it is safe; nothing is deleted.

step                                         a crash after it leaves
1 copy in quarantine, with its report        both; the next run does the same again
2 the original removed                       the quarantine
3 an intent logged for each lost document    the next mount writes it
4 damaged files marked                       marks
5 the old index put aside                    no index: the next mount builds one from the elements
6 the index built again from the elements    everything

Step 5 is taken only if the elements were read whole, every node of the index has its document
there, and nothing waits in the log or the spool: then the elements know all that the index knows.
"""

import time
from pathlib import Path

from artstorefs.core import naming
from artstorefs.core.errors import ElementError, ObjectAbsent
from artstorefs.elements.interface import Element
from artstorefs.elements.quarantine import Quarantine
from artstorefs.recovery.fsck_deep import Throttle, hash_object
from artstorefs.recovery.fsck_findings import Finding, FindingClass, Report
from artstorefs.recovery.fsck_survey import ElementSurvey, Sidecar
from artstorefs.recovery.renew import rebuild_index
from artstorefs.state.database import Database
from artstorefs.state.image import Image
from artstorefs.state.mending import Mending
from artstorefs.transfer.documents import Accounts

_DAMAGED = frozenset(
    {
        FindingClass.SIDECAR_WITHOUT_OBJECT,
        FindingClass.WRONG_SIZE,
        FindingClass.WRONG_HASH,
        FindingClass.SPOOL_HASH,
    }
)
_REBUILDABLE = frozenset(
    {
        FindingClass.INDEX_DRIFT,
        FindingClass.NOT_ORDINARY,
        FindingClass.LEFTOVER,
        FindingClass.WRONG_HASH,
        FindingClass.WRONG_SIZE,
        FindingClass.BLOCK_LIST,
        FindingClass.TWO_REVISIONS,
    }
)
"""Findings with which the documents still say all that an index has to."""

_GIVEN_UP = "given up, and its room with it"


class Repair:
    """One run. The caller holds the archive's lock. `roots`: the directories of local elements."""

    def __init__(
        self,
        report: Report,
        surveys: dict[str, ElementSurvey],
        roots: dict[str, Path],
        image: Image | None,
        state_dir: Path,
    ) -> None:
        self._report = report
        self._surveys = surveys
        self._quarantined = Quarantine(roots, state_dir)
        self._image = image
        self._state_dir = state_dir
        self._time_ns = time.time_ns()

    def run(self, accounts: Accounts) -> None:
        """Repair what can be; each finding says what was done about it."""
        self._quarantined.remove_leftovers()
        for finding in self._report.findings:
            try:
                self._quarantine(finding)
            except (ElementError, OSError) as exc:
                finding.detail += f" (not repaired: {exc})"
        if self._image is not None and not self._image.storage_problems:
            self._mend()
            self._build_index_again(accounts)

    # -------------------------------------------------------------------------- quarantine

    def _quarantine(self, finding: Finding) -> None:
        if finding.element is None or finding.key is None or not self._is_needless(finding):
            return
        survey = self._surveys[finding.element]
        if survey.incomplete is not None:
            return
        keys = [finding.key]
        if finding.kind is FindingClass.TWO_REVISIONS and naming.is_sidecar(finding.key):
            name = naming.object_of(finding.key)
            keys += [key for key in (naming.blocks_key(name), name) if key in survey.stats]
        for key in keys:  # the document first: an object without one is a finding of its own
            moved = self._move(survey.element, key, finding)
            if key == finding.key:
                finding.repaired = moved if moved is _GIVEN_UP else f"quarantined as {moved}"

    def _is_needless(self, finding: Finding) -> bool:
        assert finding.element is not None
        assert finding.key is not None
        kind, image = finding.kind, self._image
        if kind is FindingClass.UNREADABLE:
            return True
        if kind is FindingClass.LEFTOVER:
            return True
        if kind is FindingClass.BLOCK_LIST:
            return "no attr.json means" in finding.detail
        if image is None or image.storage_problems:
            return False  # what belongs to nothing is told by the index too
        name = finding.key
        if naming.is_sidecar(name):
            name = naming.object_of(name)
        is_known = image.copy_at(finding.element, name) is not None
        if kind is FindingClass.OBJECT_WITHOUT_SIDECAR:
            return not is_known
        return kind is FindingClass.TWO_REVISIONS and not is_known and self._other_is_whole(finding)

    def _other_is_whole(self, finding: Finding) -> bool:
        """Whether the higher revision has its object, in its size."""
        assert finding.element is not None
        survey = self._surveys[finding.element]
        (best,) = (key for key in finding.seen if key != finding.key)
        if not naming.is_sidecar(best):
            return True
        name = naming.object_of(best)
        stat, sidecar = survey.stats.get(name), survey.sidecars.get(name)
        damaged = (f.key for f in self._report.findings if f.kind in _DAMAGED)
        return (
            stat is not None
            and sidecar is not None
            and stat.size_bytes == sidecar.size
            and name not in damaged
        )

    def _move(self, element: Element, key: str, finding: Finding) -> str:
        """Copy, report, barrier; then remove, barrier."""
        kind, why = finding.kind, finding.detail
        try:
            target = self._quarantined.stage(
                *(element, key, self._time_ns), kind=kind.label, what=kind.explanation, why=why
            )
        except ObjectAbsent:
            if kind is not FindingClass.LEFTOVER:
                raise
            # The parts of an upload, which are no object and cannot be read.
            element.remove(key)
            element.barrier()
            return _GIVEN_UP
        element.barrier()
        element.remove(key)
        element.barrier()
        return target

    # --------------------------------------------------------------------------- the index

    def _mend(self) -> None:
        mending = Mending(Database(str(self._state_dir / "state.db")))
        try:
            damaged = set()
            for finding in self._report.findings:
                if finding.file_id is None:
                    continue
                if finding.kind in _DAMAGED:
                    damaged.add(finding.file_id)
                    where = f"element {finding.element}: " if finding.element else ""
                    text = f"{where}{finding.key} {finding.detail}"
                    if mending.mark_damaged(finding.file_id, text):
                        finding.repaired = finding.repaired or "marked as damaged"
                elif self._is_to_be_written(finding) and mending.write_again(finding.file_id):
                    before = f"{finding.repaired}, " if finding.repaired else ""
                    finding.repaired = f"{before}written again by the next mount"
            if self._report.deep and not self._report.incomplete:
                mending.clear_damage(damaged)
        finally:
            mending.close()

    def _is_to_be_written(self, finding: Finding) -> bool:
        """Whether the index has the document that is missing, and the object is what it says."""
        assert self._image is not None
        if finding.element is None or finding.key is None or finding.file_id is None:
            return False
        if finding.kind not in (
            FindingClass.MISSING_DOCUMENT,
            FindingClass.UNREADABLE,
            FindingClass.OBJECT_WITHOUT_SIDECAR,
        ):
            return False
        if finding.kind is FindingClass.UNREADABLE and finding.repaired is None:
            return False
        if naming.is_record(finding.key):
            return True
        name = finding.key
        if naming.is_sidecar(name):
            name = naming.object_of(name)
        copy = self._image.copy_at(finding.element, name)
        if copy is None or copy.sha256 is None:
            return False
        return self._is_right(self._surveys[finding.element], name, copy.size, copy.sha256)

    def _is_right(self, survey: ElementSurvey, key: str, size: int, sha256: bytes) -> bool:
        try:
            sidecar = Sidecar(b"", size, sha256, None)
            hashed = hash_object(survey.element, key, sidecar, Throttle(None))
        except ElementError:
            return False
        return hashed.problem is None

    def _build_index_again(self, accounts: Accounts) -> None:
        drift = [f for f in self._report.findings if f.kind is FindingClass.INDEX_DRIFT]
        why_not = self._why_not_rebuilt()
        if drift and why_not is not None:
            for finding in drift:
                finding.detail += f" (not repaired: {why_not})"
        elif drift:
            self._rebuild(accounts)
            for finding in drift:
                finding.repaired = "the index was built again from the elements"

    def _why_not_rebuilt(self) -> str | None:
        assert self._image is not None
        if self._report.incomplete:
            return "not everything could be read"
        if self._image.intents.count or next(self._image.spooled(), None) is not None:
            return "changes wait for the elements; mount, flush and unmount the archive first"
        for finding in self._report.findings:
            if finding.kind.is_error and finding.kind not in _REBUILDABLE:
                return f"first see to {finding.kind.label}"
        return None

    def _rebuild(self, accounts: Accounts) -> None:
        """The old index is kept, see `renew.py`."""
        root_id = next(s.archive_id for s in self._surveys.values() if s.archive_id is not None)
        elements = {name: survey.element for name, survey in self._surveys.items()}
        directory = str(self._state_dir)
        rebuild_index(directory, directory, elements, root_id, accounts, lambda progress: None)
