"""One bit of one byte flipped at random, as a disk does it: without a word, without a new time.

Of each flip one of two things has to be so:

    found       `fsck --deep` has a finding, or the index cannot be opened at all
    harmless    the whole tree is as it was: every name, type, mode, owner, size, link count, time
                (but that of access), target, attribute and content, by the index that has the flip
                or, of a flip on the element, by an index rebuilt from it

and whatever is read after it, by path, by a name that is listed or by file_id, is the right content
or an error (of SQLite's log, also the content that an earlier transaction had). What is flipped:
objects, block lists, attr.json, node records, archive.json, the index (`state.db`), SQLite's log of
a daemon that was killed, and content that waits in the spool and has been summed, with the index
that alone knows it. Left out is what nothing else knows: content in the spool that is being written
or has waited for some seconds only.

`--flips N` is how many (200), `ASFS_SEED` the seed, printed.
"""

import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ArtStoreFSError
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .workbench import DIRECTORY, ME, Workbench

SEED = int(os.environ.get("ASFS_SEED", str(random.SystemRandom().randrange(2**32))))

Tree = dict[bytes, tuple[Any, ...]]

WEIGHTS = {
    "object": 3,
    "block list": 2,
    "attr.json": 4,
    "record": 4,
    "archive.json": 1,
    "index": 6,
    "waiting index": 4,
    "log": 3,
    "spool": 3,
}

STATES = {"log": "killed", "spool": "waiting/state", "waiting index": "waiting/state"}
"""The state directory, below the base, that a flip concerns; "state" otherwise."""

WAITING_BYTES = (1, 700, 100_000, BLOCK_BYTES, BLOCK_BYTES + 12_345)
"""Sizes of the files that wait."""


PATTERNS = {
    "attr.json": "*.attr.json",
    "record": "*.node.json",
    "block list": "*.blocks",
    "object": "2*/**/*",
}


async def fill(bench: Workbench) -> None:
    """Some of everything, carried in several steps, so that the index has a history."""
    chance = random.Random(SEED)
    directories = [ROOT_INO]
    for number in range(4):
        directories.append(bench.make(b"d%d" % number, chance.choice(directories), DIRECTORY).ino)
        for name in (b"a.txt", b"\xff%d" % number):
            data = chance.randbytes(chance.choice((1, 500, 20_000)))
            node = await bench.write(name, data, directories[-1])
            value = chance.choice((b"5", b"text", b"\xff\xfe", b'{"a":[1,2]}'))
            bench.xattrs.set(node, b"user.key", value, 0, ME)
        bench.tree.link(node.ino, chance.choice(directories), b"link%d" % number, ME)
        bench.tree.symlink(directories[-1], b"s%d" % number, b"to/somewhere", ME)
        bench.make(b"empty%d" % number, chance.choice(directories))
        await bench.drain()
    await bench.write(b"large", chance.randbytes(BLOCK_BYTES + 1000))
    bench.xattrs.set(node, b"trusted.t", b"1", 0, ME)
    bench.rename(b"a.txt", b"b.txt", directories[1], directories[2])
    await bench.drain()


async def tree_of(bench: Workbench) -> Tree:
    """Everything that a user of the mount can see, by path."""
    found: Tree = {}

    async def visit(path: bytes, node: Node) -> None:
        assert path not in found or len(path) < 10_000
        names = sorted(bench.xattrs.list(node))
        found[path] = (
            *(node.file_id, node.mode, node.uid, node.gid, node.nlink, node.rdev, node.size),
            *(node.mtime_ns, node.ctime_ns, node.target),
            [(name, bench.xattrs.get(node, name)) for name in names],
            await bench.content(node) if node.is_regular else b"",
        )
        if node.is_directory:
            for _, name, child in bench.tree.children(node.ino, 3, 1000):
                await visit(path + b"/" + name, child)

    await visit(b"", bench.tree.node(ROOT_INO))
    return found


def lookup(bench: Workbench, path: bytes) -> Node | None:
    node: Node | None = bench.tree.node(ROOT_INO)
    for name in path.split(b"/")[1:]:
        node = node and bench.tree.lookup(node.ino, name)
    return node


