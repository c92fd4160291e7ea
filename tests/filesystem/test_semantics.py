"""Clauses of SEMANTICS.md that need no mount to be shown."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from trio.testing import MockClock

from artstorefs.core.errors import (
    ArtStoreFSError,
    DocumentTooLarge,
    ElementUnavailable,
    errno_of,
)
from artstorefs.filesystem import acl
from artstorefs.filesystem.archive import now_ns
from artstorefs.filesystem.attributes import AttributeChange, stat_blocks
from artstorefs.filesystem.errors import ContentDamaged
from artstorefs.filesystem.tree import RELATIME_NS
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .element_tree import read_element
from .workbench import DIRECTORY, ME, Workbench

Call = Callable[[], object]


def refusal(call: Call) -> int:
    """The errno of a call that is refused."""
    with pytest.raises(ArtStoreFSError) as refused:
        call()
    return errno_of(refused.value)


async def test_names(bench: Workbench) -> None:
    """SEMANTICS: NAME-1, NAME-2"""
    kinds = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
    for number, kind in enumerate(kinds):
        bench.tree.create(ROOT_INO, b"k%d" % number, kind | 0o644, ME, rdev=os.makedev(1, 3))
    names = [b"x" * 255, b"\xff\xfe\x01", "ä".encode(), b"A", b"a", b'"\\\n']
    for name in names:
        bench.make(name)
    assert refusal(lambda: bench.make(b"x" * 256)) == errno.ENAMETOOLONG
    assert refusal(lambda: bench.tree.lookup(ROOT_INO, b"x" * 256)) == errno.ENAMETOOLONG
    assert refusal(lambda: bench.rename(b"a", b"x" * 256)) == errno.ENAMETOOLONG
    assert refusal(lambda: bench.make(b"a")) == errno.EEXIST
    bench.restart()
    await bench.drain()
    tree = read_element(bench.root)
    assert tree.keys() == {b"/"} | {b"/" + n for n in names} | {b"/k%d" % n for n in range(6)}
    assert [stat.S_IFMT(tree[b"/k%d" % number].mode) for number in range(6)] == list(kinds)


async def test_symbolic_links(bench: Workbench) -> None:
    """SEMANTICS: NAME-3"""
    target = b"\xff" * 4095
    bench.tree.symlink(ROOT_INO, b"s", target, ME)
    too_long = refusal(lambda: bench.tree.symlink(ROOT_INO, b"t", b"x" * 4096, ME))
    assert too_long == errno.ENAMETOOLONG
    await bench.drain()
    assert read_element(bench.root)[b"/s"].target == target


async def test_refusals_of_names(bench: Workbench) -> None:
    """SEMANTICS: NAME-4, NAME-8"""
    directory = bench.make(b"d", mode=DIRECTORY)
    below = bench.make(b"below", directory.ino, DIRECTORY)
    bench.make(b"f")
    cases: list[tuple[Call, int]] = [
        (lambda: bench.tree.rmdir(ROOT_INO, b"d", ME), errno.ENOTEMPTY),
        (lambda: bench.tree.rmdir(ROOT_INO, b"f", ME), errno.ENOTDIR),
        (lambda: bench.unlink(b"d"), errno.EISDIR),
        (lambda: bench.unlink(b"absent"), errno.ENOENT),
        (lambda: bench.rename(b"d", b"x", to=below.ino), errno.EINVAL),
        (lambda: bench.rename(b"d", b"below", to=directory.ino, flags=2), errno.EINVAL),
        (lambda: bench.rename(b"f", b"d", flags=1), errno.EEXIST),
        (lambda: bench.rename(b"f", b"absent", flags=2), errno.ENOENT),
        (lambda: bench.rename(b"f", b"d"), errno.EISDIR),
        (lambda: bench.rename(b"d", b"f"), errno.ENOTDIR),
        (lambda: bench.rename(b"f", b"x", flags=3), errno.EINVAL),
        (lambda: bench.rename(b"f", b"x", flags=4), errno.EINVAL),
        (lambda: bench.tree.link(directory.ino, ROOT_INO, b"x", ME), errno.EPERM),
        (lambda: bench.make(b"x", parent=99999), errno.ESTALE),
    ]
    for call, code in cases:
        assert refusal(call) == code
    empty = bench.make(b"empty", mode=DIRECTORY)
    bench.rename(b"empty", b"e2")
    assert refusal(lambda: bench.rename(b"e2", b"d")) == errno.ENOTEMPTY
    assert empty.nlink == 2


async def test_holes(bench: Workbench) -> None:
    """SEMANTICS: DATA-2"""
    node = bench.make(b"f")
    await bench.contents.truncate(node, 1 << 20, 0)
    assert await bench.content(node) == bytes(1 << 20)
    assert stat_blocks(node) == (1 << 20) // 512
    assert bench.budget.used_bytes < 1 << 16  # holes take no room in the spool


@pytest.mark.parametrize("other", [b"another one", b"b content"])
async def test_copy_of_another_file_is_not_served(bench: Workbench, other: bytes) -> None:
    """A flipped bit in the index, and the copy is another file's. SEMANTICS: DATA-3"""
    bench.is_sound = False
    node = await bench.write(b"a", b"a content")
    wrong = await bench.write(b"b", other)
    await bench.drain()
    execute = bench.archive.database.execute
    execute("DELETE FROM copies WHERE ino = ?", (node.ino,))
    execute("UPDATE copies SET ino = ? WHERE ino = ?", (node.ino, wrong.ino))
    with pytest.raises(ContentDamaged):
        await bench.content(node)


