"""An element that a hostile hand has been at, with an archive that was on it before, and a watch
over every path that the programs under strace are given or led to.

Outside of the element lie canaries, to which links, keys and documents lead.
"""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from artstorefs.core.naming import record_key

from ..harness import REPOSITORY, MountedArchive, wait_for_end
from .cases import PLACES, TEXTS, TextCase
from .planting import CANARY, Planter

STRACE = ("strace", "-f", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-o")

TIME_LIMIT_S = 120

SYSTEM = tuple(
    os.path.realpath(path)
    for path in (
        *(*sys.path, sys.prefix, sys.base_prefix, f"{sys.base_prefix}/../lib", REPOSITORY),
        *("/usr", "/lib", "/lib64"),
    )
    if path and os.path.isabs(path)
)
SYSTEM += ("/proc", "/sys", "/dev/fuse", "/dev/null", "/dev/urandom", "/bin", "/sbin", "/lib")
SYSTEM += ("/etc/locale.alias", "/etc/ssl/openssl.cnf")
SYSTEM += ("/etc/ld.so", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime")
SYSTEM += ("/etc/fuse.conf", "/etc/mtab", "/run/mount", "/etc/gai.conf", "/etc/resolv.conf")
SYSTEM += (
    "/etc/selinux",
    "/selinux",
    "/run/nscd",
    "/var/run/nscd",
    "/var/lib/sss",
    "/run/systemd/userdb",
)
"""What Python, libc and libfuse look at wherever they run."""


class Hostile:
    """The archive, its good files, and a place outside with canaries."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="asfs-"))
        self.archive = MountedArchive(self.base / "a", settings="settle_s = 0.1")
        self.outside = self.base / "outside"
        self.outside.mkdir()
        self.canary = self.outside / "canary"
        self.canary.write_bytes(CANARY)
        (self.outside / "x.attr.json").write_bytes(CANARY)
        self.trace = self.base / "trace"
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Mount under strace; returns when the mount is there."""
        command = [sys.executable, "-m", "artstorefs_tools.command_line", "mount", "-f"]
        command += [str(self.archive.toml), str(self.archive.mount)]
        with open(self.archive.base / "log", "wb") as log:
            self.daemon = subprocess.Popen(
                [*STRACE, str(self.trace), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not os.path.ismount(self.archive.mount):
            assert self.daemon.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        return (self.archive.base / "log").read_text(errors="replace")

    def stop(self) -> None:
        assert self.daemon is not None
        self.archive.stop()
        self.daemon.wait(60)
        self.daemon = None

    def clean_up(self) -> None:
        self.archive.clean_up()
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGKILL)
            wait_for_end(self.daemon.pid)
            self.daemon.wait(10)
        shutil.rmtree(self.base)

    def paths(self) -> Iterator[tuple[str, str]]:
        """Every path that a system call was given or has led to, absolute, with its line."""
        for line in self.trace.read_text(errors="replace").splitlines():
            call = re.match(r"\d+ +(\w+)\((.*)", line)
            if call is None or call[1] == "mount":  # whose source is only a name
                continue
            for opened in re.findall(r"<(/[^>]*)>", line):  # where a descriptor has led to
                yield opened, line
            arguments = call[2]
            if call[1].startswith("symlink"):  # its first is only a text, wherever it points
                arguments = re.sub(r'^"(?:[^"\\]|\\.)*"[.]*, ', "", arguments)
            directory = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>, ", arguments)
            found = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)[: _paths_of(call[1])]
            for path in filter(None, found):  # an empty one means the descriptor itself
                base = directory[1] if directory else "/"
                yield os.path.normpath(os.path.join(base, path)), line


def _paths_of(call: str) -> int:
    """How many of the strings of a system call are paths."""
    return 2 if call.startswith(("rename", "link")) else 1


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    made = Hostile()
    previous = signal.signal(signal.SIGALRM, _expire)
    signal.alarm(TIME_LIMIT_S)
    try:
        yield made
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        made.clean_up()


def _expire(number: int, frame: object) -> None:
    raise TimeoutError(f"the test took longer than {TIME_LIMIT_S} s")


def fill(hostile: Hostile) -> dict[str, bytes]:
    """Good files, and some whose objects are made bad later; all on the element."""
    archive = hostile.archive
    archive.start()
    contents = {f"good {number}": os.urandom(100 * number + 1) for number in range(8)}
    contents["grown"] = b"as it was"
    for name in ("symlink", "FIFO", "device", "directory", "gigantic", "hard link"):
        contents[f"object {name}"] = b"of " + name.encode()
    (archive.mount / "d").mkdir()
    for name, data in contents.items():
        (archive.mount / "d" / name).write_bytes(data)
    os.symlink("good 1", archive.mount / "d" / "link")
    archive.flush()
    archive.stop()
    shutil.rmtree(archive.state)
    return contents


def spoil(hostile: Hostile) -> int:
    """Plant every case of the table, objects that are none, and ways out; how many documents."""
    root = hostile.archive.element
    archive_id = json.loads((root / ".artstorefs/archive.json").read_bytes())["archive_id"]
    planter = Planter(root, archive_id)
    count = 0
    for case in [*TEXTS, *PLACES]:
        for kind in case.kinds if isinstance(case, TextCase) else ("attr", "directory"):
            path = root / planted(planter, kind)
            if isinstance(case, TextCase):
                path.write_bytes(case.make(json.loads(path.read_bytes())))
            else:
                path.unlink()
                case.make(path)
            count += 1
    hour = root / "2025/01/01/00"
    os.symlink(hostile.outside / "x.attr.json", hour / "leads out.attr.json")
    os.symlink(hostile.outside, root / "2025/02")
    os.symlink(hostile.outside, root / ".artstorefs/nodes/zz")
    _spoil_objects(hostile, root)
    return count + 1


def planted(planter: Planter, kind: str) -> str:
    """A good document of a stranger; its key."""
    if kind == "attr":
        key = f"2025/01/01/00/x_{uuid4()}"
        planter.file("stranger", planter.root_id, key)
        return f"{key}.attr.json"
    if kind == "directory":
        return record_key(UUID(planter.directory("stranger", planter.root_id)))
    return record_key(UUID(planter.link("stranger", planter.root_id, str(uuid4()))))


def _spoil_objects(hostile: Hostile, root: Path) -> None:
    objects = [path for path in root.rglob("object_*") if path.suffix != ".json"]
    makers = {
        "object_symlink": lambda path: os.symlink(hostile.canary, path),
        "object_FIFO": os.mkfifo,
        "object_device": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
        "object_directory": os.mkdir,
        "object_gigantic": lambda path: _sparse(path, 1 << 43),
        "object_hard_link": lambda path: os.link(hostile.outside / "x.attr.json", path),
    }
    for name, make in makers.items():
        path = next(path for path in objects if path.name.startswith(name))
        path.unlink()
        make(path)


def _sparse(path: Path, size_bytes: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size_bytes)


def age(hostile: Hostile) -> dict[Path, tuple[int, bytes]]:
    """Canaries get a time of access that any reading would change."""
    found = {}
    for path in sorted(hostile.outside.iterdir()):
        found[path] = (10**18, path.read_bytes())
        os.utime(path, ns=(10**18, time.time_ns()))
    return found


def assert_nothing_outside(
    hostile: Hostile, before: dict[Path, tuple[int, bytes]], *, reads_links: bool = False
) -> None:
    """`reads_links`: an object that is a hard link cannot be told from another, and is read."""
    for path, (accessed_ns, content) in before.items():
        if not (reads_links and path.stat().st_nlink > 1):
            assert path.stat().st_atime_ns == accessed_ns, f"{path} was read"
        assert path.read_bytes() == content
    assert sorted(before) == sorted(hostile.outside.iterdir())
    own = str(hostile.archive.base)
    inside = str(hostile.archive.element)
    seen = set()
    foreign = []
    for path, line in hostile.paths():
        seen.add(path.startswith(inside))
        if not is_expected(path, own):
            foreign.append(line)
        if path.startswith(inside) and re.search(r"openat\(.*(FIFO|device)_(?!.*json)", line):
            assert "O_PATH" in line, line
    assert True in seen, "strace saw nothing of the element: nothing was shown"
    assert not foreign, "\n".join(foreign)


def is_expected(path: str, own: str) -> bool:
    """Below the archive or what Python and libc read; a directory above, which realpath(3) asks
    for; and where Python looks for its own library before it finds it."""
    below = (own, *SYSTEM)
    above = path.rstrip("/") + "/"
    return (
        path.startswith(below)
        or any(place.startswith(above) for place in below)
        or re.fullmatch(r".*/python\d+\.zip", path) is not None
    )
