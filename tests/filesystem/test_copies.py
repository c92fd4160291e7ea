"""`copies = 2`: what two elements have to have, while one is away, full, or lost."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ElementUnavailable
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import ContentState

from .copies_bench import NAMES, CopiesBench, inodes, make_tree, same
from .element_tree import read_element
from .large_files import flip
from .workbench import ME


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[CopiesBench]:
    bench = CopiesBench(tmp_path)
    yield bench
    bench.check_soundness()


def leave_of(path: str, size: int | None) -> None:
    """What a power cut has left of a file: so many bytes of it, or not even its name."""
    data = Path(path).read_bytes()
    os.unlink(path)
    if size is not None:
        Path(path).write_bytes(data[:size])


async def test_two_elements_have_all_of_it(bench: CopiesBench) -> None:
    """SEMANTICS: ELEM-21"""
    node = await make_tree(bench)
    await bench.drain()
    tree = same(bench.trees(), "main", "second")
    assert tree[b"/d/f"].content == b"content"
    assert tree[b"/further"] == tree[b"/d/f"]
    assert tree[b"/d/f"].custom == {"artist": "Rembrandt"}
    assert len({key for key, _ in bench.copies(node).values()}) == 1, "one key on all of them"
    assert bench.spool_files() == {}
    assert bench.budget.used_bytes == 0
    found = inodes(bench)
    assert len(found) == len(set(found)) == 2, "no bit is in two copies"


async def test_changes_reach_both(bench: CopiesBench) -> None:
    node = await make_tree(bench)
    await bench.drain()
    await bench.write(b"f", b"other content", bench.tree.lookup(ROOT_INO, b"d").ino)  # type: ignore[union-attr]
    bench.xattrs.set(node, b"user.artist", b"Vermeer", 0, ME)
    await bench.drain()
    bench.unlink(b"further")
    bench.rename(b"empty", b"moved")
    await bench.drain()
    tree = same(bench.trees(), "main", "second")
    assert set(tree) == {b"/", b"/d", b"/d/f", b"/moved", b"/symlink"}
    assert tree[b"/d/f"].content == b"other content"
    assert tree[b"/d/f"].custom == {"artist": "Vermeer"}
    bench.unlink(b"f", bench.tree.lookup(ROOT_INO, b"d").ino)  # type: ignore[union-attr]
    await bench.drain()
    assert b"/d/f" not in same(bench.trees(), "main", "second")
    assert inodes(bench) == []


async def test_until_the_second_has_it_the_spool_keeps_it(bench: CopiesBench) -> None:
    """SEMANTICS: ELEM-21"""
    node = bench.tree.create(ROOT_INO, b"f", 0o100644, ME, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    await bench.contents.write(handle, 0, b"content")
    bench.contents.release(handle)
    bench.leave("second", "third")
    await bench.tried()
    assert list(bench.copies(node)) == ["main"]
    assert node.content_state == ContentState.SEALED
    assert list(bench.spool_files().values()) == [b"content"]
    assert bench.archive.log.is_waiting(node.ino)
    assert "nobody answers" in (bench.archive.log.failure(node.ino) or "")
    bench.restart()
    bench.leave()
    await bench.drain()
    assert same(bench.trees(), "main", "second")[b"/f"].content == b"content"
    assert bench.spool_files() == {}


@pytest.mark.parametrize("left", [None, 3])
async def test_power_cut_takes_content_that_one_has(bench: CopiesBench, left: int | None) -> None:
    """From the spool, which was not synced for anybody. SEMANTICS: DUR-3, ELEM-21"""
    node = await bench.write(b"f", b"content")
    bench.leave("second", "third")
    await bench.tried()
    before = node.mtime_ns, node.ctime_ns
    (name,) = bench.spool_files()
    leave_of(bench.archive.spool.path_of_name(name), left)
    bench.restart(power_cut=True)
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    assert (found.mtime_ns, found.ctime_ns) == before
    assert await bench.content(found) == b"content"
    bench.leave()
    await bench.drain()
    assert same(bench.trees(), "main", "second")[b"/f"].content == b"content"
    assert bench.spool_files() == {}


async def test_content_that_one_has_is_not_changed_in_place(bench: CopiesBench) -> None:
    """The spool file may be the object, by a link."""
    node = await bench.write(b"f", b"content")
    bench.leave("second", "third")
    await bench.tried()
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, b"CON")
    bench.contents.release(handle)
    await bench.sum_waiting()
    assert read_element(bench.root)[b"/f"].content == b"content"
    bench.leave()
    await bench.drain()
    assert same(bench.trees(), "main", "second")[b"/f"].content == b"CONtent"


async def test_element_that_does_not_answer_holds_up_nothing(bench: CopiesBench) -> None:
    """There is a third, which takes its place for what is new. SEMANTICS: ELEM-21"""
    old = await bench.write(b"old", b"old content")
    await bench.drain()
    bench.leave("main")
    new = await bench.write(b"new", b"new content")
    await bench.write(b"old", b"changed")
    await bench.tried()
    assert sorted(bench.copies(new)) == ["second", "third"]
    assert not bench.archive.log.is_waiting(new.ino)
    assert read_element(bench.place("second"))[b"/old"].content == b"changed"
    assert bench.archive.log.is_waiting(old.ino), "main has the old one"
    assert list(bench.spool_files().values()) == [b"changed"]
    bench.leave()
    await bench.drain()
    trees = [read_element(bench.place(name)) for name in ("main", "second")]
    assert trees[0][b"/old"] == trees[1][b"/old"]
    assert trees[0][b"/old"].content == b"changed"
    assert sorted(bench.copies(old)) == ["main", "second"]


async def second_has_it_and_nobody_hears(bench: CopiesBench) -> None:
    """A file with two names, which main has; second has it too, but its answer is lost."""
    node = await bench.write(b"f", b"content")
    bench.tree.link(node.ino, ROOT_INO, b"further", ME)
    bench.leave("second", "third")
    await bench.tried()
    bench.leave()
    await bench.send()
    bench.carry()


async def test_link_that_goes_after_an_attempt_that_was_given_up(bench: CopiesBench) -> None:
    """The element had its record already, and no copy by the index. Found by kills under load."""
    await second_has_it_and_nobody_hears(bench)
    assert b"/further" in read_element(bench.place("second"))
    bench.restart()
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    bench.xattrs.set(found, b"user.artist", b"Rembrandt", 0, ME)
    bench.leave("second")
    await bench.tried()
    bench.unlink(b"further")
    await bench.tried()
    bench.leave()
    await bench.drain()
    for name in ("main", "second", "third"):
        records = [p.read_text() for p in bench.place(name).rglob("*.json")]
        assert not [text for text in records if '"type": "link"' in text], name


async def test_link_that_stays_after_an_attempt_that_was_given_up(
    tmp_path: Path, clock: MockClock
) -> None:
    """The next attempt goes to the same element, and writes the same record. Found by trouble with
    a server under load."""
    bench = CopiesBench(tmp_path, 1)
    node = await bench.write(b"f", b"content")
    bench.tree.link(node.ino, ROOT_INO, b"further", ME)
    await bench.send()
    bench.carry()
    bench.restart()
    await bench.write(b"f", b"other content")
    await bench.drain()
    assert read_element(bench.root)[b"/further"].content == b"other content"


async def test_record_that_is_still_to_be_removed_is_not_written(bench: CopiesBench) -> None:
    """Of an element to which the next attempt goes while the removal fails there."""
    await second_has_it_and_nobody_hears(bench)
    bench.restart()
    await bench.write(b"f", b"other content")
    bench.leave("second", "third")
    await bench.tried()  # given up for main, which has an older copy

    def no_removal(operation: str, key: str) -> None:
        if operation == "remove":
            raise ElementUnavailable("second", key, "nothing can be removed")

    bench.before = no_removal
    bench.leave("third")
    for _ in range(4):
        await bench.step()
    bench.before = None
    bench.leave()
    await bench.drain()
    assert same(bench.trees(), "main", "second")[b"/further"].content == b"other content"


async def test_nothing_replaced_goes_before_both_have_the_new(bench: CopiesBench) -> None:
    await bench.write(b"old", b"old content")
    await bench.drain()
    await bench.write(b"new", b"new content")
    bench.rename(b"new", b"old")
    bench.leave("second", "third")
    await bench.tried()
    for name in ("main", "second"):
        objects = [p for p in bench.place(name).rglob("*") if p.is_file()]
        assert b"old content" in [path.read_bytes() for path in objects], name
    bench.leave()
    await bench.drain()
    tree = same(bench.trees(), "main", "second")
    assert tree[b"/old"].content == b"new content"
    assert len(inodes(bench)) == 2


async def test_more_copies_are_wanted_than_before(tmp_path: Path, clock: MockClock) -> None:
    """SEMANTICS: ELEM-22"""
    bench = CopiesBench(tmp_path, 1)
    node = await make_tree(bench)
    large = await bench.write(b"large", os.urandom(5_000_000))
    await bench.drain()
    assert list(bench.trees()) == ["main"]
    for bench.wanted in (2, 3):
        bench.configuration = bench.configured("edit", {})
        bench.restart()
        await bench.drain()
        tree = same(bench.trees(), *NAMES[: bench.wanted])
        assert tree[b"/further"].paths == {b"/d/f", b"/further"}
        assert len(bench.copies(node)) == len(bench.copies(large)) == bench.wanted
        found = inodes(bench)
        assert len(found) == len(set(found)) == 2 * bench.wanted
    assert bench.spool_files() == {}
    assert not bench.fsck().left
    bench.restart()
    assert bench.link.schedule.is_empty, "nothing is wanted twice"


async def test_copy_that_would_be_made_of_a_damaged_one(tmp_path: Path, clock: MockClock) -> None:
    """SEMANTICS: ELEM-22"""
    bench = CopiesBench(tmp_path, 1)
    node = await bench.write(b"f", b"content")
    await bench.drain()
    key, _ = bench.copies(node)["main"]
    path = bench.root / key
    path.write_bytes(b"CONTENT")
    bench.wanted = 2
    bench.configuration = bench.configured("edit", {})
    bench.restart()
    await bench.tried()
    assert list(bench.copies(node)) == ["main"]
    assert "does not have its SHA-256" in (bench.archive.log.failure(node.ino) or "")
    assert not (bench.place("second") / key).exists()
    path.write_bytes(b"content")
    await bench.tried()
    assert sorted(bench.copies(node)) == ["main", "second"]


def without_a_third(base: Path) -> CopiesBench:
    """Three copies are wanted, and two elements take something."""
    bench = CopiesBench(base, 3)
    elements = list(bench.configuration.elements)
    elements[2] = elements[2].model_copy(update={"mode": "ro"})
    bench.configuration = bench.configuration.model_copy(update={"elements": tuple(elements)})
    bench.restart()
    return bench


async def test_content_that_is_on_its_way_to_nobody_is_not_changed_in_place(
    tmp_path: Path, clock: MockClock
) -> None:
    bench = without_a_third(tmp_path)
    node = await bench.write(b"f", b"content")
    await bench.tried()
    assert bench.archive.log.assignment(node.ino) is None
    handle = await bench.open_file(node)
    await bench.contents.write(handle, 0, b"CON")
    bench.contents.release(handle)
    for name in ("main", "second"):
        assert read_element(bench.place(name))[b"/f"].content == b"content"
    await bench.tried()
    assert same(bench.trees(), "main", "second")[b"/f"].content == b"CONtent"


async def test_no_third_element_takes_it(tmp_path: Path, clock: MockClock) -> None:
    """It is said; what has room has it, and gets what changes."""
    bench = without_a_third(tmp_path)
    node = await bench.write(b"f", b"content")
    await bench.tried()
    assert sorted(bench.copies(node)) == ["main", "second"]
    assert "3 copies are wanted" in (bench.archive.log.failure(node.ino) or "")
    assert list(bench.spool_files().values()) == [b"content"]
    await bench.attributes.change(node, AttributeChange(mode=0o600), ME)
    await bench.tried()
    assert same(bench.trees(), "main", "second")[b"/f"].mode == 0o100600


@pytest.mark.parametrize("loss", ["damaged", "shorter", "gone"])
async def test_copy_that_is_lost_is_made_again(bench: CopiesBench, loss: str) -> None:
    """From the other, as soon as a reader has found it; what is left of it is kept.
    SEMANTICS: ELEM-22"""
    data = os.urandom(BLOCK_BYTES + 10)
    node = await bench.write(b"f", data)
    await bench.drain()
    keys = {element: key for element, (key, _) in bench.copies(node).items()}
    path = bench.root / keys["main"]
    if loss == "gone":
        path.unlink()
    elif loss == "shorter":
        os.truncate(path, 10)
    else:
        flip(path, 100)
    assert await bench.content(node) == data
    assert bench.archive.log.is_waiting(node.ino)
    assert (bench.archive.damage.error(node) is None) == (loss == "gone")
    await bench.drain()
    found = {element: key for element, (key, _) in bench.copies(node).items()}
    assert found["second"] == keys["second"]
    assert found["main"] != keys["main"]
    assert same(bench.trees(), "main", "second")[b"/f"].content == data
    assert bench.archive.damage.error(node) is None
    assert await bench.content(node) == data
    kept = bench.root / ".artstorefs" / "quarantine"
    assert len(list(kept.rglob("*.kept"))) == (2 if loss == "gone" else 3)
    assert bench.spool_files() == {}


async def test_both_copies_are_damaged_in_different_places(bench: CopiesBench) -> None:
    """Together they have all of it; none is given up for the other. SEMANTICS: ELEM-22"""
    bench.is_sound = False
    data = os.urandom(2 * BLOCK_BYTES)
    node = await bench.write(b"f", data)
    await bench.drain()
    keys = {element: key for element, (key, _) in bench.copies(node).items()}
    flip(bench.root / keys["main"], 100)
    flip(bench.place("second") / keys["second"], BLOCK_BYTES + 100)
    for _ in range(2):
        assert await bench.content(node) == data
        await bench.tried()
    assert {element: key for element, (key, _) in bench.copies(node).items()} == keys
    assert "SHA-256" in (bench.archive.log.failure(node.ino) or "")


async def test_rebuild_from_both_and_from_either(bench: CopiesBench) -> None:
    node = await make_tree(bench)
    await bench.drain()
    bench.close()
    shutil.rmtree(bench.base / "state")
    (bench.base / "state").mkdir()
    bench.open()
    found = bench.tree.lookup(bench.tree.lookup(ROOT_INO, b"d").ino, b"f")  # type: ignore[union-attr]
    assert found is not None
    assert sorted(bench.copies(found)) == ["main", "second"]
    assert found.file_id == node.file_id
    assert await bench.content(found) == b"content"
    assert bench.link.schedule.is_empty


async def test_an_attribute_that_others_write_on_one_reaches_the_other(bench: CopiesBench) -> None:
    node = await bench.write(b"f", b"content")
    await bench.drain()
    key, _ = bench.copies(node)["second"]
    path = bench.place("second") / f"{key}.attr.json"
    document = json.loads(path.read_bytes())
    document["custom_attributes"]["artist"] = "Hals"
    path.write_text(json.dumps(document))
    bench.xattrs.set(node, b"user.year", b"1633", 0, ME)
    await bench.drain()
    assert same(bench.trees(), "main", "second")[b"/f"].custom == {"artist": "Hals", "year": 1633}
