"""What is removed from an element while the same file goes there again."""

from trio.testing import MockClock

from artstorefs.core.errors import ElementDenied, ElementUnavailable

from .element_tree import read_element
from .workbench import Workbench

OLD, NEW = b"old content", b"the new content"


async def test_record_outlives_its_removal_when_the_file_is_empty_again(bench: Workbench) -> None:
    """Content is carried while the file is cut to nothing again: removal and new record meet."""
    await bench.write(b"f", b"")
    await bench.drain()
    await bench.write(b"f", OLD)
    await bench.send()
    answer = bench.carry()
    await bench.write(b"f", b"")
    bench.answer(answer)
    await bench.drain()
    tree = read_element(bench.root)
    assert set(tree) == {b"/", b"/f"}
    assert tree[b"/f"].content == b""


async def test_removal_of_a_record_fails_and_the_file_is_empty_again(
    bench: Workbench, clock: MockClock
) -> None:
    await bench.write(b"f", b"")
    await bench.drain()
    await bench.write(b"f", OLD)

    def before(name: str, key: str) -> None:
        if name == "remove":
            raise ElementUnavailable("main", key, "gone")

    bench.before = before
    await bench.step()
    await bench.step()
    await bench.write(b"f", b"")
    for _ in range(3):
        await bench.step()
        clock.jump(70)
    bench.before = None
    await bench.drain()
    tree = read_element(bench.root)
    assert set(tree) == {b"/", b"/f"}
    assert tree[b"/f"].content == b""


async def test_removal_that_fails_does_not_hold_up_later_content(
    bench: Workbench, clock: MockClock
) -> None:
    """SEMANTICS: ELEM-3"""
    node = await bench.write(b"f", OLD)
    await bench.drain()
    keys = bench.keys()
    (first,) = [key for key in keys if key.endswith(".attr.json")]

    def before(name: str, key: str) -> None:
        if name == "remove" and key == first:
            raise ElementDenied("main", key, "it may not be removed")

    bench.before = before
    for content in (NEW, b"third", b"fourth"):
        await bench.write(b"f", content)
        for _ in range(3):
            await bench.step()
            clock.jump(10)
        assert not bench.archive.log.is_waiting(node.ino)
        stored = [path.read_bytes() for path in bench.root.rglob("f_*") if path.suffix != ".json"]
        assert sorted(stored) == sorted([OLD, content])
    assert bench.link.schedule.pending == bench.link.schedule.retrying == 1
    bench.before = None
    clock.jump(70)
    await bench.drain()
    assert read_element(bench.root)[b"/f"].content == b"fourth"
    assert len(bench.keys()) == 3


async def test_removal_that_is_refused_holds_up_no_other(
    bench: Workbench, clock: MockClock
) -> None:
    """A barrier does not say which was meant. It is shown, with its place. SEMANTICS: RETAIN-7"""
    for name in (b"f", b"g", b"h"):
        await bench.write(name, OLD)
    await bench.drain()
    keys = bench.keys()
    (locked,) = [key for key in keys if "/g_" in key and not key.endswith(".json")]
    staged: set[str] = set()

    def before(name: str, key: str) -> None:
        if name == "remove":
            staged.add(key)
        elif name == "barrier":
            is_refused = locked in staged
            staged.clear()
            if is_refused:  # what was staged is dropped, as the contract has it
                bench.element._staging.drop(bench.element._staging.take())
                raise ElementDenied("main", "", "it is locked")

    bench.before = before
    for name in (b"f", b"g", b"h"):
        bench.unlink(name)
    for _ in range(4):
        await bench.step()
        clock.jump(70)
        keys = bench.keys()
        files = [key for key in keys if not key.startswith(".artstorefs")]
        assert files == [locked]
    assert bench.link.schedule.pending == bench.link.schedule.retrying == 1
    (failure,) = bench.archive.log.failures()
    assert (failure.ino, failure.place) == (None, f"main: {locked}")
    assert failure.status == "failed"
    assert bench.archive.log.count_failures_of_closed() == 1
    bench.restart()
    assert len(bench.archive.log.failures()) == 1
    await bench.write(b"i", NEW)
    bench.before = None
    await bench.drain()
    assert bench.archive.log.failures() == []
