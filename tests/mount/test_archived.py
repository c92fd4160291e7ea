"""rw → ro → ar → recall on a real mount, with a medium that is really unmounted."""

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from artstorefs_tools.control_client import ControlClient

from ..harness import MountedArchive, wait_until
from .conftest import make_archive, remove_archive
from .errnos import refused

pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 20_000
"""Of two blocks."""


class Cupboard:
    """A disk that is mounted at `place`, or not."""

    def __init__(self, base: Path) -> None:
        self.image, self.place = base / "disk", base / "medium"
        self.place.mkdir()
        self.image.touch()
        os.truncate(self.image, 32 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True)

    def mount(self) -> None:
        command = ["mount", "-o", "loop", str(self.image), str(self.place)]
        subprocess.run(command, check=True)

    def unmount(self) -> None:
        """As anybody does it: nobody may have anything there open."""
        subprocess.run(["umount", str(self.place)], check=True)


@pytest.fixture
def archive(root: None) -> Iterator[MountedArchive]:
    archive = make_archive("settle_s = 0\n", ",mode=rw")
    yield archive
    remove_archive(archive)


@pytest.fixture
def cupboard(archive: MountedArchive) -> Iterator[Cupboard]:
    cupboard = Cupboard(archive.base)
    yield cupboard
    subprocess.run(["umount", "-q", "-l", str(cupboard.place)], check=False)


def configure(archive: MountedArchive, keys: str) -> None:
    """More keys of the element, from the next mount on."""
    text = archive.toml.read_text()
    archive.toml.write_text(text.replace("[[element]]\n", f"[[element]]\n{keys}\n"))


def state(path: Path) -> str:
    return os.getxattr(path, "user.artstore.state").decode()


def test_from_rw_to_a_cupboard_and_back(archive: MountedArchive, cupboard: Cupboard) -> None:
    """SEMANTICS: AR-1, AR-2, AR-3, AR-6, AR-8, AR-9"""
    name, medium = str(archive.toml), cupboard.place
    (archive.mount / "d").mkdir()
    file = archive.mount / "d" / "f"
    file.write_bytes(CONTENT)
    os.setxattr(file, "user.artist", b"Rembrandt")
    archive.stop()
    configure(archive, f'offline_path = "{medium}"')
    archive.start()
    cupboard.mount()
    archive.run("medium", name, "main", "--prepare")
    cupboard.unmount()
    for mode in ("ro", "ar"):
        archive.run("mode", name, "main", mode)
    wait_until(lambda: "wanted there" in archive.run("medium", name).stdout)
    assert list(medium.iterdir()) == []
    cupboard.mount()
    wait_until(lambda: not [p for p in archive.objects() if p.suffix != ".json"])
    cupboard.unmount()
    assert (state(file), os.getxattr(file, "user.artist")) == ("archived", b"Rembrandt")
    assert file.stat().st_size == len(CONTENT)
    with refused(errno.EREMOTE):
        file.read_bytes()
    with refused(errno.EREMOTE):
        os.open(file, os.O_RDONLY | os.O_NONBLOCK)

    estimate = json.loads(archive.run("recall", "--estimate", "--json", str(file)).stdout)
    assert (estimate["files"], estimate["bytes"]) == (1, len(CONTENT))
    archive.run("recall", "--days", "7", str(archive.mount / "d"))
    assert state(file) == "recalling"
    with ControlClient(archive.base / "runtime", "test") as client:
        params = {"inos": [file.stat().st_ino], "wait": True, "detach": True}
        job = client.call("recall", params)["job"]
    wait_until(lambda: bool(archive.ask("status")["wanted"]))
    assert f"{medium}: the medium of element main" in archive.run("status", name).stdout
    (told,) = archive.ask("jobs")["jobs"]
    assert "wanted there" in told["progress"]["wanted"]
    assert "wanted there" in archive.run("jobs", name).stdout
    archive.kill()
    archive.start()
    assert state(file) == "recalling"
    wait_until(lambda: bool(archive.ask("status")["archived"]))
    (told,) = archive.ask("status")["archived"]
    assert (told["element"], told["files"], told["offline_files"]) == ("main", 1, 1)
    assert (told["recalling_files"], told["recalling_bytes"]) == (1, len(CONTENT))
    assert told["oldest_recall_age_s"] >= 0
    line = "1 files, 4.9MiB, offline; 1 asked for, the first 0.0 h ago"
    assert line in archive.run("status", name).stdout
    assert job
    cupboard.mount()
    done = archive.run("recall", "--wait", str(file))
    assert "1 were asked for before" in done.stdout
    cupboard.unmount()
    assert state(file) == "online"
    assert file.read_bytes() == CONTENT
    assert archive.run("recall", "--release", str(file)).stdout == "1 files let go of\n"
    with refused(errno.EREMOTE):
        file.read_bytes()
    assert archive.run("fsck", name).returncode == 0


def test_who_reads_waits_and_who_looks_does_not(
    archive: MountedArchive, cupboard: Cupboard
) -> None:
    """A program that is named, and one that is not. SEMANTICS: AR-9"""
    name, medium = str(archive.toml), cupboard.place
    for number in range(3):
        (archive.mount / f"f{number}").write_bytes(b"content %d" % number)
    archive.flush()
    archive.stop()
    configure(archive, f'offline_path = "{medium}"\non_archived_read = "recall"')
    archive.toml.write_text(re.sub('mode = "rw"', 'mode = "ar"', archive.toml.read_text()))
    cupboard.mount()
    archive.start()
    archive.run("medium", name, "main", "--prepare")
    wait_until(lambda: not [p for p in archive.objects() if p.suffix != ".json"])
    find = ["find", str(archive.mount), "-type", "f", "-size", "+0"]
    found = subprocess.run(find, check=True, capture_output=True, text=True).stdout
    assert len(found.splitlines()) == 3
    crawler = archive.base / "updatedb"
    shutil.copy("/bin/cat", crawler)
    done = subprocess.run([crawler, archive.mount / "f0"], check=False, capture_output=True)
    assert os.strerror(errno.EREMOTE).encode() in done.stderr
    os.close(os.open(archive.mount / "f1", os.O_RDONLY))
    states = {path.name: state(path) for path in archive.mount.iterdir()}
    assert states == dict.fromkeys(("f0", "f1", "f2"), "archived")
    done = subprocess.run(["cat", archive.mount / "f2"], check=True, capture_output=True)
    assert done.stdout == b"content 2"
    assert state(archive.mount / "f2") == "online"
