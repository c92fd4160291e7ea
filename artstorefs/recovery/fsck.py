"""The check of a whole archive: index against elements and back, and, if asked for, every byte.

An archive that is not mounted is locked for the time of the check. One that is mounted goes on
changing, so that a difference may be a change under way. Each pass takes an image of the index
first and looks at the elements after; a finding of a pass counts only if the next one shows that
nothing that it rests on was changing:

    - of every node concerned the two images say the same (every change increases the revision),
      and in neither does the log have anything for it;
    - every key concerned is as it was in both passes, and the log means it in neither.

Then nothing happened to it between the two images, and the elements were looked at between them.
What keeps changing is counted as unsettled, and reported by nobody as an error.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

from artstorefs.core import naming
from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import ArchiveInUse, ArtStoreFSError, ElementError
from artstorefs.elements.adoption import Adoption
from artstorefs.elements.interface import Element
from artstorefs.elements.opening import open_element
from artstorefs.recovery.fsck_deep import Throttle, Watch, check_objects, hash_object
from artstorefs.recovery.fsck_findings import Finding, FindingClass, Report
from artstorefs.recovery.fsck_index import check_copies, check_index
from artstorefs.recovery.fsck_progress import Progress
from artstorefs.recovery.fsck_repair import Repair
from artstorefs.recovery.fsck_spool import check_spool, check_sums
from artstorefs.recovery.fsck_survey import ElementSurvey, survey_element
from artstorefs.recovery.fsck_tree import check_tree
from artstorefs.state.image import DAMAGE, Image
from artstorefs.state.index import ROOT_INO
from artstorefs.state.lock import StateLock
from artstorefs.state.write_ahead import log_problem
from artstorefs.transfer.documents import Accounts

PASSES_MAX = 6
PAUSE_S = 0.5
"""Between two passes over a mounted archive: what is under way is mostly done by then."""

DATABASE = "state.db"


class RepairWhileMounted(ArtStoreFSError):
    """A repair needs the archive for itself."""

    def __init__(self, name: str, holder: int) -> None:
        super().__init__(
            f"{name} is mounted (process {holder}) and cannot be repaired now; "
            f"unmount it first: artstorefs umount {name}"
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for. `rate`: bytes a second of `deep`, None for as fast as it goes."""

    deep: bool = False
    repair: bool = False
    restart: bool = False
    rate: int | None = None


@dataclass(slots=True)
class _Pass:
    """One look at everything."""

    image: Image | None
    surveys: dict[str, ElementSurvey]
    findings: list[Finding] = field(default_factory=list)


Start = Callable[[int, int], Watch]
"""Told how many objects, and bytes, a deep check has before it; what it returns is told of each."""


def check(
    configuration: ArchiveConfiguration,
    accounts: Accounts,
    options: Options,
    start: Start = lambda objects, size: lambda done, read: None,
) -> Report:
    """Check, and repair if asked for. Raises RepairWhileMounted, and ElementError, OSError only
    where nothing could be checked at all."""
    with ExitStack() as stack:
        holder = stack.enter_context(_locked(configuration))
        if holder is not None and options.repair:
            raise RepairWhileMounted(configuration.name, holder)
        work = _Check(configuration, accounts, options, mounted=holder is not None)
        stack.callback(work.close)
        return work.run(start)


@contextmanager
def _locked(configuration: ArchiveConfiguration) -> Iterator[int | None]:
    """Hold the archive's lock; yields who has it if it is mounted."""
    if not configuration.state_dir.is_dir():
        yield None
        return
    lock = StateLock(str(configuration.state_dir), configuration.name)
    try:
        lock.acquire()
    except ArchiveInUse as exc:
        yield exc.holder
        return
    try:
        yield None
    finally:
        lock.release()


