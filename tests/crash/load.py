"""The load under which the daemon is killed: random system calls, and a model of what they did.

One writer process owns one directory of the mount, so that the order of its calls is known. Each
call is written to a journal outside of the mount before it is made and acknowledged there after it
has returned; what the directory must show after a kill follows from the journal alone.

A writer process ends when it has done what it was given to do, or when the mount dies.
"""

import errno
import json
import os
import random
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..mount.system_calls import RENAME_EXCHANGE, renameat2

FILES = 40

WRITER_LIMIT_S = 30.0
LARGE_BYTES = 1 << 20
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)

Step = dict[str, Any]


def tells_of_death(exc: OSError, directory: Any) -> bool:
    """Whether a call failed because the daemon has died. An open(2) that is being answered at that
    moment finds its backing file gone and is EIO; then the next call finds the mount dead."""
    deadline = time.monotonic() + 2
    while exc.errno == errno.EIO and time.monotonic() < deadline:
        try:
            os.statvfs(directory)
            time.sleep(0.01)
        except OSError as after:
            exc = after
    return exc.errno in DEAD


def payload(number: int, size: int) -> bytes:
    """Bytes that the journal names by a number."""
    return random.Random(number).randbytes(size)


@dataclass
class Node:
    mode: int
    data: bytes = b""
    target: str = ""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    mtime_ns: int | None = None


@dataclass
class Model:
    """What a directory has to show. Paths are relative to it."""

    nodes: dict[int, Node] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    last: int = 0

    def node(self, path: str) -> Node:
        return self.nodes[self.names[path]]

    def of_kind(self, kind: int) -> list[str]:
        return [path for path in self.names if stat.S_IFMT(self.node(path).mode) == kind]

    def links(self, path: str) -> int:
        return sum(number == self.names[path] for number in self.names.values())

    def apply(self, step: Step, *, written: int | None = None) -> None:
        """Do what a system call does; `written` if a write got only that far."""
        getattr(self, "_" + step["call"])(step, written)
        kept = set(self.names.values())
        self.nodes = {number: node for number, node in self.nodes.items() if number in kept}

    def _add(self, path: str, node: Node) -> None:
        self.last += 1
        self.names[path] = self.last
        self.nodes[self.last] = node

    def _create(self, step: Step, written: int | None) -> None:
        self._add(step["path"], Node(stat.S_IFREG | step["mode"]))

    def _write(self, step: Step, written: int | None) -> None:
        node = self.node(step["path"])
        if written == 0:  # the kernel sets the time before it takes the content
            node.mtime_ns = None
            return
        data = payload(step["number"], step["size"])[:written]
        offset = len(node.data) if step["offset"] is None else step["offset"]
        if data:
            old = node.data.ljust(offset, b"\0")
            node.data = old[:offset] + data + old[offset + len(data) :]
            node.mtime_ns = None

    def _truncate(self, step: Step, written: int | None) -> None:
        node = self.node(step["path"])
        node.data = node.data[: step["size"]].ljust(step["size"], b"\0")
        node.mtime_ns = None

    def _chmod(self, step: Step, written: int | None) -> None:
        node = self.node(step["path"])
        node.mode = stat.S_IFMT(node.mode) | step["mode"]

    def _utime(self, step: Step, written: int | None) -> None:
        self.node(step["path"]).mtime_ns = step["mtime_ns"]

    def _setxattr(self, step: Step, written: int | None) -> None:
        self.node(step["path"]).xattrs[step["name"]] = payload(step["number"], step["size"])

    def _mkdir(self, step: Step, written: int | None) -> None:
        self._add(step["path"], Node(stat.S_IFDIR | 0o755))

    def _symlink(self, step: Step, written: int | None) -> None:
        self._add(step["path"], Node(stat.S_IFLNK | 0o777, target=step["target"]))

    def _link(self, step: Step, written: int | None) -> None:
        self.names[step["path"]] = self.names[step["old"]]

    def _unlink(self, step: Step, written: int | None) -> None:
        del self.names[step["path"]]

    _rmdir = _unlink

    def _rename(self, step: Step, written: int | None) -> None:
        old, new = step["old"], step["path"]
        moved = {
            path: new + path[len(old) :]
            for path in self.names
            if path == old or path.startswith(old + "/")
        }
        numbers = {moved[path]: self.names.pop(path) for path in moved}
        self.names.update(numbers)

    def _exchange(self, step: Step, written: int | None) -> None:
        swapped, moved = {}, set()
        for old, new in ((step["old"], step["path"]), (step["path"], step["old"])):
            for path, number in self.names.items():
                if path == old or path.startswith(old + "/"):
                    swapped[new + path[len(old) :]] = number
                    moved.add(path)
        self.names = {path: number for path, number in self.names.items() if path not in moved}
        self.names.update(swapped)


