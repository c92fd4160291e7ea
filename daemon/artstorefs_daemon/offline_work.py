"""What the transfer process does with archived content: it moves objects to the medium of a local
element, or into the cold storage class of a bucket, and says which can be read now.
"""

import os
from typing import TYPE_CHECKING, Any
from uuid import UUID

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import ElementError, ElementFull, ElementUnavailable, ObjectAbsent
from artstorefs.elements.interface import Element
from artstorefs.elements.offline import medium_of
from artstorefs.recovery.layout import MEDIUM_README, write_layout
from artstorefs.transfer.take_offline import OfflineJob, OfflineResult, take_offline

if TYPE_CHECKING:
    from artstorefs.elements.s3_cold import ColdStore

NO_MEDIUM = "has no offline_path in the configuration"


class OfflineWork:
    """Answers `offline` and `prepare_medium` of the protocol (`transfer/jobs.py`)."""

    def __init__(self, configuration: ArchiveConfiguration, archive_id: UUID) -> None:
        self._name = configuration.name
        media = {one.id: medium_of(one, archive_id) for one in configuration.elements}
        self._media = {name: medium for name, medium in media.items() if medium is not None}
        self._paths = {one.id: str(one.path) for one in configuration.elements}
        self._archive_id = archive_id
        self._cold_stores = _open_cold_stores(configuration)

    def take(self, message: dict[str, Any], elements: dict[str, Element]) -> dict[str, Any]:
        """Move objects of an element to its medium, or into its cold class."""
        element = message["offline"]
        jobs = [OfflineJob(*values) for values in message["jobs"]]
        if element in self._cold_stores:
            result = _make_cold(elements[element], self._cold_stores[element], jobs)
            return {"offline": element, **result.to_message()}
        path, medium = self._paths[element], self._media[element]
        return {
            "offline": element,
            **take_offline(elements[element], path, medium, jobs).to_message(),
        }

    def recall(self, message: dict[str, Any], elements: dict[str, Element]) -> dict[str, Any]:
        """Which of these objects can be read now."""
        element, keys = elements[message["recall"]], message["keys"]
        medium = self._media.get(element.id)
        answer: dict[str, Any] = {"recall": element.id, "ready": [], "failed": {}, "error": None}
        if element.id in self._cold_stores:
            _restore(element, self._cold_stores[element.id], keys, message["days"], answer)
            return answer
        try:
            away = [] if medium is None else [key for key in keys if not _is_there(element, key)]
            answer["ready"] = [key for key in keys if key not in away]
            if medium is not None and away:
                with medium.opened() as opened:
                    for key in away:
                        if _is_there(opened, key):
                            answer["ready"].append(key)
                        else:
                            answer["failed"][key] = f"{key}: neither element nor medium has it"
        except ElementError as exc:
            answer["error"] = str(exc)
        return answer

    def prepare(self, message: dict[str, Any]) -> dict[str, Any]:
        """Make an empty directory the medium of an element; to repeat it changes nothing."""
        element = message["prepare_medium"]
        return {"prepare_medium": element, "error": self._problem_of_preparing(element)}

    def _problem_of_preparing(self, element: str) -> str | None:
        medium = self._media.get(element)
        if medium is None:
            return f"element {element} {NO_MEDIUM}"
        if not os.path.isdir(medium.path):  # whoever mounts it makes the directory, and no typo
            return f"{medium.path} is no directory; make it, and mount the medium there"
        try:
            with medium.opened_new() as opened:
                write_layout(opened, self._archive_id, self._name, MEDIUM_README)
        except ElementError as exc:
            return str(exc)
        return None


def _is_there(element: Element, key: str) -> bool:
    try:
        element.stat(key)
    except ObjectAbsent:
        return False
    return True


def _open_cold_stores(configuration: ArchiveConfiguration) -> "dict[str, ColdStore]":
    described = [one for one in configuration.elements if one.archive_storage_class is not None]
    if not described:
        return {}
    from artstorefs.elements.s3_cold import open_cold_store  # with boto3, which others do without

    stores = {one.id: open_cold_store(one) for one in described}
    return {name: store for name, store in stores.items() if store is not None}


def _make_cold(element: Element, store: "ColdStore", jobs: list[OfflineJob]) -> OfflineResult:
    """Of a few objects, each by itself. The element is asked first whether it is the right one."""
    result = OfflineResult()
    try:
        element.capacity()
        for job in jobs:
            try:
                store.make_cold(job.key, job.size)
                result.done.append(job.ino)
            except (ElementUnavailable, ElementFull):
                raise
            except ElementError as exc:
                result.failed.append((job.ino, str(exc)))
    except ElementError as exc:
        result.error = str(exc)
    return result


def _restore(
    element: Element, store: "ColdStore", keys: list[str], days: float, answer: dict[str, Any]
) -> None:
    """Have objects restored; which of them can be read by now."""
    try:
        element.capacity()
        for key in keys:
            try:
                if store.restore(key, days).is_readable:
                    answer["ready"].append(key)
            except ObjectAbsent as exc:
                answer["failed"][key] = str(exc)
            except ElementUnavailable:
                raise
            except ElementError as exc:
                answer["failed"][key] = str(exc)
    except ElementError as exc:
        answer["error"] = str(exc)
