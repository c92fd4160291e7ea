"""Kills while an element of ArtStore's is adopted, changed for the first time, and looked through.

See `test_every_step.py` for the rest of the crash points.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..artstore import read_element, write_file
from ..harness import MountedArchive, wait_for_end
from .armed import Armed

FILES = 40
ADOPTING = ["adopt.configuration_made", "rebuild.filled", "rebuild.durable", "rebuild.committed"]
CONFIGURING = "init.configuration_staged"
JOINING = ["barrier.contents_flushed", "barrier.change_published:2", "join.layout_written"]


@pytest.fixture
def archive() -> Iterator[MountedArchive]:
    """An element with some files, and nothing else but the configuration."""
    base = Path(tempfile.mkdtemp(prefix="asfs-"))
    for number in range(FILES):
        write_file(base / "element", f"файл {number}", f"{number}".encode(), schema="1.0")
    made = MountedArchive(base, settings="settle_s = 0", adopts=True)
    yield made
    made.clean_up()
    subprocess.run(["rm", "-r", str(base)], check=True)


def check(archive: MountedArchive) -> None:
    """Every file is there, on the mount and for ArtStore."""
    hour = archive.mount / "2024/03/05/14"
    found = {path.name: path.read_text() for path in hour.iterdir()}
    assert found == {f"файл {number}": f"{number}" for number in range(FILES)}
    archive.flush()
    assert len(read_element(archive.element)) == FILES


@pytest.mark.slow
@pytest.mark.parametrize("point", ADOPTING)
def test_kill_while_an_element_is_adopted(
    archive: MountedArchive, armed: Armed, point: str
) -> None:
    """SEMANTICS: ADOPT-1, ADOPT-2"""
    arguments = ("adopt", "test", "--element", archive.element_argument)
    armed.kill_command(point, *arguments, "--config-dir", str(archive.base))
    done = archive.adopt(check=False)
    assert (done.returncode == 0) == (point != "rebuild.committed"), done.stderr
    assert not (archive.element / ".artstorefs").exists()
    archive.start()
    check(archive)
    assert not (archive.element / ".artstorefs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("point", JOINING)
def test_kill_while_an_adopted_element_gets_its_archive_json(
    archive: MountedArchive, armed: Armed, point: str
) -> None:
    """SEMANTICS: ADOPT-3, DUR-1"""
    archive.adopt()
    try:
        armed.starter.mount(archive)
        armed.arm(point)
        file = archive.mount / "2024/03/05/14/файл 7"
        file.chmod(0o600)
        os.setxattr(file, "user.k", b"v")
        armed.wait_until_reached()
        pid = archive.pid
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        armed.starter.mount(archive)
        check(archive)
        assert (file.stat().st_mode & 0o777, os.getxattr(file, "user.k")) == (0o600, b"v")
        assert (archive.element / ".artstorefs/archive.json").is_file()
        changed = [one for one in read_element(archive.element).values() if one.version == "2.0"]
        assert [one.custom for one in changed] == [{"k": "v"}]
    finally:
        archive.clean_up()
        armed.starter.finish()


@pytest.mark.slow
def test_kill_while_what_others_have_added_is_taken_in(
    archive: MountedArchive, armed: Armed
) -> None:
    """SEMANTICS: ADOPT-6, DUR-1"""
    archive.adopt()
    for path in archive.element.rglob("*.attr.json"):
        document = json.loads(path.read_bytes())
        if int(document["original_filename"].split()[1]) >= FILES // 2:
            path.rename(archive.base / path.name)
    archive.run("rebuild", str(archive.toml))
    try:
        for path in archive.base.glob("*.attr.json"):
            path.rename(archive.element / "2024/03/05/14" / path.name)
        armed.arm("taken_in.committed")
        armed.starter.begin("mount", str(archive.toml), str(archive.mount))
        armed.wait_until_reached()
        wait_for_end(archive.pid)
        armed.starter.mount(archive)
        check(archive)
        assert not (archive.element / ".artstorefs").exists()
    finally:
        archive.clean_up()
        armed.starter.finish()


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["barrier.change_published:9", "migrate_schema.durable", "migrate_schema.noted"]
)
def test_kill_while_a_schema_is_migrated(archive: MountedArchive, armed: Armed, point: str) -> None:
    """SEMANTICS: ADOPT-8"""
    archive.adopt()
    armed.kill_command(point, "migrate-schema", str(archive.toml), "main")
    assert len(read_element(archive.element)) == FILES
    archive.run("migrate-schema", str(archive.toml), "main")
    assert {one.version for one in read_element(archive.element).values()} == {"2.0"}
    archive.start()
    check(archive)
