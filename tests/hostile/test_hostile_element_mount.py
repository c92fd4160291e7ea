"""A real mount of an element that a hostile hand has been at: everything good is there, everything
bad is named, and no process looks at anything outside of its own directories.

The daemon and its transfer process run under strace, which is asked for every system call that
takes a path.
"""

import os
import subprocess
import time
from pathlib import Path

import pytest

from artstorefs.core.errors import DocumentError
from artstorefs.elements.identified import read_layout
from artstorefs.elements.local import LocalElement

from .cases import written
from .hostile_element import STRACE, Hostile, age, assert_nothing_outside, fill, spoil


@pytest.mark.slow
def test_lesson_9_bad_documents_never_stop_the_mount(hostile: Hostile) -> None:
    """SEMANTICS: ELEM-7"""
    contents = fill(hostile)
    bad = spoil(hostile)
    before = age(hostile)
    hostile.start()
    top = hostile.archive.mount / "d"
    for name, data in contents.items():
        if name.startswith("object"):
            assert_error(top / name)
        else:
            assert (top / name).read_bytes() == data
    assert os.readlink(top / "link") == "good 1"
    assert_grown_is_not_served(hostile, top / "grown", contents["grown"])
    listed = subprocess.run(["ls", "-lR", hostile.archive.mount], capture_output=True, timeout=60)
    assert listed.returncode == 0, listed.stderr
    assert_named(hostile, bad)
    (top / "new").write_bytes(b"new")
    os.rename(top / "good 0", top / "moved")
    os.setxattr(top / "good 1", "user.x", b"y")
    hostile.archive.flush()
    hostile.stop()
    assert_nothing_outside(hostile, before)
    assert "Traceback" not in hostile.log()


def assert_error(path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        path.read_bytes()


def assert_grown_is_not_served(hostile: Hostile, path: Path, content: bytes) -> None:
    """An object that grows while it is read: what attr.json says is what is read."""
    stored = next(hostile.archive.element.rglob("grown_*[!n]"))
    with open(path, "rb", buffering=0) as file:
        with open(stored, "ab") as grown:
            grown.write(b" and more")
        assert file.read(1000) == content
        assert file.read(1000) == b""


def assert_named(hostile: Hostile, bad: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        quarantined = hostile.archive.status()["quarantined"]
        if quarantined["documents"] or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert quarantined["documents"] >= bad - 1  # the root of another archive is one to a rebuild
    text = hostile.archive.run("status", str(hostile.archive.toml)).stdout
    assert "cannot be used, and left where they are" in text
    assert "\x1b" not in text
    assert f"{bad} documents unreadable" in hostile.log()


def test_the_watch_sees_a_step_outside(hostile: Hostile) -> None:
    """The control: what opens a canary is found."""
    subprocess.run([*STRACE, hostile.trace, "ls", hostile.archive.element], check=True, timeout=60)
    before = age(hostile)
    assert_nothing_outside(hostile, before)
    subprocess.run([*STRACE, hostile.trace, "cat", hostile.canary], check=True, timeout=60)
    assert any(path == str(hostile.canary) for path, _ in hostile.paths())
    with pytest.raises(AssertionError):
        assert_nothing_outside(hostile, before)


ARCHIVES = {
    "not usable JSON": b"",
    "format": b"{}",
    "artstorefs/2": b'{"format": "artstorefs/2"}',
    "archive_id": written({"format": "artstorefs/1", "archive_id": "../../etc"}),
    "nests deeper": b"[" * 4000,
    "at most": b" " * 70000,
}


@pytest.mark.slow
def test_an_archive_json_that_is_none_is_refused_by_name(hostile: Hostile) -> None:
    element = LocalElement("main", str(hostile.archive.element))
    for says, data in ARCHIVES.items():
        (hostile.archive.element / ".artstorefs" / "archive.json").write_bytes(data)
        with pytest.raises(DocumentError, match=says):
            read_layout(element)
    element.close()
    assert_refused(hostile, says)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["a symlink", "a FIFO", "the directory a symlink"])
def test_an_archive_json_that_leads_out_is_one_line(hostile: Hostile, what: str) -> None:
    own = hostile.archive.element / ".artstorefs"
    path = own / "archive.json"
    if what == "the directory a symlink":
        own.rename(hostile.outside / "own")
        os.symlink(hostile.outside / "own", own)
        assert_refused(hostile, "not a directory")
        return
    path.rename(hostile.outside / "archive.json")
    if what == "a symlink":
        os.symlink(hostile.outside / "archive.json", path)
    else:
        os.mkfifo(path)
    assert_refused(hostile, "archive.json")


def assert_refused(hostile: Hostile, says: str) -> None:
    done = hostile.archive.run(
        "mount", str(hostile.archive.toml), str(hostile.archive.mount), check=False
    )
    assert done.returncode not in (0, 1), done
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not os.path.ismount(hostile.archive.mount)
