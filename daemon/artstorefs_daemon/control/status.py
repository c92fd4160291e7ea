"""The result of `status`, and its parts; CONTROL.md explains the keys, and a test compares them.

`Survey` alone may lack keys: before the first look at the elements there is nothing to say.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileError(_Part):
    """A file, or the state directory, with which something is wrong."""

    path: str
    file_id: str
    error: str
    since: str | None


class Pending(_Part):
    """What no element has yet."""

    intents: int
    bytes: int
    oldest_age_s: float | None
    failed: int


class Quarantined(_Part):
    """Documents that could not be used."""

    documents: int
    errors: list[str]


class Survey(_Part):
    """A look at the elements for what others have changed there."""

    seen: int
    changed: int = 0
    added: int = 0
    unknown: int = 0
    vanished: int = 0
    quarantined: int = 0
    errors: list[str] = []
    gone: list[FileError] = []


class Expiring(_Part):
    """Files that have come to their end, as of the last look."""

    files: int
    bytes: int
    first_removal: str | None
    removed: int
    paused: str | None


class Use(_Part):
    """Of a place with a limit."""

    bytes: int
    limit_bytes: int


class Queue(_Part):
    """What an element has still to be told."""

    intents: int
    oldest_age_s: float | None


class Breaker(_Part):
    """Whether an element that has failed is asked."""

    state: Literal["closed", "open", "half-open"]
    since: str
    next_trial: str | None
    reason: str | None


class CallCounts(_Part):
    """Calls of one kind."""

    count: int
    total_s: float
    max_s: float


class Counters(_Part):
    """What has passed between the daemon and an element."""

    calls: dict[str, CallCounts]
    sent_bytes: int
    received_bytes: int
    errors: dict[str, int]
    requests: dict[str, int]


class Element(_Part):
    """A storage element as it is now."""

    id: str
    kind: Literal["local", "s3"]
    path: str
    mode: Literal["edit", "rw", "ro", "ar"]
    object_lock: Literal["governance", "compliance"] | None
    priority: int
    state: Literal["ok", "unavailable", "unknown"]
    error: str | None
    total_bytes: int | None
    free_bytes: int | None
    room: Literal["ok", "warning", "critical", "full", "unknown"]
    queue: Queue
    breaker: Breaker | None
    counters: Counters


class Elements(_Part):
    """In the order of the configuration."""

    elements: list[Element]


class Backup(_Part):
    """Of the index."""

    age_s: float | None
    interval_s: float
    is_current: bool


class Operations(_Part):
    """Requests of the kernel, of one kind."""

    count: int
    errors: dict[str, int]
    total_s: float
    max_s: float
    latency: list[int]


class SlowRequest(_Part):
    """One of the slowest of the last minutes."""

    kind: str
    took_ms: float
    ended_at: str
    inode: int | None
    path: str | None


class Wanted(_Part):
    """What was asked for of an element, and waits for a person."""

    element: str
    place: str
    files: int
    bytes: int
    reason: str


class Archived(_Part):
    """Content of an element that takes a recall to be read."""

    element: str
    files: int
    bytes: int
    offline_files: int
    offline_bytes: int
    recalling_files: int
    recalling_bytes: int
    recalled_files: int
    recalled_bytes: int
    failed_files: int
    oldest_recall_age_s: float | None


class Status(_Part):
    """The whole mount."""

    api_version: int
    archive: str
    mountpoint: str
    pid: int
    transfer_pid: int
    version: str
    started_at: str
    durability: Literal["log", "element"]
    copies: int
    read_only: bool
    recovery_s: float
    index_error: str | None
    backup: Backup
    nodes: int
    pending: Pending
    errors: list[FileError]
    damaged: list[FileError]
    quarantined: Quarantined
    spool: Use
    cache: Use
    survey: Survey
    expiring: Expiring
    archived: list[Archived]
    wanted: list[Wanted]
    elements: list[Element]
    operations: dict[str, Operations]
    latency_bounds_s: list[float]
    slowest: list[SlowRequest]
