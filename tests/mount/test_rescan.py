"""What ArtStore does on an element while it is mounted, as programs see it."""

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ..artstore import read_element, write_file
from ..harness import MountedArchive, wait_until
from .conftest import SETTINGS, LogWatch, live_archives, remove_archive

HOUR = "2024/03/05/14"


@pytest.fixture
def adopted() -> Iterator[MountedArchive]:
    """An adopted element with one file, mounted."""
    base = Path(tempfile.mkdtemp(prefix="asfs-"))
    base.chmod(0o755)
    write_file(base / "element", "scan.tif", b"scan")
    archive = MountedArchive(base, settings=SETTINGS, adopts=True)
    live_archives.append(archive)
    archive.adopt()
    yield archive.start()
    remove_archive(archive)


def rescan(archive: MountedArchive) -> dict[str, int]:
    found: dict[str, int] = json.loads(archive.run("rescan", str(archive.toml), "--json").stdout)
    return {key: value for key, value in found.items() if value and key != "seen"}


def object_name(archive: MountedArchive) -> str:
    """Of the only file on the element. Its attr.json stays: without one an adopted element that
    has no archive.json is not known (ADOPT-5)."""
    (name,) = [name for name in os.listdir(archive.element / HOUR) if not name.endswith(".json")]
    return name


def test_new_files_show_where_the_kernel_knew_that_there_are_none(adopted: MountedArchive) -> None:
    """SEMANTICS: ADOPT-6"""
    hour = adopted.mount / HOUR
    assert os.listdir(hour) == ["scan.tif"]
    assert os.listdir(adopted.mount) == ["2024"]
    for absent in (hour / "новый", adopted.mount / "2025"):
        assert not absent.exists()  # which the kernel remembers
    later = datetime(2025, 1, 2, 3, tzinfo=UTC)
    write_file(adopted.element, "новый", b"new")
    write_file(adopted.element, "later", b"later", moment=later)
    assert rescan(adopted) == {"added": 2}
    assert (hour / "новый").read_bytes() == b"new"
    assert sorted(os.listdir(hour)) == ["scan.tif", "новый"]
    assert sorted(os.listdir(adopted.mount)) == ["2024", "2025"]
    assert (adopted.mount / "2025/01/02/03/later").read_bytes() == b"later"
    assert (adopted.mount / "2025").stat().st_nlink == 3
    assert not (adopted.element / ".artstorefs").exists()


def test_new_files_show_after_a_mount(adopted: MountedArchive) -> None:
    """SEMANTICS: ADOPT-6"""
    adopted.stop()
    write_file(adopted.element, "new", b"new")
    adopted.start()
    assert (adopted.mount / HOUR / "new").read_bytes() == b"new"
    assert adopted.status()["survey"]["added"] == 1


@pytest.mark.slow
def test_new_files_show_by_themselves(adopted: MountedArchive) -> None:
    """With `rescan_interval_s`, which a reload changes. SEMANTICS: ADOPT-6"""
    adopted.toml.write_text("rescan_interval_s = 0.5\n" + adopted.toml.read_text())
    assert "rescan_interval_s" in adopted.run("reload", str(adopted.toml)).stdout
    for number in range(2):
        write_file(adopted.element, f"new {number}", b"new")
        wait_until((adopted.mount / HOUR / f"new {number}").exists)


def test_what_is_gone_is_told_of(adopted: MountedArchive, log_watch: LogWatch) -> None:
    """SEMANTICS: ADOPT-7"""
    (adopted.element / HOUR).joinpath(object_name(adopted)).unlink()
    done = adopted.run("rescan", str(adopted.toml))
    assert f"/{HOUR}/scan.tif: element main: {HOUR}/scan_ivanov" in done.stdout
    assert rescan(adopted) == {"vanished": 1}
    file = adopted.mount / HOUR / "scan.tif"
    assert file.stat().st_size == 4
    log_watch.allow("scan_ivanov.* is not there")
    with pytest.raises(OSError, match="Input/output error") as raised:
        file.read_bytes()
    assert raised.value.errno == errno.EIO
    file.unlink()
    adopted.flush()
    assert rescan(adopted) == {}


@pytest.mark.slow
def test_many_new_files_come_while_programs_work(adopted: MountedArchive) -> None:
    """More than there are parts under way; the mount answers meanwhile. SEMANTICS: ADOPT-6"""
    start = datetime(2024, 4, 1, tzinfo=UTC)
    for number in range(1500):
        moment = start + timedelta(minutes=number)
        write_file(adopted.element, f"f{number}", b"%d" % number, moment=moment)
    began = time.monotonic()
    found = rescan(adopted)
    assert found == {"added": 1500}, time.monotonic() - began
    names = [path for path in adopted.mount.rglob("f*") if path.is_file()]
    assert len(names) == 1500
    (adopted.mount / "2024/04/01/05/f317").chmod(0o600)
    shutil.copy(names[7], adopted.mount / "copy")
    adopted.flush()
    assert len(read_element(adopted.element)) == 1502
    assert rescan(adopted) == {}


def test_element_that_cannot_be_looked_through_fails_the_rescan(
    adopted: MountedArchive, log_watch: LogWatch
) -> None:
    """Also where only the numbers are asked for. SEMANTICS: ELEM-17"""
    log_watch.allow("is the disk mounted|could not be looked through")
    away = adopted.element.rename(adopted.element.with_name("away"))
    done = adopted.run("rescan", str(adopted.toml), "--json", check=False)
    away.rename(adopted.element)
    assert done.returncode == 1
    assert "element main" in done.stderr
    assert rescan(adopted) == {}
