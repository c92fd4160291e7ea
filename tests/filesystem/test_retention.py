"""Content that must not be changed or removed before a time, in any mode."""

import errno
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import ArtStoreFSError, errno_of
from artstorefs.core.marks import RETAIN_UNTIL
from artstorefs.core.modes import Operation
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.state.node import Node

from .rebuilding import rebuild, tree
from .test_sealing import EVERYTHING, GRACE_S, SealingBench, moment, refusal, refusals
from .workbench import ME, Workbench

YEAR_S = 365 * 24 * 3600


class RetentionBench(SealingBench):
    """An element in mode `edit`; `until`: its `retain_until`."""

    until: str | None = None

    def configured(self, mode: str, settings: dict[str, Any]) -> ArchiveConfiguration:
        before = super().configured(mode, settings)
        (element,) = before.elements
        changed = element.model_copy(update={"retain_until": self.until})
        return before.model_copy(update={"elements": (changed,)})

    def configure(self, until: str | None, mode: str = "edit") -> None:
        """In the configuration, and a start."""
        self.until = until
        self.configuration = self.configured(mode, {})
        self.restart()

    def retain(self, node: Node, until: str) -> int:
        """Set the attribute; the errno, or 0."""
        name = RETAIN_UNTIL.encode()
        return refusal(lambda: self.xattrs.set(node, name, until.encode(), 0, ME))

    def retained(self, node: Node) -> str | None:
        try:
            return self.xattrs.get(node, RETAIN_UNTIL.encode()).decode()
        except ArtStoreFSError:
            return None


@pytest.fixture
async def retaining(tmp_path: Path, clock: MockClock) -> AsyncIterator[RetentionBench]:
    bench = RetentionBench(tmp_path)
    yield bench
    bench.check_soundness()


async def test_file_is_retained_until_its_time(retaining: RetentionBench) -> None:
    """SEMANTICS: RETAIN-1"""
    bench = retaining
    node = await bench.write(b"f", b"content")
    assert bench.retain(node, moment(YEAR_S)) == 0
    assert await refusals(bench, node, b"f") == EVERYTHING  # before an element has it, too
    await bench.drain()
    assert await refusals(bench, node, b"f") == EVERYTHING
    with pytest.raises(ArtStoreFSError, match="retained until") as caught:
        await bench.attributes.change(node, AttributeChange(size=1), ME)
    assert errno_of(caught.value) == errno.EPERM
    await bench.attributes.change(node, AttributeChange(mode=0o600), ME)
    bench.xattrs.set(node, b"user.k", b"v", 0, ME)
    bench.rename(b"f", b"g")
    assert bench.xattrs.list(node) == [b"user.k"]
    bench.pass_s(YEAR_S)
    assert await refusals(bench, node, b"g") == set()
    bench.unlink(b"g")
    await bench.drain()


async def test_no_name_of_it_goes(retaining: RetentionBench) -> None:
    """SEMANTICS: RETAIN-1"""
    bench = retaining
    node = await bench.write(b"f", b"content")
    bench.tree.link(node.ino, 1, b"further", ME)
    bench.retain(node, moment(YEAR_S))
    for name in (b"f", b"further"):
        assert refusal(lambda name=name: bench.unlink(name)) == errno.EPERM
    await bench.drain()


async def test_its_time_is_only_ever_later(retaining: RetentionBench) -> None:
    """SEMANTICS: RETAIN-1, XATTR-3"""
    bench = retaining
    node = await bench.write(b"f", b"content")
    for wrong in ("", "tomorrow", "2031-13-01", moment(-1), "2001-01-01", "x" * 300):
        assert bench.retain(node, wrong) == errno.EINVAL
    assert bench.retain(node, "2031-01-01") == 0
    assert bench.retained(node) == "2031-01-01T00:00:00.000000Z"
    assert bench.retain(node, "2031-01-01T00:00:00Z") == 0
    assert bench.retain(node, "2030-12-31T23:59:59Z") == errno.EPERM
    assert bench.retain(node, "2031-01-01T00:00:00+00:01") == errno.EPERM
    assert bench.retain(node, "2032-01-01") == 0
    name = RETAIN_UNTIL.encode()
    assert refusal(lambda: bench.xattrs.remove(node, name, ME)) == errno.EPERM
    assert bench.retained(node) == "2032-01-01T00:00:00.000000Z"
    bench.pass_s(20 * YEAR_S)
    assert bench.retain(node, "2031-06-01") == errno.EPERM
    directory = bench.make(b"d", mode=0o040755)
    assert bench.retain(directory, "2051-01-01") == errno.EINVAL
    await bench.drain()


