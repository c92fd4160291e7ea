"""What the mount process and the transfer process say to each other: JSON, one object a line.

mount → transfer
    {"archive": id}                                                 first of all: whose elements
    {"batch": n, "store": [StoreJob…], "remove": [RemoveJob…]}     carry these out
    {"capacity": true}                                              ask every element for its room
    {"offline": element, "jobs": [OfflineJob…]}                     move these to its medium
    {"prepare_medium": element}                                     make a directory its medium
    {"recall": element, "keys": [key…], "days": number}             have these at hand
    {"survey": n}                                                   look for changes by others
    {"survey_taken": n}                                             a part of that is committed
    {"fetch": n, "job": FetchJob, "urgency": Urgency}               bring this into the read cache
    {"fetch": n, "job": null, "urgency": Urgency}                   it is more urgent by now
transfer → mount
    {"batch": n, "stored": […], "removed": […], "failed": […], "dropped": […], "observed": […], …}
    {"capacity": {element: {total_bytes, free_bytes, …} | {"error": text}}}
    {"offline": element, "done": […], "failed": […], "error": text | null}
    {"prepare_medium": element, "error": text | null}
    {"recall": element, "ready": [key…], "failed": {key: text}, "error": text | null}
    {"survey": n, "part": Part}                                     (recovery/survey.py)
    {"survey": n, "end": Survey}
    {"fetched": n, "answer": FetchAnswer}                           (state/fetch.py)

Fetches have threads of their own, and are answered in any order.

The transfer process reads everything else it needs from the database, through a connection that
cannot write. Whatever is told twice is done twice without harm.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from artstorefs.core.errors import ArtStoreFSError
from artstorefs.state.fetch import FetchAnswer, FetchJob, Urgency
from artstorefs.state.outcomes import Failed, Observed, Stored


class MessageInvalid(ArtStoreFSError):
    """A line that the other process cannot have meant; whoever reads it begins anew."""


NOT_CONFIGURED = "is not in the configuration"
"""Of an element that the index names."""


@dataclass(frozen=True, slots=True)
class StoreJob:
    """Carry the node as it is now to the element; its object under `key` unless `is_record`.

    `upload`: the content is in the spool, version `content`; otherwise the object is there
    already and only its attr.json is written anew. `is_first`: nobody has tried `key` yet.
    `lock_ns`: until when the element is to keep the object from everybody; 0: it is told nothing of
    that. `lock_only`: it has all else.
    """

    ino: int
    element: str
    key: str
    content: int
    is_record: bool
    upload: bool
    is_first: bool = False
    verify: bool = False
    lock_ns: int = 0
    lock_only: bool = False


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """A file_delete of the log: documents first, then objects, then spool files. `keep`: the time
    and the reason of a quarantine, into which what is removed goes before. `content_only`: objects
    and block lists alone."""

    log_id: int
    remove: list[list[str]]
    spool: list[str]
    keep: list[Any] | None = None
    content_only: bool = False


@dataclass(slots=True)
class BatchResult:
    """What became of a batch. `dropped`: the node has changed or gone, nothing was stored."""

    batch: int
    stored: list[Stored] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    removal_failures: list[tuple[int, str, bool]] = field(default_factory=list)
    """Of each: its number in the log, why, and whether the element has refused it."""
    observed: list[Observed] = field(default_factory=list)

    def to_message(self) -> dict[str, Any]:
        return _members(self) | {
            "stored": [_members(one) for one in self.stored],
            "failed": [_members(one) for one in self.failed],
            "observed": [_members(one) for one in self.observed],
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "BatchResult":
        """Raises MessageInvalid for what is no result of a batch."""
        try:
            return cls(
                batch=message["batch"],
                stored=[Stored(**values) for values in message["stored"]],
                removed=message["removed"],
                failed=[Failed(**values) for values in message["failed"]],
                dropped=message["dropped"],
                removal_failures=[
                    (log_id, error, refused)
                    for log_id, error, refused in message["removal_failures"]
                ],
                observed=[Observed(**values) for values in message["observed"]],
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise MessageInvalid(f"no result of a batch: {exc!r}") from exc


def batch_message(number: int, store: list[StoreJob], remove: list[RemoveJob]) -> dict[str, Any]:
    return {
        "batch": number,
        "store": [_members(job) for job in store],
        "remove": [_members(job) for job in remove],
    }


def _members(record: Any) -> dict[str, Any]:
    """The fields of a dataclass with slots by name. `dataclasses.asdict` copies them to the bottom,
    which took a tenth of what a small file costs the mount process."""
    return {name: getattr(record, name) for name in record.__slots__}


def fetch_message(number: int, job: FetchJob | None, urgency: Urgency) -> dict[str, Any]:
    told = None if job is None else job.to_message()
    return {"fetch": number, "job": told, "urgency": int(urgency)}


def fetch_of(message: dict[str, Any]) -> tuple[int, FetchJob | None, int]:
    """Number, job and urgency; no job where only the urgency is news. Raises MessageInvalid."""
    try:
        told = message["job"]
        job = None if told is None else FetchJob.from_message(told)
        return int(message["fetch"]), job, int(message["urgency"])
    except (KeyError, TypeError, ValueError) as exc:
        raise MessageInvalid(f"no fetch: {exc!r}") from exc


def answer_message(number: int, answer: FetchAnswer) -> dict[str, Any]:
    return {"fetched": number, "answer": answer.to_message()}


def answer_of(message: dict[str, Any]) -> tuple[int, FetchAnswer]:
    """Number and answer of a fetch. Raises MessageInvalid."""
    try:
        return int(message["fetched"]), FetchAnswer.from_message(message["answer"])
    except (KeyError, TypeError, ValueError) as exc:
        raise MessageInvalid(f"no answer to a fetch: {exc!r}") from exc


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes | bytearray) -> dict[str, Any]:
    """The message in one line. Raises MessageInvalid."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise MessageInvalid(f"not JSON: {exc}") from None
    if not isinstance(message, dict):
        raise MessageInvalid("not an object")
    return message
