"""fsck, rebuild and restore.py on an element that a hostile hand has been at: each goes through all
of it, gives back what is good, names what is bad, and looks at nothing outside."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from .hostile_element import STRACE, Hostile, age, assert_nothing_outside, fill, spoil
from .planting import Planter

pytestmark = pytest.mark.slow


def watched(hostile: Hostile, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """A program under strace, with what it has said."""
    return subprocess.run(
        [*STRACE, str(hostile.trace), *map(str, command)],
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )


def artstorefs(hostile: Hostile, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "artstorefs_tools.command_line"]
    return watched(hostile, *program, arguments[0], hostile.archive.toml, *arguments[1:])


def listing(root: Path) -> dict[str, tuple[int, int, str]]:
    """Every path below: type, size, and the target of a link; never follows one."""
    found = {}
    for top, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(top, name)
            status = os.lstat(path)
            target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            found[os.path.relpath(path, root)] = (status.st_mode, status.st_size, target)
    return found


def test_restore_gives_back_what_is_good(hostile: Hostile) -> None:
    """SEMANTICS: ELEM-7, ELEM-8"""
    contents = fill(hostile)
    spoil(hostile)
    element = hostile.archive.element
    endless = element / "2025/01/01/00/endless"
    record = json.loads((element / ".artstorefs/archive.json").read_bytes())
    planter = Planter(element, record["archive_id"])
    planter.file("of less than nothing", planter.root_id, "2025/01/01/00/endless", file_size=-1)
    with open(endless, "wb") as file:
        file.truncate(1 << 43)
    before = age(hostile)
    planted = listing(element)
    target = hostile.archive.base / "restored"
    done = watched(
        hostile, "/usr/bin/python3", "-I", "-S", element / ".artstorefs/restore.py", target
    )
    assert "Traceback" not in done.stderr, done.stderr[done.stderr.index("Traceback") :]
    assert done.returncode == 1, done.stderr
    assert "\x1b" not in done.stderr
    for name, data in contents.items():
        path = target / "d" / name
        if name.startswith("object"):
            assert not path.exists() or path.read_bytes() != data
            assert name in done.stderr or name.replace(" ", "_") in done.stderr
        else:
            assert path.read_bytes() == data
    assert os.readlink(target / "d/link") == "good 1"
    assert listing(element) == planted
    assert_nothing_outside(hostile, before, reads_links=True)


def test_fsck_names_what_is_bad_and_repairs_what_it_may(hostile: Hostile) -> None:
    """SEMANTICS: FSCK-2, FSCK-3"""
    fill(hostile)
    bad = spoil(hostile)
    before = age(hostile)
    assert artstorefs(hostile, "rebuild").returncode in (0, 1)
    done = artstorefs(hostile, "fsck", "--deep", "--json")
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    classes = [finding["class"] for finding in report["findings"]]
    assert classes.count("unreadable-document") + classes.count("not-ordinary") >= bad - 1
    assert done.returncode == 6, done.stderr
    planted = listing(hostile.archive.element)
    repaired = artstorefs(hostile, "fsck", "--deep", "--repair", "--json")
    assert "Traceback" not in repaired.stderr
    assert json.loads(repaired.stdout)["repaired"]
    after = listing(hostile.archive.element)
    lost = set(planted) - set(after)
    kept = {path for path in after if path.startswith(".artstorefs/quarantine/")}
    assert len(kept) >= len(lost), "something that was there is nowhere"
    again = json.loads(artstorefs(hostile, "fsck", "--json").stdout)
    assert again["repaired"] == 0
    assert_nothing_outside(hostile, before)
    hostile.start()
    assert (hostile.archive.mount / "d/good 3").stat().st_size == 301
    hostile.stop()