async def test_who_writes_may_finish(retaining: RetentionBench) -> None:
    """SEMANTICS: RETAIN-1"""
    bench = retaining
    node = await bench.write(b"f", b"one ")
    handle = await bench.open_file(node)
    bench.retain(node, moment(YEAR_S))
    await bench.contents.write(handle, 4, b"two")
    assert "open" in await refusals(bench, node, b"f")
    bench.contents.release(handle)
    await bench.drain()
    assert await bench.content(node) == b"one two"
    assert await refusals(bench, node, b"f") == EVERYTHING


@pytest.mark.parametrize("mode", ["edit", "rw", "ro", "ar"])
async def test_in_every_mode(retaining: RetentionBench, mode: str) -> None:
    """SEMANTICS: RETAIN-1"""
    bench = retaining
    node = await bench.write(b"f", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.drain()
    bench.change_mode(mode)
    node = bench.tree.node(node.ino)
    for call in (
        lambda: bench.unlink(b"f"),
        lambda: bench.archive.require(Operation.CHANGE_CONTENT, node),
    ):
        assert refusal(call) == errno.EPERM
    if mode == "ro":
        assert bench.retain(node, moment(2 * YEAR_S)) == errno.EROFS


async def test_element_retains_what_is_sealed(retaining: RetentionBench) -> None:
    """SEMANTICS: RETAIN-2, MODE-6"""
    bench = retaining
    old = await bench.write(b"old", b"content")
    await bench.drain()
    bench.configure(moment(YEAR_S))
    old = bench.tree.node(old.ino)
    assert await refusals(bench, old, b"old") == EVERYTHING
    node = await bench.write(b"f", b"content")
    await bench.write(b"brief", b"content")
    await bench.drain()
    bench.pass_s(GRACE_S - 1)
    bench.unlink(b"brief")
    await bench.write(b"f", b"in time")
    bench.pass_s(GRACE_S)
    assert await refusals(bench, node, b"f") == EVERYTHING
    bench.make(b"d", mode=0o040755)
    bench.pass_s(GRACE_S)
    bench.tree.rmdir(1, b"d", ME)  # which is no content
    bench.pass_s(YEAR_S)
    assert await refusals(bench, node, b"f") == set()
    await bench.drain()


async def test_configuration_does_not_shorten_it(
    retaining: RetentionBench, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: RETAIN-2"""
    bench = retaining
    node = await bench.write(b"f", b"content")
    await bench.drain()
    bench.configure("2031-01-01T00:00:00.000000Z")
    for until in (None, "2030-01-01T00:00:00.000000Z"):
        caplog.clear()
        bench.configure(until, "rw")
        assert "retained until 2031-01-01T00:00:00.000000Z" in caplog.text
        node = bench.tree.node(node.ino)
        assert await refusals(bench, node, b"f") == EVERYTHING
    bench.configure("2032-01-01T00:00:00.000000Z")
    (state,) = bench.archive.modes.states.values()
    assert (state.mode, state.is_recorded) == ("edit", False)
    bench.configure("2031-01-01T00:00:00.000000Z")
    assert bench.archive.modes.states["main"] == state
    await bench.drain()


async def test_both_last_when_the_index_is_rebuilt(retaining: RetentionBench) -> None:
    """SEMANTICS: RETAIN-3"""
    bench = retaining
    node = await bench.write(b"f", b"content")
    bench.retain(node, moment(YEAR_S))
    await bench.write(b"g", b"content")
    await bench.drain()
    before = tree(bench)
    record = {"element_id": "main", "configured": "edit", "mode": "edit"}
    record |= {"changed_at": moment(0), "retain_until": moment(2 * YEAR_S)}
    (bench.root / ".artstorefs" / "mode.json").write_text(json.dumps(record))
    rebuild(bench)
    assert tree(bench) == before
    for name in (b"f", b"g"):
        found = bench.tree.lookup(1, name)
        assert await refusals(bench, found, name) == EVERYTHING
    bench.pass_s(YEAR_S)
    assert refusal(lambda: bench.unlink(b"f")) == errno.EPERM
    bench.pass_s(YEAR_S)
    bench.unlink(b"f")
    await bench.drain()


@pytest.mark.parametrize("broken", ["x" * 5000, "{}", '{"element_id": "other"}', None])
async def test_record_that_is_none_is_told_of(
    bench: Workbench, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The configuration counts then, and nothing stops. SEMANTICS: MODE-9"""
    await bench.write(b"f", b"content")
    await bench.drain()
    record = {"element_id": "second", "configured": "edit", "mode": "ro"}
    record |= {"changed_at": moment(0)}
    text = json.dumps(record) if broken is None else broken
    (bench.root / ".artstorefs" / "mode.json").write_text(text)
    report = rebuild(bench)
    assert [line for line in report.problems if "mode.json" in line]
    bench.unlink(b"f")
    await bench.drain()
    shutil.rmtree(bench.root / ".artstorefs" / "quarantine", ignore_errors=True)
