"""Names of files with several, on the tree and on the element."""

import json
from pathlib import Path

import pytest
from trio.testing import MockClock

from artstorefs.core.errors import ElementUnavailable
from artstorefs.state.index import ROOT_INO

from .element_tree import read_element
from .workbench import DIRECTORY, ME, Workbench


async def two_links(bench: Workbench) -> None:
    node = await bench.write(b"a", b"content")
    bench.tree.link(node.ino, ROOT_INO, b"b", ME)


@pytest.mark.parametrize("removed", [b"a", b"b"])
@pytest.mark.parametrize("when", ["before", "in flight", "carried, not told", "after"])
async def test_unlink_of_one_of_two_links(bench: Workbench, removed: bytes, when: str) -> None:
    """SEMANTICS: NAME-6"""
    await two_links(bench)
    if when == "after":
        await bench.drain()
    elif when != "before":
        await bench.send()
    answer = bench.carry() if when == "carried, not told" else None
    bench.unlink(removed)
    if answer:
        bench.answer(answer)
    while bench.sent:
        bench.answer(bench.carry())
    await bench.drain()
    left = b"a" if removed == b"b" else b"b"
    tree = read_element(bench.root)
    assert set(tree) == {b"/", b"/" + left}
    assert tree[b"/" + left].content == b"content"
    bench.unlink(left)
    await bench.drain()
    assert set(read_element(bench.root)) == {b"/"}
    assert bench.budget.used_bytes == 0


@pytest.mark.parametrize("moved", [b"a", b"b"])
@pytest.mark.parametrize("when", ["before", "in flight", "carried, not told", "after"])
async def test_rename_of_one_of_two_links(bench: Workbench, moved: bytes, when: str) -> None:
    """SEMANTICS: NAME-6"""
    await two_links(bench)
    directory = bench.make(b"d", mode=DIRECTORY)
    if when == "after":
        await bench.drain()
    elif when != "before":
        await bench.send()
    answer = bench.carry() if when == "carried, not told" else None
    bench.rename(moved, b"moved", to=directory.ino)
    if answer:
        bench.answer(answer)
    while bench.sent:
        bench.answer(bench.carry())
    await bench.drain()
    left = b"a" if moved == b"b" else b"b"
    assert set(read_element(bench.root)) == {b"/", b"/d", b"/d/moved", b"/" + left}


async def test_directory_of_a_link_is_moved(bench: Workbench) -> None:
    node = await bench.write(b"a", b"content")
    directory = bench.make(b"d", mode=DIRECTORY)
    bench.tree.link(node.ino, directory.ino, b"b", ME)
    await bench.drain()
    bench.rename(b"d", b"e")
    await bench.drain()
    assert set(read_element(bench.root)) == {b"/", b"/a", b"/e", b"/e/b"}


@pytest.mark.parametrize("replaced", [b"a", b"b"])
async def test_rename_over_one_of_two_links(bench: Workbench, replaced: bytes) -> None:
    await two_links(bench)
    await bench.drain()
    await bench.write(b"new", b"new content")
    bench.rename(b"new", replaced)
    left = b"a" if replaced == b"b" else b"b"
    await bench.drain()
    tree = read_element(bench.root)
    assert set(tree) == {b"/", b"/a", b"/b"}
    assert tree[b"/" + replaced].content == b"new content"
    assert tree[b"/" + left].content == b"content"


async def test_second_name_stays_on_the_element_while_the_first_is_replaced(
    bench: Workbench, clock: MockClock
) -> None:
    """Its record goes only after attr.json has taken over the name. SEMANTICS: NAME-6, ELEM-2"""
    await two_links(bench)
    await bench.drain()
    keys = bench.keys()
    (sidecar,) = [key for key in keys if key.endswith(".attr.json")]
    (record,) = [key for key in keys if is_link(bench.root / key)]
    await bench.write(b"new", b"new content")
    bench.rename(b"new", b"a")

    def before(name: str, key: str) -> None:
        if name == "replace" and key == sidecar:
            raise ElementUnavailable("main", key, "for a while")

    bench.before = before
    for _ in range(4):
        await bench.step()
        assert (bench.root / record).exists()
        clock.jump(70)
    bench.before = None
    await bench.drain()
    assert not (bench.root / record).exists()
    tree = read_element(bench.root)
    assert {path: tree[path].content for path in (b"/a", b"/b")} == {
        b"/a": b"new content",
        b"/b": b"content",
    }


def is_link(path: Path) -> bool:
    return json.loads(path.read_bytes()).get("type") == "link" if path.suffix == ".json" else False


async def test_rename_of_a_link_over_the_other_link_does_nothing(bench: Workbench) -> None:
    """SEMANTICS: NAME-4"""
    await two_links(bench)
    bench.rename(b"a", b"b")
    await bench.drain()
    assert set(read_element(bench.root)) == {b"/", b"/a", b"/b"}


@pytest.mark.parametrize("carried", [False, True])
async def test_exchange(bench: Workbench, carried: bool) -> None:
    """SEMANTICS: NAME-4"""
    await two_links(bench)
    directory = bench.make(b"d", mode=DIRECTORY)
    await bench.write(b"inside", b"x", directory.ino)
    if carried:
        await bench.drain()
    bench.rename(b"b", b"inside", to=directory.ino, flags=2)
    bench.rename(b"d", b"a", flags=2)
    await bench.drain()
    tree = read_element(bench.root)
    assert set(tree) == {b"/", b"/a", b"/d", b"/b", b"/a/inside"}
    assert tree[b"/a/inside"] is tree[b"/d"]
    assert tree[b"/b"].content == b"x"
    bench.restart()
    node = bench.tree.lookup(ROOT_INO, b"d")
    assert node is not None
    assert node.nlink == 2


async def test_exchange_across_directories_counts_subdirectories(bench: Workbench) -> None:
    one, two = (bench.make(name, mode=DIRECTORY) for name in (b"one", b"two"))
    bench.make(b"sub", one.ino, DIRECTORY)
    bench.make(b"file", two.ino)
    bench.rename(b"sub", b"file", one.ino, two.ino, flags=2)
    assert (one.nlink, two.nlink) == (2, 3)
    bench.restart()
    found = bench.tree.lookup(ROOT_INO, b"two")
    assert found is not None
    assert found.nlink == 3


async def test_many_links_come_and_go(bench: Workbench) -> None:
    node = await bench.write(b"a", b"content")
    for number in range(30):
        bench.tree.link(node.ino, ROOT_INO, b"l%d" % number, ME)
    await bench.drain()
    bench.unlink(b"a")
    for number in range(0, 30, 2):
        bench.unlink(b"l%d" % number)
    bench.restart()
    await bench.drain()
    expected = {b"/", *(b"/l%d" % number for number in range(1, 30, 2))}
    assert set(read_element(bench.root)) == expected