class _Check:
    def __init__(
        self,
        configuration: ArchiveConfiguration,
        accounts: Accounts,
        options: Options,
        *,
        mounted: bool,
    ) -> None:
        self._configuration = configuration
        self._state_dir = configuration.state_dir
        self._accounts = accounts
        self._options = options
        self._mounted = mounted
        self._images: list[Image] = []
        self._elements: dict[str, Element] = {}
        self.report = Report(configuration.name, options.deep, mounted)

    def close(self) -> None:
        for image in self._images:
            image.close()
        for element in self._elements.values():
            element.close()

    def run(self, start: Start) -> Report:
        self._open_elements()
        last = self._passes() if self._mounted else self._single_pass()
        if self._options.deep:
            self._deep(last, start)
        self._describe(last)
        if self._options.repair:
            roots = {e.id: e.path for e in self._configuration.elements if e.path is not None}
            arguments = (self.report, last.surveys, roots, last.image, self._state_dir)
            Repair(*arguments).run(self._accounts)
        return self.report

    def _open_elements(self) -> None:
        for element in self._configuration.elements:
            try:
                self._elements[element.id] = open_element(element)
            except ElementError as exc:
                self.report.incomplete[element.id] = str(exc)

    # ------------------------------------------------------------------------------ passes

    def _single_pass(self) -> _Pass:
        """Nobody changes anything: what is found is so."""
        only = self._pass()
        self.report.findings += only.findings
        return only

    def _passes(self) -> _Pass:
        current = self._pass()
        confirmed: dict[tuple[str, str | None, str | None, str], Finding] = {}
        for _ in range(PASSES_MAX - 1):
            waiting = [f for f in current.findings if f.identity not in confirmed]
            if not waiting:
                break
            time.sleep(PAUSE_S)
            previous, current = current, self._pass()
            for finding in waiting:
                if _is_confirmed(finding, previous, current):
                    confirmed[finding.identity] = finding
            if previous.image is not None:
                previous.image.close()
                self._images.remove(previous.image)
        left = [f for f in current.findings if f.identity not in confirmed]
        self.report.findings += confirmed.values()
        self.report.unsettled = len(left)
        return current

    def _pass(self) -> _Pass:
        """Image first, elements after."""
        findings: list[Finding] = []
        image = self._take_image(findings)
        sound = image if image is not None and not image.storage_problems else None
        try:
            return self._look(sound, list(findings))
        except DAMAGE as exc:
            findings.append(Finding(FindingClass.INDEX_DAMAGED, str(exc), None, DATABASE))
            return self._look(None, findings)

    def _look(self, sound: Image | None, findings: list[Finding]) -> _Pass:
        """All elements, judged by an image of the index, if there is a sound one."""
        root = sound.file_id(ROOT_INO) if sound is not None else None
        archive_id = UUID(bytes=root) if root is not None else None
        surveys: dict[str, ElementSurvey] = {}
        described = {one.id: one for one in self._configuration.elements}
        for name, element in self._elements.items():
            parts = (element, archive_id, sound, self._accounts)
            survey = surveys[name] = survey_element(
                *parts, self._adoption(name, sound), described[name]
            )
            archive_id = archive_id or survey.archive_id
            findings += survey.findings
        self._count(surveys)
        if sound is not None:
            findings += check_index(sound)
            configured = frozenset(e.id for e in self._configuration.elements)
            findings += check_copies(sound, surveys, configured)
            findings += check_spool(sound, self._state_dir, self._mounted)
        if archive_id is not None and not self.report.incomplete:
            findings += check_tree(list(surveys.values()), archive_id.bytes, sound)
            findings = _without_drift_of_older(findings)
        if sound is not None:
            findings = [f for f in findings if not _is_under_way(f, sound)]
        return _Pass(sound, surveys, findings)

    def _adoption(self, name: str, image: Image | None) -> Adoption | None:
        """What the index knows of an adopted element, if it is one."""
        if all(element.id != name for element in self._configuration.elements if element.adopted):
            return None
        return Adoption(partial(image.witnesses, name)) if image is not None else Adoption()

    def _count(self, surveys: dict[str, ElementSurvey]) -> None:
        self.report.documents = sum(survey.documents for survey in surveys.values())
        self.report.objects = sum(len(survey.sidecars) for survey in surveys.values())
        for name, survey in surveys.items():
            if survey.incomplete is not None:
                self.report.incomplete[name] = survey.incomplete

    def _take_image(self, findings: list[Finding]) -> Image | None:
        """The index as it is now; None where there is none, or none that can be read."""
        path = self._state_dir / DATABASE
        kind = FindingClass.INDEX_DAMAGED
        if not path.exists():
            return None
        if not self._mounted and (problem := _write_ahead_problem(path)) is not None:
            findings.append(Finding(kind, problem, None, f"{DATABASE}-wal"))
        try:
            image = Image(str(path))
        except DAMAGE as exc:
            findings.append(Finding(kind, str(exc), None, DATABASE))
            return None
        self._images.append(image)
        findings += [Finding(kind, text, None, DATABASE) for text in image.storage_problems]
        return image

    # -------------------------------------------------------------------------------- deep

    def _deep(self, last: _Pass, start: Start) -> None:
        names = [s.archive_id for s in last.surveys.values() if s.archive_id is not None]
        archive_id = str(names[0]) if names else ""
        progress = Progress.load(self._state_dir, archive_id)
        if self._options.restart:
            progress = Progress(progress.path, archive_id)
        throttle = Throttle(self._options.rate)
        left = [
            sidecar.size
            for survey in last.surveys.values()
            for key, sidecar in survey.objects()
            if not progress.is_done(survey.element.id, key)
        ]
        left += [node.size for node, _ in last.image.summed()] if last.image is not None else []
        watch = start(len(left), sum(left))
        try:
            self._deep_spool(last.image, throttle, watch)
            for name in sorted(last.surveys):
                survey = last.surveys[name]
                if survey.incomplete is None:
                    for finding in check_objects(survey, progress, throttle, watch):
                        if not self._mounted or self._is_still_so(finding, survey):
                            self.report.findings.append(finding)
                self._count(last.surveys)
        except BaseException:
            progress.save()
            raise
        self.report.hashed_objects, self.report.hashed_bytes = progress.objects, progress.bytes
        if self.report.incomplete:
            progress.save()
        else:
            progress.finish()

    def _deep_spool(self, image: Image | None, throttle: Throttle, watch: Watch) -> None:
        """Content that waits. Of a mounted archive it counts if the index says the same after it
        was hashed as before: a sum is of content that nobody may change."""

        def unreadable(reason: str) -> None:
            self.report.incomplete["spool"] = reason

        if image is None:
            return
        told = {finding.key for finding in self.report.findings}
        for finding in check_sums(image, self._state_dir, throttle, watch, unreadable):
            is_so = not self._mounted or self._has_same_sum(finding, image)
            if is_so and finding.key not in told:
                self.report.findings.append(finding)

    def _has_same_sum(self, finding: Finding, before: Image) -> bool:
        assert finding.file_id is not None
        after = Image(str(self._state_dir / DATABASE))
        try:
            if after.storage_problems:
                return False
            nodes = [image.node(finding.file_id) for image in (before, after)]
            sums = [
                image.spool_sum(node)
                for image, node in zip((before, after), nodes, strict=True)
                if node is not None
            ]
            return len(sums) == 2 and sums[0] is not None and sums[0] == sums[1]
        finally:
            after.close()

    def _is_still_so(self, finding: Finding, survey: ElementSurvey) -> bool:
        """Hash once more, between two images that say that nothing changes the file."""
        assert finding.key is not None
        key = finding.key
        if finding.kind is FindingClass.BLOCK_LIST:
            key = key.removesuffix(naming.BLOCKS_SUFFIX)
        before = self._pass_for(finding)
        try:
            hashed = hash_object(survey.source, key, survey.sidecars[key], Throttle(None))
        except ElementError:
            return False
        after = self._pass_for(finding)
        return hashed.problem is not None and before is not None and before == after

    def _pass_for(self, finding: Finding) -> list[bytes] | None:
        """Fingerprints of what a finding rests on; None while the log has something for it."""
        image = Image(str(self._state_dir / DATABASE))
        try:
            if image.storage_problems or _is_under_way(finding, image):
                return None
            return [image.fingerprint(file_id) for file_id in sorted(finding.concerns)]
        finally:
            image.close()

    def _describe(self, last: _Pass) -> None:
        """Give every finding the path of its file, and an order."""
        for finding in self.report.findings:
            if last.image is not None and finding.file_id is not None:
                finding.path = last.image.path(finding.file_id)
        order = list(FindingClass)
        self.report.findings.sort(
            key=lambda f: (order.index(f.kind), f.element or "", f.key or "", f.detail)
        )


