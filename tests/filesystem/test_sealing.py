"""When a file in mode `rw` is complete, and what can be done with it until then."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.core.errors import ArtStoreFSError, errno_of
from artstorefs.core.marks import SEALED
from artstorefs.core.modes import Operation
from artstorefs.core.room import check_room
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.state.node import ContentState, Node

from .rebuilding import document_of, rebuild, tree
from .workbench import DIRECTORY, ME, Workbench

GRACE_S = 60
BEGUN_NS = 1_800_000_000_000_000_000


class SealingBench(Workbench):
    """In mode `rw` unless said otherwise; the time of day is `moment_ns`."""

    moment_ns = BEGUN_NS

    def open(self, closed_one: Callable[[], None] | None = None) -> None:
        super().open(closed_one)
        self.archive.guard.now_ns = lambda: self.moment_ns

    def pass_s(self, seconds: float) -> None:
        self.moment_ns += int(seconds * 1e9)

    def change_mode(self, mode: str) -> None:
        """In the configuration, and a start."""
        elements = [one.model_copy(update={"mode": mode}) for one in self.configuration.elements]
        self.configuration = self.configuration.model_copy(update={"elements": tuple(elements)})
        self.restart()

    def sealed(self, node: Node) -> str | None:
        """What the attribute says."""
        try:
            return self.xattrs.get(node, SEALED.encode()).decode()
        except ArtStoreFSError:
            return None

    def seal(self, node: Node, value: bytes = b"now") -> None:
        self.xattrs.set(node, SEALED.encode(), value, 0, ME)


@pytest.fixture
async def sealing(tmp_path: Path, clock: MockClock) -> AsyncIterator[SealingBench]:
    bench = SealingBench(tmp_path, mode="rw")
    yield bench
    bench.check_soundness()


def moment(seconds: float) -> str:
    at = datetime.fromtimestamp(BEGUN_NS / 1e9 + seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def refusals(bench: Workbench, node: Node, name: bytes) -> set[str]:
    """What is EPERM of: opening for writing, replacing, removing. What is allowed is not done, but
    for the opening."""
    other = await bench.write(b"other%d" % bench.archive.index.highest_ino(), b"x")
    calls: dict[str, Callable[[], Any]] = {
        "replace": lambda: bench.tree._check_replaceable(other, node, name),
        "remove": lambda: bench.archive.require(Operation.DELETE, node),
    }
    found = {what: refusal(call) for what, call in calls.items()}
    try:
        bench.contents.release(await bench.open_file(node))
    except ArtStoreFSError as exc:
        found["open"] = errno_of(exc)
    codes = {code for code in found.values() if code}
    assert codes <= {errno.EPERM}
    return {what for what, code in found.items() if code}


def refusal(call: Callable[[], Any]) -> int:
    """The errno, or 0."""
    try:
        call()
    except ArtStoreFSError as exc:
        return errno_of(exc)
    return 0


EVERYTHING = {"replace", "remove", "open"}


@pytest.mark.parametrize("content", [b"content", b""])
async def test_file_is_sealed_a_while_after_its_last_close(
    sealing: SealingBench, content: bytes
) -> None:
    """SEMANTICS: MODE-2, MODE-6"""
    node = await sealing.write(b"f", content)
    await sealing.drain()
    assert sealing.sealed(node) == moment(GRACE_S)
    sealing.pass_s(GRACE_S - 1)
    assert await refusals(sealing, node, b"f") == set()
    sealing.pass_s(1)
    assert await refusals(sealing, node, b"f") == EVERYTHING
    sealing.xattrs.set(node, b"user.k", b"v", 0, ME)
    sealing.rename(b"f", b"g")
    await sealing.drain()
    assert sealing.sealed(node) == moment(GRACE_S)


async def test_what_is_written_again_in_time_is_sealed_later(sealing: SealingBench) -> None:
    """SEMANTICS: MODE-6"""
    node = await sealing.write(b"f", b"one")
    await sealing.drain()
    sealing.pass_s(50)
    await sealing.write(b"f", b"two")
    assert sealing.sealed(node) == moment(50 + GRACE_S)
    sealing.pass_s(50)
    await sealing.drain()
    assert await refusals(sealing, node, b"f") == set()
    sealing.unlink(b"f")


async def test_nothing_is_sealed_while_somebody_writes(sealing: SealingBench) -> None:
    """SEMANTICS: MODE-5, MODE-6"""
    node = await sealing.write(b"f", b"content")
    await sealing.drain()
    handle = await sealing.open_file(node)
    assert sealing.sealed(node) is None
    sealing.pass_s(10 * GRACE_S)
    await sealing.contents.write(handle, 0, b"C")
    change = AttributeChange(size=3, is_by_descriptor=True)
    await sealing.attributes.change(node, change, ME)
    sealing.contents.release(handle)
    assert sealing.sealed(node) == moment(11 * GRACE_S)
    await sealing.drain()
    assert await sealing.content(node) == b"Con"


async def test_file_that_was_opened_for_writing_and_not_written_is_sealed_as_before(
    sealing: SealingBench,
) -> None:
    """SEMANTICS: MODE-6"""
    node = await sealing.write(b"f", b"content")
    await sealing.drain()
    handle = await sealing.open_file(node)
    sealing.pass_s(GRACE_S)
    sealing.contents.release(handle)
    assert sealing.sealed(node) == moment(GRACE_S)
    assert await refusals(sealing, node, b"f") == EVERYTHING


async def test_what_has_no_content_can_be_removed_for_a_while(sealing: SealingBench) -> None:
    """SEMANTICS: MODE-6"""
    sealing.make(b"d", mode=DIRECTORY)
    sealing.tree.symlink(1, b"s", b"target", ME)
    sealing.tree.create(1, b"fifo", 0o010644, ME)
    for name in (b"brief", b"lasting"):
        sealing.make(name, mode=DIRECTORY)
    await sealing.drain()
    sealing.pass_s(GRACE_S - 1)
    sealing.tree.rmdir(1, b"brief", ME)
    sealing.pass_s(1)
    for call in (
        lambda: sealing.tree.rmdir(1, b"d", ME),
        lambda: sealing.unlink(b"s"),
        lambda: sealing.unlink(b"fifo"),
    ):
        assert refusal(call) == errno.EPERM
    await sealing.drain()


async def test_file_that_no_element_takes_is_sealed_all_the_same(sealing: SealingBench) -> None:
    """SEMANTICS: MODE-6, MODE-7"""
    node = await sealing.write(b"f", b"content")
    sealing.pass_s(GRACE_S)
    assert node.content_state == ContentState.SEALED
    assert await refusals(sealing, node, b"f") == EVERYTHING
    await sealing.drain()


async def test_the_moment_survives_ends_and_a_rebuild(sealing: SealingBench) -> None:
    """SEMANTICS: MODE-6, ELEM-6"""
    node = await sealing.write(b"f", b"content")
    sealing.tree.create(1, b"d", DIRECTORY, ME)
    await sealing.drain()
    assert document_of(sealing, node).read_text().count(moment(GRACE_S)) == 1
    before = tree(sealing)
    sealing.pass_s(GRACE_S)
    sealing.restart()
    assert sealing.sealed(sealing.tree.node(node.ino)) == moment(GRACE_S)
    rebuild(sealing)
    assert tree(sealing) == before
    node = sealing.tree.lookup(1, b"f")
    assert await refusals(sealing, node, b"f") == EVERYTHING
    await sealing.drain()


async def test_a_kill_while_it_is_written_begins_the_time_anew(sealing: SealingBench) -> None:
    """SEMANTICS: MODE-6"""
    node = await sealing.write(b"f", b"content")
    await sealing.drain()
    handle = await sealing.open_file(node)
    await sealing.contents.write(handle, 0, b"C")
    sealing.pass_s(GRACE_S)
    sealing.restart()  # which goes by the clock of the machine
    node = sealing.tree.node(node.ino)
    assert sealing.sealed(node) not in (None, moment(GRACE_S))
    await sealing.drain()


async def test_seal_at_once(sealing: SealingBench) -> None:
    """SEMANTICS: MODE-6, XATTR-3"""
    node = await sealing.write(b"f", b"content")
    handle = await sealing.open_file(node)
    assert refusal(lambda: sealing.seal(node)) == errno.EBUSY
    sealing.contents.release(handle)
    for value in (b"", b"never", moment(0).encode()):
        assert refusal(partial(sealing.seal, node, value)) == errno.EINVAL
    sealing.seal(node)
    sealed = sealing.sealed(node)
    assert await refusals(sealing, node, b"f") == EVERYTHING
    sealing.pass_s(5)
    sealing.seal(node)
    assert sealing.sealed(node) == sealed
    assert refusal(lambda: sealing.xattrs.remove(node, SEALED.encode(), ME)) == errno.EPERM
    assert sealing.xattrs.list(node) == []
    await sealing.drain()


async def test_edit_seals_nothing(bench: Workbench) -> None:
    """SEMANTICS: MODE-1, MODE-6"""
    node = await bench.write(b"f", b"content")
    await bench.drain()
    assert node.xattrs is None
    found = refusal(lambda: bench.xattrs.set(node, SEALED.encode(), b"now", 0, ME))
    assert found == errno.EOPNOTSUPP


async def test_what_was_there_before_the_mode_is_sealed(sealing: SealingBench) -> None:
    """SEMANTICS: MODE-6"""
    sealing.change_mode("edit")
    node = await sealing.write(b"f", b"content")
    await sealing.drain()
    sealing.change_mode("rw")
    node = sealing.tree.node(node.ino)
    assert sealing.sealed(node) is None
    assert await refusals(sealing, node, b"f") == EVERYTHING
    sealing.change_mode("edit")
    node = sealing.tree.node(node.ino)
    await sealing.write(b"f", b"other")
    assert node.xattrs is None
    await sealing.drain()


async def test_there_is_room_for_the_moment(sealing: SealingBench) -> None:
    """Whatever attributes a file has been given before. SEMANTICS: XATTR-4"""
    node = sealing.tree.create(1, b"f", 0o100644, ME, open_content=True)
    handle = sealing.contents.created(node, os.O_WRONLY, 0)
    size = 4096
    while size:
        try:
            check_room({"k": "x" * size}, {}, {}, b"f")
            break
        except ArtStoreFSError:
            size -= 1
    sealing.xattrs.set(node, b"user.k", b"x" * size, 0, ME)
    await sealing.contents.write(handle, 0, b"content")
    sealing.contents.release(handle)
    await sealing.drain()
    assert len(document_of(sealing, node).read_bytes()) <= 4096
    sealing.xattrs.set(node, b"user.k", b"y" * size, 0, ME)
    await sealing.drain()
