"""Removals: what the log says is done with is taken from the elements, and out of the spool.

Each was logged in a batch before. What is to be kept goes into quarantine, barrier; documents,
barrier; objects, barrier; spool files. Every step can be repeated.

What an element refuses (an object that is locked there, say) concerns no other removal: those of
one barrier are tried again each by itself, so that it is known which was meant.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from artstorefs.core import naming
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ElementDenied, ElementError, ObjectAbsent
from artstorefs.elements.interface import Element
from artstorefs.elements.quarantine import Quarantine
from artstorefs.state.spool import Spool
from artstorefs.transfer.jobs import NOT_CONFIGURED, BatchResult, RemoveJob

Errors = dict[int, tuple[str, bool]]
"""By log id why a removal has failed, and whether the element has refused it."""


class Remover:
    """Of one carrier, with its elements."""

    def __init__(
        self, elements: Mapping[str, Element], spool: Spool, quarantine: Quarantine
    ) -> None:
        self._elements = elements
        self._spool = spool
        self._quarantine = quarantine

    def remove(self, jobs: list[RemoveJob], result: BatchResult) -> None:
        """Every job is in the result exactly once. Blocks."""
        errors = self._keep([job for job in jobs if job.keep is not None])
        left = [job for job in jobs if job.log_id not in errors and not job.content_only]
        errors |= self._remove_stage(left, _document_keys)
        crash_point("removal.documents_gone")
        left = [job for job in jobs if job.log_id not in errors]
        errors |= self._remove_stage(left, _object_keys)
        crash_point("removal.objects_gone")
        for job in jobs:
            if job.log_id in errors:
                result.removal_failures.append((job.log_id, *errors[job.log_id]))
                continue
            for name in job.spool:
                self._spool.remove(name)
                crash_point("removal.spool_file_gone")
            result.removed.append(job.log_id)

    def _keep(self, jobs: list[RemoveJob]) -> Errors:
        """Put what these jobs name into quarantine, durably."""
        errors: Errors = {}
        for job in jobs:
            assert job.keep is not None
            time_ns, why = job.keep
            for name, key in job.remove:
                if name not in self._elements:
                    continue  # the removal says so
                element = self._elements[name]
                try:
                    for part in (*_document_keys(key), *_object_keys(key)):
                        with suppress(ObjectAbsent):  # no block list; or removed before a kill
                            what = "earlier content of a file"
                            self._quarantine.stage(
                                element, part, time_ns, kind="earlier-content", what=what, why=why
                            )
                    element.barrier()
                except ElementError as exc:
                    errors[job.log_id] = _error(exc)
        if jobs:
            crash_point("removal.kept")
        return errors

    def _remove_stage(self, jobs: list[RemoveJob], keys: Callable[[str], list[str]]) -> Errors:
        """Remove some of what each job names and make it durable."""
        errors: Errors = {}
        used: dict[str, list[int]] = {}
        for job in jobs:
            for name, key in job.remove:
                element = self._elements.get(name)
                if element is None:
                    errors[job.log_id] = (f"element {name} {NOT_CONFIGURED}", False)
                    continue
                try:
                    for part in keys(key):
                        element.remove(part)
                        used.setdefault(name, []).append(job.log_id)
                except ElementError as exc:
                    errors[job.log_id] = _error(exc)
        for name, log_ids in used.items():
            try:
                self._elements[name].barrier()
            except ElementError as exc:
                meant = {job.log_id: job for job in jobs if job.log_id in log_ids}
                if isinstance(exc, ElementDenied) and len(meant) > 1:
                    for job in meant.values():
                        errors |= self._remove_alone(name, job, keys)
                else:
                    errors |= dict.fromkeys(meant, _error(exc))
        return errors

    def _remove_alone(self, name: str, job: RemoveJob, keys: Callable[[str], list[str]]) -> Errors:
        """The same of one job, on one element."""
        element = self._elements[name]
        try:
            for where, key in job.remove:
                for part in keys(key) if where == name else ():
                    element.remove(part)
            element.barrier()
        except ElementError as exc:
            return {job.log_id: _error(exc)}
        return {}


def _error(exc: ElementError) -> tuple[str, bool]:
    return str(exc), isinstance(exc, ElementDenied)


def _document_keys(key: str) -> list[str]:
    return [key] if naming.is_record(key) else [naming.sidecar_key(key)]


def _object_keys(key: str) -> list[str]:
    return [] if naming.is_record(key) else [naming.blocks_key(key), key]
