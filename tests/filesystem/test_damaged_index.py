"""A damaged index at the start, and backups of it: what the elements have is there again, what only
the index knew is kept as far as a backup has it, and nothing on the elements is harmed."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from artstorefs.elements.local import LocalElement
from artstorefs.filesystem.errors import ContentDamaged
from artstorefs.recovery.layout import refresh_guides
from artstorefs.recovery.renew import open_index
from artstorefs.state import backup, files
from artstorefs.state.database import PAGE_BYTES, Database
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import ContentState

from .rebuilding import (
    account,
    close,
    element_files,
    kill,
    make_tree,
    rebuild,
    tree,
)
from .workbench import DIRECTORY, ME, Workbench

PAGES_OF_THE_SCHEMA = 22
"""They are among the first ones of an index; without them nothing can be opened."""


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def pages_flipped(path: Path, first: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for page in range(first * PAGE_BYTES, len(data), PAGE_BYTES):
        data[page] ^= 0xFF
        data[page + 3] ^= 0xFF
    path.write_bytes(data)


def missing(path: Path) -> None:
    path.unlink()


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [truncated, zeroed, pages_flipped, missing, garbage, cut_to_nothing]


@pytest.mark.parametrize("with_backup", [True, False])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_index_is_replaced_and_nothing_that_the_element_has_is_lost(
    bench: Workbench, damage: Callable[[Path], None], clean: bool, with_backup: bool
) -> None:
    """SEMANTICS: ELEM-11"""
    before = await make_tree(bench)
    state = bench.base / "state"
    if with_backup:
        backup.make_backup(bench.archive.database.path, str(state))
    bench.make(b"after the backup")
    file = bench.archive.index.child(ROOT_INO, b"second \xff")
    assert file is not None
    inode = file.ino
    bench.rename(b"d", b"renamed")
    await bench.drain()
    expected = tree(bench)
    assert len(expected) == len(before) + 1
    element = element_files(bench)
    bench.archive.database.checkpoint()
    (close if clean else kill)(bench)
    damage(state / "state.db")
    if not clean:
        (state / "state.db-wal").write_bytes(b"")
    bench.open()
    assert tree(bench) == expected
    found = bench.archive.index.child(ROOT_INO, b"second \xff")
    assert found is not None
    assert not with_backup or found.ino == inode
    await bench.drain()
    after = element_files(bench)
    assert after == element
    kept = list((state / "aside").rglob("state.db*")) if (state / "aside").exists() else []
    assert kept or damage is missing


async def test_missing_log_after_a_kill_is_noticed(bench: Workbench) -> None:
    """What is only in SQLite's log has gone with it; the elements have it."""
    bench.archive.database.checkpoint()
    await make_tree(bench)
    expected = tree(bench)
    kill(bench)
    (bench.base / "state/state.db-wal").unlink()
    assert files.examine(str(bench.base / "state")) == (
        "state.db-wal, with the newest changes, is missing"
    )
    bench.open()
    assert tree(bench) == expected


@pytest.mark.parametrize("carried", [True, False])
async def test_what_a_backup_knows_and_no_element_has_is_kept(
    bench: Workbench, carried: bool
) -> None:
    """The element was away when the backup was made: names, attributes and content of what waits
    are nowhere else, unless it took them just before the index was damaged."""
    await make_tree(bench)
    directory = bench.make(b"waiting", mode=DIRECTORY)
    file = await bench.write(b"new", b"in the spool only", directory.ino)
    old = bench.archive.index.child(ROOT_INO, b"second \xff")
    assert old is not None
    bench.xattrs.set(old, b"user.k", b"changed", 0, ME)
    bench.tree.link(file.ino, ROOT_INO, b"linked", ME)
    backup.make_backup(bench.archive.database.path, str(bench.base / "state"))
    expected = set(tree(bench))
    await bench.write(b"made after the backup", b"unknown content")
    if carried:
        await bench.send()
        bench.carry()  # and its answer is lost
        expected.add(b"/made after the backup")
    close(bench)
    garbage(bench.base / "state/state.db")
    bench.open()
    found = tree(bench)
    assert set(found) == expected
    node = bench.archive.index.child(ROOT_INO, b"linked")
    assert node is not None
    assert (node.ino, node.nlink) == (file.ino, 2)
    assert await bench.content(node) == b"in the spool only"
    assert found[b"/second \xff"]["custom"] == '{"k":"changed"}'
    lost = {path.read_bytes() for path in (bench.base / "state/spool/lost").iterdir()}
    assert b"unknown content" in lost
    await bench.drain()
    rebuild(bench)
    assert tree(bench) == found


