"""Parameters, progress and results of the control methods: the schema of the protocol.

What comes in is checked by these models, and what goes out is written by them: a key that is not
here is neither taken nor given. The keys are explained in CONTROL.md, which a test compares with
them; `status` has a file of its own.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from artstorefs.core.migration import KEEP_SOURCE_S
from artstorefs_daemon.control.status import Expiring, FileError


class Params(BaseModel):
    """No parameters; those of the others are further keys. What is not known is refused: who
    misspells `detach` would wait for hours."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class LongParams(Params):
    """Of a method that may take long: with `detach` it becomes a job."""

    detach: bool = False


class InodeParams(Params):
    """Of an order for the tree below a file or directory."""

    ino: int = Field(gt=0, lt=1 << 63)


class LongInodeParams(InodeParams):
    """The same, of an order that may take long."""

    detach: bool = False


class FsckParams(LongParams):
    """`rate`: bytes a second that a deep check reads at most."""

    deep: bool = False
    restart: bool = False
    rate: int | None = Field(None, gt=0, lt=1 << 63)


class LogLevelParams(Params):
    """`level` of `logger`; without `level` the one of the loggers above counts again. Without
    `logger` nothing is changed."""

    logger: str | None = Field(None, pattern=r"^artstorefs(_daemon)?(\.[a-z0-9_]+){0,5}$")
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = None


class ExpiringParams(Params):
    """`after`: `next` of the answer before."""

    after: str | None = Field(None, pattern=r"^\d{1,18}\.\d{1,18}$")


class ModeParams(Params):
    """`why` is for those who ask later. With `wait` the answer comes when the change has ended."""

    element: str = Field(min_length=1, max_length=255)
    mode: Literal["edit", "rw", "ro", "ar"]
    why: str = Field("", max_length=500)
    wait: bool = True


class ModeCancelParams(Params):
    """Which element."""

    element: str = Field(min_length=1, max_length=255)
    why: str = Field("", max_length=500)


class MigrationPlanParams(Params):
    """From which element to which; `ino`: only what is below this directory, or this file."""

    source: str = Field(min_length=1, max_length=255)
    target: str = Field(min_length=1, max_length=255)
    ino: int | None = Field(None, gt=0, lt=1 << 63)


class MigrateParams(MigrationPlanParams):
    """`rate`: bytes a second at most. With `wait` the answer comes when nothing more comes of
    itself."""

    keep_source_s: float = Field(KEEP_SOURCE_S, ge=0, le=10 * 366 * 86400, allow_inf_nan=False)
    rate: int | None = Field(None, gt=0, lt=1 << 63)
    wait: bool = True


class MigrationParams(Params):
    """Whether to wait for what comes of itself."""

    wait: bool = False


class MigrationChangeParams(Params):
    """`rate` is for `throttle`: bytes a second at most; null: as fast as it goes."""

    step: Literal["pause", "resume", "cancel", "throttle"]
    rate: int | None = Field(None, gt=0, lt=1 << 63)


class ElementParams(Params):
    """Which element."""

    element: str = Field(min_length=1, max_length=255)


class InodesParams(Params):
    """Files and directories; of a directory all below it."""

    inos: list[Annotated[int, Field(gt=0, lt=1 << 63)]] = Field(min_length=1, max_length=10_000)


class RecallParams(InodesParams):
    """`days`: how long it stays once it is there. `estimate`: only tell what that would be. With
    `wait` the answer comes when all is there, or cannot be had; with `detach` too it is a job."""

    days: float = Field(30.0, gt=0, le=36_500)
    estimate: bool = False
    wait: bool = False
    detach: bool = False


class JobParams(Params):
    """Which job."""

    job: int = Field(gt=0, lt=1 << 63)


# --------------------------------------------------------------------------------------- results


class Result(BaseModel):
    """Nothing to tell; what there is to tell are further keys."""

    model_config = ConfigDict(extra="forbid")


class FlushResult(Result):
    """What is left in the log."""

    pending: int
    failed: int
    errors: list[FileError]


class PathError(Result):
    """A file that could not be brought."""

    path: str
    error: str


class Outcome(Result):
    """What an order of the cache has done."""

    files: int
    bytes: int
    failed: int
    errors: list[PathError]


class Cache(Result):
    """What the read cache holds."""

    path: str
    bytes: int
    limit_bytes: int
    files: int
    blocks: int
    pinned_bytes: int
    fetching: int
    fetched: int
    pins: list[str]


class ExpiringFile(Result):
    """A file that is removed unless somebody changes it."""

    path: str
    file_id: str
    size: int
    links: int
    changed: str
    shown: str
    removal: str