async def test_wrong_bytes_are_never_served(bench: Workbench) -> None:
    """SEMANTICS: DATA-3"""
    bench.is_sound = False
    for size, wrong in ((9, b"wrong 9 b"), (9, b"short"), (200_000, b"x" * 200_000)):
        node = await bench.write(b"f", b"r" * size)
        await bench.drain()
        path = bench.root / bench.archive.index.copies(node.ino)[0].key
        os.chmod(path, 0o600)
        _overwrite(path, wrong)
        with pytest.raises(ArtStoreFSError) as refused:
            await bench.content(node)
        assert errno_of(refused.value) == errno.EIO
        os.unlink(path)
        with pytest.raises(ArtStoreFSError) as refused:
            await bench.content(node)
        assert errno_of(refused.value) == errno.EIO


def _overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def test_flush_ends_when_all_that_is_left_is_refused(
    bench: Workbench, clock: MockClock
) -> None:
    """SEMANTICS: DUR-6, ELEM-3"""

    def before(operation: str, key: str) -> None:
        raise ElementUnavailable("main", key, "gone")

    await bench.write(b"f", b"x")
    bench.before = before
    for _ in range(3):
        await bench.step()
        clock.jump(70)
    assert bench.link.schedule.pending == bench.link.schedule.retrying == 2
    assert "gone" in bench.xattrs.get(bench.tree.node(16), b"user.artstore.error").decode()


# --------------------------------------------------------------------------------------- times


async def test_times(bench: Workbench) -> None:
    """SEMANTICS: TIME-1, TIME-3"""
    node = bench.make(b"f")
    change = AttributeChange(atime_ns=-5, mtime_ns=1 << 80)
    before = now_ns()
    await bench.attributes.change(node, change, ME)
    assert (node.atime_ns, node.mtime_ns) == (-5, (1 << 63) - 1)
    assert before <= node.ctime_ns <= now_ns()
    await bench.drain()
    posix = read_element(bench.root)[b"/f"].posix
    assert (posix["atime_ns"], posix["mtime_ns"]) == (-5, (1 << 63) - 1)


