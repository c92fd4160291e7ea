"""Random operations on the filesystem against a small model, with restarts and lost answers.

`ASFS_OPERATIONS` is how many (3000), `ASFS_SEED` the seed, printed. The model is a dict of names
and a dict of files; what it says must hold on the tree after every restart, and on the element,
read without our code, whenever all is drained.
"""

import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from trio.testing import MockClock

from artstorefs.core.errors import ElementUnavailable
from artstorefs.filesystem.content import Handle
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .element_tree import read_element
from .workbench import DIRECTORY, ME, Workbench

OPERATIONS = int(os.environ.get("ASFS_OPERATIONS", "3000"))
SEED = int(os.environ.get("ASFS_SEED", str(random.SystemRandom().randrange(2**32))))


@dataclass
class File:
    kind: int
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    mode: int = 0o644
    parent: int = 0


class Pair:
    """The filesystem and its model, changed together. Inode numbers are the model's keys."""

    def __init__(self, bench: Workbench, seed: int) -> None:
        self.bench = bench
        self.random = random.Random(seed)
        self.files: dict[int, File] = {ROOT_INO: File(stat.S_IFDIR, mode=0o755)}
        self.names: dict[tuple[int, bytes], int] = {}
        self.open: list[tuple[int, Handle]] = []
        self.failing = False
        bench.before = self._before

    def _before(self, operation: str, key: str) -> None:
        if self.failing and self.random.random() < 0.2:
            raise ElementUnavailable("main", key, "planted")

    # ------------------------------------------------------------------------------- choices

    def of_kind(self, kind: int) -> list[int]:
        named = {ROOT_INO, *self.names.values()}
        return [ino for ino, file in self.files.items() if file.kind == kind and ino in named]

    def some_name(self) -> tuple[int, bytes] | None:
        return self.random.choice(sorted(self.names)) if self.names else None

    def free_name(self) -> tuple[int, bytes]:
        while True:
            parent = self.random.choice(self.of_kind(stat.S_IFDIR))
            name = b"n%d" % self.random.randrange(1000)
            if (parent, name) not in self.names:
                return parent, name

    def some_file(self) -> Node | None:
        files = self.of_kind(stat.S_IFREG)
        return self.bench.tree.node(self.random.choice(files)) if files else None

    def data(self) -> bytes:
        size = self.random.choice((1, 10, 1000, 20_000, 300_000))
        return self.random.randbytes(self.random.randrange(1, size + 1))

    def children(self, ino: int) -> bool:
        return any(parent == ino for parent, _ in self.names)

    def is_below(self, ino: int, directory: int) -> bool:
        while ino != ROOT_INO:
            if ino == directory:
                return True
            ino = self.files[ino].parent
        return False

    # ---------------------------------------------------------------------------- operations

    async def create(self) -> None:
        parent, name = self.free_name()
        node = self.bench.tree.create(parent, name, 0o100644, ME, open_content=True)
        self.add(node, parent, name, stat.S_IFREG)
        handle = self.bench.contents.created(node, os.O_RDWR, 0)
        if self.random.random() < 0.7:
            await self.write_at(node.ino, handle, 0, self.data())
        self.keep_or_close(node.ino, handle)

    async def mkdir(self) -> None:
        if len(self.of_kind(stat.S_IFDIR)) < 8:
            parent, name = self.free_name()
            self.add(self.bench.make(name, parent, DIRECTORY), parent, name, stat.S_IFDIR)

    async def symlink(self) -> None:
        parent, name = self.free_name()
        target = b"to/%d" % self.random.randrange(99)
        node = self.bench.tree.symlink(parent, name, target, ME)
        self.add(node, parent, name, stat.S_IFLNK)
        self.files[node.ino].target = target

    def add(self, node: Node, parent: int, name: bytes, kind: int) -> None:
        assert node.ino not in self.files, "an inode number was used twice"
        mode = {stat.S_IFDIR: 0o755, stat.S_IFLNK: 0o777}.get(kind, 0o644)
        self.files[node.ino] = File(kind, mode=mode, parent=parent)
        self.names[parent, name] = node.ino

    async def open_write(self) -> None:
        node = self.some_file()
        if node is None:
            return
        truncate = self.random.random() < 0.3
        flags = os.O_RDWR | (os.O_TRUNC if truncate else 0)
        handle = await self.bench.contents.open(node, flags, 0)
        if truncate:
            self.files[node.ino].data.clear()
        length = len(self.files[node.ino].data)
        for _ in range(self.random.randrange(3)):
            await self.write_at(node.ino, handle, self.random.randrange(length + 500), self.data())
        self.keep_or_close(node.ino, handle)

    async def write_at(self, ino: int, handle: Handle, offset: int, data: bytes) -> None:
        assert await self.bench.contents.write(handle, offset, data) == len(data)
        content = self.files[ino].data
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    def keep_or_close(self, ino: int, handle: Handle) -> None:
        if self.random.random() < 0.3 and len(self.open) < 6:
            self.open.append((ino, handle))
        else:
            self.bench.contents.release(handle)

    async def use_open(self) -> None:
        if not self.open:
            return
        ino, handle = self.random.choice(self.open)
        content = self.files[ino].data
        found = await self.bench.contents.read(handle, 0, len(content) + 1)
        assert bytes(found) == bytes(content)
        if self.random.random() < 0.5:
            await self.write_at(ino, handle, self.random.randrange(len(content) + 1), self.data())

    async def close(self) -> None:
        if self.open:
            _, handle = self.open.pop(self.random.randrange(len(self.open)))
            self.bench.contents.release(handle)

    async def truncate(self) -> None:
        node = self.some_file()
        if node is not None:
            content = self.files[node.ino].data
            size = self.random.choice((0, len(content) // 2, len(content), len(content) + 9000))
            await self.bench.contents.truncate(node, size, 0)
            self.files[node.ino].data = bytearray(bytes(content[:size]).ljust(size, b"\0"))

    async def chmod(self) -> None:
        name = self.some_name()
        if name and self.files[self.names[name]].kind != stat.S_IFLNK:
            node = self.bench.tree.node(self.names[name])
            mode = self.random.choice((0o600, 0o755, 0o4711))
            with self.bench.archive.changes.attributes(node, 1, 0):
                node.mode = stat.S_IFMT(node.mode) | mode
            self.files[node.ino].mode = mode

    async def setxattr(self) -> None:
        node = self.some_file()
        if node is not None:
            name, value = b"user.%d" % self.random.randrange(3), self.random.randbytes(9)
            self.bench.xattrs.set(node, name, value, 0, ME)
            self.files[node.ino].xattrs[name] = value

    async def link(self) -> None:
        node = self.some_file()
        if node is not None:
            parent, name = self.free_name()
            self.bench.tree.link(node.ino, parent, name, ME)
            self.names[parent, name] = node.ino

    async def remove(self) -> None:
        name = self.some_name()
        if name is None:
            return
        ino = self.names[name]
        if self.files[ino].kind != stat.S_IFDIR:
            self.bench.tree.unlink(*name, ME)
        elif self.children(ino):
            return
        else:
            self.bench.tree.rmdir(*name, ME)
        del self.names[name]

    async def rename(self) -> None:
        old = self.some_name()
        new = self.some_name() if self.random.random() < 0.5 else self.free_name()
        if old is None or new is None or old == new:
            return
        ino, other = self.names[old], self.names.get(new)
        flags = 2 if other is not None and self.random.random() < 0.4 else 0
        if not self.allowed(ino, new, other, old, flags):
            return
        self.bench.tree.rename(*old, *new, flags, ME)
        if ino == other:
            return
        del self.names[old]
        self.names[new] = ino
        self.files[ino].parent = new[0]
        if flags and other is not None:
            self.names[old] = other
            self.files[other].parent = old[0]

    def allowed(
        self,
        ino: int,
        new: tuple[int, bytes],
        other: int | None,
        old: tuple[int, bytes],
        flags: int,
    ) -> bool:
        """Whether rename(2) allows it; what it refuses is tested elsewhere."""
        is_directory = self.files[ino].kind == stat.S_IFDIR
        if is_directory and self.is_below(new[0], ino):
            return False
        if other is None:
            return True
        other_is_directory = self.files[other].kind == stat.S_IFDIR
        if flags:
            return not (other_is_directory and self.is_below(old[0], other))
        return is_directory == other_is_directory and not self.children(other)

    async def transfer(self) -> None:
        """Some of the way to the element; answers may be lost along with the process."""
        bench = self.bench
        self.failing = self.random.random() < 0.2
        await bench.send()
        if bench.sent and self.random.random() < 0.7:
            answer = bench.carry()
            if self.random.random() < 0.8:
                bench.answer(answer)
            else:
                await self.transfer_dies()
        self.failing = False

    async def transfer_dies(self) -> None:
        self.bench.sent.clear()
        self.bench.link._batches.clear()
        self.bench.link.schedule.transfer_process_died(0)

    async def restart(self) -> None:
        self.open.clear()
        self.bench.restart()
        await self.check_tree()

    # ------------------------------------------------------------------------------- checks

    async def check_tree(self) -> None:
        tree = self.bench.tree
        for parent in self.of_kind(stat.S_IFDIR):
            seen = {(parent, name): node.ino for _, name, node in tree.children(parent, 3, 10**6)}
            assert seen == {key: ino for key, ino in self.names.items() if key[0] == parent}
            subdirectories = [i for i in seen.values() if self.files[i].kind == stat.S_IFDIR]
            assert tree.node(parent).nlink == 2 + len(subdirectories)
        for ino in set(self.names.values()):
            node, file = tree.node(ino), self.files[ino]
            assert node.mode == file.kind | file.mode
            if file.kind != stat.S_IFDIR:
                assert node.nlink == list(self.names.values()).count(ino)
            if file.kind == stat.S_IFREG:
                assert node.size == len(file.data)
                assert await self.bench.content(node) == bytes(file.data)
                names = self.bench.xattrs.list(node)
                assert {n: self.bench.xattrs.get(node, n) for n in names} == file.xattrs
        assert self.bench.budget.used_bytes >= 0

    def path(self, name: tuple[int, bytes]) -> bytes:
        parent, last = name
        if parent == ROOT_INO:
            return b"/" + last
        above = next(key for key, ino in self.names.items() if ino == parent)
        return self.path(above) + b"/" + last

    async def check_element(self, clock: MockClock) -> None:
        while self.open:
            await self.close()
        clock.jump(100)
        await self.bench.drain()
        await self.check_tree()
        found = read_element(self.bench.root)
        wanted = {self.path(name): self.files[ino] for name, ino in self.names.items()}
        assert found.keys() - {b"/"} == wanted.keys()
        for path, file in wanted.items():
            assert found[path].mode == file.kind | file.mode, path
            assert found[path].content == bytes(file.data), path
            assert (found[path].target or b"") == file.target, path
            assert {b"user." + key.encode() for key in found[path].custom} == file.xattrs.keys()
        assert self.bench.budget.used_bytes == 0
        left = {name for name in self.bench.archive.spool.names() if "lost" not in name}
        assert left == set()


@pytest.mark.slow
async def test_random_operations_with_restarts(tmp_path: Path, clock: MockClock) -> None:
    """SEMANTICS: ELEM-1, DUR-1, NAME-1"""
    print("seed", SEED)
    pair = Pair(Workbench(tmp_path), SEED)
    common = [pair.create, pair.open_write, pair.use_open, pair.close, pair.truncate, pair.rename]
    common += [pair.link, pair.remove, pair.remove, pair.chmod, pair.setxattr, pair.transfer]
    rare = [pair.mkdir, pair.symlink, pair.transfer_dies]
    for number in range(OPERATIONS):
        operation = pair.random.choice(rare if pair.random.random() < 0.1 else common)
        await operation()
        if len(pair.names) > 60:
            for _ in range(20):
                await pair.remove()
        if number % 100 == 50:
            clock.jump(pair.random.choice((0, 5, 100)))
        if number % 250 == 249:
            await pair.restart()
        if number % 1000 == 999:
            await pair.check_element(clock)
    await pair.check_element(clock)
