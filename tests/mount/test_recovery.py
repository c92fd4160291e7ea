"""After a disaster, on real mounts: the tree comes back from the elements alone, by `rebuild` and
by the script that lies on every element, on a machine without this program."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from ..harness import MountedArchive, children, wait_for_end
from .awkward_tree import make_awkward_tree
from .conftest import LogWatch
from .whole_tree import restore, tree_of


@pytest.fixture
def awkward_archive(fresh_archive: MountedArchive) -> MountedArchive:
    """An archive that holds the awkward tree, unmounted, with nothing pending."""
    make_awkward_tree(fresh_archive.mount)
    fresh_archive.flush()
    return fresh_archive


@pytest.mark.slow
@pytest.mark.time_limit(120)
@pytest.mark.usefixtures("root")
def test_lesson_12_rebuilt_and_restored_trees_are_the_tree_before(
    awkward_archive: MountedArchive, local: Path
) -> None:
    """SEMANTICS: ELEM-6, ELEM-9, ELEM-10"""
    archive = awkward_archive
    expected = tree_of(archive.mount)
    assert len(expected) > 100
    archive.stop()
    done = restore(archive.element, local / "restored")
    assert (done.returncode, done.stderr.splitlines()[-1].split(", ")[1]) == (0, "0 problems")
    assert tree_of(local / "restored") == expected
    assert restore(archive.element, "--verify-only").returncode == 0
    assert len(restore(archive.element, "--list").stdout.splitlines()) == len(expected)

    report = json.loads(archive.run("rebuild", str(archive.toml), "--json").stdout)
    assert report["nodes"] > 100
    assert Path(report["index_before"]).exists()
    archive.start()
    assert tree_of(archive.mount) == expected
    archive.stop()
    shutil.rmtree(archive.state)
    archive.run("rebuild", str(archive.toml))
    archive.start()
    assert tree_of(archive.mount) == expected


@pytest.mark.slow
def test_rebuild_refuses_while_mounted_and_while_anything_is_pending(
    fresh_archive: MountedArchive,
) -> None:
    """SEMANTICS: ELEM-9"""
    archive = fresh_archive
    done = archive.run("rebuild", str(archive.toml), check=False)
    assert done.returncode == 1
    assert "is in use by process" in done.stderr
    shutil.move(archive.element, archive.base / "away")
    (archive.mount / "f").write_text("no element has it")
    transferring = children(archive.pid)
    archive.kill()
    for process in transferring:  # it has the lock too, until it has finished what it has begun
        wait_for_end(process)
    shutil.move(archive.base / "away", archive.element)
    before = sorted(path.name for path in (archive.state / "spool").iterdir())
    done = archive.run("rebuild", str(archive.toml), check=False)
    assert done.returncode == 1
    assert "changes are not on the elements yet" in done.stderr
    assert sorted(path.name for path in (archive.state / "spool").iterdir()) == before
    archive.start()
    assert (archive.mount / "f").read_text() == "no element has it"


@pytest.mark.slow
@pytest.mark.parametrize("backup", [True, False])
def test_damaged_index_is_put_aside_and_the_mount_goes_on(
    fresh_archive: MountedArchive, log_watch: LogWatch, backup: bool
) -> None:
    """SEMANTICS: ELEM-11"""
    archive = fresh_archive
    log_watch.allow("cannot be used")
    (archive.mount / "d").mkdir()
    (archive.mount / "d" / "f").write_text("content")
    archive.flush()
    archive.stop()
    path = archive.state / "state.db"
    if backup:
        (archive.state / "backup").mkdir()
        shutil.copy(path, archive.state / "backup" / "index-20260101T000000Z.db")
    garbage = os.urandom(8192)
    path.write_bytes(garbage)
    archive.start()
    assert (archive.mount / "d" / "f").read_text() == "content"
    [kept] = (archive.state / "aside").rglob("state.db")
    assert kept.read_bytes() == garbage
    [line] = [line for line in archive.log().splitlines() if "the index was damaged" in line]
    assert ("index-20260101T000000Z.db was taken" in line) == backup
    assert ("rebuilt from the elements" in line) != backup
    archive.remount()
    assert archive.log().count("the index was damaged") == 1


@pytest.mark.slow
def test_damage_met_while_mounted_is_eio_and_the_next_start_mends_it(
    fresh_archive: MountedArchive, log_watch: LogWatch
) -> None:
    """SEMANTICS: ELEM-11"""
    archive = fresh_archive
    log_watch.allow("the index is damaged")
    (archive.mount / "d").mkdir()
    for number in range(2000):
        os.mkdir(archive.mount / "d" / f"directory {number}")
    archive.flush()
    archive.remount()
    path = archive.state / "state.db"
    with sqlite3.connect(path) as connection:
        [page_size] = connection.execute("PRAGMA page_size").fetchone()
        [pages] = connection.execute("PRAGMA page_count").fetchone()
    connection.close()
    assert pages > 20
    with open(path, "r+b") as file:
        for page in range(12, pages):
            file.seek(page * page_size)
            file.write(b"\xff" * page_size)
    names = [archive.mount / "d" / f"directory {number}" for number in range(2000)]
    with pytest.raises(OSError, match="Input/output"):
        list(map(os.stat, names))
    assert os.path.ismount(archive.mount)
    archive.stop()
    archive.start()
    assert len(os.listdir(archive.mount / "d")) == 2000
