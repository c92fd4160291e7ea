"""Removals: what the log says is done with is taken from the elements, and out of the spool.

Each was logged in a batch before. What is to be kept goes into quarantine, barrier; documents,
barrier; objects, barrier; spool files. Every step can be repeated.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from artstorefs.core import naming
from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ElementError, ObjectAbsent
from artstorefs.elements.interface import Element
from artstorefs.elements.quarantine import Quarantine
from artstorefs.state.spool import Spool
from artstorefs.transfer.jobs import NOT_CONFIGURED, BatchResult, RemoveJob


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
                result.removal_failures.append((job.log_id, errors[job.log_id]))
                continue
            for name in job.spool:
                self._spool.remove(name)
                crash_point("removal.spool_file_gone")
            result.removed.append(job.log_id)

    def _keep(self, jobs: list[RemoveJob]) -> dict[int, str]:
        """Put what these jobs name into quarantine, durably. Errors by log id."""
        errors: dict[int, str] = {}
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
                    errors[job.log_id] = str(exc)
        if jobs:
            crash_point("removal.kept")
        return errors

    def _remove_stage(
        self, jobs: list[RemoveJob], keys: Callable[[str], list[str]]
    ) -> dict[int, str]:
        """Remove some of what each job names and make it durable. Errors by log id."""
        errors: dict[int, str] = {}
        used: dict[str, list[int]] = {}
        for job in jobs:
            for name, key in job.remove:
                element = self._elements.get(name)
                if element is None:
                    errors[job.log_id] = f"element {name} {NOT_CONFIGURED}"
                    continue
                try:
                    for part in keys(key):
                        element.remove(part)
                        used.setdefault(name, []).append(job.log_id)
                except ElementError as exc:
                    errors[job.log_id] = str(exc)
        for name, log_ids in used.items():
            try:
                self._elements[name].barrier()
            except ElementError as exc:
                errors.update(dict.fromkeys(log_ids, str(exc)))
        return errors


def _document_keys(key: str) -> list[str]:
    return [key] if naming.is_record(key) else [naming.sidecar_key(key)]


def _object_keys(key: str) -> list[str]:
    return [] if naming.is_record(key) else [naming.blocks_key(key), key]
