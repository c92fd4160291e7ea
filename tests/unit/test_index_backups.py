"""When a backup of the index is made, by itself and for somebody who asks; copies elsewhere."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs.state import backup
from artstorefs.state.database import Database
from artstorefs_daemon.index_backups import IndexBackups


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(str(tmp_path / "state.db"))
    yield made
    made.close()


def change(database: Database, value: str) -> None:
    with database.transaction():
        database.execute("INSERT OR REPLACE INTO settings VALUES ('test', ?)", (value,))


def silent(done: int, total: int) -> None:
    assert done <= total


def made_before(path: str, seconds: float) -> None:
    """A backup as if it were older."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_interval_of_the_configuration_counts_from_when_it_changes(
    database: Database, tmp_path: Path
) -> None:
    """`reload` takes it over without a restart."""
    configured = [0.0]
    backups = IndexBackups(database, str(tmp_path), lambda: configured[0])
    backups.begin(0.0)
    assert not backups.is_to_be_looked_at(1e6)
    configured[0] = 3600.0
    assert backups.report()["interval_s"] == 3600.0
    assert backups.is_to_be_looked_at(1e6)
    backups.back_up()
    (made,) = backup.backups(str(tmp_path))
    path = str(Path(made).with_name("index-20260101T000000Z.db"))
    os.rename(made, path)
    made_before(path, 1000)
    change(database, "a")
    backups.back_up()
    assert len(backup.backups(str(tmp_path))) == 1
    configured[0] = 500.0
    backups.back_up()
    newest, older = backup.backups(str(tmp_path))
    assert (older, newest > older) == (path, True)


async def test_asked_for_it_is_made_unless_nothing_has_changed(
    database: Database, tmp_path: Path
) -> None:
    backups = IndexBackups(database, str(tmp_path), lambda: 0.0)
    change(database, "a")
    first = await backups.make()
    assert (first["path"], first["is_new"]) == (backup.backups(str(tmp_path))[0], True)
    assert first["bytes"] == os.stat(first["path"]).st_size
    assert await backups.make() == {**first, "is_new": False}
    progress = backups.progress()
    assert progress["bytes"] == 0 < progress["bytes_total"]
    change(database, "b")
    assert (await backups.make())["is_new"]
    for path in backup.backups(str(tmp_path)):
        os.unlink(path)
    assert (await backups.make())["is_new"], "somebody has removed them"


async def test_backup_that_cannot_be_made_is_one_line(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backup").mkdir()
    monkeypatch.setattr("artstorefs.state.backup.problem_of", lambda *_: "page 3 is damaged")
    backups = IndexBackups(database, str(tmp_path), lambda: 0.0)
    with pytest.raises(backup.BackupFailed, match=r"^page 3 is damaged$"):
        await backups.make()
    assert os.listdir(tmp_path / "backup") == []


# ------------------------------------------------------------------------------ copies elsewhere


@pytest.fixture
def name(database: Database, tmp_path: Path) -> str:
    """Of a backup."""
    (tmp_path / "elsewhere").mkdir()
    return os.path.basename(backup.make_backup(database.path, str(tmp_path)))


def test_copy_is_whole_for_its_user_alone_and_made_once(tmp_path: Path, name: str) -> None:
    there = str(tmp_path / "elsewhere")
    path = Path(backup.copy_backup(str(tmp_path), name, there, "museum", silent))
    assert path.name == f"{name.removesuffix('.db')}-museum.db"
    assert path.read_bytes() == (tmp_path / "backup" / name).read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat()
    assert backup.copy_backup(str(tmp_path), name, there, "museum", silent) == str(path)
    assert path.stat() == before
    assert os.listdir(there) == [path.name]


@pytest.mark.parametrize("wrong", ["../state.db", "/etc/passwd", "index.tmp", "index-1.db", ""])
def test_what_is_no_backup_is_not_copied(tmp_path: Path, name: str, wrong: str) -> None:
    """Root copies, and a daemon that was taken over says what."""
    there = str(tmp_path / "elsewhere")
    with pytest.raises(backup.BackupFailed, match="is no name of a backup"):
        backup.copy_backup(str(tmp_path), wrong, there, "museum", silent)
    linked = tmp_path / "backup/index-20990101T000000Z.db"
    linked.symlink_to("/etc/passwd")
    with pytest.raises(backup.BackupFailed, match="cannot be read"):
        backup.copy_backup(str(tmp_path), linked.name, there, "museum", silent)
    linked.unlink()
    os.mkfifo(linked)
    with pytest.raises(backup.BackupFailed, match="no ordinary file"):
        backup.copy_backup(str(tmp_path), linked.name, there, "museum", silent)
    assert os.listdir(there) == []


def test_copies_of_this_archive_alone_are_removed(tmp_path: Path) -> None:
    days = [f"index-202601{day:02d}T000000Z" for day in range(1, 6)]
    names = [f"{day}-museum.db" for day in days]
    others = [f"{days[0]}-x-museum.db", f"{days[0]}.db", "index-museum.db", "museum.db"]
    left, fresh = ".index-museum-0123456789abcdef.tmp", ".index-museum-fedcba9876543210.tmp"
    for one in (*names, *others, left, fresh):
        (tmp_path / one).touch()
    made_before(str(tmp_path / left), 2 * backup.LEFT_S)
    assert backup.prune_copies(str(tmp_path), "museum", None) == []
    assert not (tmp_path / left).exists()
    gone = backup.prune_copies(str(tmp_path), "museum", 2)
    assert [os.path.basename(path) for path in gone] == [names[2], names[1], names[0]]
    assert sorted(os.listdir(tmp_path)) == sorted([*names[3:], *others, fresh])
