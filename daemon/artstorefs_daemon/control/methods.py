"""The methods of the control socket: a table of what there is, and what each does.

A method is given its checked parameters and the client, and gives what its result model takes. It
may suspend, but must not block: it runs in the loop that serves the mount.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import trio
from pydantic import BaseModel, ValidationError

from artstorefs.core.modes import ElementMode
from artstorefs.filesystem.archive import Caller
from artstorefs.filesystem.cache_orders import Outcome
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node
from artstorefs_daemon.control import models, status
from artstorefs_daemon.control.checks import Checks
from artstorefs_daemon.control.discover import openrpc_document
from artstorefs_daemon.control.jobs import Jobs, Notify
from artstorefs_daemon.control.protocol import API_VERSION, FAILED, INVALID_PARAMS, ControlError
from artstorefs_daemon.control.roles import Peer, Role
from artstorefs_daemon.log_levels import LogLevels
from artstorefs_daemon.reloading import Reloading
from artstorefs_daemon.service import Service

PROGRESS_INTERVAL_S = 0.25

_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class Call:
    """One request that is carried out; `notify` is told its progress."""

    peer: Peer
    notify: Notify

    @property
    def caller(self) -> Caller:
        """Who has asked, for records of it."""
        return Caller(self.peer.uid, self.peer.gid, self.peer.pid, 0)


Answer = dict[str, Any]


@dataclass(slots=True)
class Methods:
    """What they work with."""

    service: Service
    shut_down: Callable[[], None]
    reloading: Reloading
    jobs: Jobs = field(default_factory=Jobs)
    checks: Checks = field(default_factory=Checks)
    document: Answer = field(default_factory=dict)
    """That of `rpc.discover`, once it was asked for."""

    async def status(self, call: Call, params: models.Params) -> Answer:
        return {"api_version": API_VERSION, **await self.service.status()}

    async def elements(self, call: Call, params: models.Params) -> Answer:
        return {"elements": (await self.service.status())["elements"]}

    async def modes(self, call: Call, params: models.Params) -> Answer:
        return {"modes": self.service.mode_changes.describe()}

    async def expiring(self, call: Call, params: models.ExpiringParams) -> Answer:
        return await self.service.expiring.files(params.after)

    async def clock_is_right(self, call: Call, params: models.Params) -> Answer:
        self.service.expiring.believe_clock()
        return {}

    async def mode_change(self, call: Call, params: models.ModeParams) -> Answer:
        changes = self.service.mode_changes
        changes.begin(params.element, ElementMode(params.mode), call.caller, params.why)
        if params.wait:
            async with aclosing(changes.follow(params.element)) as steps:
                async for progress in steps:
                    await call.notify(progress)
        return changes.describe_one(params.element)

    async def mode_cancel(self, call: Call, params: models.ModeCancelParams) -> Answer:
        self.service.mode_changes.cancel(params.element, call.caller, params.why)
        return self.service.mode_changes.describe_one(params.element)

    async def media(self, call: Call, params: models.Params) -> Answer:
        offlining = self.service.offlining
        return {"media": [await offlining.describe(element) for element in offlining.media]}

    async def medium_prepare(self, call: Call, params: models.ElementParams) -> Answer:
        if params.element not in self.service.archive.modes.states:
            raise ControlError(INVALID_PARAMS, f"there is no element {params.element}")
        error = await self.service.offlining.prepare(params.element)
        if error is not None:
            raise ControlError(FAILED, error)
        return await self.service.offlining.describe(params.element)

    # ----------------------------------------------------------------------------- migrations

    async def migrate_plan(self, call: Call, params: models.MigrationPlanParams) -> Answer:
        migrations, root = self.service.migrations, self._root(params.ino)
        return await migrations.plan(params.source, params.target, root)

    async def migrate(self, call: Call, params: models.MigrateParams) -> Answer:
        migrations, root = self.service.migrations, self._root(params.ino)
        await migrations.begin(
            *(params.source, params.target, call.caller),
            root=root,
            keep_s=params.keep_source_s,
            rate=params.rate,
        )
        return await self._migration(call, wait=params.wait)

    async def migration(self, call: Call, params: models.MigrationParams) -> Answer:
        if params.wait and self.service.migrations.last is not None:
            await self._migration(call, wait=True)
        return {"migration": self._last_migration()}

    async def migration_change(self, call: Call, params: models.MigrationChangeParams) -> Answer:
        migrations = self.service.migrations
        if params.step == "throttle":
            migrations.throttle(params.rate, call.caller)
        elif params.rate is not None:
            raise ControlError(INVALID_PARAMS, "rate is for the step throttle")
        else:
            getattr(migrations, params.step)(call.caller)
        return migrations.describe()

    def _last_migration(self) -> Answer | None:
        migrations = self.service.migrations
        return None if migrations.last is None else migrations.describe()

    async def _migration(self, call: Call, *, wait: bool) -> Answer:
        """The last one, once nothing more comes of itself if that is to be waited for."""
        migrations = self.service.migrations
        if wait:
            async with aclosing(migrations.follow()) as steps:
                async for progress in steps:
                    await call.notify(progress)
        return migrations.describe()

    def _root(self, ino: int | None) -> int | None:
        if ino is not None and self.service.node(ino) is None:
            raise ControlError(INVALID_PARAMS, "ino is no file or directory of this archive")
        return None if ino == ROOT_INO else ino

    async def cache(self, call: Call, params: models.Params) -> Answer:
        return await self.service.cache_orders.summary()

    async def discover(self, call: Call, params: models.Params) -> Answer:
        if not self.document:
            self.document = await trio.to_thread.run_sync(openrpc_document, METHODS)
        return self.document

    async def flush(self, call: Call, params: models.Params) -> Answer:
        async with aclosing(self.service.flush()) as steps:  # also when the client goes away
            async for progress in steps:
                await call.notify(dict(progress))
        return self.service.outcome_of_flush()

    async def rescan(self, call: Call, params: models.Params) -> Answer:
        surveys, known = self.service.link.surveys, self.service.count_nodes()
        async with aclosing(surveys.look()) as steps:  # also when the client goes away
            async for seen in steps:
                await call.notify({"seen": seen, "known": known})
        return surveys.last

    async def fsck(self, call: Call, params: models.FsckParams) -> Answer:
        if not params.deep and (params.restart or params.rate):
            raise ControlError(INVALID_PARAMS, "restart and rate are for a deep check")
        options = {"deep": params.deep, "restart": params.restart, "rate": params.rate}
        return await self.checks.run(self.service.archive.configuration, options, call.notify)

    async def backup(self, call: Call, params: models.LongParams) -> Answer:
        backups = self.service.backups
        return await _telling(backups.progress, call.notify, backups.make)

    async def log_level(self, call: Call, params: models.LogLevelParams) -> Answer:
        levels: LogLevels = self.service.link.log_levels
        if params.logger is not None:
            if not await trio.to_thread.run_sync(levels.is_logger, params.logger):
                raise ControlError(INVALID_PARAMS, f"there is no logger {params.logger}")
            levels.change(params.logger, params.level)
            await self.service.link.tell_log_levels()
        elif params.level is not None:
            raise ControlError(INVALID_PARAMS, "level: of which logger?")
        return {"levels": levels.present()}

    async def reload(self, call: Call, params: models.Params) -> Answer:
        return {"changed": await self.reloading.reload()}

    async def shutdown(self, call: Call, params: models.Params) -> Answer:
        self.shut_down()
        return {}

    # -------------------------------------------------------------------------------- the cache

    async def cache_warm(self, call: Call, params: models.InodeParams) -> Answer:
        return await self._order("warm", call, params)

    async def cache_pin(self, call: Call, params: models.InodeParams) -> Answer:
        return await self._order("pin", call, params)

    async def cache_unpin(self, call: Call, params: models.InodeParams) -> Answer:
        return await self._order("unpin", call, params)

    async def cache_drop(self, call: Call, params: models.InodeParams) -> Answer:
        return await self._order("drop", call, params)

    async def _order(self, order: str, call: Call, params: models.InodeParams) -> Answer:
        """An order for the tree below the node with inode number `ino`."""
        node = self.service.node(params.ino)
        if node is None:
            raise ControlError(INVALID_PARAMS, "ino is no file or directory of this archive")
        outcome = Outcome()
        carry_out = partial(getattr(self.service.cache_orders, order), node, outcome)
        await _telling(
            lambda: {"files": outcome.files, "bytes": outcome.bytes}, call.notify, carry_out
        )
        return outcome.to_message()

    # -------------------------------------------------------------------------- archived content

    async def recall(self, call: Call, params: models.RecallParams) -> Answer:
        recalls, nodes = self.service.recalls, self._nodes(params.inos)
        if params.estimate:
            order = await recalls.estimate(nodes)
        else:
            order = await recalls.ask(nodes, params.days, call.peer.uid, waits=params.wait)
            if params.wait:
                await recalls.follow(order, call.notify)
        limit_bytes = self.service.read_cache.room.limit_bytes
        return {**order.to_message(), "limit_bytes": limit_bytes}

    async def recall_release(self, call: Call, params: models.InodesParams) -> Answer:
        return {"files": await self.service.recalls.release(self._nodes(params.inos))}

    def _nodes(self, inos: list[int]) -> list[Node]:
        nodes = [self.service.node(ino) for ino in inos]
        found = [node for node in nodes if node is not None]
        if len(found) < len(inos):
            raise ControlError(INVALID_PARAMS, "inos: one is no file of this archive")
        return found

    # ------------------------------------------------------------------------------------- jobs

    async def list_jobs(self, call: Call, params: models.Params) -> Answer:
        return {"jobs": self.jobs.describe(), "migration": self._last_migration()}

    async def job(self, call: Call, params: models.JobParams) -> Answer:
        job = self.jobs.job(params.job)
        async with aclosing(job.follow()) as steps:
            async for progress in steps:
                await call.notify(progress)
        return job.describe(whole=True)

    async def job_cancel(self, call: Call, params: models.JobParams) -> Answer:
        job = self.jobs.job(params.job)
        await job.cancel()
        return job.describe(whole=True)

    # --------------------------------------------------------------------------------- carrying

    async def carry_out(self, method: "Method", call: Call, given: Any) -> bytes:
        """The result, as JSON. Raises ControlError, and what the method raises."""
        params = method.checked(given)
        if getattr(params, "detach", False):
            return self._detach(method, call.peer, params)
        return method.written(await method.carry_out(self, call, params))

    def _detach(self, method: "Method", peer: Peer, params: Any) -> bytes:
        async def work(notify: Notify) -> Answer:
            result = await method.carry_out(self, Call(peer, notify), params)
            return method.result.model_validate(result).model_dump(
                exclude_unset=True, by_alias=True
            )

        given = params.model_dump(exclude_unset=True, exclude={"detach"})
        job = self.jobs.start(method.name, given, peer, work)
        return models.JobStarted(job=job.number).model_dump_json().encode()


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table. `is_shared`: who waits for it at one time gets one answer, because it is
    some work; it takes no parameters."""

    name: str
    role: Role
    carry_out: Callable[[Methods, Call, Any], Awaitable[Answer]]
    summary: str
    result: type[BaseModel]
    params: type[models.Params] = models.Params
    progress: type[BaseModel] | None = None
    is_shared: bool = False

    @property
    def is_long(self) -> bool:
        """Whether it can be detached."""
        return "detach" in self.params.model_fields

    def checked(self, given: Any) -> models.Params:
        """The parameters. Raises ControlError, with the first thing that is wrong."""
        try:
            return self.params.model_validate({} if given is None else given)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_context=False)[0]
            key = ".".join(map(str, first["loc"]))
            reason = f"{key}: {first['msg']}" if key else "params is an object"
            raise ControlError(INVALID_PARAMS, reason[:500]) from None

    def written(self, result: Answer) -> bytes:
        """The result as JSON; what is not as the model says is a bug."""
        model = self.result.model_validate(result)
        return model.model_dump_json(exclude_unset=True, by_alias=True).encode()


