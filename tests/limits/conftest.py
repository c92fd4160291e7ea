"""Archives whose directories are small disks. A test that hangs is ended with its daemons."""

import faulthandler
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

import pytest

from ..harness import MountedArchive
from .disks import Disk

TIME_LIMIT_S = 120.0

SETTINGS = "settle_s = 0.1\nspool_wait_s = 0.4"

Value = TypeVar("Value")


class Limits:
    """What a test makes here is taken away after it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.disks: list[Disk] = []
        self.archives: list[MountedArchive] = []

    def disk(self, kind: str, name: str, size_mib: int, inodes: int = 0) -> Disk:
        """A disk mounted at the directory `name` of the archive that is made next."""
        disk = Disk(kind, self.base / name, self.base / f"{name}.image", size_mib, inodes)
        self.disks.append(disk)
        return disk

    def archive(
        self, settings: str = SETTINGS, element: str = "", *, new_processes: bool = False
    ) -> MountedArchive:
        """Mounted, with `state`, `element`, `cache` and `runtime` below `base`."""
        archive = MountedArchive(
            self.base,
            settings=settings,
            element_arguments=element,
            new_processes=new_processes,
        )
        self.archives.append(archive)
        return archive.start()

    def clean_up(self) -> None:
        for archive in self.archives:
            archive.clean_up()
        for disk in reversed(self.disks):
            disk.clean_up()


@pytest.fixture(autouse=True, scope="session")
def _needs() -> None:
    missing = [f"{what} is missing" for what in ("/dev/fuse",) if not os.path.exists(what)]
    if os.geteuid() != 0:
        missing.append("only root may mount small disks")
    if missing:
        pytest.fail("; ".join(missing))


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Iterator[Limits]:
    """With a time limit: the daemons are killed first, which ends system calls that wait."""
    made = Limits(Path(tempfile.mkdtemp(prefix="asfs-l-")))
    main = threading.main_thread().ident
    assert main is not None
    limit_s = getattr(request.module, "TIME_LIMIT_S", TIME_LIMIT_S)

    def expire() -> None:
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
        made.clean_up()
        signal.pthread_kill(main, signal.SIGALRM)

    def fail(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{request.node.name} took longer than {limit_s} s")

    previous = signal.signal(signal.SIGALRM, fail)
    timer = threading.Timer(limit_s, expire)
    timer.daemon = True
    timer.start()
    try:
        yield made
        for archive in made.archives:
            assert "Traceback" not in archive.log(), archive.log()[-6000:]
    finally:
        timer.cancel()
        signal.signal(signal.SIGALRM, previous)
        made.clean_up()
        shutil.rmtree(made.base)


def eventually(
    get: Callable[[], Value], wanted: Callable[[Value], bool], limit_s: float = 30
) -> Value:
    """What `get` gives once it is `wanted`."""
    deadline = time.monotonic() + limit_s
    while True:
        value = get()
        if wanted(value):
            return value
        assert time.monotonic() < deadline, f"after {limit_s} s still {value!r}"
        time.sleep(0.05)
