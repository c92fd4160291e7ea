"""A new index in the place of one that is lost, damaged, or not wanted any more.

What `open_index` finds, and what becomes of it (LESSONS: start is an idempotent replay):

    no index, and no trace of one      rebuilt from the elements; a new archive has nothing there
    good                               used as it is, and no element is asked anything
    good, and empty                    as if there were none
    damaged, or missing with traces    put aside, never deleted; in its place the newest backup
    (a log, a backup, an unclean end)  that is whole, brought up to date from the elements; without
                                       one, rebuilt from the elements alone. An index that is whole
                                       and has lost only its log is the newest backup of all

Spool files that the new index does not know as content go to `spool/lost`, before it is put in
place: their names are inode numbers, which may mean other files there.

The steps, each of which can be cut off and is then begun anew: the new index is filled in a file of
its own and flushed; the spool is sorted; the old index goes to `aside`; the new one gets its name.
"""

import logging
import os
import time
from collections.abc import Callable
from uuid import UUID

from artstorefs.core.crash_points import crash_point
from artstorefs.core.errors import ArtStoreFSError
from artstorefs.core.log_fields import about
from artstorefs.elements.interface import Element
from artstorefs.recovery.gather import OnProgress, Progress
from artstorefs.recovery.rebuild import Rebuild, Report
from artstorefs.state import backup, files
from artstorefs.state.bulk import NewIndex
from artstorefs.state.earlier import EarlierIndex
from artstorefs.state.spool import Spool, parse_spool_name, spool_name
from artstorefs.transfer.documents import Accounts

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 10.0
"""Between two lines of progress in the log of a daemon that rebuilds at its start."""


class PendingChanges(ArtStoreFSError):
    """A rebuild was asked for while the index knows what no element has."""

    def __init__(self, name: str, count: int) -> None:
        super().__init__(
            f"{name}: {count} changes are not on the elements yet, and a rebuild would forget them;"
            f" carry them out first: artstorefs mount {name}, flush, umount"
        )
        self.count = count


def open_index(
    directory: str, open_all: Callable[[], tuple[dict[str, Element], UUID]], accounts: Accounts
) -> UUID:
    """Make sure that the state directory has an index that can be opened; the archive's id.

    Where that takes the elements `open_all` gives all of them, and the id that they agree on.
    Raises what it raises, and ElementError when one of them cannot be listed; then nothing is
    replaced.
    """
    problem = files.examine(directory)
    known = files.root_id(directory) if problem is None else None
    if known is not None:
        return UUID(bytes=known)
    elements, root_id = open_all()
    try:
        _open_new_index(directory, elements, root_id, accounts, problem)
    finally:
        for element in elements.values():
            element.close()
    return root_id


def _open_new_index(
    directory: str,
    elements: dict[str, Element],
    root_id: UUID,
    accounts: Accounts,
    problem: str | None,
) -> None:
    if not problem:
        report = _renew(directory, elements, root_id, accounts, [], _log_progress())
        if report.nodes:
            log.info("the index was rebuilt from the elements: %s", describe(report))
        return
    sources = backup.backups(directory)
    path = os.path.join(directory, files.INDEX)
    if os.path.exists(path) and not os.path.exists(path + "-wal"):
        sources.insert(0, path)
    report = _renew(directory, elements, root_id, accounts, sources, _log_progress())
    log.warning(
        "the index was damaged (%s): %s; %s. What was changed last and is not on the elements"
        " may be missing; the old index is kept in %s, content that no file knows in %s",
        problem,
        report.source or "there was no backup, so it was rebuilt from the elements",
        describe(report),
        os.path.join(directory, files.ASIDE),
        os.path.join(directory, "spool", "lost"),
    )


def rebuild_index(
    name: str,
    directory: str,
    elements: dict[str, Element],
    root_id: UUID,
    accounts: Accounts,
    on_progress: OnProgress,
    processes: int | None = None,
) -> Report:
    """The index from the elements alone, because somebody asks for it.

    Raises PendingChanges while a good index knows changes that no element has: they exist nowhere
    else, and a rebuilt index could not tell where they belong. Carrying them out is the way to keep
    them, so there is no way to override this; an index that cannot be read is no hindrance.
    """
    problem = files.examine(directory)
    if problem is None:
        count = files.pending_changes(directory)
        if count:
            raise PendingChanges(name, count)
    elif problem:
        sources = backup.backups(directory)
        return _renew(directory, elements, root_id, accounts, sources, on_progress, processes)
    return _renew(
        *(directory, elements, root_id, accounts, [], on_progress, processes),
        keep_old=problem is None,
    )


def describe(report: Report) -> str:
    """One line of what a rebuild has found."""
    parts = [f"{report.nodes:,} nodes from {report.documents:,} documents"]
    for number, what in (
        (report.unread, "unchanged since the backup"),
        (report.pending, "changes still pending"),
        (report.lost, "in lost+found"),
        (report.renamed, "with a name of their own, because theirs was taken"),
        (report.unreadable, "documents unreadable, left where they are"),
        (report.spool_lost, "spool files put aside"),
    ):
        if number:
            parts.append(f"{number:,} {what}")
    return ", ".join(parts)


def _renew(
    directory: str,
    elements: dict[str, Element],
    root_id: UUID,
    accounts: Accounts,
    sources: list[str],
    on_progress: OnProgress,
    processes: int | None = None,
    *,
    keep_old: bool = False,
) -> Report:
    earlier = _newest_good(sources, root_id)
    spool = Spool(os.path.join(directory, "spool"))
    new = NewIndex(os.path.join(directory, files.NEW_INDEX))
    try:
        work = Rebuild(new, elements, root_id, accounts, earlier, _inos_of(spool))
        report = work.run(on_progress, processes)
        content = {spool_name(*row) for row in new.content_names()}
        crash_point("rebuild.filled")
        new.finish()
        crash_point("rebuild.durable")
        report.spool_lost = _sort_spool(spool, content)
        crash_point("rebuild.spool_sorted")
        if earlier is not None:
            report.source = f"{os.path.basename(earlier.path)} was taken and brought up to date"
        report.aside = files.install(directory, new.path, keep_old=keep_old)
        return report
    finally:
        new.discard()
        if earlier is not None:
            earlier.close()


def _newest_good(sources: list[str], root_id: UUID) -> EarlierIndex | None:
    for path in sources:
        problem = files.problem_of(path, files.Look.PAGES)
        if problem:
            log.warning("%s cannot be used: %s", path, problem, extra=about(path=str(path)))
            continue
        earlier = EarlierIndex(path)
        if earlier.root_id() == root_id.bytes:
            return earlier
        earlier.close()
    return None


def _inos_of(spool: Spool) -> list[int]:
    inos = []
    for name in spool.names():
        try:
            inos.append(parse_spool_name(name)[0])
        except ValueError:
            continue
    return inos


def _sort_spool(spool: Spool, content: set[str]) -> int:
    """Put aside what is not content of the new index; returns how many files that were."""
    moved = 0
    for name in spool.names():
        try:
            parse_spool_name(name)
        except ValueError:
            continue
        if name not in content:
            kept = spool.put_aside(name)
            log.warning("spool file %s belongs to no file that is known; kept as %s", name, kept)
            moved += 1
    return moved


def _log_progress() -> Callable[[Progress], None]:
    told = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told < LOG_INTERVAL_S:
            return
        told = time.monotonic()
        log.info(
            "rebuilding the index: %d of %d documents, %.0f a second",
            *(progress.documents, progress.total, progress.rate),
        )

    return tell
