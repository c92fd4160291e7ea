"""The mount daemon from start to end.

The order matters:
    1. take the archive's lock, open the state, take over the mount of a daemon that has made way
       (handover.py), recover; no element is waited for, unless there is no index
    2. fork, unless in the foreground, and fork the transfer process: before trio and any thread
    3. the child mounts, in the place of a dead mount if there is one, then calls setsid (setsid
       before would deadlock an automount), and tells the waiting parent over a pipe when the mount
       is there
    4. unmounted or told to end (ending.py): drain up to a limit, end the transfer process, close
       the state
"""

import faulthandler
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import trio

from artstorefs import __version__
from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import (
    ArchiveInUse,
    ArtStoreFSError,
    ConfigurationError,
    ElementError,
    ElementOfAnother,
    ObjectAbsent,
)
from artstorefs.core.log_fields import about
from artstorefs.elements.durable import make_directories_durably
from artstorefs.elements.gauges import Gauges
from artstorefs.elements.interface import ARCHIVE_KEY, Element
from artstorefs.elements.opening import identified_element, open_element, open_elements
from artstorefs.filesystem.archive import Archive, now_ns
from artstorefs.filesystem.handing_over import OpenFiles
from artstorefs.recovery.boots import note_rest
from artstorefs.recovery.renew import open_index
from artstorefs.recovery.start import recover
from artstorefs.state.changes import Changes
from artstorefs.state.copies import CopiesPolicy
from artstorefs.state.database import Database
from artstorefs.state.files import INDEX
from artstorefs.state.index import ROOT_INO, Index
from artstorefs.state.lock import StateLock
from artstorefs.state.log import Log
from artstorefs.state.outcomes import Outcomes
from artstorefs.state.reserve import Reserve
from artstorefs.state.spool import Spool
from artstorefs.state.witnesses import remember_joined, witnesses_of
from artstorefs_daemon import handover, logs
from artstorefs_daemon.accounts import account
from artstorefs_daemon.archive_identity import archive_id
from artstorefs_daemon.auditing import note_anyway, open_audit
from artstorefs_daemon.control.server import ControlSocket
from artstorefs_daemon.ending import Ending
from artstorefs_daemon.fuse_library import keep_buffers, pyfuse3
from artstorefs_daemon.metrics.supervision import keep_metrics
from artstorefs_daemon.mounting import Mounting
from artstorefs_daemon.mountpoint import is_mounted
from artstorefs_daemon.operations import Operations
from artstorefs_daemon.reloading import Reloading, Reread
from artstorefs_daemon.service import Service
from artstorefs_daemon.service_manager import ServiceManager
from artstorefs_daemon.transfer_child import TransferChild, fork_transfer

log = logging.getLogger(__name__)

SERVED_S = 0.5
"""How long a mount has to be seen until its daemon counts as one that stays: a daemon takes a
moment to notice that it was unmounted, and by then another mount may have its device number."""

LOCK_WAIT_S = 60.0
"""How long a mount waits for an unmounted daemon of the same archive to finish: its drain has a
limit of 20 s, and a barrier of a slow disk may come on top."""

SURVEY_WAIT_S = 3.0
"""How long a mount waits for the first look at the elements: 30,000 files on a local one. A larger
archive is mounted at once, and what others changed shows a little later."""

LOOK_WAIT_S = 2.0
"""How long the start waits for directories: a disk that wakes up, or an NFS server that does not
answer, must not hold up what needs none of it."""

REQUESTS_MAX = 1000
"""Requests under way at a time; each has a worker of pyfuse3, whose buffer takes memory as far as
it was written to. While a server does not answer each reader of what only it has takes one for a
minute, and with pyfuse3's 99 the hundredth would have names and attributes wait as well."""

EXIT_MOUNT_FAILURE = 32
"""mount(8): "mount failure"."""


