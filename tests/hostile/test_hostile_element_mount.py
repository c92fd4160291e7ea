"""A real mount of an element that a hostile hand has been at: everything good is there, everything
bad is named, and no process looks at anything outside of its own directories.

The daemon and its transfer process run under strace, which is asked for every system call that
takes a path. Outside of the element lie canaries, to which links, keys and documents lead.
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

from artstorefs.core.errors import DocumentError
from artstorefs.core.naming import record_key
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.layout import read_layout

from ..harness import REPOSITORY, MountedArchive, wait_for_end
from .cases import PLACES, TEXTS, TextCase, written
from .planting import CANARY, Planter

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
        traced = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-o"]
        with open(self.archive.base / "log", "wb") as log:
            self.daemon = subprocess.Popen(
                [*traced, str(self.trace), *command],
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


def age(hostile: Hostile) -> dict[Path, tuple[int, bytes]]:
    """Canaries get a time of access that any reading would change."""
    found = {}
    for path in sorted(hostile.outside.iterdir()):
        found[path] = (10**18, path.read_bytes())
        os.utime(path, ns=(10**18, time.time_ns()))
    return found


def assert_nothing_outside(hostile: Hostile, before: dict[Path, tuple[int, bytes]]) -> None:
    for path, (accessed_ns, content) in before.items():
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


def test_the_watch_sees_a_step_outside(hostile: Hostile) -> None:
    """The control: what opens a canary is found."""
    traced = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-o"]
    subprocess.run([*traced, hostile.trace, "ls", hostile.archive.element], check=True, timeout=60)
    before = age(hostile)
    assert_nothing_outside(hostile, before)
    subprocess.run([*traced, hostile.trace, "cat", hostile.canary], check=True, timeout=60)
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
