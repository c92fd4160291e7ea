"""Elements that ArtStore has written, adopted and mounted: acceptance 3 of issue 6."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ..artstore import NotArtStore, read_attributes, read_element, write_file
from ..harness import MountedArchive
from .conftest import SETTINGS, live_archives, remove_archive
from .programs import run

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
FILES = 5_000
STARTING_S = 1.0
"""Of processor time, before anything is read."""

CLASH = UUID("deadbeef-0000-4000-8000-000000000001")
CYRILLIC = {"Отдел": "Архив", "Номер": 17, "Метки": ["скан", "цвет"], "пусто": None}


@pytest.fixture
def base() -> Iterator[Path]:
    """The directory of an archive; its path is short, see `make_archive`."""
    base = Path(tempfile.mkdtemp(prefix="asfs-"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


@pytest.fixture
def adopted(base: Path) -> Iterator[MountedArchive]:
    """An archive that a test adopts and starts."""
    archive = MountedArchive(base, settings=SETTINGS, adopts=True)
    live_archives.append(archive)
    yield archive
    live_archives.remove(archive)
    archive.clean_up()


def write_neighbourhood(root: Path) -> dict[str, Path]:
    """Both versions, clashes, Cyrillic names, and sidecars up to the limit; what is damaged, by
    what is wrong with it."""
    first = UUID(int=1)
    write_file(root, "Отчёт за март.pdf", b"1" * 100, schema="1.0", moment=NOON, file_id=first)
    write_file(root, "Отчёт за март.pdf", b"2" * 200, moment=NOON, file_id=CLASH)
    write_file(root, "смета.xlsx", b"3", moment=NOON, custom_attributes=CYRILLIC)
    later = NOON + timedelta(hours=1)
    write_file(root, "без расширения", b"4" * 5000, schema="1.0", moment=later, description="Ё")
    write_file(root, "big", bytes(range(256)) * 40_000, moment=later)
    full = write_file(root, "full", b"5", moment=later, custom_attributes={"k": ""})
    room = 4096 - full.stat().st_size
    full.write_bytes(full.read_bytes().replace(b'"k": ""', b'"k": "' + b"x" * room + b'"'))
    assert full.stat().st_size == 4096
    damaged = {}
    spoiled: dict[str, Any] = {
        "empty": lambda data: b"",
        "cut off": lambda data: data[:-40],
        "too large": lambda data: data.replace(
            b'"description": null', b'"x": "' + b"y" * 4096 + b'"'
        ),
        "no text": lambda data: data.replace("Иван".encode(), b"\xff\xfe"),
        "no size": lambda data: data.replace(b'"file_size": 7', b'"file_size": 0'),
        "no id": lambda data: data.replace(b'"file_id"', b'"id"'),
        "version 9": lambda data: data.replace(b'"2.0"', b'"9.0"'),
    }
    for number, (name, spoil) in enumerate(spoiled.items()):
        path = write_file(root, name, b"damaged", moment=NOON + timedelta(days=number))
        path.write_bytes(spoil(path.read_bytes()))
        damaged[name] = path
    return damaged


def files_of(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_a_neighbourhood_is_adopted_listed_read_and_changed(adopted: MountedArchive) -> None:
    """SEMANTICS: ADOPT-1, ADOPT-2, ADOPT-3, ADOPT-4"""
    damaged = write_neighbourhood(adopted.element)
    before = files_of(adopted.element)
    done = adopted.adopt("--json", check=False)
    assert done.returncode == 1, done.stderr  # something could not be read
    found = json.loads(done.stdout)
    assert (found["documents"], found["unreadable"]) == (6 + len(damaged), len(damaged))
    for path in damaged.values():
        assert any(path.name in line for line in found["problems"]), path
        assert path.name in done.stderr
    adopted.start()
    assert files_of(adopted.element) == before

    noon, later = (adopted.mount / f"2024/03/05/{hour}" for hour in (12, 13))
    assert sorted(path.name for path in noon.iterdir()) == [
        "Отчёт за март (deadbeef).pdf",
        "Отчёт за март.pdf",
        "смета.xlsx",
    ]
    assert sorted(path.name for path in later.iterdir()) == ["big", "full", "без расширения"]
    assert (noon / "Отчёт за март.pdf").read_bytes() == b"1" * 100
    assert (later / "big").read_bytes() == bytes(range(256)) * 40_000
    estimate = noon / "смета.xlsx"
    assert os.getxattr(estimate, "user.Отдел") == "Архив".encode()
    assert json.loads(os.getxattr(estimate, "user.Метки")) == ["скан", "цвет"]
    assert estimate.stat().st_mtime == NOON.timestamp()
    assert files_of(adopted.element) == before

    os.setxattr(estimate, "user.Отдел", "Бухгалтерия".encode())
    (later / "без расширения").chmod(0o600)
    with (later / "big").open("ab") as file:
        file.write(b"end")
    run("mv", later / "big", noon / "large")
    (noon / "новый").write_bytes(b"new")
    (noon / "Отчёт за март.pdf").unlink()
    with pytest.raises(OSError, match="No space left on device"):
        (later / "full").chmod(0o600)
    adopted.flush()
    check_what_artstore_reads(adopted, damaged, before)
    adopted.stop()
    adopted.start()
    assert os.getxattr(estimate, "user.Отдел") == "Бухгалтерия".encode()
    assert (noon / "large").stat().st_size == 256 * 40_000 + 3


def check_what_artstore_reads(
    archive: MountedArchive, damaged: dict[str, Path], before: dict[str, bytes]
) -> None:
    for path in damaged.values():
        assert path.read_bytes() == before[str(path.relative_to(archive.element))]
        path.rename(path.with_suffix(".away"))
    found = {one.fields["original_filename"]: one for one in read_element(archive.element).values()}
    assert len(found) == 6
    assert found["смета.xlsx"].custom == {**CYRILLIC, "Отдел": "Бухгалтерия"}
    assert found["без расширения"].version == "2.0"
    assert found["без расширения"].fields["description"] == "Ё"
    assert found["full"].fields.get("posix") is None
    assert found["large"].fields["file_size"] == 256 * 40_000 + 3
    unchanged = [one for one in found.values() if "posix" not in one.fields]
    for one in unchanged:
        key = f"{one.key}.attr.json"
        assert (archive.element / key).read_bytes() == before[key]
    for path in damaged.values():
        path.with_suffix(".away").rename(path)
        with pytest.raises(NotArtStore):
            read_attributes(path.read_bytes())


def test_adopt_from_nothing_says_what_it_does(base: Path) -> None:
    """SEMANTICS: ADOPT-1"""
    name = f"adopt-{base.name.removeprefix('asfs-').replace('_', '-')}"
    write_file(base / "element", "scan.tif", b"scan")
    program = [sys.executable, "-m", "artstorefs_tools.command_line"]
    arguments = [*program, "adopt", name, "--user", "root", "--config-dir", str(base)]
    arguments += ["--element", f"main=local:{base / 'element'}"]
    state = Path("/var/lib/artstorefs") / name
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        toml = base / f"{name}.toml"
        # the root, four directories, and the file
        assert "6 nodes from 1 documents" in done.stdout
        assert done.stdout.endswith(f"mount it with: artstorefs mount {toml} MOUNTPOINT\n")
        assert "adopted = true" in toml.read_text()
        again = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert again.returncode == 1
        assert "is adopted already; mount it with: artstorefs mount" in again.stderr
        assert sorted(path.name for path in (base / "element").iterdir()) == ["2024"]
    finally:
        shutil.rmtree(state, ignore_errors=True)


REFUSED = {
    "nothing there": ("local:{base}/away", "is the disk mounted?"),
    "nothing of ArtStore's": ("local:{base}/mount", "no attr.json is there; is its disk mounted?"),
    "a bucket": ("s3:bucket", "only a directory can be adopted"),
    "an archive's": ("local:{base}/other", "belongs to the archive other already"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_adopted(base: Path, what: str) -> None:
    (base / "mount").mkdir()
    archive = MountedArchive(base / "archive")
    archive.run(
        *("init", "other", "--element", f"main=local:{base / 'other'}"),
        *("--config-dir", str(base / "archive")),
    )
    place, reason = REFUSED[what]
    done = archive.run(
        *("adopt", "museum", "--element", f"main={place.format(base=base)}"),
        *("--config-dir", str(base)),
        check=False,
    )
    assert done.returncode in (1, 2)
    assert reason in done.stderr
    assert not (base / "museum.toml").exists()


def test_a_read_only_medium(base: Path) -> None:
    """SEMANTICS: ADOPT-2"""
    write_file(base / "disc", "scan.tif", b"scan", custom_attributes={"k": "v"})
    (base / "element").mkdir()
    run("mount", "--bind", base / "disc", base / "element")
    run("mount", "-o", "remount,bind,ro", base / "element")
    archive = MountedArchive(
        base / "archive", settings=SETTINGS, element_arguments=",mode=ro", adopts=True
    )
    try:
        archive.toml.write_text(
            archive.toml.read_text().replace(str(archive.element), str(base / "element"))
        )
        archive.element_argument = f"main=local:{base / 'element'},mode=ro"
        live_archives.append(archive)
        archive.adopt()
        archive.start()
        file = archive.mount / "2024/03/05/14/scan.tif"
        assert file.read_bytes() == b"scan"
        assert os.getxattr(file, "user.k") == b"v"
        with pytest.raises(OSError, match="Read-only file system"):
            file.chmod(0o600)
        archive.run("rescan", str(archive.toml))
        archive.stop()
    finally:
        remove_archive(archive)
        run("umount", base / "element")


@pytest.mark.slow
@pytest.mark.time_limit(300)
def test_100_000_files_take_two_cores_less_than_a_minute(base: Path) -> None:
    """By the processor time that fewer of them take, whatever else the machine does: two processes
    read, and one writes the index. SEMANTICS: ADOPT-1"""
    start = datetime(2023, 1, 1, tzinfo=UTC)
    for number in range(FILES):
        moment = start + timedelta(minutes=3 * number)
        schema = "1.0" if number % 2 else "2.0"
        write_file(base / "element", f"документ {number}.pdf", b"x", schema=schema, moment=moment)
    archive = MountedArchive(base, adopts=True, new_processes=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    archive.adopt()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used_s - STARTING_S < 2 * 60 * FILES / 100_000