async def _telling(
    progress: Callable[[], Answer], notify: Notify, work: Callable[[], Awaitable[_Done]]
) -> _Done:
    """What the work gives; how far it is is told now and then. Raises what it raises."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell_progress, progress, notify)
            done = await work()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _only(group)
        if error is group:
            raise
        raise error from None
    return done


async def _tell_progress(progress: Callable[[], Answer], notify: Notify) -> None:
    while True:
        await trio.sleep(PROGRESS_INTERVAL_S)
        await notify(progress())


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception in a group, where there is one: what ended the work."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found


_TABLE = (
    Method(
        *("status", Role.READ, Methods.status, "all that is to be known of the mount"),
        *(status.Status, models.Params, None, True),
    ),
    Method(
        *("elements", Role.READ, Methods.elements, "`elements` of `status`, alone"),
        *(status.Elements, models.Params, None, True),
    ),
    Method("modes", Role.READ, Methods.modes, "the mode of each element", models.Modes),
    Method("media", Role.READ, Methods.media, "where archived content lies", models.Media),
    Method(
        *("cache", Role.READ, Methods.cache, "what the read cache holds"),
        *(models.Cache, models.Params, None, True),
    ),
    Method(
        *("migrate_plan", Role.READ, Methods.migrate_plan, "what a migration would move"),
        *(models.MigrationPlan, models.MigrationPlanParams),
    ),
    Method(
        *("migration", Role.READ, Methods.migration, "the last migration, and how far it is"),
        *(models.LastMigration, models.MigrationParams, models.MigrationProgress),
    ),
    Method("jobs", Role.READ, Methods.list_jobs, "what runs, and has run", models.JobList),
    Method(
        *("job", Role.READ, Methods.job, "waits for the end of a job, and tells its progress"),
        *(models.Job, models.JobParams),
    ),
    Method(
        *("rpc.discover", Role.READ, Methods.discover, "this protocol, as OpenRPC"),
        *(models.Discovery, models.Params, None, True),
    ),
    Method(
        *("flush", Role.CHANGE, Methods.flush, "carries out the log without settling"),
        *(models.FlushResult, models.LongParams, models.FlushProgress),
    ),
    Method(
        *("rescan", Role.CHANGE, Methods.rescan, "takes in what others have changed"),
        *(status.Survey, models.LongParams, models.RescanProgress),
    ),
    Method(
        *("fsck", Role.CHANGE, Methods.fsck, "checks the archive, and repairs nothing"),
        *(models.FsckResult, models.FsckParams, models.FsckProgress),
    ),
    Method(
        *("expiring", Role.CHANGE, Methods.expiring, "files that are removed unless they change"),
        *(models.ExpiringFiles, models.ExpiringParams),
    ),
    Method(
        *("cache_warm", Role.CHANGE, Methods.cache_warm, "brings content into the cache"),
        *(models.Outcome, models.LongInodeParams, models.OrderProgress),
    ),
    Method(
        *("cache_pin", Role.CHANGE, Methods.cache_pin, "the same, and keeps it there"),
        *(models.Outcome, models.LongInodeParams, models.OrderProgress),
    ),
    Method(
        *("cache_unpin", Role.CHANGE, Methods.cache_unpin, "takes that back"),
        *(models.Outcome, models.InodeParams, models.OrderProgress),
    ),
    Method(
        *("cache_drop", Role.CHANGE, Methods.cache_drop, "removes content from the cache"),
        *(models.Outcome, models.InodeParams, models.OrderProgress),
    ),
    Method(
        *("recall", Role.CHANGE, Methods.recall, "brings archived content back for a time"),
        *(models.Recalled, models.RecallParams, models.RecallProgress),
    ),
    Method(
        *("recall_release", Role.CHANGE, Methods.recall_release, "takes that back"),
        *(models.Released, models.InodesParams),
    ),
    Method(
        *("job_cancel", Role.CHANGE, Methods.job_cancel, "ends a job"),
        *(models.Job, models.JobParams),
    ),
    Method(
        *("mode_change", Role.ADMINISTER, Methods.mode_change, "puts an element into a mode"),
        *(models.ElementMode, models.ModeParams, models.ModeProgress),
    ),
    Method(
        *("mode_cancel", Role.ADMINISTER, Methods.mode_cancel, "leaves it in the mode it was in"),
        *(models.ElementMode, models.ModeCancelParams),
    ),
    Method(
        *("migrate", Role.ADMINISTER, Methods.migrate, "moves files to another element"),
        *(models.MigrationState, models.MigrateParams, models.MigrationProgress),
    ),
    Method(
        *("migration_change", Role.ADMINISTER, Methods.migration_change),
        *("pauses, resumes, cancels or throttles the last migration", models.MigrationState),
        models.MigrationChangeParams,
    ),
    Method(
        *("clock_is_right", Role.ADMINISTER, Methods.clock_is_right, "lets files expire again"),
        models.Result,
    ),
    Method(
        *(
            "medium_prepare",
            Role.ADMINISTER,
            Methods.medium_prepare,
            "makes an empty disk a medium",
        ),
        *(models.Medium, models.ElementParams),
    ),
    Method(
        *("backup", Role.ADMINISTER, Methods.backup, "makes a backup of the index now"),
        *(models.IndexBackup, models.LongParams, models.BackupProgress),
    ),
    Method(
        *("log_level", Role.ADMINISTER, Methods.log_level, "how much is logged, by subsystem"),
        *(models.Levels, models.LogLevelParams),
    ),
    Method(
        *("reload", Role.ADMINISTER, Methods.reload, "reads the configuration again"),
        models.Reloaded,
    ),
    Method(
        *("shutdown", Role.ADMINISTER, Methods.shutdown, "unmounts, drains and ends"),
        models.Result,
    ),
)

METHODS: Final = {method.name: method for method in _TABLE}