async def read(bench: Workbench, find: Callable[[], Node | None]) -> tuple[Node, bytes] | None:
    """The node that `find` gives and its content; None where that is an error, or no file."""
    try:
        node = find()
        return (node, await bench.content(node)) if node and node.is_regular else None
    except (ArtStoreFSError, sqlite3.Error, OSError, ValueError, TypeError):
        return None  # TypeError: a column is NULL, and whoever asks the mount gets EIO


def listed(bench: Workbench) -> Iterator[tuple[bytes, Node]]:
    """All that can be found by listing one directory after the other."""
    directories = [(b"", ROOT_INO)]
    for path, ino in directories:
        with suppress(ArtStoreFSError, sqlite3.Error, OSError, ValueError, TypeError):
            for _, name, node in bench.tree.children(ino, 3, 1000):
                yield path + b"/" + name, node
                if node.is_directory and len(directories) < 1000:
                    directories.append((path + b"/" + name, node.ino))


def difference(right: Tree, found: Tree) -> str:
    return "; ".join(
        f"{key!r}: {right.get(key)} → {found.get(key)}"
        for key in sorted(right.keys() | found.keys())
        if found.get(key) != right.get(key)
    )[:2000]


class Flips:
    """An archive at rest in `base`, with a copy of its state as a kill has left it."""

    def __init__(self, base: Path, seed: int) -> None:
        self.base = base
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.tree: Tree = {}
        self.waiting_tree: Tree = {}

    async def prepare(self) -> None:
        bench = Workbench(self.base)
        await fill(bench)
        killed = self.base / "killed"
        killed.mkdir()
        for name in ("state.db", "state.db-wal"):
            shutil.copy2(self.base / "state" / name, killed / name)
        self.tree = await tree_of(bench)
        bench.close()
        await self.prepare_waiting()
        self.bench = self.start("state", "resident")
        rows = [*self.tree.values(), *self.waiting_tree.values()]
        self.contents = {row[0]: row[-1] for row in rows if row[-1]}

    async def prepare_waiting(self) -> None:
        """A state of its own, with content that no element gets: nothing else knows its rows."""
        bench = self.start("state", "waiting")
        for size in WAITING_BYTES:
            await bench.write(b"waits%d" % size, self.random.randbytes(size))
        await bench.sum_waiting()
        rows = bench.archive.database.execute("SELECT count(*) FROM spool_sums").fetchone()
        assert rows == (len(WAITING_BYTES),)
        self.waiting_tree = await tree_of(bench)
        bench.close()
        self.waiting = Workbench(self.base / "waiting", root=self.base / "element")

    def target(self, kind: str) -> Path:
        root = self.base / "element"
        if kind == "index":
            return self.base / "state/state.db"
        if kind == "waiting index":
            return self.base / "waiting/state/state.db"
        if kind == "log":
            return self.base / "killed/state.db-wal"
        if kind == "spool":
            spool = self.base / "waiting/state/spool"
            return self.random.choice(sorted(path for path in spool.iterdir() if path.is_file()))
        if kind == "archive.json":
            return root / ".artstorefs/archive.json"
        pattern = PATTERNS[kind]
        paths = sorted(path for path in root.rglob(pattern) if path.is_file())
        if kind == "object":
            paths = [path for path in paths if path.suffix not in (".json", ".blocks")]
        return self.random.choice(paths)

    @contextmanager
    def flipped(self, path: Path) -> Iterator[int]:
        """A byte of a file is another one inside, and not even the times tell."""
        data, found = path.read_bytes(), path.stat()
        offset = self.random.randrange(len(data))
        while data[offset] == 0 and self.random.random() < 0.9:  # most of a small index is empty
            offset = self.random.randrange(len(data))
        changed = bytearray(data)
        changed[offset] ^= 1 << self.random.randrange(8)
        path.write_bytes(changed)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        try:
            yield offset
        finally:
            path.write_bytes(data)
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    async def flip(self, kind: str) -> None:
        path = self.target(kind)
        with self.flipped(path) as offset:
            where = f"{kind}: byte {offset} of {path}"
            state = STATES.get(kind, "state")
            try:
                is_found = self.is_found(state)
            except ArtStoreFSError as exc:
                raise AssertionError(f"{where}: {exc}") from exc
            self.counts[f"{kind}: {'found' if is_found else 'harmless'}"] += 1
            if kind in ("index", "waiting index"):
                await self.check_start(state, where)
            elif kind == "spool":
                await self.check_contents(self.waiting, where)
            elif kind != "log":
                await self.check_contents(self.bench, where)
            if not is_found:
                right = self.waiting_tree if kind == "waiting index" else self.tree
                tree = await self.seen(state if kind.endswith(("index", "log")) else "")
                assert tree == right, f"{where}: {difference(right, tree)}"

    def scratch(self, state: str, name: str = "scratch") -> Path:
        """A copy of a state directory, which a start may change; the element is shared."""
        base = self.base / name
        shutil.rmtree(base, ignore_errors=True)
        (base / "state").mkdir(parents=True)
        if state:
            for path in (self.base / state).glob("state.db*"):
                shutil.copy2(path, base / "state" / path.name)
            if (self.base / state / "spool").is_dir():
                shutil.copytree(self.base / state / "spool", base / "state" / "spool")
        return base

    def is_found(self, state: str) -> bool:
        bench = Workbench.__new__(Workbench)
        bench.base, bench.root = self.scratch(state), self.base / "element"
        bench.configuration = bench.configured("edit", {})
        report = bench.fsck(deep=True)
        return bool(report.left)

    def start(self, state: str, name: str = "scratch") -> Workbench:
        """A start on a copy of `state`; "" has none, so that the index is rebuilt."""
        return Workbench(self.scratch(state, name), root=self.base / "element")

    async def seen(self, state: str) -> Tree:
        """The whole tree after a start with a flip that was not found."""
        bench = self.start(state)
        try:
            return await tree_of(bench)
        finally:
            bench.close()

    async def check_start(self, state: str, where: str) -> None:
        """If an index with a flip can be started with, it serves no wrong content."""
        try:
            bench = self.start(state)
        except (ArtStoreFSError, sqlite3.Error, ValueError, AssertionError, TypeError):
            return
        try:
            await self.check_contents(bench, where)
        except sqlite3.Error:
            pass
        finally:
            bench.close()

    async def check_contents(self, bench: Workbench, where: str) -> None:
        """Whichever way somebody comes to a file, what is read is right or an error."""
        right = {path: row[-1] for path, row in (self.waiting_tree | self.tree).items() if row[-1]}
        for path, content in right.items():
            found = await read(bench, partial(lookup, bench, path))
            assert found is None or found[1] == content, f"{where}: wrong bytes in {path!r}"
        for path, listed_node in listed(bench):
            found = await read(bench, partial(bench.tree.node, listed_node.ino))
            if found is not None and path in right:
                assert found[1] == right[path], f"{where}: wrong bytes in {path!r}, as it is listed"
        for (ino,) in bench.archive.database.execute("SELECT ino FROM nodes").fetchall():
            found = await read(bench, partial(bench.archive.index.node, ino))
            if found is not None:
                node, content = found
                assert self.contents.get(node.file_id, content) == content, f"{where}: wrong bytes"


@pytest.mark.slow
async def test_flipped_byte_is_found_or_harmless(
    tmp_path: Path, clock: MockClock, request: pytest.FixtureRequest
) -> None:
    """SEMANTICS: DATA-3, FSCK-4"""
    print("seed", SEED)
    flips = Flips(tmp_path, SEED)
    await flips.prepare()
    assert not flips.is_found("state")
    assert not flips.is_found("killed")
    assert not flips.is_found("waiting/state")
    kinds = [kind for kind, weight in WEIGHTS.items() for _ in range(weight)]
    for number in range(request.config.getoption("--flips")):
        await flips.flip(kinds[number % len(kinds)])
    flips.bench.close()
    flips.waiting.close()
    print(dict(sorted(flips.counts.items())))
    assert flips.counts["object: harmless"] == 0
    assert flips.counts["block list: harmless"] == 0
    assert flips.counts["spool: harmless"] == 0
    assert flips.counts["spool: found"]
    assert flips.counts["log: found"]
    assert flips.counts["index: found"]
    assert flips.counts["waiting index: found"]