class ExpiringFiles(Expiring):
    """Some of them, those that go first before the others."""

    expiring: list[ExpiringFile]
    next: str | None


Mode = Literal["edit", "rw", "ro", "ar"]
Phase = Literal["settled", "preparing", "committing"]


class ElementMode(Result):
    """What an element allows, and what it is on its way to."""

    element: str
    mode: Mode
    configured: Mode
    phase: Phase
    target: Mode | None
    since: str | None
    by: int | None
    why: str
    retain_until: str | None
    intents: int
    writers: int
    error: str | None


class Modes(Result):
    """Of each element, in the order of the configuration."""

    modes: list[ElementMode]


class MigrationPlan(Result):
    """What would be moved; `refused` says why it cannot be."""

    files: int
    bytes: int
    free_bytes: int | None
    refused: str | None


class MigrationProgress(Result):
    """How far a migration is."""

    phase: Literal["copying", "paused", "keeping", "done", "cancelled"]
    files: int
    bytes: int
    files_left: int
    bytes_left: int
    under_way: int
    failed: int
    leaving: int


class MigrationState(MigrationProgress):
    """The same, with what was asked for, and what has failed."""

    number: int
    source: str
    target: str
    path: str | None
    by: int
    begun: str
    since: str
    keep_source_s: float
    rate: int | None
    failures: list[PathError]


class LastMigration(Result):
    """The last one that was begun, if any was."""

    migration: MigrationState | None


class Medium(Result):
    """Where an element keeps what is archived, and what of it is there."""

    element: str
    place: str
    files: int
    bytes: int
    left_files: int
    left_bytes: int
    error: str | None
    errors: list[PathError]


class Media(Result):
    """Of each element that has such a place."""

    media: list[Medium]


class Recalled(Result):
    """What was asked for, and what could not be had."""

    files: int
    bytes: int
    waiting: int
    online: int
    limit_bytes: int
    failed: int
    errors: list[PathError]


class Released(Result):
    """What was let go of."""

    files: int


class Finding(Result):
    """One thing that is not as it should be."""

    kind: str = Field(alias="class")
    error: bool
    element: str | None
    key: str | None
    file_id: str | None
    path: str | None
    detail: str
    repaired: str | None


class FsckResult(Result):
    """What a check has seen and found."""

    kind: str = Field(alias="schema")
    archive: str
    deep: bool
    mounted: bool
    documents: int
    objects: int
    hashed_objects: int
    hashed_bytes: int
    left: int
    repaired: int
    unsettled: int
    incomplete: dict[str, str]
    counts: dict[str, int]
    findings: list[Finding]


class IndexBackup(Result):
    """One that is whole; `is_new`: made by this."""

    path: str
    bytes: int
    made_at: str
    is_new: bool


class Levels(Result):
    """Loggers with a level of their own."""

    levels: dict[str, str]


class Reloaded(Result):
    """What is new."""

    changed: list[str]


class JobStarted(Result):
    """The answer to a long method that was detached."""

    job: int


class By(Result):
    """Who has asked."""

    uid: int
    pid: int


class Job(Result):
    """A long method that goes on without a client, or has ended."""

    job: int
    method: str
    params: dict[str, Any]
    state: Literal["running", "done", "failed", "cancelled"]
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: str | None
    started_at: str
    ended_at: str | None
    by: By


class JobList(Result):
    """All that run, and the last that have ended; the oldest first. And the last migration."""

    jobs: list[Job]
    migration: MigrationState | None


class Discovery(BaseModel):
    """An OpenRPC document; its own specification says what is in it."""

    model_config = ConfigDict(extra="allow")


# -------------------------------------------------------------------------------------- progress


class FlushProgress(Result):
    """What is still to be carried."""

    pending: int
    bytes: int


class ModeProgress(Result):
    """What the change of a mode still waits for."""

    phase: Phase
    intents: int
    writers: int
    error: str | None


class RescanProgress(Result):
    """Documents that were seen, and how many nodes the index knows."""

    seen: int
    known: int


class OrderProgress(Result):
    """What an order has dealt with, and fetched."""

    files: int
    bytes: int


class RecallProgress(Result):
    """What has come, of what; `wanted` says what a person has to bring."""

    files: int
    bytes: int
    files_total: int
    bytes_total: int
    wanted: str | None


class FsckProgress(Result):
    """What a deep check has read, and what it is to read."""

    objects: int
    bytes: int
    objects_total: int
    bytes_total: int


class BackupProgress(Result):
    """How much of a backup there is."""

    bytes: int
    bytes_total: int
