"""`artstorefs backup`: of an archive that is mounted or not, to another disk, and its use."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools import exit_codes

from ..harness import MountedArchive
from .conftest import LogWatch

pytestmark = pytest.mark.slow


def made(archive: MountedArchive, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        archive.run("backup", str(archive.toml), "--json", *words).stdout
    )
    return answer


def test_copy_elsewhere_survives_the_loss_of_the_state_directory(
    fresh_archive: MountedArchive, log_watch: LogWatch, tmp_path: Path
) -> None:
    """With inode numbers, and what is new since read from the element. SEMANTICS: ELEM-6"""
    log_watch.allow("state.db is missing")
    archive = fresh_archive
    for number in range(20):
        (archive.mount / f"f{number}").write_bytes(b"%d" % number)
    archive.flush()
    copy = made(archive, "--to", str(tmp_path))
    path = Path(copy["path"])
    assert (path.parent, copy["is_new"], copy["removed"]) == (tmp_path, True, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made(archive, "--to", str(tmp_path)) == {**copy, "is_new": False}
    before = {one.name: one.stat().st_ino for one in archive.mount.iterdir()}
    (archive.mount / "later").write_bytes(b"later")
    (archive.mount / "f3").unlink()
    archive.flush()
    archive.stop()
    shutil.rmtree(archive.state)
    (archive.state / "backup").mkdir(parents=True)
    shutil.copy(path, archive.state / "backup")
    archive.start()
    assert f"{path.name} was taken and brought up to date" in archive.log()
    assert "19 unchanged since the backup" in archive.log()
    del before["f3"]
    after = {one.name: one.stat().st_ino for one in archive.mount.iterdir()}
    assert after == {**before, "later": after["later"]}
    assert (archive.mount / "later").read_bytes() == b"later"


def test_archive_that_is_not_mounted(fresh_archive: MountedArchive, tmp_path: Path) -> None:
    archive = fresh_archive
    (archive.mount / "f").write_bytes(b"f")
    archive.flush()
    archive.stop()
    first = made(archive, "--to", str(tmp_path), "--keep", "1")
    assert first["is_new"]
    there = [one for one in (archive.state / "backup").iterdir() if one.suffix == ".db"]
    assert len(there) == 1
    again = made(archive)
    assert (again["path"], again["is_new"]) == (str(there[0]), False)
    old = Path(first["path"]).with_name("index-20200101T000000Z-test.db")
    old.touch()
    assert made(archive, "--to", str(tmp_path), "--keep", "1")["removed"] == [str(old)]
    told = archive.run("backup", str(archive.toml), "--to", str(tmp_path)).stdout
    assert told.startswith(f"{first['path']}, ")
    assert told.endswith("since which nothing has changed\n")


def test_what_cannot_be_backed_up_is_one_line(
    fresh_archive: MountedArchive, log_watch: LogWatch
) -> None:
    archive = fresh_archive
    archive.kill()
    refused = archive.run("backup", str(archive.toml), check=False)
    assert refused.returncode == exit_codes.FAILURE
    assert "was not unmounted the last time; artstorefs mount" in refused.stderr
    os.rename(archive.state, archive.base / "away")
    refused = archive.run("backup", str(archive.toml), "--to", str(archive.base), check=False)
    assert refused.returncode == exit_codes.FAILURE
    assert refused.stderr.startswith("artstorefs: ")
    assert "has no index yet" in refused.stderr
    assert refused.stderr.count("\n") == 1
    os.rename(archive.base / "away", archive.state)
