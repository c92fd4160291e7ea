"""A kill at each step of a change of a mode, and a start after it; `artstorefs/RECOVERY.md`."""

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools.control_client import ControlClient
from artstorefs_tools.errors import CommandError

from ..harness import MountedArchive, wait_until
from .armed import Armed

STEPS = ["mode.preparing", "mode.committing", "mode.recorded", "mode.settled"]
STEPS += ["barrier.contents_flushed", "barrier.change_published"]
"""The last two are of the mode.json itself, since nothing else is carried then."""


class ModeBench:
    """An archive in mode `rw`, with a file on its element and a point to be armed."""

    def __init__(self, armed: Armed) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="asfs-"))
        self.archive = MountedArchive(
            self.base, settings="settle_s = 0\n", element_arguments=",mode=rw"
        )
        self.armed, self.starter = armed, armed.starter
        self.starter.mount(self.archive)
        (self.archive.mount / "f").write_bytes(b"content")
        self.archive.ask("flush")

    def close(self) -> None:
        self.archive.clean_up()
        self.starter.finish()
        self.archive.clean_up()
        shutil.rmtree(self.base)

    def change(self, method: str, **params: Any) -> None:
        """Ask for it; the daemon may die over it."""
        try:
            with ControlClient(self.base / "runtime", "test") as client:
                client.call(method, {"element": "main", **params})
        except CommandError:
            return

    def end(self) -> None:
        """The point was reached; what is left of the daemon is killed as well."""
        self.armed.wait_until_reached()
        self.archive.kill_what_is_left()

    def mode(self) -> dict[str, Any]:
        found: dict[str, Any] = self.archive.ask("modes")["modes"][0]
        return found

    def recorded(self) -> str:
        data = (self.archive.element / ".artstorefs" / "mode.json").read_bytes()
        return str(json.loads(data)["mode"])

    def is_writable(self) -> bool:
        try:
            (self.archive.mount / "new").write_bytes(b"new")
        except OSError as exc:
            return exc.errno != errno.EROFS
        return True


@pytest.fixture
def modes(armed: Armed) -> Iterator[ModeBench]:
    bench = ModeBench(armed)
    try:
        yield bench
        assert "Traceback" not in bench.archive.log(), bench.archive.log()[-4000:]
    finally:
        bench.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", STEPS)
def test_kill_at_every_step_of_a_change_of_mode(modes: ModeBench, point: str) -> None:
    """SEMANTICS: MODE-8, MODE-9"""
    bench = modes
    bench.armed.arm(point)
    bench.change("mode_change", mode="ro", why="full")
    bench.end()
    bench.starter.mount(bench.archive)
    assert not bench.is_writable()
    wait_until(lambda: bench.mode()["mode"] == "ro")
    assert (bench.mode()["phase"], bench.mode()["why"]) == ("settled", "full")
    assert bench.recorded() == "ro"
    assert (bench.archive.mount / "f").read_bytes() == b"content"
    assert list((bench.archive.element / ".artstorefs" / "tmp").iterdir()) == []
    bench.archive.stop()
    assert bench.archive.run("fsck", str(bench.archive.toml)).returncode == 0
    shutil.rmtree(bench.archive.state)
    bench.starter.mount(bench.archive)
    assert bench.mode()["mode"] == "ro"
    assert not bench.is_writable()


@pytest.mark.slow
def test_kill_when_a_change_of_mode_is_cancelled(modes: ModeBench) -> None:
    """SEMANTICS: MODE-8"""
    bench = modes
    with open(bench.archive.mount / "held", "wb", buffering=0) as held:
        held.write(b"content")  # so that it cannot be drained
        bench.change("mode_change", mode="ro", wait=False)
        bench.armed.arm("mode.cancelled")
        bench.change("mode_cancel")
        bench.end()
    bench.starter.mount(bench.archive)
    assert (bench.mode()["mode"], bench.mode()["phase"]) == ("rw", "settled")
    assert bench.is_writable()
    assert (bench.archive.mount / "held").read_bytes() == b"content"


@pytest.mark.slow
def test_kill_of_the_transfer_process_while_the_element_is_told(modes: ModeBench) -> None:
    """The mount goes on, and so does the change. SEMANTICS: MODE-8, DUR-7"""
    bench = modes
    pid = bench.archive.pid
    bench.armed.arm("mode.recorded")
    bench.change("mode_change", mode="ro")
    assert bench.armed.is_reached
    assert (bench.mode()["mode"], bench.archive.pid) == ("ro", pid)
    assert bench.recorded() == "ro"
