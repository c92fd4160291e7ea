"""Archives mounted for the tests of this folder, a time limit, and an eye on the daemon's log.

`archive` is shared by a module, `fresh_archive` is a test's own. `place` is a new directory, once
on the mount and once on the local filesystem: what holds there holds here, so a body that is run
on both states no expectation that a real filesystem does not keep.
"""

import faulthandler
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from ..benchmarks.mounts import unmount_lazily
from ..harness import MountedArchive

TIME_LIMIT_S = 60.0
"""For one test; what needs more says so with `@pytest.mark.time_limit(SECONDS)`."""

SETTINGS = "settle_s = 0.2"
"""Half of the time that rsync needs for one file at its slowest, and no long waits in tests."""

SUSPICIOUS = re.compile(r" (ERROR|CRITICAL) |^Traceback |^[A-Za-z_.]+(Error|Exception)\b")

_numbers = itertools.count()
live_archives: list[MountedArchive] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "time_limit(seconds): instead of the usual limit")


class TimeLimitExceeded(Exception):
    """A test took longer than it may; its mounts have been taken away."""


class LogWatch:
    """What the daemons of the mounted archives log during one test."""

    def __init__(self, archives: list[MountedArchive]) -> None:
        self._start = {archive.base: len(archive.log()) for archive in archives}
        self._allowed: list[re.Pattern[str]] = []

    def allow(self, pattern: str) -> None:
        """Lines that match are expected."""
        self._allowed.append(re.compile(pattern))

    def unexpected(self, archives: list[MountedArchive]) -> list[str]:
        """Errors and tracebacks in the logs, but for what is allowed."""
        lines = []
        for archive in archives:
            lines += archive.log()[self._start.get(archive.base, 0) :].splitlines()
        return [
            line
            for line in lines
            if SUSPICIOUS.search(line) and not any(known.search(line) for known in self._allowed)
        ]


@pytest.fixture(scope="session", autouse=True)
def _fuse_device() -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.fail("/dev/fuse is missing: nothing can be mounted, so nothing is tested here")


def make_archive(
    settings: str = SETTINGS,
    element_arguments: str = "",
    user: str | None = None,
    further: str | None = None,
) -> MountedArchive:
    """An archive that is mounted. Its path is short: that of a socket has 107 bytes at most.
    `further`: what is to be said of a second element."""
    base = Path(tempfile.mkdtemp(prefix="asfs-"))
    base.chmod(0o755)  # ordinary users have to reach the mount
    archive = MountedArchive(
        base,
        settings=settings,
        element_arguments=element_arguments,
        user=user,
        further=() if further is None else (f"second=local:{base / 'second'}{further}",),
    )
    live_archives.append(archive)
    try:
        return archive.start()
    except BaseException:
        remove_archive(archive)
        raise


def remove_archive(archive: MountedArchive) -> None:
    live_archives.remove(archive)
    archive.clean_up()
    shutil.rmtree(archive.base)


@pytest.fixture(scope="module")
def archive() -> Iterator[MountedArchive]:
    """A mounted archive that all tests of a module share; each works in a directory of its own."""
    archive = make_archive()
    yield archive
    remove_archive(archive)


@pytest.fixture
def fresh_archive() -> Iterator[MountedArchive]:
    """A mounted archive of the test's own, with nothing in it."""
    archive = make_archive()
    yield archive
    remove_archive(archive)


@pytest.fixture
def local() -> Iterator[Path]:
    """A new directory on the local filesystem."""
    path = Path(tempfile.mkdtemp(prefix="asfs-local-"))
    path.chmod(0o755)
    yield path
    unmount_lazily(path)  # what a program that was killed has left
    shutil.rmtree(path)


@pytest.fixture
def directory(archive: MountedArchive) -> Path:
    """A new directory on the mount."""
    path = archive.mount / f"d{next(_numbers)}"
    path.mkdir()
    return path


@pytest.fixture(params=["mount", "local"])
def place(request: pytest.FixtureRequest) -> Path:
    """A new directory, on the mount and on the local filesystem."""
    path: Path = request.getfixturevalue("directory" if request.param == "mount" else "local")
    return path


# ---------------------------------------------------------------------------- around each test


@pytest.fixture(autouse=True)
def log_watch() -> Iterator[LogWatch]:
    """Fails the test if a daemon logs an error or a traceback that the test has not allowed."""
    known = list(live_archives)
    watch = LogWatch(known)
    yield watch
    unexpected = watch.unexpected(live_archives)
    assert not unexpected, "in the daemon's log:\n" + "\n".join(unexpected)


@pytest.fixture(autouse=True)
def _mount_alive(archive: MountedArchive, log_watch: LogWatch) -> Iterator[None]:
    """The mount of the module outlives every test; if not, the next test gets a new one, and none
    runs on the bare directory below."""
    if not os.path.ismount(archive.mount):
        archive.start()
    yield
    assert os.path.ismount(archive.mount), "the mount is gone"


@pytest.fixture(autouse=True)
def _time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that hangs fails. A system call that waits for a daemon cannot be interrupted, so the
    daemons are killed first: that ends it, and no mount is left behind."""
    marker = request.node.get_closest_marker("time_limit")
    limit_s = marker.args[0] if marker else TIME_LIMIT_S
    main = threading.main_thread().ident
    assert main is not None

    def expire() -> None:
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
        for archive in list(live_archives):
            archive.clean_up()
        signal.pthread_kill(main, signal.SIGALRM)

    def fail(number: int, frame: FrameType | None) -> None:
        raise TimeLimitExceeded(f"{request.node.name} took longer than {limit_s} s")

    previous = signal.signal(signal.SIGALRM, fail)
    timer = threading.Timer(limit_s, expire)
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def root() -> None:
    """For what only the superuser may do: device nodes, chown, trusted.*, other users."""
    if os.geteuid() != 0:
        pytest.fail("only root may do this: run the tests as root")


@pytest.fixture
def container() -> Iterator[Callable[[Path], None]]:
    """Begins a program in a mount namespace of its own, which keeps a mount until the end of the
    test, and no mounts of other tests."""
    begun: list[subprocess.Popen[str]] = []
    script = (
        "awk '/ - fuse/ { print $5 }' /proc/self/mountinfo | grep -vxF \"$1\" |"
        ' while read -r other; do umount --lazy "$other"; done; echo there; cat'
    )

    def begin(mount: Path) -> None:
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        pipe = subprocess.PIPE
        begun.append(subprocess.Popen([*command, str(mount)], stdin=pipe, stdout=pipe, text=True))
        assert begun[-1].stdout is not None
        assert begun[-1].stdout.readline() == "there\n"

    yield begin
    for process in begun:
        process.communicate()