async def test_deleted_since_the_backup_stays_deleted(bench: Workbench) -> None:
    await make_tree(bench)
    backup.make_backup(bench.archive.database.path, str(bench.base / "state"))
    bench.unlink(b"second \xff")
    parent = bench.archive.index.child(ROOT_INO, b"d")
    assert parent is not None
    bench.unlink(b"f", parent.ino)
    await bench.drain()
    expected = tree(bench)
    close(bench)
    garbage(bench.base / "state/state.db")
    bench.open()
    assert tree(bench) == expected


async def test_damaged_backup_is_passed_over(bench: Workbench) -> None:
    expected = await make_tree(bench)
    state = bench.base / "state"
    newest = Path(backup.make_backup(bench.archive.database.path, str(state)))
    older = newest.with_name("index-20200101T000000Z.db")
    shutil.copy(newest, older)
    pages_flipped(newest)
    close(bench)
    garbage(state / "state.db")
    element = LocalElement("main", str(bench.root))
    root_id = json.loads((bench.root / ".artstorefs/archive.json").read_bytes())["archive_id"]
    open_index(str(state), lambda: ({"main": element}, UUID(root_id)), account)
    bench.open()
    assert tree(bench) == expected
    assert str(newest) in backup.backups(str(state))


async def test_backup_of_a_damaged_index_is_none(bench: Workbench) -> None:
    """SQLite copies pages that it does not look into; what comes out would be no index."""
    await make_tree(bench)
    bench.is_sound = False
    close(bench)
    state = bench.base / "state"
    pages_flipped(state / "state.db", PAGES_OF_THE_SCHEMA)  # of these a copy needs some
    with pytest.raises(backup.BackupFailed):
        backup.make_backup(str(state / "state.db"), str(state))
    assert backup.backups(str(state)) == []


def test_backups_are_whole_and_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(str(tmp_path / "state.db"))
    directory = tmp_path / "backup"
    directory.mkdir()
    (directory / "index.tmp").write_text("left by a kill")
    for hour in range(backup.KEPT + 5):
        (directory / f"index-20200101T{hour:06d}Z.db").write_bytes(b"x" * 100)
    path = backup.make_backup(database.path, str(tmp_path))
    assert files.problem_of(path, files.Look.PAGES) is None
    found = backup.backups(str(tmp_path))
    assert (found[0], len(found)) == (path, backup.KEPT)
    assert not (directory / "index.tmp").exists()
    monkeypatch.setattr(backup, "KEPT_BYTES", 50)
    backup.make_backup(database.path, str(tmp_path))
    assert len(backup.backups(str(tmp_path))) == backup.KEPT_MIN
    database.close()
    garbage(tmp_path / "state.db")
    with pytest.raises(backup.BackupFailed):
        backup.make_backup(database.path, str(tmp_path))
    assert len(backup.backups(str(tmp_path))) == backup.KEPT_MIN


