"""The mode of an element in a bucket changes, and the bucket keeps it."""

import errno
import os
import shutil

import pytest

from artstorefs_tools.control_client import ControlClient

from ..harness import MountedArchive, wait_until

pytestmark = pytest.mark.slow


def errno_of_writing(archive: MountedArchive) -> int:
    try:
        (archive.mount / "new").write_bytes(b"new")
    except OSError as exc:
        return exc.errno or 0
    return 0


def test_from_rw_to_ro_and_a_rebuild(archive: MountedArchive) -> None:
    """SEMANTICS: MODE-8, MODE-9, RETAIN-3"""
    archive.stop()
    text = archive.toml.read_text()
    assert 'mode = "edit"' in text
    archive.toml.write_text(text.replace('mode = "edit"', 'mode = "rw"'))
    archive.start()
    file = archive.mount / "f"
    file.write_bytes(b"content")
    os.setxattr(file, "user.artstore.retain_until", b"2199-01-01")
    archive.run("mode", str(archive.toml), "main", "ro", "--why", "the year is complete")
    assert errno_of_writing(archive) == errno.EROFS
    archive.stop()
    archive.run("fsck", str(archive.toml))
    shutil.rmtree(archive.state)
    archive.start()
    with ControlClient(archive.base / "runtime", "test") as client:
        (mode,) = client.call("modes")["modes"]
    assert (mode["mode"], mode["why"]) == ("ro", "the year is complete")
    assert errno_of_writing(archive) == errno.EROFS
    until = os.getxattr(file, "user.artstore.retain_until")
    assert until == b"2199-01-01T00:00:00.000000Z"
    wait_until(lambda: archive.ask("status")["pending"]["intents"] == 0)
