"""Files that expire, on a real mount: what people see of it, and what the kernel is told."""

import json
import os
import time
from collections.abc import Iterator

import pytest

from ..aging import age, show
from ..harness import MountedArchive, wait_until
from ..unit.json_document import check, keys_of
from .conftest import make_archive, remove_archive

EXPIRES = "user.artstore.expires"


@pytest.fixture
def expiring() -> Iterator[MountedArchive]:
    """With files that have come to their end, and are shown for eight days of thirty."""
    archive = make_archive("settle_s = 0\nexpire_grace_days = 30", ",expire_after_days=90")
    try:
        (archive.mount / "d").mkdir()
        for name in ("old", "held", "new"):
            (archive.mount / "d" / name).write_bytes(name.encode())
        os.link(archive.mount / "d" / "old", archive.mount / "further")
        os.utime(archive.mount / "d" / "new", (0, 0))
        archive.ask("flush")
        archive.stop()
        for name in ("old", "held"):
            show(archive.state, age(archive.state, name, 100), 8)
        yield archive.start()
    finally:
        remove_archive(archive)


def test_files_are_shown_and_go_when_their_time_is_over(expiring: MountedArchive) -> None:
    """SEMANTICS: EXPIRE-2, EXPIRE-3, EXPIRE-4, XATTR-3"""
    archive, name, directory = expiring, str(expiring.toml), expiring.mount / "d"
    wait_until(lambda: archive.ask("expiring")["files"] == 2)
    answer = json.loads(archive.run("expiring", name, "--all", "--json").stdout)
    assert check("expiring", answer) == keys_of("expiring").keys()
    assert {file["path"] for file in answer["expiring"]} == {"/d/old", "/d/held"}
    assert sorted(file["links"] for file in answer["expiring"]) == [1, 2]
    removal = answer["first_removal"]
    assert removal == _day(time.time() + 22 * 86400, removal)
    assert os.getxattr(directory / "old", EXPIRES).decode()[:10] == removal[:10]
    assert os.getxattr(directory / "new", EXPIRES).decode() > removal
    assert EXPIRES not in os.listxattr(directory / "old")
    lines = archive.run("expiring", name).stdout.splitlines()
    assert lines[0] == "2 files, 7B"
    assert [line for line in lines if line.endswith("/d/old (2 names)")]
    assert "2 files, 7B, removed from" in archive.run("status", name).stdout
    assert sorted(os.listdir(directory)) == ["held", "new", "old"]  # which the kernel remembers
    assert os.stat(archive.mount / "further").st_nlink == 2
    with open(directory / "held", "rb") as held:
        text = archive.toml.read_text()
        archive.toml.write_text(text.replace("expire_grace_days = 30", "expire_grace_days = 7"))
        archive.run("reload", name)
        wait_until(lambda: not (directory / "old").exists())
        assert not (archive.mount / "further").exists()
        assert sorted(os.listdir(directory)) == ["held", "new"]
        assert held.read() == b"held"
    archive.run("expiring", name, "--clock-is-right")  # which has it look again
    wait_until(lambda: os.listdir(directory) == ["new"])
    (directory / "old").write_bytes(b"another")
    archive.ask("flush")
    assert {path.name.partition("_")[0] for path in archive.objects()} == {"new", "old"}
    assert archive.log().count("removed by expire_after_days") == 2
    assert archive.ask("status")["expiring"]["removed"] == 2


def _day(seconds: float, like: str) -> str:
    """The same moment of the day as `like`, on the day of `seconds`, which is some seconds off."""
    return time.strftime("%Y-%m-%dT", time.gmtime(seconds)) + like[11:]
