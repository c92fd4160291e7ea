"""What one step of a transfer may not do before the step before it, or instead of it.

The steps are those of the table in `artstorefs/state/outcomes.py`; `test_transfer.py` has the cuts.
"""

import os

import pytest
from trio.testing import MockClock

from artstorefs.core.errors import ElementUnavailable
from artstorefs.state.index import ROOT_INO

from .element_tree import read_element
from .test_transfer import NEW, OLD, Killed, changed_file, check_changed, old_or_new
from .workbench import Workbench


async def test_documents_are_written_when_their_objects_are_durable(bench: Workbench) -> None:
    """Steps 2 and 3: a barrier is between them. SEMANTICS: ELEM-2"""
    calls = await calls_of_a_change(bench)
    put = next(place for place, (name, _) in enumerate(calls) if name == "put")
    key = calls[put][1]
    assert calls.index(("barrier", ""), put) < calls.index(("replace", f"{key}.attr.json"), put)


async def test_document_is_removed_before_its_object(bench: Workbench) -> None:
    """Step 5: a crash in it leaves an object without an attr.json, never the other way round."""
    calls = await calls_of_a_change(bench)
    removed = [key for name, key in calls if name == "remove"]
    key = next(key for key in removed if f"{key}.attr.json" in removed)
    document, gone = calls.index(("remove", f"{key}.attr.json")), calls.index(("remove", key))
    assert document < gone
    assert ("barrier", "") in calls[document:gone]


async def calls_of_a_change(bench: Workbench) -> list[tuple[str, str]]:
    """Every call of an element that carries `changed_file`."""
    calls: list[tuple[str, str]] = []
    await changed_file(bench)
    bench.before = lambda name, key: calls.append((name, key))
    await bench.drain()
    check_changed(bench)
    return calls


async def test_spool_file_of_another_size_is_not_carried(bench: Workbench) -> None:
    """It has lost its end, or has one too many. SEMANTICS: ELEM-3"""
    bench.is_sound = False
    node = await bench.write(b"f", OLD)
    await bench.drain()
    await bench.write(b"f", NEW)
    for size in (len(NEW) - 1, len(NEW) + 1):
        os.truncate(bench.archive.spool.path(node.ino, node.content), size)
        await bench.step()
        failure = bench.archive.log.failure(node.ino) or ""
        assert f"has {size} bytes, {len(NEW)} were written" in failure
        assert read_element(bench.root)[b"/f"].content == OLD
        bench.link.schedule.try_again_now()


async def test_written_anew_between_the_element_and_its_answer(bench: Workbench) -> None:
    """The answer is about a content that is not the newest any more. SEMANTICS: DATA-4, DUR-1"""
    node = await bench.write(b"f", OLD)
    await bench.send()
    late = bench.carry()
    await bench.write(b"f", NEW)
    bench.answer(late)
    assert await bench.content(node) == NEW
    await bench.drain()
    assert await bench.content(node) == NEW
    assert read_element(bench.root)[b"/f"].content == NEW
    assert bench.spool_files() == {}


async def test_object_of_an_attempt_that_was_cut_off_is_removed(bench: Workbench) -> None:
    """Killed with the object there and no attr.json; then the file is written anew, which goes to
    another key. SEMANTICS: ELEM-2"""
    await bench.write(b"f", OLD)
    await bench.send()

    def before(name: str, key: str) -> None:
        if name == "replace":
            raise Killed

    bench.before = before
    with pytest.raises(Killed):
        bench.carry()
    bench.before = None
    bench.restart()
    await bench.write(b"f", NEW)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == NEW
    assert len(bench.keys()) == 3  # the object, its attr.json, the root's record


@pytest.mark.parametrize("which", [1, 2])
async def test_barrier_that_fails_once_is_no_answer(
    bench: Workbench, clock: MockClock, which: int
) -> None:
    """That of the objects, and that of the documents. SEMANTICS: ELEM-3"""
    await changed_file(bench)
    barriers = 0

    def before(name: str, key: str) -> None:
        nonlocal barriers
        barriers += name == "barrier"
        if name == "barrier" and barriers == which:
            raise ElementUnavailable("main", key, "a flush failed")

    bench.before = before
    await bench.step()
    old_or_new(bench)
    node = bench.tree.lookup(ROOT_INO, b"f")
    assert node is not None
    assert "a flush failed" in (bench.archive.log.failure(node.ino) or "")
    clock.jump(70)
    await bench.drain()
    check_changed(bench)
