"""A kill at each step of content going offline, and a start after it; `artstorefs/RECOVERY.md`."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..harness import MountedArchive, wait_until
from .armed import Armed

STEPS = [
    "staging.temporary_made",
    "offline.copied",
    "offline.verified",
    "offline.told",
    "offline.committed",
]
STEPS += ["removal.documents_gone", "removal.objects_gone", "removed.committed"]
"""The last three are those of the removal that was logged in the fourth."""

PLACES = ("element", "medium", "state")

CONTENTS = {"small": b"content", "large": bytes(5 << 20)}


class MediumBench:
    """An archive whose element has a medium, with a small and a large file on the element, and a
    point to be armed. Its medium is on the same disk, so that objects get there by hard link."""

    def __init__(self, armed: Armed) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="asfs-"))
        self.medium = self.base / "medium"
        self.medium.mkdir()
        arguments = f",offline_path={self.medium},mode=edit"
        self.archive = MountedArchive(
            self.base, settings="settle_s = 0\n", element_arguments=arguments
        )
        self.armed, self.starter = armed, armed.starter
        self.starter.mount(self.archive)
        for name, data in CONTENTS.items():
            (self.archive.mount / name).write_bytes(data)
        self.archive.ask("flush")
        self.archive.run("medium", str(self.archive.toml), "main", "--prepare")
        self.archive.stop()
        text = self.archive.toml.read_text()
        self.archive.toml.write_text(re.sub(r'mode = "edit"', 'mode = "ar"', text))
        for name in PLACES:
            shutil.copytree(self.base / name, self.base / "kept" / name)

    def begin_anew(self) -> None:
        """All as it was before the first kill."""
        self.archive.clean_up()
        self.armed.disarm()
        for name in PLACES:
            shutil.rmtree(self.base / name)
            shutil.copytree(self.base / "kept" / name, self.base / name)

    def close(self) -> None:
        self.archive.clean_up()
        self.starter.finish()
        self.archive.clean_up()
        shutil.rmtree(self.base)

    def end(self) -> None:
        """The point was reached; what is left of the daemon is killed as well."""
        self.armed.wait_until_reached()
        self.archive.kill_what_is_left()

    def standing(self) -> dict[str, Any]:
        (found,) = self.archive.ask("media")["media"]
        return dict(found)

    def is_moved(self) -> bool:
        if self.standing()["left_files"]:  # first: what is moved is to be removed then
            return False
        return bool(self.archive.ask("status")["pending"]["intents"] == 0)

    def check(self) -> None:
        """Everything is on the medium, and nothing but documents on the element."""
        wait_until(self.is_moved)
        objects = [path for path in self.archive.objects() if path.suffix != ".json"]
        assert objects == []
        for name, data in CONTENTS.items():
            (found,) = (p for p in self.medium.rglob(f"{name}*") if p.suffix != ".blocks")
            assert found.read_bytes() == data
            with pytest.raises(OSError, match=os.strerror(errno.EREMOTE)):
                (self.archive.mount / name).read_bytes()
        for place in (self.archive.element, self.medium):
            assert list((place / ".artstorefs" / "tmp").iterdir()) == []


@pytest.fixture(scope="module")
def media(_armed: Armed) -> Iterator[MediumBench]:
    bench = MediumBench(_armed)
    try:
        yield bench
    finally:
        bench.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", STEPS)
def test_kill_at_every_step_to_a_medium(media: MediumBench, point: str) -> None:
    """SEMANTICS: AR-2"""
    bench = media
    bench.begin_anew()
    bench.armed.arm(point)
    bench.starter.mount(bench.archive)
    bench.end()
    bench.starter.mount(bench.archive)
    bench.check()
    assert "Traceback" not in bench.archive.log(), bench.archive.log()[-4000:]
    bench.archive.stop()
    assert bench.archive.run("fsck", str(bench.archive.toml)).returncode == 0