def test_another_release_is_no_damage(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("CREATE TABLE anything (x)")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert files.examine(str(tmp_path)) is None


async def test_guides_are_refreshed_where_they_are_older(bench: Workbench) -> None:
    """SEMANTICS: ELEM-9"""
    script = bench.root / ".artstorefs/restore.py"
    expected = script.read_bytes()
    assert not refresh_guides(bench.element)
    script.write_text("older")
    (bench.root / ".artstorefs/README.txt").unlink()
    assert refresh_guides(bench.element)
    assert script.read_bytes() == expected


def corrupt() -> sqlite3.DatabaseError:
    exc = sqlite3.DatabaseError("database disk image is malformed")
    exc.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return exc


async def test_damage_that_was_a_read_that_failed_once_costs_nothing(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: ELEM-11, DUR-1. SQLite says SQLITE_CORRUPT when pread(2) says EIO."""
    await bench.write(b"waits", b"on no element")
    assert bench.archive.database.note_damage(corrupt())
    for _ in range(2):
        bench.restart()
        node = bench.tree.lookup(ROOT_INO, b"waits")
        assert node is not None
        assert await bench.content(node) == b"on no element"
    assert caplog.text.count("all of it reads well now") == 1


async def test_index_that_cannot_be_read_once_at_the_start_is_read_again(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: ELEM-11, DUR-1"""
    await bench.write(b"waits", b"on no element")
    connect, failures = files.connect_read_only, [corrupt()]

    def connect_later(path: str) -> sqlite3.Connection:
        if failures:
            raise failures.pop()
        return connect(path)

    monkeypatch.setattr(files, "connect_read_only", connect_later)
    bench.restart()
    assert not failures
    assert bench.tree.lookup(ROOT_INO, b"waits") is not None
    assert not (bench.base / "state" / "aside").exists()


async def test_row_that_calls_content_empty_is_no_empty_file(bench: Workbench) -> None:
    """One bit makes EMPTY of ARCHIVED, and nothing would be read, or be kept by the next write; in
    a row without a checksum, of an earlier release."""
    await bench.write(b"f", b"content")
    await bench.drain()
    bench.archive.database.execute("UPDATE nodes SET content_state = 0, sum = NULL WHERE size = 7")
    bench.close()
    bench.open()
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    assert node.content_state == ContentState.EMPTY
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
        with pytest.raises(ContentDamaged):
            await bench.contents.open(node, flags, 0)
    bench.archive.database.execute("UPDATE nodes SET content_state = 1 WHERE size = 7")


COLUMNS_WITH_A_BIT_TO_FLIP = ("mode", "uid", "size", "mtime_ns", "revision", "content", "nlink")


@pytest.mark.parametrize("column", COLUMNS_WITH_A_BIT_TO_FLIP)
async def test_row_with_another_bit_is_damage_and_its_name_is_still_listed(
    bench: Workbench, column: str
) -> None:
    """SEMANTICS: DATA-9"""
    await bench.write(b"f", b"content")
    await bench.write(b"g", b"of another")
    await bench.drain()
    flip = f"UPDATE nodes SET {column} = ({column} | 2) - ({column} & 2) WHERE size IN (5, 7)"
    bench.archive.database.execute(flip)
    bench.close()
    bench.open()
    with pytest.raises(sqlite3.DatabaseError, match="not as it was written") as raised:
        bench.tree.lookup(ROOT_INO, b"f")
    assert bench.archive.database.note_damage(raised.value)
    assert [name for _, name, _ in bench.tree.children(ROOT_INO, 0, 10)] == [b"f", b"g"]
    with pytest.raises(sqlite3.DatabaseError):  # nor has the listing made a file of it
        bench.tree.lookup(ROOT_INO, b"f")
    assert bench.tree.lookup(ROOT_INO, b"g") is not None
    bench.archive.database.execute(flip)


async def test_row_with_another_bit_is_carried_to_no_element(bench: Workbench) -> None:
    """And the others are: known to the mount process before, or not. SEMANTICS: DATA-9"""
    node = await bench.write(b"f", b"content")
    await bench.write(b"g", b"of another")
    flip = "UPDATE nodes SET mtime_ns = (mtime_ns | 2) - (mtime_ns & 2) WHERE size = 7"
    bench.archive.database.execute(flip)
    for is_known in (True, False):
        if not is_known:
            bench.archive.index.forget(node.ino)
        await bench.step()
        (failure,) = bench.archive.log.failures()
        assert failure.ino == node.ino
        assert "not as it was written" in failure.error
        bench.link.schedule.try_again_now()
    bench.archive.database.execute(flip)
    await bench.drain()


FLIPPED = {
    "id": "id + 1000",
    "parent": "(parent | 1) - (parent & 1)",
    "name": "CAST(x'63' AS BLOB)",
    "ino": "(ino | 1) - (ino & 1)",
    "link_id": "zeroblob(16)",
}


@pytest.mark.parametrize("column", FLIPPED)
async def test_name_with_another_bit_leads_to_no_other_file(bench: Workbench, column: str) -> None:
    """Of first names and of further ones; SQLite's own index has the same bit. SEMANTICS: DATA-9"""
    right: dict[tuple[int, bytes], int] = {}
    for number in range(3):
        directory = bench.make(b"d%d" % number, mode=DIRECTORY).ino
        for name in (b"a", b"b"):
            node = await bench.write(name, b"content", directory)
            bench.tree.link(node.ino, directory, b"further " + name, ME)
            right |= {(directory, name): node.ino, (directory, b"further " + name): node.ino}
    await bench.drain()
    execute = bench.archive.database.execute
    for (identifier,) in execute("SELECT id FROM names").fetchall():
        execute("SAVEPOINT before")
        execute(f"UPDATE names SET {column} = {FLIPPED[column]} WHERE id = ?", (identifier,))
        for (parent, name), ino in right.items():
            with suppress(sqlite3.DatabaseError):
                found = bench.tree.lookup(parent, name)
                assert found is None or found.ino == ino
            with suppress(sqlite3.DatabaseError):
                for _, listed, node in bench.tree.children(parent, 0, 100):
                    assert right[parent, listed] == node.ino
        execute("ROLLBACK TO before")
        execute("RELEASE before")
