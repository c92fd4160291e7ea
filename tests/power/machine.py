"""A second kernel whose power can be cut: User-Mode Linux, with this file tree as its root.

SIGKILL of its process group loses what only its page cache held, like a power cut; what it had
written to its disk is in the image. Its console comes out line by line, so acknowledgements are
kept outside of what dies.
"""

import array
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MEMORY = "384M"
KERNEL = "linux.uml"
REPOSITORY = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).with_name("guest.sh")

NEEDED = {
    KERNEL: "user-mode-linux",
    "insmod": "kmod",
    "dmsetup": "dmsetup",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "debugfs": "e2fsprogs",
}

_PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def check_tools() -> None:
    """AssertionError that names what is missing: nothing is left out in silence."""
    missing = {package for tool, package in NEEDED.items() if not shutil.which(tool, path=_PATH)}
    assert not missing, f"power cuts need these packages: {' '.join(sorted(missing))}"


def in_memory() -> str | None:
    """A place in memory where that can be: for a guest's memory, and for its disks, because every
    flush of the guest is one of the file that is its disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for images. The guest does not see it: its /dev is another one."""
    path = Path(tempfile.mkdtemp(prefix="asfs-power-", dir=in_memory()))
    try:
        yield path
    finally:
        shutil.rmtree(path)


class Machine:
    """`lines` are what the console has said so far; it runs from the start."""

    def __init__(self, disks: list[Path], **variables: str) -> None:
        arguments = [f"ubd{number}={disk}" for number, disk in enumerate(disks)]
        arguments += [f"{key}={value}" for key, value in variables.items()]
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [
                # the machine ends with whoever has started it, also when that is killed
                *("setpriv", "--pdeathsig", "KILL"),
                *(KERNEL, f"mem={MEMORY}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/"),
                *("ro", f"init={GUEST}", "con=null", "con0=null,fd:1", "quiet"),
                *(f"ASFS_PYTHON={sys.executable}", f"ASFS_REPOSITORY={REPOSITORY}", *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PATH": _PATH, "TMPDIR": in_memory() or tempfile.gettempdir()},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait(self, wanted: Callable[[str], bool], limit_s: float) -> bool:
        """Whether such a line came before the machine ended or the time was over."""
        deadline = time.monotonic() + limit_s
        with self._changed:
            while not any(map(wanted, self.lines)):
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    return False
                self._changed.wait(min(left, 0.5))
            return True

    @contextlib.contextmanager
    def stopped(self) -> Iterator[list[str]]:
        """The machine stands still, and all that it has said so far is in the list."""
        assert self.process.stdout is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            unread = array.array("i", [1])
            while unread[0]:
                time.sleep(0.05)  # also for the line that the reader has and has not put down
                fcntl.ioctl(self.process.stdout, termios.FIONREAD, unread)
            with self._changed:
                lines = list(self.lines)
            yield lines
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def cut(self) -> None:
        """Cut the power; returns once everything that it said has been read."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cut()
