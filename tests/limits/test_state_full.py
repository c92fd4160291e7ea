"""The disk of the state directory is full, to the last byte."""

import errno
import os
from io import RawIOBase

import pytest

from ..filesystem.element_tree import read_element
from ..harness import MountedArchive
from .conftest import Limits, eventually
from .disks import Disk

KINDS = ("tmpfs", "ext4")


def prepared(limits: Limits, kind: str) -> tuple[MountedArchive, Disk, dict[str, bytes]]:
    """An archive with archived and spooled files on a small state disk that is full now."""
    disk = limits.disk(kind, "state", 48)
    archive = limits.archive()
    wanted = {}
    for number in range(20):
        wanted[f"archived{number}"] = os.urandom(5000 + number)
        (archive.mount / f"archived{number}").write_bytes(wanted[f"archived{number}"])
    archive.flush()
    disk.fill()
    return archive, disk, wanted


def use_up(archive: MountedArchive) -> list[str]:
    """Make names until that is ENOSPC, and nothing else; those that were acknowledged."""
    made = []
    for number in range(20_000):
        try:
            os.mkdir(archive.mount / f"new{number}")
        except OSError as exc:
            assert exc.errno == errno.ENOSPC, exc  # noqa: PT017
            assert not (archive.mount / f"new{number}").exists()
            return made
        made.append(f"new{number}")
    raise AssertionError("the disk was not full")


def check_reading(archive: MountedArchive, wanted: dict[str, bytes]) -> None:
    assert wanted.keys() <= set(os.listdir(archive.mount))
    for name, content in wanted.items():
        path = archive.mount / name
        assert path.stat().st_size == len(content)
        assert path.read_bytes() == content


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_state_disk_full_reading_goes_on_and_deleting_makes_room(limits: Limits, kind: str) -> None:
    """SEMANTICS: FULL-1, FULL-2"""
    archive, disk, wanted = prepared(limits, kind)
    with open(archive.mount / "archived0", "rb") as opened:
        made = use_up(archive)
        check_reading(archive, wanted)
        assert opened.read() == wanted["archived0"]
    for number in range(10):
        os.unlink(archive.mount / f"archived{number}")
        del wanted[f"archived{number}"]
    for name in made:
        os.rmdir(archive.mount / name)
    check_reading(archive, wanted)
    archive.flush()
    assert archive.status()["errors"] == [] or "full" in str(archive.status()["errors"])
    disk.empty()
    (archive.mount / "after").write_bytes(b"after")
    wanted["after"] = b"after"
    eventually(archive.status, lambda status: not status["errors"])
    archive.flush()
    archive.remount()
    check_reading(archive, wanted)
    assert archive.status()["errors"] == []
    tree = read_element(archive.element)
    assert {path[1:].decode() for path in tree if path != b"/"} == wanted.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_written_file_closed_on_a_full_state_disk_is_sealed_and_carried(
    limits: Limits, kind: str
) -> None:
    """SEMANTICS: FULL-1, FULL-2, LIMIT-3"""
    archive, disk, _ = prepared(limits, kind)
    disk.empty()
    path = archive.mount / "open"
    with open(path, "wb", buffering=0) as file:
        file.write(b"x" * 100_000)
        os.fsync(file.fileno())
        disk.fill()
        use_up(archive)
        with pytest.raises(OSError, match="No space"):
            write_for_ever(file)
        size = path.stat().st_size
    assert path.read_bytes()[:100_000] == b"x" * 100_000
    content = path.read_bytes()
    assert len(content) == size
    eventually(lambda: os.getxattr(path, "user.artstore.state"), lambda state: state == b"stored")
    disk.empty()
    archive.flush()
    assert os.getxattr(path, "user.artstore.state") == b"stored"
    assert path.read_bytes() == content
    assert read_element(archive.element)[b"/open"].content == content


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("kind", KINDS)
def test_lesson_08_start_with_a_full_state_disk(limits: Limits, kind: str, end: str) -> None:
    """SEMANTICS: FULL-3"""
    archive, disk, wanted = prepared(limits, kind)
    use_up(archive)
    os.unlink(archive.mount / "archived3")
    del wanted["archived3"]
    if end == "stop":
        archive.stop()
    else:
        archive.kill()
    disk.fill()
    archive.start()
    check_reading(archive, wanted)
    os.unlink(archive.mount / "archived4")
    del wanted["archived4"]
    with (
        pytest.raises(OSError, match="No space"),
        open(archive.mount / "archived5", "ab", buffering=0) as file,
    ):
        write_for_ever(file)
    disk.empty()
    eventually(archive.status, lambda status: not status["errors"])
    (archive.mount / "after").write_bytes(b"after")
    archive.flush()
    wanted["after"] = b"after"
    del wanted["archived5"]
    check_reading(archive, wanted)


def write_for_ever(file: RawIOBase) -> None:
    while True:
        file.write(bytes(1 << 20))