def serve(
    configuration: ArchiveConfiguration,
    mounting: Mounting,
    foreground: bool,
    reread: Reread,
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> int:
    """Mount and serve. Returns in the parent when the mount is there, in the foreground when it
    has ended; the value is the exit code. Raises ArtStoreFSError before anything is mounted.
    `reread` gives the configuration anew, from where the given one comes. The parent is `waiting`,
    and may have threads then."""
    _make_directories(configuration)
    lock = StateLock(str(configuration.state_dir), configuration.name)
    _acquire(lock)
    if foreground:
        logs.begin("mount", configuration.name)
        faulthandler.enable()  # a watchdog ends us with SIGABRT, and wants to know where we hung
        manager = ServiceManager.of_environment()
        return _run(configuration, mounting, lock, manager, reread)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _serve_in_background(configuration, mounting, lock, writing, reread)
    os.close(writing)
    with waiting():
        message = _told_by_child(reading, child)
    if message == "ok":
        return 0
    print(f"artstorefs: {message or 'the daemon ended before it had mounted'}", file=sys.stderr)
    return EXIT_MOUNT_FAILURE


def _make_directories(configuration: ArchiveConfiguration) -> None:
    """Only the state directory is needed; without the others something is missing until they can
    be made, but nobody is turned away."""
    try:
        make_state_directory(configuration.state_dir)
    except OSError as exc:
        reason = f"{configuration.state_dir} cannot be made: {exc.strerror}"
        raise ConfigurationError(configuration.name, "state_dir", reason) from exc
    for directory, mode in ((configuration.cache_dir, 0o700), (configuration.runtime_dir, 0o755)):
        try:
            os.makedirs(directory, mode=mode, exist_ok=True)
        except OSError as exc:
            print(f"artstorefs: {directory} cannot be made: {exc.strerror}", file=sys.stderr)


def make_state_directory(path: Path) -> None:
    """What is synced below must not lose its directory in a power cut."""
    make_directories_durably(path)


def _acquire(lock: StateLock) -> None:
    """Take the lock; a daemon that is still draining after its unmount is waited for."""
    begun = time.monotonic()
    told = False
    while True:
        try:
            lock.acquire()
            return
        except ArchiveInUse as exc:
            waited_s = time.monotonic() - begun
            served = exc.holder and not exc.drains and is_mounted(pid=exc.holder)
            if waited_s > (SERVED_S if served else LOCK_WAIT_S):
                raise
            if not served and not told:
                print(
                    f"artstorefs: waiting for process {exc.holder}, which still drains the log",
                    file=sys.stderr,
                )
                told = True
            time.sleep(0.1)


def _told_by_child(reading: int, child: int) -> str:
    """The child writes "ok" once the mount is there, or why it cannot be, and ends."""
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read().decode(errors="replace")
    if message != "ok":
        os.waitpid(child, 0)
    return message


def _serve_in_background(
    configuration: ArchiveConfiguration,
    mounting: Mounting,
    lock: StateLock,
    writing: int,
    reread: Reread,
) -> NoReturn:
    """The forked child; never returns."""
    code = 1
    parent = _WaitingParent(writing)
    try:
        lock.write_holder()
        os.chdir("/")
        _log_to_file(configuration)
        code = _run(configuration, mounting, lock, parent, reread)
    except BaseException as exc:
        if isinstance(exc, ArtStoreFSError):
            log.error("%s", exc, extra=about(exc))
        else:
            log.exception("the daemon ended because of this")
        parent.failed(exc)
    finally:
        logging.shutdown()
        os._exit(code)


class _WaitingParent(ServiceManager):
    """The process that has started a daemon in the background, and waits at the pipe."""

    def __init__(self, writing: int) -> None:
        super().__init__(None)
        self._writing = writing

    def ready(self) -> None:
        os.setsid()
        os.write(self._writing, b"ok")
        os.close(self._writing)
        self._writing = -1

    def failed(self, exc: BaseException) -> None:
        """Say why, unless it waits no more."""
        if self._writing >= 0:
            os.write(self._writing, str(exc).encode()[:4000] or repr(exc).encode())


def _log_to_file(configuration: ArchiveConfiguration) -> None:
    """A daemon without a terminal logs to `daemon.log` in the state directory; so does what it
    starts, and what writes to standard error."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    path = os.path.join(str(configuration.state_dir), logs.FILE_NAME)
    logs.begin("mount", configuration.name, file=path)


# --------------------------------------------------------------------------------- the service


def _run(
    configuration: ArchiveConfiguration,
    mounting: Mounting,
    lock: StateLock,
    manager: ServiceManager,
    reread: Reread,
) -> int:
    read_only = mounting.options.read_only
    transfer = fork_transfer(configuration, read_only=read_only, inherited=lock.descriptor)
    try:
        return _run_with(transfer, configuration, mounting, lock, manager, reread)
    finally:
        transfer.dismiss()


def _run_with(
    transfer: TransferChild,
    configuration: ArchiveConfiguration,
    mounting: Mounting,
    lock: StateLock,
    manager: ServiceManager,
    reread: Reread,
) -> int:
    begun_s = time.monotonic()
    read_only = mounting.options.read_only
    archive = open_archive(configuration, read_only=read_only, owner=mounting.owner)
    try:
        inherited = handover.take(archive, mounting, manager)
        handed = OpenFiles() if inherited is None else inherited.open_files
        spool_used = recover(archive, handed.inos)
        recovery_s = time.monotonic() - begun_s
        parts = (archive, mounting.mountpoint, spool_used, transfer, lock.descriptor, recovery_s)
        make_service = partial(Service, *parts, mounting.backing, handed)
        is_followed = trio.run(_serve, make_service, mounting, inherited, lock, manager, reread)
        if not is_followed:
            note_rest(archive)
    except* sqlite3.DatabaseError as group:
        for exc in group.exceptions:
            if isinstance(exc, sqlite3.DatabaseError):
                archive.database.note_damage(exc)
        raise
    finally:
        archive.database.close()
        if archive.database.reserve is not None:
            archive.database.reserve.stop()
        for element in archive.elements.values():
            element.close()
        lock.release()
    return 0


def open_archive(
    configuration: ArchiveConfiguration, *, read_only: bool, owner: tuple[int, int] | None = None
) -> Archive:
    """Open the state directory. A new archive gets its root directory, which belongs to `owner`,
    else to us.

    With an index no element is waited for: each is opened when it can be, and checked then. Only
    a wrong one that says so at once is refused.
    """
    state = str(configuration.state_dir)
    reserve = Reserve(state)
    reserve.start()
    root_id = open_index(state, lambda: _open_all(configuration), account)
    gauges = {one.id: Gauges() for one in configuration.elements}
    path = os.path.join(state, INDEX)
    elements = {
        one.id: identified_element(
            one, root_id, gauges=gauges[one.id], witnesses=partial(witnesses_of, path, one.id)
        )
        for one in configuration.elements
    }
    there = _open_near(elements)
    database = Database(path, reserve)
    index = Index(database)
    database.audit = open_audit(configuration, index)
    intents = Log(database)
    policy = CopiesPolicy(configuration.copies, frozenset(one.id for one in configuration.elements))
    adopted = {one.id for one in configuration.elements if one.adopted}
    remember_joined(database, adopted & there)
    archive = Archive(
        id=root_id,
        configuration=configuration,
        database=database,
        index=index,
        log=intents,
        changes=Changes(database, index, intents),
        outcomes=Outcomes(database, index, intents, policy, adopted),
        policy=policy,
        spool=Spool(os.path.join(state, "spool")),
        elements=elements,
        counters={name: one.counters for name, one in gauges.items()},
        read_only=read_only,
    )
    if index.node(ROOT_INO) is None:
        uid, gid = owner or (os.geteuid(), os.getegid())
        archive.changes.create_root(root_id.bytes, 0o755, uid, gid, now_ns())
    return archive


def _open_all(configuration: ArchiveConfiguration) -> tuple[dict[str, Element], UUID]:
    """All elements, each of which has answered, and the id of their archive."""
    asked: dict[str, Element] = {}
    try:
        for described in configuration.elements:
            asked[described.id] = open_element(described, briefly=True)
        found = archive_id(configuration, asked)
    finally:
        for element in asked.values():
            element.close()
    return open_elements(configuration.elements), found


def _open_near(elements: dict[str, Element]) -> set[str]:
    """Open the directories, which are read from here, as far as they are there at once; the ids of
    those that have an archive.json.

    Raises ElementOfAnother for one of another archive, so that a mistake in the configuration shows
    now. What else is wrong with one `status` tells, and it is opened once that is mended.
    """
    mistaken: list[ElementOfAnother] = []
    there: set[str] = set()

    def look(element: Element) -> None:
        try:
            element.stat(ARCHIVE_KEY)
            there.add(element.id)
        except ElementOfAnother as exc:
            mistaken.append(exc)
        except ObjectAbsent:
            log.debug("element %s was adopted, and nothing is written there yet", element.id)
        except ElementError as exc:
            log.warning("%s", exc, extra=about(exc))

    near = [element for element in elements.values() if element.capabilities.local_path]
    looks = [threading.Thread(target=look, args=(element,), daemon=True) for element in near]
    for thread in looks:
        thread.start()
    deadline = time.monotonic() + LOOK_WAIT_S
    for thread in looks:
        thread.join(max(0.0, deadline - time.monotonic()))
    for exc in mistaken[:1]:
        raise exc
    return set(there)


async def _serve(
    make_service: Callable[[], Service],
    mounting: Mounting,
    inherited: handover.Inherited | None,
    lock: StateLock,
    manager: ServiceManager,
    reread: Reread,
) -> bool:
    """Serve until the end; whether another daemon is about to follow."""
    keep_buffers()
    service = make_service()
    archive, mountpoint = service.archive, service.mountpoint
    ending = Ending(mounting)
    try:
        operations = Operations(service)
        if inherited is not None:
            inherited.begin()
        with mounting.place(None if inherited is None else inherited.device) as (place, options):
            pyfuse3.init(operations, place, options)
    except RuntimeError as exc:
        reason = f"cannot be mounted: {exc}; artstorefs doctor says what is missing"
        raise ConfigurationError(mountpoint, "mountpoint", reason) from exc
    about_mount = {"mountpoint": mountpoint, "read_only": archive.read_only, "version": __version__}
    note_anyway(archive.database.audit, "mount", about_mount)
    try:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(service.run)
            tasks.start_soon(mounting.keep)
            reloading = Reloading(service, reread)
            control = ControlSocket(service, ending.unmount, reloading)
            socket_path = os.path.join(str(archive.configuration.runtime_dir), "control.sock")
            tasks.start_soon(control.serve, socket_path)
            tasks.start_soon(keep_metrics, archive.configuration, socket_path)
            tasks.start_soon(ending.on_signal)
            tasks.start_soon(_reload_on_signal, reloading)
            tasks.start_soon(_tell_ready, service, mounting, manager)
            tasks.start_soon(manager.keep_informed, service.summary)
            await ending.serve(REQUESTS_MAX)
            lock.note_drain()
            manager.stopping()
            if not ending.for_successor:
                log.info("%s is unmounted", mountpoint)
                tasks.start_soon(manager.ask_for_time)
                await service.drain()
            note_anyway(archive.database.audit, "unmount", {"mountpoint": mountpoint})
            tasks.cancel_scope.cancel()
        if ending.for_successor and ending.has_answered_all:
            handover.leave(service, operations.handles, mounting, manager)
        return ending.for_successor
    finally:
        pyfuse3.close(unmount=not (ending.for_successor or ending.is_unmounted))


async def _tell_ready(service: Service, mounting: Mounting, manager: ServiceManager) -> None:
    """mount(2) has returned, so the mount is in the table; tell whoever waits for it, a little
    later if that is all it takes to have seen what others did on the elements meanwhile."""
    await service.begun.wait()  # which sets back how far the kernel reads ahead
    mounting.settle()
    with trio.move_on_after(SURVEY_WAIT_S):
        await service.link.surveys.wait_first()
    manager.ready()


async def _reload_on_signal(reloading: Reloading) -> None:
    """SIGHUP reads the configuration again, as `reload` does; the log says what came of it. And
    whoever rotates logs may have moved ours away: lines go to the new file without it, too."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            logs.reopen()
            try:
                changed = await reloading.reload()
                log.info("reloaded: %s", ", ".join(changed) or "nothing has changed")
            except ArtStoreFSError as exc:
                log.error("not reloaded: %s", exc)
            except Exception:  # the mount goes on with the configuration that it has
                log.exception("not reloaded")
