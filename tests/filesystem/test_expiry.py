"""Files that nobody has changed for long: shown, and removed after a grace period."""

import logging
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.core.configuration import AuditConfiguration
from artstorefs.core.errors import StateError
from artstorefs.core.expiry import DAY_NS
from artstorefs.core.marks import RETAIN_UNTIL, moment_text
from artstorefs.state import expiring as table
from artstorefs.state.index import ROOT_INO

from .expiry_bench import GRACE_DAYS, LIFE_DAYS, ExpiryBench, SeveralBench
from .rebuilding import rebuild
from .test_audit_log import records
from .workbench import DIRECTORY, ME


@pytest.fixture
def clock() -> MockClock:
    """For a test in which something waits for long."""
    return MockClock(autojump_threshold=0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ExpiryBench]:
    bench = ExpiryBench(tmp_path)
    yield bench
    await bench.drain()
    bench.check_soundness()


async def test_file_is_shown_and_then_removed(
    bench: ExpiryBench, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: EXPIRE-1, EXPIRE-3, EXPIRE-4"""
    caplog.set_level(logging.INFO)
    node = await bench.keep(b"old", LIFE_DAYS - 1)
    empty = await bench.write(b"empty", b"")
    bench.age(empty, LIFE_DAYS)
    await bench.drain()
    assert await bench.shown() == ["/empty"]
    at = moment_text(bench.wall_ns() + (GRACE_DAYS + 1) * DAY_NS)
    assert bench.expires(node) == at
    bench.live(1)
    assert await bench.shown() == ["/empty", "/old"]
    assert bench.expires(node) == at
    (_, told) = (await bench.expiring.files(None))["expiring"]
    assert told["removal"] == at[:19] + "Z"
    assert (told["size"], told["links"]) == (7, 1)
    summary = bench.expiring.summary()
    assert (summary["files"], summary["bytes"], summary["removed"]) == (2, 7, 0)
    bench.live(GRACE_DAYS - 1)
    assert await bench.shown() == ["/old"]
    bench.live(0.9)
    assert await bench.shown() == ["/old"]
    bench.live(0.1)
    assert await bench.shown() == []
    assert bench.names() == set()
    assert bench.gone == [(ROOT_INO, b"empty"), (ROOT_INO, b"old")]
    assert bench.expiring.summary() == {
        "files": 0,
        "bytes": 0,
        "first_removal": None,
        "removed": 2,
        "paused": None,
    }
    assert "/old: removed by expire_after_days, it was last changed at " in caplog.text
    await bench.drain()
    assert "old" not in "".join(bench.keys())


@pytest.mark.parametrize("change", ["write", "mode", "attribute", "rename", "link", "touch"])
async def test_change_gives_it_all_of_its_time_anew(bench: ExpiryBench, change: str) -> None:
    """SEMANTICS: EXPIRE-2, EXPIRE-3"""
    node = await bench.keep(b"f", LIFE_DAYS)
    assert await bench.shown() == ["/f"]
    bench.live(GRACE_DAYS)
    if change == "write":
        await bench.write(b"f", b"other")
    elif change == "rename":
        bench.rename(b"f", b"f2")
        bench.rename(b"f2", b"f")
    elif change == "link":
        bench.tree.link(node.ino, ROOT_INO, b"further", ME)
    elif change == "attribute":
        bench.xattrs.set(node, b"user.k", b"v", 0, ME)
    bench.age(node, 0)  # by the clock of this test
    await bench.drain()
    assert await bench.shown() == []
    assert bench.expires(node) == moment_text(bench.wall_ns() + (LIFE_DAYS + GRACE_DAYS) * DAY_NS)
    bench.live(LIFE_DAYS)
    assert len(await bench.shown()) == 1
    bench.live(GRACE_DAYS - 0.5)
    assert b"f" in bench.names()


async def test_mtime_does_not_count_and_reading_is_no_change(bench: ExpiryBench) -> None:
    """What rsync -a has just brought. SEMANTICS: EXPIRE-2"""
    node = await bench.keep(b"new")
    with bench.archive.changes.attributes(node, bench.wall_ns(), 0):
        node.mtime_ns = 0
    await bench.keep(b"old", LIFE_DAYS)
    await bench.drain()
    assert await bench.shown() == ["/old"]
    bench.live(GRACE_DAYS)
    old = bench.tree.lookup(ROOT_INO, b"old")
    assert old is not None
    assert await bench.content(old) == b"content"
    bench.tree.accessed(old)
    assert await bench.shown() == []


async def test_what_others_write_has_it_shown_anew(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-2"""
    await bench.keep(b"f", LIFE_DAYS)
    assert await bench.shown() == ["/f"]
    bench.live(GRACE_DAYS)
    (path,) = bench.root.glob("2*/**/*.attr.json")
    path.write_text(
        path.read_text().replace('"custom_attributes":{}', '"custom_attributes":{"a":1}')
    )
    bench.rescan()
    assert await bench.shown() == ["/f"]
    bench.live(GRACE_DAYS)
    assert await bench.shown() == []


async def test_all_names_go_in_one_step(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-4"""
    inner = bench.make(b"d", mode=DIRECTORY)
    node = await bench.write(b"f", b"content")
    bench.tree.link(node.ino, inner.ino, b"second", ME)
    bench.tree.link(node.ino, inner.ino, b"third", ME)
    bench.age(node, LIFE_DAYS)
    await bench.drain()
    await bench.shown()
    before = inner.mtime_ns
    bench.live(GRACE_DAYS)
    assert await bench.shown() == []
    assert (bench.names(), bench.names(inner.ino)) == ({b"d"}, set())
    assert inner.mtime_ns == bench.wall_ns() != before
    assert set(bench.gone) == {(1, b"f"), (inner.ino, b"second"), (inner.ino, b"third")}
    await bench.drain()
    assert len(bench.keys()) == 2  # node records of two directories


async def test_only_files_that_an_element_has(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-1"""
    kept = [bench.make(b"d", mode=DIRECTORY), bench.tree.symlink(ROOT_INO, b"l", b"x", ME)]
    kept.append(bench.make(b"fifo", mode=0o010644))
    for node in kept:
        bench.age(node, 10 * LIFE_DAYS)
    await bench.drain()
    waiting = await bench.write(b"waiting", b"content")
    bench.age(waiting, LIFE_DAYS)
    assert await bench.shown() == []
    assert [bench.expires(node) for node in [*kept, waiting]] == [None] * 4
    await bench.drain()
    assert await bench.shown() == ["/waiting"]
    bench.live(GRACE_DAYS)
    with bench.archive.database.transaction():  # something of it is to be carried
        bench.archive.log.node_changed(waiting.ino, waiting.file_id, created=False, uid=0)
    bench.archive.log.announce()
    assert await bench.shown() == ["/waiting"]
    await bench.drain()
    assert await bench.shown() == []


async def test_what_is_retained_stays(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-1, RETAIN-1"""
    node = await bench.keep(b"f")
    until_ns = bench.wall_ns() + (LIFE_DAYS + 100) * DAY_NS
    bench.xattrs.set(node, RETAIN_UNTIL.encode(), moment_text(until_ns).encode(), 0, ME)
    bench.age(node, 0)
    await bench.drain()
    bench.live(LIFE_DAYS + 99)
    assert await bench.shown() == []
    assert bench.expires(node) == moment_text(until_ns + GRACE_DAYS * DAY_NS)
    bench.live(1)
    assert await bench.shown() == ["/f"]
    bench.live(GRACE_DAYS - 0.1)
    assert await bench.shown() == ["/f"]
    bench.live(0.1)
    assert await bench.shown() == []
    for_ever = await bench.keep(b"g")
    bench.xattrs.set(for_ever, RETAIN_UNTIL.encode(), b"9999-12-31", 0, ME)
    assert (bench.expires(for_ever) or "").startswith("9999-12-31")


async def test_what_is_open_stays_until_it_is_closed(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-4"""
    node = await bench.keep(b"f", LIFE_DAYS)
    await bench.shown()
    bench.live(GRACE_DAYS)
    handle = await bench.open_file(node, os.O_RDONLY)
    assert await bench.shown() == ["/f"]
    bench.contents.release(handle)
    assert await bench.shown() == []


async def test_nothing_goes_at_once_after_a_long_time_without_a_mount(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-5"""
    await bench.keep(b"shown", LIFE_DAYS)
    await bench.keep(b"young")
    assert await bench.shown() == ["/shown"]
    bench.live(GRACE_DAYS - 1)
    await bench.shown()
    bench.days += 400
    bench.is_synchronised = True
    bench.restart()
    assert await bench.shown() == ["/shown", "/young"]
    bench.live(1)
    assert await bench.shown() == ["/young"]
    bench.restart()
    bench.live(GRACE_DAYS - 1)
    assert await bench.shown() == []


async def test_rebuilt_index_begins_grace_periods_anew(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-5"""
    await bench.keep(b"f", LIFE_DAYS)
    await bench.shown()
    bench.live(GRACE_DAYS)
    rebuild(bench)
    assert await bench.shown() == ["/f"]
    bench.live(GRACE_DAYS)
    assert await bench.shown() == []


async def test_clock_that_leaps_is_told_of_and_nothing_goes(
    bench: ExpiryBench, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: EXPIRE-6"""
    await bench.keep(b"old", LIFE_DAYS)
    await bench.keep(b"new")
    assert await bench.shown() == ["/old"]
    bench.live(GRACE_DAYS - 1)
    bench.days += 4000
    for _ in range(2):
        assert await bench.shown() == ["/old"]
        assert "4,000.0 days more" in bench.expiring.summary()["paused"]
        bench.live(100)
        await bench.shown()
        bench.restart()
    assert caplog.text.count("no files expire") == 2
    bench.days -= 4000
    bench.restart()
    assert await bench.shown() == ["/new"]
    assert bench.expiring.summary()["paused"] is None
    bench.days += 4000
    await bench.shown()
    assert bench.expiring.summary()["paused"]
    bench.live(GRACE_DAYS - 1)
    assert await bench.shown() == ["/new"]
    bench.expiring.believe_clock()
    assert await bench.shown() == ["/new"]
    bench.live(1)
    assert await bench.shown() == []


async def test_what_was_made_with_a_dead_battery_is_no_older_for_it(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-6"""
    await bench.keep(b"before", LIFE_DAYS)
    await bench.shown()
    bench.days -= 20_000
    assert await bench.shown() == ["/before"]
    assert "20,000.0 days less" in bench.expiring.summary()["paused"]
    node = await bench.keep(b"then")
    bench.live(1)
    await bench.shown()
    bench.days += 20_000
    bench.restart()
    assert await bench.shown() == ["/before"]
    assert bench.expiring.summary()["paused"] is None
    at = moment_text(bench.wall_ns() + (LIFE_DAYS + GRACE_DAYS) * DAY_NS)
    assert bench.expires(bench.tree.node(node.ino)) == at
    bench.live(LIFE_DAYS)
    assert await bench.shown() == ["/then"]


async def test_nothing_is_shown_or_removed_on_a_mount_for_reading(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-5"""
    await bench.keep(b"f", LIFE_DAYS)
    await bench.keep(b"g", LIFE_DAYS - 1)
    assert await bench.shown() == ["/f"]
    bench.archive.read_only = True
    bench.live(GRACE_DAYS)
    assert await bench.shown() == ["/f"]
    assert bench.expiring.summary()["files"] == 1
    bench.archive.read_only = False
    assert await bench.shown() == ["/g"]


async def test_configuration_says_who_expires(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-1"""
    await bench.keep(b"f", 2 * LIFE_DAYS)
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    assert await bench.shown() == ["/f"]
    bench.configure(3 * LIFE_DAYS)
    assert await bench.shown() == []
    bench.configure(LIFE_DAYS)
    assert await bench.shown() == ["/f"]
    bench.configure(None)
    await bench.expiring.run()
    assert table.page(bench.archive.database.execute, table.FIRST, 10) == []
    node = bench.tree.node(node.ino)
    assert bench.expires(node) is None
    bench.configure(LIFE_DAYS)
    bench.live(GRACE_DAYS)
    assert await bench.shown() == ["/f"]


async def test_audit_log_tells_why(tmp_path: Path) -> None:
    """SEMANTICS: EXPIRE-4, AUDIT-1"""
    bench = ExpiryBench(tmp_path, audit=AuditConfiguration(enabled=True))
    node = await bench.write(b"f", b"content")
    bench.tree.link(node.ino, ROOT_INO, b"g", ME)
    bench.age(node, LIFE_DAYS)
    changed = moment_text(node.ctime_ns)
    await bench.drain()
    await bench.shown()
    bench.live(GRACE_DAYS)
    await bench.shown()
    found = [record for record in records(bench) if record["op"] == "cleanup"]
    assert [(r["path"], r["links_left"], r["changed"]) for r in found] == [
        ("/g", 1, changed),
        ("/f", 0, changed),
    ]
    assert (found[0]["size"], len(found[0]["sha256"]), "uid" in found[0]) == (7, 64, False)


async def test_what_cannot_be_recorded_is_not_removed(
    bench: ExpiryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: EXPIRE-4"""
    await bench.keep(b"f", LIFE_DAYS)
    await bench.shown()
    bench.live(GRACE_DAYS)

    def refuse(*arguments: Any) -> None:
        raise StateError("state.db", "no")

    with monkeypatch.context() as patched:
        patched.setattr(bench.archive.log, "removal", refuse)
        with pytest.raises(StateError):
            await bench.expiring.look()
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    assert (node.nlink, bench.names()) == (1, {b"f"})
    assert await bench.shown() == []


async def test_many_are_told_of_in_parts_and_removed_as_the_elements_follow(
    bench: ExpiryBench, monkeypatch: pytest.MonkeyPatch, clock: MockClock
) -> None:
    """SEMANTICS: EXPIRE-3, EXPIRE-4"""
    monkeypatch.setattr("artstorefs_daemon.expiring.PAGE_FILES", 20)
    many = 25
    for number in range(many):
        bench.age(await bench.write(b"%03d" % number, b"x"), LIFE_DAYS)
    await bench.drain()
    monkeypatch.setattr(table, "SLICE_COPIES", 4)
    await bench.expiring.look()
    first = await bench.expiring.files(None)
    following = await bench.expiring.files(first["next"])
    paths = [one["path"] for one in first["expiring"] + following["expiring"]]
    assert sorted(paths) == [f"/{number:03d}" for number in range(many)]
    assert (len(first["expiring"]), following["next"]) == (20, None)
    monkeypatch.setattr("artstorefs_daemon.expiring.PENDING_MAX", 10)
    bench.live(GRACE_DAYS)
    await bench.expiring.look()  # nobody carries anything meanwhile
    assert len(bench.names()) == many - 9  # the directory waits too
    while bench.names():
        await bench.drain()
        await bench.expiring.look()


async def test_damaged_row_is_passed_over(bench: ExpiryBench) -> None:
    """SEMANTICS: EXPIRE-1, DATA-9"""
    node = await bench.keep(b"f", LIFE_DAYS)
    await bench.keep(b"g", LIFE_DAYS)
    await bench.shown()
    bench.live(GRACE_DAYS)
    ino = node.ino
    bench.archive.index.forget(ino)
    del node
    execute = bench.archive.database.execute
    execute("UPDATE nodes SET uid = uid + 1 WHERE ino = ?", (ino,))
    await bench.expiring.look()
    assert bench.names() == {b"f"}
    execute("UPDATE nodes SET uid = uid - 1 WHERE ino = ?", (ino,))


@pytest.mark.parametrize(
    ("lives", "days"),
    [
        ({"main": 10, "second": 20}, 20),
        ({"main": 10, "second": 20, "third": 40}, 20),
        ({"main": 10}, None),
        ({"main": 10, "third": 10}, None),
    ],
)
async def test_all_elements_that_have_it_have_to_say_so(
    tmp_path: Path, lives: dict[str, int], days: int | None
) -> None:
    """SEMANTICS: EXPIRE-1"""
    bench = SeveralBench(tmp_path, **lives)
    node = await bench.write(b"f", b"content")
    with bench.archive.changes.attributes(node, bench.wall_ns(), 0):
        pass
    await bench.drain()
    assert sorted(bench.copies(node)) == ["main", "second"]
    bench.live((days or 1000) - 1)
    assert await bench.shown() == []
    bench.live(1)
    assert await bench.shown() == (["/f"] if days else [])
    bench.live(GRACE_DAYS)
    assert await bench.shown() == []
    assert bool(bench.archive.index.count_nodes() == 2) is (days is None)
    await bench.drain()
    bench.check_soundness()


async def test_element_that_is_not_configured_now_may_be_to_keep_it(tmp_path: Path) -> None:
    """SEMANTICS: EXPIRE-1"""
    bench = SeveralBench(tmp_path, main=10, third=10)
    node = await bench.write(b"f", b"content")
    await bench.drain()
    elements = tuple(one for one in bench.configuration.elements if one.id != "second")
    bench.configuration = bench.configuration.model_copy(update={"elements": elements})
    bench.restart()
    await bench.drain()
    assert sorted(bench.copies(node)) == ["main", "second", "third"]
    bench.live(10_000)
    assert await bench.shown() == []


async def test_backup_of_before_has_no_such_table(bench: ExpiryBench) -> None:
    """An index of an earlier release. SEMANTICS: EXPIRE-5"""
    await bench.keep(b"f", LIFE_DAYS)
    bench.close()
    with sqlite3.connect(bench.base / "state" / "state.db") as connection:
        connection.execute("DROP TABLE expiring")
    connection.close()
    assert not bench.fsck().left
    bench.open()
    assert await bench.shown() == ["/f"]
    shutil.rmtree(bench.base / "cache", ignore_errors=True)