def _without_drift_of_older(findings: list[Finding]) -> list[Finding]:
    """That the index says otherwise than an older document of the same file is no drift."""
    older = {(f.element, f.key) for f in findings if f.kind is FindingClass.TWO_REVISIONS}
    return [
        finding
        for finding in findings
        if finding.kind is not FindingClass.INDEX_DRIFT
        or (finding.element, finding.key) not in older
    ]


def _is_under_way(finding: Finding, image: Image) -> bool:
    """Whether the log still has something to tell the elements about it."""
    if any(image.is_busy(file_id) for file_id in finding.concerns):
        return True
    keys = image.intents.keys
    return finding.element is not None and any(
        (finding.element, name) in keys for key in finding.seen for name in _owners(key)
    )


def _owners(key: str) -> list[str]:
    """The keys by which the log may mean what lies at `key`: its own, or that of its object."""
    suffixes = (naming.SIDECAR_SUFFIX, naming.BLOCKS_SUFFIX)
    return [key, *(key.removesuffix(suffix) for suffix in suffixes if key.endswith(suffix))]


def _is_confirmed(finding: Finding, before: _Pass, after: _Pass) -> bool:
    """Whether nothing that `finding`, of pass `before`, rests on has changed until `after`."""
    if finding.kind is FindingClass.INDEX_DAMAGED:
        return any(finding.identity == other.identity for other in after.findings)
    if before.image is None or after.image is None:
        return False
    if _is_under_way(finding, after.image):
        return False
    for file_id in finding.concerns:
        if before.image.fingerprint(file_id) != after.image.fingerprint(file_id):
            return False
    if finding.kind is FindingClass.SPOOL or not finding.seen:
        return any(finding.identity == other.identity for other in after.findings)
    assert finding.element is not None
    stats = after.surveys[finding.element].stats
    return all(stats.get(key) == seen for key, seen in finding.seen.items())


def _write_ahead_problem(path: Path) -> str | None:
    try:
        data = Path(f"{path}-wal").read_bytes()
    except FileNotFoundError:
        return None
    return log_problem(data)