class Writer:
    """Makes the calls. `journal` is a descriptor outside of the mount."""

    def __init__(self, directory: str, model: Model, journal: int, seed: int) -> None:
        self.directory = directory
        self.model = model
        self.journal = journal
        self.random = random.Random(seed)
        self.descriptor = -1

    def call(self, call: str, path: str, **more: Any) -> None:
        """One system call, journalled before and after."""
        step = {"call": call, "path": path, **more}
        os.write(self.journal, json.dumps(step).encode() + b"\n")
        written = getattr(self, "_" + call)(os.path.join(self.directory, path), step)
        os.write(self.journal, b"ok\n" if written is None else b"ok %d\n" % written)
        self.model.apply(step, written=written)

    def _create(self, path: str, step: Step) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self.descriptor = os.open(path, flags, step["mode"])

    def _write(self, path: str, step: Step) -> int:
        """Bytes written: a call that was cut off may have done a part, and says so."""
        data = payload(step["number"], step["size"])
        if step["offset"] is None:
            return os.write(self.descriptor, data)
        return os.pwrite(self.descriptor, data, step["offset"])

    def _truncate(self, path: str, step: Step) -> None:
        os.truncate(path, step["size"])

    def _chmod(self, path: str, step: Step) -> None:
        os.chmod(path, step["mode"])

    def _utime(self, path: str, step: Step) -> None:
        os.utime(path, ns=(step["mtime_ns"], step["mtime_ns"]))

    def _setxattr(self, path: str, step: Step) -> None:
        os.setxattr(path, step["name"], payload(step["number"], step["size"]))

    def _mkdir(self, path: str, step: Step) -> None:
        os.mkdir(path, 0o755)

    def _symlink(self, path: str, step: Step) -> None:
        os.symlink(step["target"], path)

    def _link(self, path: str, step: Step) -> None:
        os.link(os.path.join(self.directory, step["old"]), path)

    def _unlink(self, path: str, step: Step) -> None:
        os.unlink(path)

    def _rmdir(self, path: str, step: Step) -> None:
        os.rmdir(path)

    def _rename(self, path: str, step: Step) -> None:
        os.rename(os.path.join(self.directory, step["old"]), path)

    def _exchange(self, path: str, step: Step) -> None:
        old = os.path.join(self.directory, step["old"])
        renameat2(old, path, RENAME_EXCHANGE)

    # ------------------------------------------------------------------------ what is done

    def run(self, count: int) -> None:
        """So many actions, or until the mount dies."""
        actions = [self.create, self.append, self.overwrite, self.write_inside, self.rename]
        actions += [self.attributes, self.link, self.symlink, self.mkdir, self.truncate]
        for _ in range(count):
            if len(self.model.names) > FILES:
                self.remove()
            self.random.choice(actions)()

    def new_path(self) -> str:
        directories = ["", *(path + "/" for path in self.model.of_kind(stat.S_IFDIR))]
        while True:
            path = f"{self.random.choice(directories)}n{self.random.randrange(10**6):06d}"
            if path not in self.model.names:
                return path

    def some_file(self) -> str | None:
        files = self.model.of_kind(stat.S_IFREG)
        return self.random.choice(files) if files else None

    def write(self, path: str, offset: int | None) -> None:
        size = int(self.random.choice((1, 100, 4096, 20_000, 65_536)) * self.random.random()) + 1
        self.call("write", path, number=self.random.randrange(2**40), size=size, offset=offset)

    def close(self) -> None:
        os.close(self.descriptor)  # what it does has no state of its own
        self.descriptor = -1

    def create(self, path: str | None = None) -> None:
        path = path or self.new_path()
        self.call("create", path, mode=self.random.choice((0o644, 0o600)))
        large = self.random.random() < 0.03
        for _ in range(LARGE_BYTES // 65_536 if large else self.random.choice((0, 1, 1, 2, 3))):
            self.write(path, None)
        if self.random.random() < 0.3:
            self.call("chmod", path, mode=0o640)
            self.call("utime", path, mtime_ns=self.random.randrange(2 * 10**18))
        self.close()

    def overwrite(self) -> None:
        path = self.some_file()
        if path is not None:
            temporary = os.path.join(os.path.dirname(path), f".tmp{self.model.last}")
            self.create(temporary)
            self.call("rename", path, old=temporary)

    def append(self) -> None:
        path = self.some_file()
        if path is not None:
            self.descriptor = os.open(os.path.join(self.directory, path), os.O_WRONLY | os.O_APPEND)
            self.write(path, None)
            self.close()

    def write_inside(self) -> None:
        path = self.some_file()
        if path is not None:
            self.descriptor = os.open(os.path.join(self.directory, path), os.O_RDWR)
            length = len(self.model.node(path).data)
            for _ in range(2):
                self.write(path, self.random.randrange(length + 1000))
            self.close()

    def truncate(self) -> None:
        path = self.some_file()
        if path is not None:
            length = len(self.model.node(path).data)
            self.call("truncate", path, size=self.random.choice((0, length // 2, length + 5000)))

    def rename(self) -> None:
        movable = [*self.model.of_kind(stat.S_IFREG), *self.model.of_kind(stat.S_IFLNK)]
        if movable:
            self.call("rename", self.new_path(), old=self.random.choice(movable))
        directories = [path for path in self.model.of_kind(stat.S_IFDIR) if "/" not in path]
        if directories and self.random.random() < 0.3:
            new = f"d{self.random.randrange(10**6):06d}"
            if new not in self.model.names:
                self.call("rename", new, old=self.random.choice(directories))

    def attributes(self) -> None:
        path = self.some_file()
        if path is not None:
            self.call("chmod", path, mode=self.random.choice((0o644, 0o600, 0o755)))
            name = f"user.k{self.random.randrange(3)}"
            number = self.random.randrange(2**40)
            self.call("setxattr", path, name=name, number=number, size=self.random.randrange(60))

    def link(self) -> None:
        path = self.some_file()
        if path is not None:
            self.call("link", self.new_path(), old=path)

    def symlink(self) -> None:
        self.call("symlink", self.new_path(), target=f"to/{self.random.random()}")

    def mkdir(self) -> None:
        directories = self.model.of_kind(stat.S_IFDIR)
        if len(directories) < 5:
            self.call("mkdir", f"d{self.model.last:06d}x")

    def remove(self) -> None:
        for path in self.random.sample(sorted(self.model.names), FILES // 4):
            if not stat.S_ISDIR(self.model.node(path).mode):
                self.call("unlink", path)
            elif not any(name.startswith(path + "/") for name in self.model.names):
                self.call("rmdir", path)


def start_writer(
    directory: str, model: Model, journal_path: str, work: Callable[[Writer], None], seed: int = 0
) -> int:
    """Fork a process that does `work`, or as much of it as the mount lives to see; its id. Its
    exit code is 0 unless a call failed otherwise; the journal then says how."""
    child = os.fork()
    if child == 0:
        os._exit(_write(directory, model, journal_path, work, seed))
    return child


def _write(
    directory: str, model: Model, journal_path: str, work: Callable[[Writer], None], seed: int
) -> int:
    journal = os.open(journal_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        work(Writer(directory, model, journal, seed))
    except BaseException as exc:
        if not isinstance(exc, OSError) or not tells_of_death(exc, directory):
            os.write(journal, f"failed: {exc!r}\n".encode())
            return 1
    return 0


def wait_for_writers(writers: dict[int, Path]) -> None:
    for writer, journal in writers.items():
        status = wait_for_status(writer, WRITER_LIMIT_S)
        assert status == 0, f"{status}: {journal.read_text()[-1000:]}"


def wait_for_status(child: int, limit_s: float) -> int:
    """The exit status of a child; one that does not end is killed."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]
