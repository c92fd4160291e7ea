"""Every named crash point, with a real daemon, a real transfer process and a real SIGKILL.

An archive is mounted with crash points that a file switches on (`core/crash_points.py`). In each
test a directory is prepared and flushed, a point is armed, a scenario is done, and whichever
process comes to the point dies there. Then it is checked, in this order, that

    every attr.json on the element still has its object, whole, and no file has lost its own
    a mount that lives shows everything that was acknowledged, and so does the next one
    flushed, the element says the same, and holds nothing else: no orphan, no leftover
    an index that is rebuilt from the element alone is the index that there is

The archive is used again by the next test unless a test failed; every test passes alone as well.
`artstorefs/RECOVERY.md` names the points and what is to be found; a test compares it with these.
"""

from collections.abc import Callable

import pytest

from ..starter import is_alive
from . import scenarios
from .load import Writer
from .step_bench import Bench, whole_objects

OPENING = ["create.committed", "spool.opened"]
STORING = ["assign.committed", "batch.sent", "log.synced", "staging.temporary_made"]
STORING += ["object.staged", "barrier.contents_flushed", "barrier.change_published"]
STORING += ["barrier.published", "barrier.directories_flushed", "objects.durable"]
STORING += ["document.staged", "barrier.change_published:3", "barrier.published:2"]
STORING += ["documents.durable", "batch.carried", "result.received", "stored.committed"]
REMOVING = ["removal.documents_gone", "removal.objects_gone", "removed.committed"]
RECORDS = ["assign.committed", "document.staged", "barrier.published", "stored.committed"]

CASES = {
    scenarios.new: [
        *(*OPENING, "content_sealed.committed", "assign.committed", "object.staged"),
        *("barrier.published", "objects.durable", "documents.durable", "stored.committed"),
        "transaction.written",
    ],
    scenarios.large: ["block_list.staged", "barrier.change_published:2"],
    scenarios.overwrite: [
        *("copy.spooled", "content_opened.committed", "write.spooled", "content_sealed.committed"),
        *(*STORING, *REMOVING, "removal.spool_file_gone", "barrier.unlinked"),
    ],
    scenarios.truncate: ["spool.created", "content_opened.committed", "stored.committed"],
    scenarios.metadata: ["attributes.committed", *RECORDS, "transaction.written"],
    scenarios.delete: ["remove.committed", "barrier.unlinked", *REMOVING, "transaction.written"],
    scenarios.deleted_while_open: ["remove.committed", "purge.committed"],
    scenarios.replace: ["rename.committed", *RECORDS, *REMOVING, "transaction.written:3"],
    scenarios.replace_first_of_two_links: ["rename.committed", "stored.committed", *REMOVING],
    scenarios.link: ["link.committed", "link_record.staged", "documents.durable"],
    scenarios.unlink_first_of_two_links: ["remove.committed", "stored.committed", *REMOVING[:1]],
    scenarios.unlink_second_of_two_links: ["remove.committed", *REMOVING[:1]],
    scenarios.exchange: ["exchange.committed", "barrier.change_published", "stored.committed"],
    scenarios.others: ["observed.committed", "stored.committed"],
}

TRANSFER = ["log.synced", "object.staged", "barrier.published", "document.staged"]
TRANSFER += ["documents.durable", "batch.carried", *REMOVING[:2], "removal.spool_file_gone"]


GOING = {scenarios.delete, scenarios.replace, scenarios.replace_first_of_two_links}
"""Scenarios after which the element need not have every file that it had."""

STEPS = [(point, scenario) for scenario, points in CASES.items() for point in points]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "scenario"), STEPS, ids=[f"{point}-{what.__name__}" for point, what in STEPS]
)
def test_kill_at_every_step(bench: Bench, point: str, scenario: Callable[[Writer], None]) -> None:
    """SEMANTICS: DUR-1, ELEM-1, ELEM-2, MOUNT-1"""
    directory = bench.prepare()
    before = whole_objects(bench.archive.element)
    bench.arm(point)
    bench.work(directory, scenario)
    bench.wait_until_reached()
    after = whole_objects(bench.archive.element)
    assert before <= after or scenario in GOING
    if is_alive(bench.archive.mount) and scenario is not scenarios.others:
        bench.check_mount()
    bench.end()
    bench.start()
    if scenario is scenarios.others:
        bench.archive.ask("rescan")
        bench.models[directory].node("archived").xattrs["user.other"] = b"theirs"


@pytest.mark.slow
@pytest.mark.parametrize("point", TRANSFER)
def test_kill_of_the_transfer_process_at_every_step(bench: Bench, point: str) -> None:
    """The mount goes on, and nobody who uses it has noticed. SEMANTICS: DUR-7"""
    directory = bench.prepare()
    pid = bench.archive.pid
    bench.arm(point)
    bench.work(directory, scenarios.overwrite)
    bench.wait_until_reached()
    bench.check_mount()
    bench.work(directory, scenarios.new)
    bench.check_everything()
    assert bench.archive.pid == pid
    assert bench.under_way is None


@pytest.mark.slow
@pytest.mark.parametrize("point", ["contents.summed", "contents_summed.committed"])
def test_kill_while_content_is_summed(settling_bench: Bench, point: str) -> None:
    """The next start takes what waits for what it is, with a sum and without. SEMANTICS: DUR-1"""
    bench = settling_bench
    directory = bench.prepare()
    bench.arm(point)
    bench.work(directory, scenarios.new)
    bench.wait_until_reached()
    bench.end()
    bench.start()


@pytest.mark.slow
def test_kill_while_a_sum_is_given_up(settling_bench: Bench) -> None:
    """Somebody writes on, in place. SEMANTICS: DUR-1"""
    bench = settling_bench
    directory = bench.prepare()
    bench.work(directory, scenarios.new)
    bench.wait_until_summed(2)
    bench.arm("sum_dropped.committed")
    bench.work(directory, scenarios.write_on)
    bench.wait_until_reached()
    bench.end()
    bench.start()
