"""`artstorefs migrate`, on a real mount."""

import errno
import json
from collections.abc import Iterator

import pytest

from artstorefs_tools import exit_codes

from ..crash.test_every_step_of_migration import files
from ..harness import MountedArchive, wait_until
from .conftest import make_archive, remove_archive
from .errnos import refused


@pytest.fixture
def archive() -> Iterator[MountedArchive]:
    made = make_archive("settle_s = 0\n", ",mode=rw", further=",priority=2")
    yield made
    remove_archive(made)


@pytest.mark.slow
def test_files_are_moved_below_a_directory_and_then_all(archive: MountedArchive) -> None:
    """SEMANTICS: MIGRATE-1, MIGRATE-3, MIGRATE-4, MIGRATE-6"""
    name, second = str(archive.toml), archive.base / "second"
    (archive.mount / "d").mkdir()
    (archive.mount / "d" / "f").write_bytes(b"content")
    (archive.mount / "g").write_bytes(b"other")
    archive.flush()
    migrate = ("migrate", name, "--from", "main", "--to", "second")
    path = ("--path", str(archive.mount / "d"))
    planned = archive.run(*migrate, *path, "--dry-run")
    assert planned.stdout.startswith("2 files and directories, 7B, would be moved\n")
    assert files(second) == set()
    done = archive.run(*migrate, *path)
    assert "2 of 2 files and directories moved" in done.stdout
    assert (
        "2 are still on main too, each for 1 d after its move" in archive.run("jobs", name).stdout
    )
    assert len(files(second)) == 3
    with open(archive.mount / "g", "rb") as held:
        archive.run(*migrate, "--keep-source", "0")
        assert held.read() == b"other"
    assert json.loads(archive.run("migrate", name, "--json").stdout)["phase"] == "done"
    assert (archive.mount / "d" / "f").read_bytes() == b"content"
    assert not any(key.startswith("g_") for key in files(archive.element))
    # what is not moved any more obeys the element that has it now
    (archive.mount / "d" / "f").write_bytes(b"may be changed in mode edit, sealed or not")
    failed = archive.run("migrate", name, "resume", check=False)
    assert failed.returncode == exit_codes.FAILURE
    assert "migration 2 is done: there is nothing to resume" in failed.stderr


@pytest.mark.slow
def test_a_file_that_is_open_is_waited_for_and_a_flush_is_not_held_up(
    archive: MountedArchive,
) -> None:
    """SEMANTICS: MIGRATE-2, MIGRATE-5, MIGRATE-6"""
    name = str(archive.toml)
    file = archive.mount / "f"
    file.write_bytes(b"content")
    archive.flush()
    migrate = ("migrate", name, "--from", "main", "--to", "second", "--keep-source", "0")
    with open(file, "r+b", buffering=0) as held:
        held.write(b"C")
        archive.run(*migrate, "--no-wait")
        wait_until(lambda: archive.ask("migration")["migration"]["under_way"] == 1)
        archive.run("flush", name)
        refusal = archive.run("mode", name, "main", "ro", check=False)
        assert "files are moved from it or to it" in refusal.stderr
        again = archive.run(*migrate, check=False)
        assert "migration 1 from main to second is copying" in again.stderr
        archive.run("migrate", name, "pause")
        assert json.loads(archive.run("migrate", name, "--json").stdout)["phase"] == "paused"
        archive.run("migrate", name, "resume", "--json")
    archive.run("migrate", name, "wait")
    assert file.read_bytes() == b"Content"
    assert files(archive.element) == set()
    archive.run("mode", name, "main", "ro")
    again = archive.run("migrate", name, "--from", "second", "--to", "main", check=False)
    assert "element main is in mode ro: nothing may come to it" in again.stderr
    archive.run("attr", str(file), "artist=Rembrandt")
    with refused(errno.ENOENT):
        (archive.mount / "nothing").read_bytes()
