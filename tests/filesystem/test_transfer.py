"""From the log to the element: every step cut off and repeated, every element call refused once.

The steps are those of the table in `artstorefs/state/outcomes.py`.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from artstorefs.core.errors import (
    ElementDenied,
    ElementFull,
    ElementUnavailable,
    ObjectDamaged,
)
from artstorefs.filesystem.errors import ContentUnreachable
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import ContentState

from .element_tree import read_element
from .workbench import DIRECTORY, ME, Workbench

OLD, NEW = b"old content", b"the new content"


async def changed_file(bench: Workbench) -> None:
    """An archived file with a further link, its content changed and not carried yet."""
    node = await bench.write(b"f", OLD)
    bench.tree.link(node.ino, ROOT_INO, b"link", ME)
    await bench.drain()
    await bench.write(b"f", NEW)
    bench.rename(b"link", b"link2")


def check_changed(bench: Workbench) -> None:
    tree = read_element(bench.root)
    assert set(tree) == {b"/", b"/f", b"/link2"}
    assert tree[b"/f"] is tree[b"/link2"]
    assert tree[b"/f"].content == NEW
    assert len(bench.keys()) == 4  # object, attr.json, the link's record, the root's
    assert bench.spool_files() == {}
    assert bench.budget.used_bytes == 0


def old_or_new(bench: Workbench) -> None:
    """At any moment the element has the old content or the new one, with its attr.json."""
    found = {}
    for path in bench.root.rglob("*.attr.json"):
        found[path] = path.with_name(path.name.removesuffix(".attr.json")).read_bytes()
    assert found
    assert set(found.values()) <= {OLD, NEW}


class Killed(BaseException):
    """The transfer process is no more."""


@pytest.mark.parametrize("operation", ["put", "barrier", "replace", "stat", "remove"])
@pytest.mark.parametrize("which", [1, 2, 3])
async def test_killed_before_each_call_of_an_element(
    bench: Workbench, operation: str, which: int
) -> None:
    """Steps 2, 3 and 5, cut off anywhere. SEMANTICS: ELEM-2, DUR-1"""
    await changed_file(bench)
    count = 0

    def before(name: str, key: str) -> None:
        nonlocal count
        count += name == operation
        if name == operation and count == which:
            raise Killed

    bench.before = before
    try:
        for _ in range(3):
            await bench.step()
    except Killed:
        old_or_new(bench)
    bench.before = None
    bench.restart()
    await bench.drain()
    check_changed(bench)


async def test_killed_after_step_1_assigned(bench: Workbench) -> None:
    await changed_file(bench)
    await bench.send()
    bench.restart()
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    assigned = bench.archive.log.assignment(node.ino)
    assert assigned is not None
    await bench.drain()
    check_changed(bench)
    assert bench.archive.index.copies(node.ino)[0].key == assigned.key


async def test_killed_after_step_3_answer_lost(bench: Workbench) -> None:
    """attr.json is written, nobody was told. SEMANTICS: ELEM-2"""
    await changed_file(bench)
    await bench.send()
    bench.carry()
    bench.restart()
    await bench.drain()
    check_changed(bench)


async def test_killed_after_step_4_stored(bench: Workbench) -> None:
    await changed_file(bench)
    await bench.send()
    bench.answer(bench.carry())
    bench.restart()
    await bench.drain()
    check_changed(bench)


async def test_killed_after_step_5_removed_but_not_told(bench: Workbench) -> None:
    await changed_file(bench)
    await bench.step()
    await bench.send()
    while bench.sent:
        bench.carry()
    bench.restart()
    await bench.drain()
    check_changed(bench)


async def test_transfer_process_dies_at_each_step(bench: Workbench) -> None:
    """Only the transfer process; the mount process goes on. SEMANTICS: DUR-7"""
    await changed_file(bench)
    await bench.send()
    bench.sent.clear()
    die(bench)
    await bench.send()
    bench.carry()
    bench.sent.clear()
    die(bench)
    await bench.step()
    await bench.send()
    bench.carry()
    die(bench)
    await bench.drain()
    check_changed(bench)


def die(bench: Workbench) -> None:
    """What `TransferLink.run` does when the process has ended."""
    bench.sent.clear()
    bench.link._batches.clear()
    bench.link.schedule.transfer_process_died(trio.current_time())


ERRORS: list[Callable[[str], Exception]] = [
    lambda key: ElementUnavailable("main", key, "the disk is gone"),
    lambda key: ElementFull("main", key, "no room"),
    lambda key: ElementDenied("main", key, "read-only"),
    lambda key: ObjectDamaged("main", key, "another SHA-256"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["unavailable", "full", "denied", "damaged"])
@pytest.mark.parametrize("operation", ["put", "barrier", "replace", "stat", "remove"])
async def test_each_call_fails_for_a_while(
    bench: Workbench, clock: MockClock, operation: str, error: Callable[[str], Exception]
) -> None:
    """SEMANTICS: ELEM-3"""
    await changed_file(bench)
    failing = True

    def before(name: str, key: str) -> None:
        if failing and name == operation:
            raise error(key)

    bench.before = before
    for _ in range(5):
        await bench.step()
        old_or_new(bench)
        clock.jump(70)
    assert not bench.link.schedule.is_empty
    assert bench.link.schedule.pending <= bench.link.schedule.retrying  # so that flush ends
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    assert await bench.content(node) == NEW
    if operation != "remove":
        assert bench.archive.log.failure(node.ino)
        assert bench.archive.log.summary()["failed"] > 0
    failing = False
    clock.jump(70)
    await bench.drain()
    assert bench.archive.log.failures() == []
    check_changed(bench)


async def test_one_file_that_fails_holds_up_nothing_else(bench: Workbench) -> None:
    """SEMANTICS: ELEM-3"""
    bad = await bench.write(b"bad", OLD)
    await bench.write(b"good", NEW)

    def before(name: str, key: str) -> None:
        if name == "put" and "/bad" in key:
            raise ElementUnavailable("main", key, "a bad block")

    bench.before = before
    await bench.step()
    await bench.step()
    assert bench.archive.log.waiting_nodes() == [bad.ino]
    assert set(read_element(bench.root)) == {b"/", b"/good"}


async def test_spool_file_that_cannot_be_read_holds_up_nothing_else(bench: Workbench) -> None:
    bench.is_sound = False
    bad = await bench.write(b"bad", OLD)
    await bench.write(b"good", NEW)
    os.unlink(bench.archive.spool.path(bad.ino, bad.content))
    await bench.step()
    assert "No such file" in (bench.archive.log.failure(bad.ino) or "")
    assert set(read_element(bench.root)) == {b"/", b"/good"}


# ------------------------------------------------------------------- replacing by rename


async def test_replaced_file_goes_only_after_the_new_one_is_there(
    bench: Workbench, clock: MockClock
) -> None:
    """SEMANTICS: NAME-4, ELEM-2"""
    await bench.write(b"f", OLD)
    await bench.drain()
    await bench.write(b"tmp", NEW)
    bench.rename(b"tmp", b"f")

    def before(name: str, key: str) -> None:
        if name == "put":
            raise ElementUnavailable("main", key, "gone")

    bench.before = before
    for _ in range(4):
        await bench.step()
        clock.jump(70)
        assert read_element(bench.root)[b"/f"].content == OLD
    assert bench.link.schedule.pending <= bench.link.schedule.retrying
    bench.restart()
    await bench.step()
    assert read_element(bench.root)[b"/f"].content == OLD
    bench.before = None
    clock.jump(70)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == NEW
    assert len(bench.keys()) == 3


async def test_replacing_file_is_open_then_deleted(bench: Workbench) -> None:
    """What it has replaced leaves the element although no element ever has the new one."""
    await bench.write(b"f", OLD)
    await bench.drain()
    node = bench.tree.create(ROOT_INO, b"tmp", 0o100644, ME, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    await bench.contents.write(handle, 0, NEW)
    bench.rename(b"tmp", b"f")
    await bench.step()
    bench.unlink(b"f")
    await bench.step()
    bench.contents.release(handle)
    await bench.drain()
    assert set(read_element(bench.root)) == {b"/"}


async def test_flush_ends_although_a_file_that_replaced_another_is_open(bench: Workbench) -> None:
    """SEMANTICS: DUR-6"""
    await bench.write(b"f", OLD)
    await bench.drain()
    node = bench.tree.create(ROOT_INO, b"tmp", 0o100644, ME, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    await bench.contents.write(handle, 0, NEW)
    bench.rename(b"tmp", b"f")
    for _ in range(3):
        await bench.step()
    assert bench.link.schedule.pending <= bench.link.schedule.retrying
    bench.contents.release(handle)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == NEW


# ----------------------------------------------------------------- empty files and content


async def test_content_to_empty_and_back(bench: Workbench) -> None:
    for data in (b"", OLD, b"", NEW, b"", b""):
        node = await bench.write(b"f", data)
        await bench.drain()
        assert read_element(bench.root)[b"/f"].content == data
        expected = ContentState.ARCHIVED if data else ContentState.EMPTY
        assert node.content_state == expected
        assert len(bench.keys()) == (3 if data else 2)


async def test_many_contents_within_one_second(bench: Workbench) -> None:
    """Each object has a key that no removal still names. SEMANTICS: ELEM-2"""
    for number in range(12):
        await bench.write(b"f", b"content %d" % number)
        await bench.send()
        await bench.write(b"f", b"between %d" % number)
        while bench.sent:
            bench.answer(bench.carry())
        await bench.send()
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == b"between 11"
    assert len(bench.keys()) == 3


async def test_key_of_an_object_that_is_being_removed_is_not_used_again(
    bench: Workbench,
) -> None:
    """The answer to the removal is lost, so that it is carried out once more. SEMANTICS: ELEM-2"""
    await bench.write(b"f", b"one")
    await bench.drain()
    await bench.write(b"f", b"two")
    await bench.step()
    await bench.send()
    late = [bench.carry() for _ in range(len(bench.sent))]  # the removal of "one", not answered
    await bench.write(b"f", b"three")
    await bench.send()
    while bench.sent:
        bench.answer(bench.carry())
    del late
    bench.restart()
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == b"three"


# ------------------------------------------------------------------------- names and inodes


async def test_inode_numbers_are_not_used_again_after_a_restart(bench: Workbench) -> None:
    """A removal in the log names spool files by inode number. SEMANTICS: NAME-7"""
    node = await bench.write(b"f", OLD)
    bench.unlink(b"f")
    bench.restart()
    again = await bench.write(b"g", NEW)
    assert again.ino > node.ino
    await bench.drain()
    assert read_element(bench.root)[b"/g"].content == NEW


async def test_inode_numbers_are_not_used_again_when_nothing_is_pending(bench: Workbench) -> None:
    """SEMANTICS: NAME-7"""
    node = await bench.write(b"f", OLD)
    bench.unlink(b"f")
    await bench.drain()
    bench.restart()
    assert (await bench.write(b"g", NEW)).ino > node.ino


async def test_temporary_name_costs_one_object(bench: Workbench) -> None:
    """As rsync does it. SEMANTICS: ELEM-4"""
    await bench.drain()
    node = await bench.write(b".f.a1B2c3", NEW)
    with bench.archive.changes.attributes(node, 7, 0):
        node.mode = 0o100600
    bench.rename(b".f.a1B2c3", b"f")
    calls: dict[str, int] = {}

    def before(name: str, key: str) -> None:
        calls[name] = calls.get(name, 0) + 1
        assert "a1B2c3" not in key

    bench.before = before
    await bench.drain()
    assert (calls["put"], calls["replace"]) == (1, 2)  # attr.json of the file, the root's record


async def test_deleted_while_in_flight_and_made_anew(bench: Workbench) -> None:
    await bench.write(b"f", OLD)
    await bench.send()
    bench.unlink(b"f")
    await bench.write(b"f", NEW)
    await bench.drain()
    tree = read_element(bench.root)
    assert tree[b"/f"].content == NEW
    assert len(bench.keys()) == 3


async def test_directory_moved_while_its_record_is_in_flight(bench: Workbench) -> None:
    one = bench.make(b"one", mode=DIRECTORY)
    two = bench.make(b"two", mode=DIRECTORY)
    await bench.write(b"f", OLD, one.ino)
    await bench.send()
    bench.rename(b"one", b"moved", to=two.ino)
    answers: list[Any] = [bench.carry() for _ in range(len(bench.sent))]
    for answer in answers:
        bench.answer(answer)
    await bench.drain()
    expected = {b"/", b"/two", b"/two/moved", b"/two/moved/f"}
    assert set(read_element(bench.root)) == expected


async def test_state_of_a_file_while_it_is_carried(bench: Workbench) -> None:
    """SEMANTICS: XATTR-3"""

    def state() -> bytes:
        return bench.xattrs.get(node, b"user.artstore.state")

    node = bench.tree.create(ROOT_INO, b"f", 0o100644, ME, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    assert state() == b"open"
    await bench.contents.write(handle, 0, NEW)
    bench.contents.release(handle)
    assert state() == b"pending"
    await bench.send()
    assert state() == b"pending"
    await bench.drain()
    assert state() == b"stored"
    bench.rename(b"f", b"g")
    assert state() == b"pending"
    await bench.drain()
    assert state() == b"stored"


async def test_element_that_is_no_longer_configured(bench: Workbench, clock: MockClock) -> None:
    """Its files wait and are EIO; nothing else is concerned. SEMANTICS: ELEM-3"""
    node = await bench.write(b"f", OLD)
    await bench.drain()
    bench.rename(b"f", b"g")
    elements, bench.carrier._elements = bench.carrier._elements, {}
    opened, bench.archive.elements = bench.archive.elements, {}
    await bench.step()
    assert "not in the configuration" in (bench.archive.log.failure(node.ino) or "")
    with pytest.raises(ContentUnreachable):
        await bench.content(node)
    bench.carrier._elements, bench.archive.elements = elements, opened
    clock.jump(70)
    await bench.drain()
    assert read_element(bench.root)[b"/g"].content == OLD
