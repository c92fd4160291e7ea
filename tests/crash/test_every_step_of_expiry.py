"""A kill at each step of a look for files that expire, and a start after it; RECOVERY.md."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..aging import age, show
from ..harness import MountedArchive, wait_until
from .armed import Armed

STEPS = ["lived.saved", "expiring.dropped", "expiring.shown", "expire.committed"]
STEPS += ["removal.documents_gone"]


class ExpiryBench:
    """An archive, mounted, that all points use one after the other."""

    def __init__(self, armed: Armed) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="asfs-"))
        self.archive = MountedArchive(
            self.base, settings="settle_s = 0\n", element_arguments=",expire_after_days=30"
        )
        self.armed, self.starter = armed, armed.starter
        self.starter.mount(self.archive)

    def prepare(self) -> None:
        """Files with which the next start has something to do at each step; not mounted then."""
        self.armed.disarm()
        (self.archive.mount / "d").mkdir(exist_ok=True)
        for name in ("due", "next", "changed"):
            (self.archive.mount / name).write_bytes(name.encode())
        os.link(self.archive.mount / "due", self.archive.mount / "d" / "due")
        self.archive.ask("flush")
        self.archive.stop()
        show(self.archive.state, age(self.archive.state, "due", 60), 8)
        show(self.archive.state, age(self.archive.state, "changed", 1), 8, is_changed=True)
        age(self.archive.state, "next", 60)

    def close(self) -> None:
        self.archive.clean_up()
        self.starter.finish()
        self.archive.clean_up()
        shutil.rmtree(self.base)

    def start_dies(self, point: str) -> None:
        """Of the mount process, or of the transfer process and then of the mount process."""
        self.armed.arm(point)
        self.starter.begin("mount", str(self.archive.toml), str(self.archive.mount))
        self.armed.wait_until_reached()
        self.archive.kill_what_is_left()

    def shown(self) -> list[str]:
        return [file["path"] for file in self.archive.ask("expiring")["expiring"]]


@pytest.fixture(scope="module")
def expiry(_armed: Armed) -> Iterator[ExpiryBench]:
    bench = ExpiryBench(_armed)
    try:
        yield bench
        assert "Traceback" not in bench.archive.log(), bench.archive.log()[-4000:]
    finally:
        bench.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", STEPS)
def test_kill_at_every_step_of_expiry(expiry: ExpiryBench, point: str) -> None:
    """SEMANTICS: EXPIRE-4, EXPIRE-5"""
    bench, mount = expiry, expiry.archive.mount
    bench.prepare()
    bench.start_dies(point)
    bench.starter.mount(bench.archive)
    wait_until(lambda: not (mount / "due").exists() and bench.shown() == ["/next"])
    assert os.listdir(mount / "d") == []
    for name in ("next", "changed"):
        assert (mount / name).read_bytes() == name.encode()
        (mount / name).touch()  # the element knows nothing of the age that the index was given
    bench.archive.ask("flush")
    objects = [path for path in bench.archive.objects() if path.suffix != ".json"]
    assert sorted(path.name.partition("_")[0] for path in objects) == ["changed", "next"]
    assert bench.archive.run("fsck", str(bench.archive.toml)).returncode == 0
