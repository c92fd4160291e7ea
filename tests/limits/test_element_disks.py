"""The disk of an element is full, out of inodes, read-only, or away, and comes back."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ..filesystem.element_tree import read_element
from ..harness import MountedArchive
from .conftest import Limits, eventually
from .disks import Disk

CANNOT_BE_CARRIED = 4


def state_of(path: Path) -> bytes:
    return os.getxattr(path, "user.artstore.state")


def check_refused(archive: MountedArchive, name: str, content: bytes, error: str) -> None:
    """The file is readable, and everybody is told that no element has it."""
    path = archive.mount / name
    done = archive.run("flush", str(archive.toml), check=False)
    assert done.returncode == CANNOT_BE_CARRIED, done
    assert f"/{name}: " in done.stderr
    assert "kept, and tried again" in done.stderr
    assert re.search(error, os.getxattr(path, "user.artstore.error").decode())
    assert state_of(path) == b"pending"
    assert path.read_bytes() == content
    errors = {entry["path"]: entry["error"] for entry in archive.status()["errors"]}
    assert re.search(error, errors[f"/{name}"])


def check_carried(archive: MountedArchive, wanted: dict[str, bytes]) -> None:
    """By itself, and every mark of the failure is gone."""
    for name in wanted:
        eventually(lambda path=archive.mount / name: state_of(path), lambda s: s == b"stored", 90)
        with pytest.raises(OSError, match="No data") as raised:
            os.getxattr(archive.mount / name, "user.artstore.error")
        assert raised.value.errno == errno.ENODATA
    archive.flush()
    assert archive.status()["errors"] == []
    tree = read_element(archive.element)
    found = {path[1:].decode(): node.content for path, node in tree.items() if path != b"/"}
    assert found == wanted


TROUBLES: dict[str, tuple[str, Callable[[Disk], None], Callable[[Disk], None], str]] = {
    # It is met by the placement, or, where that knew of room before, by the element itself.
    "full": ("ext4", Disk.fill, Disk.empty, "full|No space left"),
    "full, tmpfs": ("tmpfs", Disk.fill, Disk.empty, "full|No space left"),
    "no inodes": ("ext4", Disk.use_up_inodes, Disk.free_inodes, "full|No space left"),
    "no inodes, tmpfs": ("tmpfs", Disk.use_up_inodes, Disk.free_inodes, "full|No space left"),
    "read-only": ("ext4", lambda d: d.remount("ro"), lambda d: d.remount("rw"), "Read-only"),
    "away": ("ext4", Disk.unmount, Disk.mount, "is the disk mounted?"),
}


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_lesson_06_09_element_in_trouble_is_told_keeps_all_and_goes_on(
    limits: Limits, trouble: str
) -> None:
    """SEMANTICS: ELEM-3, DUR-6, FULL-4"""
    kind, make, mend, error = TROUBLES[trouble]
    disk = limits.disk(kind, "element", 24, inodes=400)
    archive = limits.archive()
    wanted = {"old": os.urandom(70_000), "changed": os.urandom(70_000)}
    for name, content in wanted.items():
        (archive.mount / name).write_bytes(content)
    archive.flush()
    make(disk)
    wanted["new"] = os.urandom(300_000)
    wanted["changed"] = os.urandom(300_000)
    for name in ("new", "changed"):
        (archive.mount / name).write_bytes(wanted[name])
    check_refused(archive, "new", wanted["new"], error)
    assert (archive.mount / "old").read_bytes() == wanted["old"]
    assert set(os.listdir(archive.mount)) == wanted.keys()
    archive.remount()
    check_refused(archive, "new", wanted["new"], error)
    archive.kill()
    archive.start()
    check_refused(archive, "new", wanted["new"], error)
    mend(disk)
    check_carried(archive, wanted)


@pytest.mark.slow
def test_disk_that_comes_back_as_another_device_is_the_same_element(limits: Limits) -> None:
    """SEMANTICS: ELEM-3, FULL-4"""
    disk = limits.disk("tmpfs", "element", 24)
    archive = limits.archive()
    wanted = {"old": b"old" * 1000}
    (archive.mount / "old").write_bytes(wanted["old"])
    archive.flush()
    disk.replug()
    wanted["new"] = b"new" * 1000
    (archive.mount / "new").write_bytes(wanted["new"])
    os.setxattr(archive.mount / "old", "user.k", b"v")
    check_carried(archive, wanted)
    assert archive.attributes("old")["custom_attributes"] == {"k": "v"}
    assert (archive.mount / "old").read_bytes() == wanted["old"]


@pytest.mark.slow
def test_empty_directory_in_place_of_a_disk_gets_nothing(limits: Limits) -> None:
    """SEMANTICS: FULL-4"""
    disk = limits.disk("ext4", "element", 24)
    archive = limits.archive()
    disk.unmount()
    (archive.mount / "new").write_bytes(b"new")
    check_refused(archive, "new", b"new", "is the disk mounted?")
    assert os.listdir(archive.element) == []
    archive.remount()
    check_refused(archive, "new", b"new", "is the disk mounted?")
    assert os.listdir(archive.element) == []
    disk.mount()
    check_carried(archive, {"new": b"new"})


@pytest.mark.slow
def test_element_that_fills_up_under_way_leaves_the_rest_to_the_next(limits: Limits) -> None:
    """SEMANTICS: MODE-4"""
    limits.disk("tmpfs", "element", 24)
    archive = MountedArchive(limits.base, settings="settle_s = 0.1")
    limits.archives.append(archive)
    second = limits.base / "second"
    elements = [f"--element=main=local:{archive.element}", f"--element=second=local:{second}"]
    archive.run("init", "test", *elements, "--config-dir", str(limits.base / "other"))
    with open(archive.toml, "a") as configuration:
        configuration.write(f'[[element]]\nid = "second"\npath = "{second}"\npriority = 2\n')
    archive.start()
    wanted = {f"f{number}": os.urandom(9 << 20) for number in range(4)}
    for name, content in wanted.items():
        (archive.mount / name).write_bytes(content)
    for name in wanted:
        eventually(lambda path=archive.mount / name: state_of(path), lambda s: s == b"stored", 60)
    holders = [os.getxattr(archive.mount / name, "user.artstore.element") for name in wanted]
    assert set(holders) == {b"main", b"second"}
    for name, content in wanted.items():
        assert (archive.mount / name).read_bytes() == content
    archive.flush()
    assert archive.status()["errors"] == []
    objects = {path.name for path in archive.objects() if path.name.startswith("f")}
    assert len(
        [name for name in objects if not name.endswith((".json", ".blocks"))]
    ) == holders.count(b"main")
