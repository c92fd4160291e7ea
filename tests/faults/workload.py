"""A handful of system calls on a mount, each of which may fail, and what must be true after."""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SIZE_BYTES = 3000
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


@dataclass
class Call:
    """What became of a system call: 0 or its errno, and the faults that it met."""

    name: str
    code: int
    faults: list[str]


@dataclass
class Truth:
    """Path to what it may hold; None is that it may be absent. What succeeded is certain."""

    files: dict[str, list[bytes | None]] = field(default_factory=dict)
    attributes: dict[str, list[bytes | None]] = field(default_factory=dict)

    def differences(self, root: Path) -> str | None:
        for name, allowed in self.files.items():
            found = _content(root / name)
            if found not in allowed:
                size = None if found is None else len(found)
                return f"{name}: {size} bytes, {[a and len(a) for a in allowed]} allowed"
            if found is not None and name in self.attributes:
                value = _attribute(root / name)
                if value not in self.attributes[name]:
                    return f"{name}: {value!r}, {self.attributes[name]} allowed"
        unknown = {path.name for path in root.iterdir()} - self.files.keys()
        return f"unknown names: {unknown}" if unknown else None

    def settle(self, root: Path) -> None:
        """What is there now stays."""
        for name in list(self.files):
            found = _content(root / name)
            if found is None:
                del self.files[name]
                self.attributes.pop(name, None)
                continue
            self.files[name] = [found]
            if name in self.attributes:
                self.attributes[name] = [_attribute(root / name)]


class Workload:
    """Makes the calls. `faults` tells what has been injected so far."""

    def __init__(self, root: Path, truth: Truth, seed: int, faults: Callable[[], list[str]]):
        self.root = root
        self.truth = truth
        self.faults = faults
        self.random = random.Random(seed)
        self.calls: list[Call] = []

    def attempt(self, name: str, call: Callable[[], object]) -> bool:
        """Whether it succeeded."""
        before = len(self.faults())
        code = 0
        try:
            call()
        except OSError as exc:
            code = exc.errno or errno.EIO
        self.calls.append(Call(name, code, self.faults()[before:]))
        return code == 0

    def run(self) -> None:
        """Each file of the run before goes, and new ones come."""
        for name in list(self.truth.files):
            self.unlink(name)
        self.create("plain", fsync=False)
        self.create("synced", fsync=True)
        self.overwrite("synced")
        self.setxattr("synced")
        self.create("temporary", fsync=True)
        self.rename("temporary", "synced")
        self.setxattr("plain")
        self.rename("plain", "renamed")
        self.truncate("renamed")

    def create(self, name: str, *, fsync: bool) -> None:
        data = self.random.randbytes(SIZE_BYTES)
        path = self.root / name
        allowed: list[bytes | None] = self.truth.files.get(name, [None])
        self.truth.files[name] = [*allowed, b"", data]
        descriptor = -1

        def open_it() -> None:
            nonlocal descriptor
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

        if not self.attempt("create", open_it):
            return
        self.truth.attributes[name] = [None]
        if self.attempt("write", lambda: _whole(os.write(descriptor, data))):
            self.truth.files[name] = [data]
        if fsync:
            self.attempt("fsync", lambda: os.fsync(descriptor))
        self.attempt("close", lambda: os.close(descriptor))

    def overwrite(self, name: str) -> None:
        """Within one page, so that a part of it has no meaning."""
        data = self.random.randbytes(100)
        allowed = self.truth.files[name]
        changed = [a[:200].ljust(200, b"\0") + data + a[300:] for a in allowed if a is not None]
        self.truth.files[name] = [*allowed, *changed]
        descriptor = -1

        def open_it() -> None:
            nonlocal descriptor
            descriptor = os.open(self.root / name, os.O_WRONLY | os.O_DSYNC)

        if not self.attempt("open", open_it):
            self.truth.files[name] = allowed
            return
        if self.attempt("synchronous write", lambda: _whole(os.pwrite(descriptor, data, 200))):
            self.truth.files[name] = list(changed)
        self.attempt("close", lambda: os.close(descriptor))

    def truncate(self, name: str) -> None:
        allowed = self.truth.files[name]
        cut = [a if a is None else a[:1000].ljust(1000, b"\0") for a in allowed]
        self.truth.files[name] = [*allowed, *cut]
        if self.attempt("truncate", lambda: os.truncate(self.root / name, 1000)):
            self.truth.files[name] = cut
        elif self.calls[-1].code == errno.ENOENT:
            self.truth.files[name] = allowed

    def setxattr(self, name: str) -> None:
        value = self.random.randbytes(4).hex().encode()
        allowed = self.truth.attributes.setdefault(name, [None])
        self.truth.attributes[name] = [*allowed, value]
        if self.attempt("setxattr", lambda: os.setxattr(self.root / name, "user.k", value)):
            self.truth.attributes[name] = [value]

    def rename(self, old: str, new: str) -> None:
        files, attributes = self.truth.files, self.truth.attributes
        moved, replaced = files[old], files.get(new, [None])
        if self.attempt("rename", lambda: os.rename(self.root / old, self.root / new)):
            files[new] = [a for a in moved if a is not None]
            files[old] = [None]
            attributes[new] = attributes.pop(old, [None])
            return
        files[new] = [*replaced, *moved]
        files[old] = [*moved, None]
        attributes[new] = [*attributes.get(new, [None]), *attributes.get(old, [None])]

    def unlink(self, name: str) -> None:
        if self.attempt("unlink", lambda: os.unlink(self.root / name)):
            self.truth.files[name] = [None]
        else:
            self.truth.files[name].append(None)


def _whole(written: int) -> None:
    """A write that did a part has told the truth, and is no success here."""
    if written not in (SIZE_BYTES, 100):
        raise OSError(errno.EIO, "short write")


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _attribute(path: Path) -> bytes | None:
    try:
        return os.getxattr(path, "user.k")
    except OSError as exc:
        if exc.errno == errno.ENODATA:
            return None
        raise
