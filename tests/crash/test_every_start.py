"""Kills while an archive is made, started, recovered, rebuilt; and a second kill after the first.

See `test_every_step.py` for the rest of the crash points, and for what is checked after each test.
"""

import contextlib
import copy
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from artstorefs.elements.identified import read_layout
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.boots import BOOT

from ..harness import MountedArchive
from . import scenarios
from .armed import Armed
from .load import payload
from .step_bench import Bench

START = [
    ("transaction.written:2", "start.nodes_recovered"),
    ("purge.committed", "content_sealed.committed"),
    ("content_sealed.committed", "start.node_recovered"),
    ("start.node_recovered", "start.node_recovered"),
    ("start.nodes_recovered", "put_aside.linked"),
    ("put_aside.linked", "put_aside.linked"),
    ("start.spool_file_recovered", "start.spool_file_recovered"),
    ("start.leftovers_gone", "start.leftovers_gone"),
]
REBUILD = [
    ("database.tables_written", "database.tables_written"),
    ("rebuild.filled", "rebuild.filled"),
    ("rebuild.durable", "rebuild.spool_sorted"),
    ("rebuild.old_index_aside", "rebuild.old_index_aside"),
    ("rebuild.filled", "rebuild.committed"),
    ("rebuild.committed", "start.nodes_recovered"),
]
INIT = ["init.directories_made", "barrier.contents_flushed", "barrier.change_published"]
INIT += ["barrier.published", "init.element_made", "init.elements_made"]
INIT += ["init.configuration_staged"]


def leave_everything_open(bench: Bench) -> None:
    """A daemon dies with a file open, one deleted and open, some being carried; and somebody
    else's things lie in the spool and on the element."""
    directory = bench.prepare()
    place, model = bench.archive.mount / directory, bench.models[directory]
    opened = os.open(place / "open", os.O_WRONLY | os.O_CREAT, 0o640)
    os.write(opened, payload(1, 3000))
    model.apply({"call": "create", "path": "open", "mode": 0o640})
    model.apply({"call": "write", "path": "open", "number": 1, "size": 3000, "offset": None})
    deleted = os.open(place / "deleted", os.O_WRONLY | os.O_CREAT, 0o640)
    os.write(deleted, payload(2, 3000))
    os.unlink(place / "deleted")
    bench.work(directory, scenarios.overwrite)
    bench.end()
    for descriptor in (opened, deleted):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    spool = bench.archive.state / "spool"
    (spool / "abcdef.1").write_bytes(b"of no file")
    (bench.archive.element / ".artstorefs" / "tmp" / "1-dead-0").write_bytes(b"of no process")


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), START)
def test_kill_during_the_start_and_again(bench: Bench, first: str, second: str) -> None:
    """SEMANTICS: DUR-1, MOUNT-1"""
    leave_everything_open(bench)
    for point in (first, second):
        bench.arm(point)
        bench.start_dies()
    bench.start()
    bench.check_everything()
    lost = bench.archive.state / "spool" / "lost"
    assert {path.name: path.read_bytes() for path in lost.iterdir()} == {"abcdef.1": b"of no file"}
    (lost / "abcdef.1").unlink()


@pytest.mark.slow
def test_kill_after_an_entry_came_and_while_its_directory_is_recorded(bench: Bench) -> None:
    """Nothing was committed after the entry, so that it alone tells of its directory's times.
    SEMANTICS: DUR-1"""
    directory = bench.prepare()
    bench.work(directory, scenarios.new)
    bench.archive.ask("flush")
    bench.arm("create.committed")
    bench.work(directory, lambda writer: writer.call("create", "last", mode=0o640))
    bench.wait_until_reached()
    bench.arm("entry_came.committed")
    bench.start_dies()
    bench.start()
    assert newest_entry_of(bench, directory) == (bench.archive.mount / directory).stat().st_mtime_ns
    bench.check_everything()


def newest_entry_of(bench: Bench, directory: str) -> int:
    """When the last entry of a directory was made, as the index has it."""
    ino = (bench.archive.mount / directory).stat().st_ino
    path = f"file:{bench.archive.state / 'state.db'}?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as connection:
        query = "SELECT max(created_ns) FROM nodes JOIN names USING (ino) WHERE parent = ?"
        return int(connection.execute(query, (ino,)).fetchone()[0])


@pytest.mark.slow
def test_kill_while_lost_content_is_reverted(bench: Bench) -> None:
    """As if a power cut had taken a spool file that was never synced. SEMANTICS: DUR-3"""
    directory = bench.prepare()
    before = copy.deepcopy(bench.models)
    bench.arm("assign.committed")
    bench.work(directory, lambda writer: scenarios.overwrite_one(writer, "archived"))
    bench.wait_until_reached()
    bench.end()
    bench.lose_spool()
    bench.arm("content_reverted.committed")
    bench.start_dies()
    bench.start()
    before[directory].node("archived").mtime_ns = None
    bench.models, bench.under_way = before, None
    bench.check_everything()


def say_the_power_was_cut(bench: Bench) -> None:
    """The index was last in use under another kernel, for all that the next start knows."""
    with closing(sqlite3.connect(bench.archive.state / "state.db")) as connection, connection:
        found = connection.execute(
            "UPDATE settings SET value = 'of another kernel' WHERE key = ?", (BOOT,)
        )
        assert found.rowcount == 1


@pytest.mark.slow
def test_kill_while_older_content_is_kept(bench: Bench) -> None:
    """After a power cut, nobody knows whether new content is whole. SEMANTICS: DUR-3, ELEM-18"""
    directory = bench.prepare()
    bench.arm("assign.committed")
    bench.work(directory, lambda writer: scenarios.overwrite_one(writer, "archived"))
    bench.wait_until_reached()
    bench.end()
    say_the_power_was_cut(bench)
    bench.arm("earlier_content.marked")
    bench.start_dies()
    bench.arm("removal.kept")
    bench.start()
    bench.wait_until_reached()
    bench.check_everything()
    folder = bench.archive.element / ".artstorefs" / "quarantine"
    assert len(list(folder.rglob("archived_*.kept"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), REBUILD)
def test_kill_while_the_index_is_rebuilt_and_again(bench: Bench, first: str, second: str) -> None:
    """SEMANTICS: ELEM-6"""
    directory = bench.prepare()
    bench.work(directory, scenarios.new)
    bench.archive.ask("flush")
    bench.end()
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        (bench.archive.state / name).unlink(missing_ok=True)
    for point in (first, second):
        bench.arm(point)
        bench.start_dies()
    bench.start()


@pytest.mark.slow
@pytest.mark.parametrize("point", INIT)
def test_kill_while_an_archive_is_made(tmp_path: Path, armed: Armed, point: str) -> None:
    """The same `init` again makes what is missing; the archive keeps the id that it has."""
    arguments = ["init", "test", "--element", f"main=local:{tmp_path}/element"]
    armed.kill_command(point, *arguments, "--config-dir", str(tmp_path))
    first = archive_id(tmp_path)
    MountedArchive(tmp_path)
    assert archive_id(tmp_path) is not None
    assert first in (None, archive_id(tmp_path))


def archive_id(base: Path) -> object:
    element = LocalElement("main", str(base / "element"))
    try:
        record = read_layout(element)
    finally:
        element.close()
    return record.archive_id if record else None


@pytest.mark.slow
def test_kill_after_the_root_was_made(tmp_path: Path) -> None:
    bench = Bench(tmp_path, mount=False)
    try:
        bench.arm("root.committed")
        bench.start_dies()
        bench.start()
        bench.check_everything()
    finally:
        bench.close()
