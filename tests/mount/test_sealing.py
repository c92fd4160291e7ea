"""An element of mode `rw` with the programs that people use: they finish what they have begun."""

import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import MountedArchive
from .conftest import make_archive, remove_archive
from .errnos import refused
from .system_calls import fallocate

SEALED = "user.artstore.sealed"


@pytest.fixture(scope="module")
def sealing() -> Iterator[MountedArchive]:
    """In mode `rw`; files can be changed for a minute."""
    archive = make_archive("settle_s = 0", ",mode=rw")
    yield archive
    remove_archive(archive)


def require_sealed(path: Path) -> None:
    """Nobody can change or remove it."""
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        with refused(errno.EPERM):
            os.open(path, flags)
    with refused(errno.EPERM):
        os.truncate(path, 1)
    with refused(errno.EPERM):
        path.unlink()


def test_programs_finish_what_they_have_begun(sealing: MountedArchive, tmp_path: Path) -> None:
    """SEMANTICS: MODE-6"""
    file = sealing.mount / "text"
    file.write_text("one\n")
    sealing.ask("flush")
    subprocess.run(["sed", "-i", "s/one/two/", str(file)], check=True)
    with open(file, "a") as appending:
        appending.write("three\n")
    sealing.ask("flush")
    assert file.read_text() == "two\nthree\n"
    (sealing.mount / ".text.swp").write_bytes(b"an editor's")
    sealing.ask("flush")
    (sealing.mount / ".text.swp").unlink()
    (tmp_path / "sent").write_bytes(os.urandom(300_000))
    for _ in range(2):
        source, target = str(tmp_path / "sent"), str(sealing.mount / "sent")
        subprocess.run(["rsync", "-a", "--ignore-times", source, target], check=True)
        sealing.ask("flush")
    assert (sealing.mount / "sent").read_bytes() == (tmp_path / "sent").read_bytes()


def test_seal_command(sealing: MountedArchive) -> None:
    """SEMANTICS: MODE-6, XATTR-3"""
    directory = sealing.mount / "sealed"
    (directory / "below").mkdir(parents=True)
    files = [directory / "f", directory / "below" / "g"]
    for file in files:
        file.write_bytes(b"content")
    (directory / "link").symlink_to("f")
    begun = time.time()
    sealed_at = os.getxattr(files[0], SEALED).decode()
    assert sealed_at > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun + 50))
    with open(files[1], "r+b") as file:
        answer = sealing.run("seal", str(directory), "--json", check=False)
        assert answer.returncode == 1
        assert json.loads(answer.stdout)["sealed"] == 1
        (error,) = json.loads(answer.stdout)["errors"]
        assert error["path"] == str(files[1])
        assert "open for writing" in error["error"]
        file.write(b"C")
    assert sealing.run("seal", str(directory)).stdout == "2 files are sealed\n"
    assert os.getxattr(files[0], SEALED).decode() < sealed_at
    for file in files:
        require_sealed(file)
    assert files[1].read_bytes() == b"Content"
    assert os.listxattr(files[0]) == []
    shown = sealing.run("attr", str(files[0])).stdout
    assert f"(sealed {os.getxattr(files[0], SEALED).decode()})" in shown
    os.rename(files[0], directory / "renamed")
    require_sealed(directory / "renamed")


def test_what_cannot_be_sealed(sealing: MountedArchive, local: Path) -> None:
    """Each gets its reason, and the rest is done. SEMANTICS: MODE-6"""
    (local / "f").write_bytes(b"content")
    os.mkfifo(sealing.mount / "fifo")
    good = sealing.mount / "good"
    good.write_bytes(b"content")
    paths = [local / "f", sealing.mount / "fifo", sealing.mount / "nothing", good]
    done = sealing.run("seal", *map(str, paths), check=False)
    assert (done.returncode, done.stdout) == (1, "1 file is sealed\n")
    in_none, fifo, nothing = done.stderr.splitlines()
    assert "in no archive" in in_none
    assert "only ordinary files" in fifo
    assert "No such file" in nothing
    assert os.listxattr(local / "f") == []
    require_sealed(good)


def test_many_that_cannot_be_sealed_are_some_lines_and_each_is_one(
    archive: MountedArchive, directory: Path
) -> None:
    """In mode `edit`, as a newcomer has it."""
    for number in range(30):
        (directory / f"a\n{number:02}").write_bytes(b"x")
    done = archive.run("seal", str(directory), check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 11
    assert all(line.startswith("artstorefs: ") for line in lines)
    assert "a\\n00: its element is in mode edit" in lines[0]
    assert lines[-1] == "artstorefs: and 20 more, see --json"


def test_what_is_open_goes_on_when_the_time_has_come() -> None:
    """SEMANTICS: MODE-5, MODE-6"""
    archive = make_archive("settle_s = 0\nseal_after_s = 1", ",mode=rw")
    try:
        file = archive.mount / "f"
        file.write_bytes(b"content")
        with open(file, "r+b", buffering=0) as opened:
            time.sleep(1.2)
            opened.write(b"C")
            os.ftruncate(opened.fileno(), 3)
            fallocate(opened.fileno(), 0, 0, 5)
            opened.seek(3)
            opened.write(b"ce")
        file.write_bytes(b"changed")
        archive.ask("flush")
        while os.getxattr(file, SEALED).decode() > _now():
            time.sleep(0.05)
        require_sealed(file)
        assert file.read_bytes() == b"changed"
    finally:
        remove_archive(archive)


def test_each_fsync_may_store_and_the_writer_goes_on() -> None:
    """SEMANTICS: MODE-5, DUR-5"""
    archive = make_archive('settle_s = 0\nseal_after_s = 0\ndurability = "element"', ",mode=rw")
    try:
        file = archive.mount / "f"
        with open(file, "wb", buffering=0) as opened:
            for part in (b"one", b"two"):
                opened.write(part)
                os.fsync(opened.fileno())
            os.ftruncate(opened.fileno(), 5)
        assert file.read_bytes() == b"onetw"
        require_sealed(file)
    finally:
        remove_archive(archive)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