async def test_reading_writes_nothing_to_an_element(bench: Workbench) -> None:
    """SEMANTICS: TIME-2"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    stored = read_element(bench.root)[b"/f"].posix["atime_ns"]
    bench.tree.accessed(node)
    renewed = node.atime_ns
    assert renewed > stored
    bench.tree.accessed(node)
    assert node.atime_ns == renewed
    assert bench.link.schedule.is_empty
    bench.restart()
    found = bench.tree.node(node.ino)
    assert found.atime_ns == renewed
    bench.rename(b"f", b"g")
    await bench.drain()
    assert read_element(bench.root)[b"/g"].posix["atime_ns"] == renewed
    with bench.archive.changes.attributes(found, renewed - RELATIME_NS, 0):
        found.atime_ns = found.mtime_ns = renewed - RELATIME_NS
    bench.tree.accessed(found)
    assert found.atime_ns > renewed


# ---------------------------------------------------------------------------------- attributes


async def test_attributes(bench: Workbench) -> None:
    """SEMANTICS: XATTR-1, XATTR-2, XATTR-3, XATTR-6"""
    node, xattrs = bench.make(b"f"), bench.xattrs
    values = {b"user.a": b"1", b"user.b": b"", b"user.c": b"\xff", b"trusted.t": b"\0"}
    for name, value in values.items():
        xattrs.set(node, name, value, 0, ME)
    assert {name: xattrs.get(node, name) for name in xattrs.list(node)} == values
    cases: list[tuple[Call, int]] = [
        (lambda: xattrs.get(node, b"user.none"), errno.ENODATA),
        (lambda: xattrs.get(node, b"security.selinux"), errno.EOPNOTSUPP),
        (lambda: xattrs.set(node, b"other.x", b"", 0, ME), errno.EOPNOTSUPP),
        (lambda: xattrs.set(node, b"user.a", b"", 1, ME), errno.EEXIST),
        (lambda: xattrs.set(node, b"user.none", b"", 2, ME), errno.ENODATA),
        (lambda: xattrs.remove(node, b"user.none", ME), errno.ENODATA),
        (lambda: xattrs.set(node, b"user.artstore.file_id", b"", 0, ME), errno.EPERM),
        (lambda: xattrs.remove(node, b"user.artstore.state", ME), errno.EPERM),
        (lambda: xattrs.get(node, b"user.artstore.nonsense"), errno.ENODATA),
    ]
    for call, code in cases:
        assert refusal(call) == code
    await bench.drain()
    assert read_element(bench.root)[b"/f"].custom == {"a": 1, "b": "", "c": {"$b64": "/w=="}}


async def test_room_for_attributes(bench: Workbench) -> None:
    """SEMANTICS: XATTR-4"""
    node = bench.make(b"f")
    full = 0
    while True:
        try:
            bench.xattrs.set(node, b"user.%d" % full, b'"' * 100, 0, ME)
        except DocumentTooLarge:
            break
        full += 1
    again = refusal(lambda: bench.xattrs.set(node, b"user.z", b'"' * 100, 0, ME))
    assert again == errno.ENOSPC
    assert full > 5
    await bench.write(b"f", b"content")
    bench.rename(b"f", b'"' * 255)
    await bench.drain()
    assert len(read_element(bench.root)[b"/" + b'"' * 255].custom) == full


async def test_access_lists(bench: Workbench) -> None:
    """SEMANTICS: XATTR-5"""
    node, directory = bench.make(b"f"), bench.make(b"d", mode=DIRECTORY)
    bits = ((acl.USER_OBJ, 7), (acl.USER, 6), (acl.GROUP_OBJ, 5), (acl.MASK, 4), (acl.OTHER, 0))
    value = acl.Acl(
        tuple((tag, bit, 1000 if tag == acl.USER else 0xFFFFFFFF) for tag, bit in bits)
    ).render()
    bench.xattrs.set(node, acl.ACCESS, value, 0, ME)
    assert node.mode & 0o777 == 0o740
    await bench.attributes.change(node, AttributeChange(mode=0o651), ME)
    assert acl.Acl.parse(bench.xattrs.get(node, acl.ACCESS)).mode_bits() == 0o651
    bench.xattrs.set(directory, acl.DEFAULT, value, 0, ME)
    child = bench.make(b"child", directory.ino)
    assert child.mode & 0o777 == 0o640
    assert refusal(lambda: bench.xattrs.set(node, acl.ACCESS, b"12345", 0, ME)) == errno.EINVAL


# --------------------------------------------------------------------------------------- modes


async def changes(bench: Workbench, node: Node) -> dict[str, int]:
    """What each kind of change is answered with."""
    found: dict[str, int] = {}
    calls: dict[str, Call] = {
        "create": lambda: bench.make(b"new"),
        "metadata": lambda: bench.xattrs.set(node, b"user.k", b"v", 0, ME),
        "delete": lambda: bench.unlink(b"f"),
    }
    for name, call in [*calls.items()]:
        try:
            call()
            found[name] = 0
        except ArtStoreFSError as exc:
            found[name] = errno_of(exc)
        if name == "metadata":
            try:
                await bench.attributes.change(node, AttributeChange(size=1), ME)
                found["content"] = 0
            except ArtStoreFSError as exc:
                found["content"] = errno_of(exc)
    return found


MODES = {
    "edit": {"create": 0, "metadata": 0, "content": 0, "delete": 0},
    "rw": {"create": 0, "metadata": 0, "content": errno.EPERM, "delete": errno.EPERM},
    "ro": dict.fromkeys(("create", "metadata", "content", "delete"), errno.EROFS),
    "ar": dict.fromkeys(("create", "metadata", "content", "delete"), errno.EROFS),
}


@pytest.mark.parametrize("mode", MODES)
async def test_modes(bench: Workbench, mode: str) -> None:
    """SEMANTICS: MODE-1, MODE-2, MODE-3"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    elements = bench.configuration.elements
    changed = tuple(element.model_copy(update={"mode": mode}) for element in elements)
    bench.configuration = bench.configuration.model_copy(update={"elements": changed})
    bench.restart()
    assert await changes(bench, bench.tree.node(node.ino)) == MODES[mode]
