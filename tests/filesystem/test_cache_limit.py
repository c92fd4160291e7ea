"""The read cache and its limit: what goes, what stays, what readers have of it; reading ahead."""

import os
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from artstorefs.core.block_list import BLOCK_BYTES, BLOCK_BYTES_LIMIT
from artstorefs.filesystem.read_ahead import SETTLED_BYTES, ReadAhead
from artstorefs.state import cache_room
from artstorefs.state.cache import PINNED, CachedFile, CacheFiles, Place, charged_bytes
from artstorefs.state.cache_room import CacheRoom

from .far_bench import FarBench, read_all, read_at
from .large_files import DATA, REQUEST, SIZE, store

PAGE = 4096


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[FarBench]:
    """With room for two blocks and a list, of a file that has three."""
    bench = FarBench(tmp_path, cache_max=2 * BLOCK_BYTES + 100_000)
    assert bench.configuration.cache_max < SIZE
    await bench.cache.load()
    yield bench
    await bench.settled()
    bench.cache.close()


def place_of(number: int) -> Place:
    return Place(bytes([number]) * 32, 0, True)


@pytest.fixture
def files(tmp_path: Path) -> CacheFiles:
    """Ten of a page each, the one with number 0 used first."""
    files = CacheFiles(str(tmp_path))
    for number in range(10):
        files.store(place_of(number), b"x")
        os.utime(files.path(place_of(number)), ns=(number, number))
    return files


def numbers(files: CacheFiles) -> set[int]:
    return {found.place.content[0] for found in files.scan()}


# ----------------------------------------------------------------------------------- the limit


async def test_cache_never_grows_beyond_its_limit(bench: FarBench) -> None:
    limit = bench.configuration.cache_max
    node = await store(bench, DATA)
    stopped = threading.Event()
    highest = [0]

    def watch() -> None:
        while not stopped.wait(0.001):
            with suppress(FileNotFoundError):  # evicted while we look
                highest[0] = max(highest[0], disk_bytes(bench.base / "cache"))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for _ in range(2):
            assert await read_all(bench, node) == DATA
            handle = await bench.open_file(node, os.O_RDONLY)
            for _ in range(20):
                start = random.randrange(SIZE - 100)
                assert await bench.contents.read(handle, start, 100) == DATA[start : start + 100]
            bench.contents.release(handle)
    finally:
        stopped.set()
        watching.join()
    await bench.settled()
    room = bench.cache.room
    room.scan()
    assert highest[0] <= limit
    assert room.used_bytes + room.taken_bytes <= limit
    assert room.used_bytes == sum(map(charged_bytes, bench.cached().values()))


def disk_bytes(directory: Path) -> int:
    found = [path.stat() for path in directory.rglob("*") if path.is_file()]
    by_inode = {status.st_ino: status for status in found}  # one may be seen under two names
    return sum(status.st_blocks * 512 for status in by_inode.values())


async def test_open_file_is_read_on_when_its_blocks_are_evicted(bench: FarBench) -> None:
    node = await store(bench, DATA)
    handle = await bench.open_file(node, os.O_RDONLY)
    other = await store(bench, DATA[::-1], b"other")
    for start in range(0, SIZE, REQUEST):
        expected = DATA[start : start + REQUEST]
        assert await bench.contents.read(handle, start, REQUEST) == expected
        assert await read_at(bench, other, start, 100) == DATA[::-1][start : start + 100]
    bench.contents.release(handle)


@pytest.mark.parametrize("limit", [0, 4096, BLOCK_BYTES - 1])
async def test_cache_without_room_for_a_block_is_done_without(
    tmp_path: Path, clock: MockClock, limit: int
) -> None:
    bench = FarBench(tmp_path, cache_max=max(1, limit))
    await bench.cache.load()
    node = await store(bench, DATA)
    assert await read_all(bench, node) == DATA
    assert sum(bench.cached().values()) <= limit
    await bench.settled()


async def test_evicted_block_is_not_kept_open(bench: FarBench) -> None:
    """The disk would not have its room before it is closed."""
    node = await store(bench, DATA)
    assert await read_all(bench, node) == DATA
    await bench.settled()
    assert not deleted_files_that_are_open(bench.base / "cache")


async def test_limit_that_changes_counts_at_once(bench: FarBench) -> None:
    node = await store(bench, DATA)
    await read_all(bench, node)
    await bench.settled()
    room = bench.cache.room
    lower = BLOCK_BYTES + 100_000
    assert room.used_bytes > lower
    await bench.cache.change_limit(lower)
    assert room.used_bytes <= lower
    assert disk_bytes(bench.base / "cache") <= lower
    assert not deleted_files_that_are_open(bench.base / "cache")
    await bench.cache.change_limit(2 * SIZE)
    await read_all(bench, node)
    await bench.settled()
    assert room.used_bytes > SIZE


def deleted_files_that_are_open(directory: Path) -> list[str]:
    paths = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # a thread has closed it meanwhile
            paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [path for path in paths if path.startswith(str(directory)) and "(deleted)" in path]


def test_what_was_used_least_recently_goes_first(files: CacheFiles) -> None:
    room = CacheRoom(files, 10 * PAGE)
    room.load()
    assert room.used_bytes == 10 * PAGE
    descriptor = files.open(place_of(0))
    assert descriptor is not None
    files.mark_used(descriptor)
    os.close(descriptor)
    is_taken, gone = room.make_room(2 * PAGE)
    assert is_taken
    assert [place.content[0] for place in gone] == [1, 2]
    assert numbers(files) == {0, 3, 4, 5, 6, 7, 8, 9}
    room.settle(2 * PAGE, PAGE)
    assert (room.used_bytes, room.taken_bytes) == (9 * PAGE, 0)


def test_what_is_stored_while_it_is_counted_counts(
    files: CacheFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = CacheRoom(files, 20 * PAGE)
    scan = CacheFiles.scan

    def beside_a_fetch(self: CacheFiles) -> Iterator[CachedFile]:
        yield from scan(self)
        assert room.take(PAGE)
        self.store(place_of(10), bytes(PAGE))
        room.settle(PAGE, PAGE)

    monkeypatch.setattr(CacheFiles, "scan", beside_a_fetch)
    room.scan()
    assert room.used_bytes == 11 * PAGE


def test_pinned_files_stay_whatever_is_asked_for(files: CacheFiles) -> None:
    room = CacheRoom(files, 10 * PAGE)
    room.load()
    for number in range(9):
        assert files.set_mark(place_of(number), PINNED)
    assert room.make_room(PAGE)[0], "of the one that was not pinned after it was found"
    assert not room.make_room(PAGE)[0]
    assert numbers(files) == set(range(9))
    assert room.scan().pinned_bytes == 9 * PAGE


def test_more_than_a_scan_remembers_is_evicted(
    files: CacheFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_room, "CANDIDATES_MAX", 2)
    room = CacheRoom(files, 10 * PAGE)
    room.load()
    is_taken, gone = room.make_room(7 * PAGE)
    assert is_taken
    assert [place.content[0] for place in gone] == [0, 1, 2, 3, 4, 5, 6]


def test_files_that_somebody_removed_are_not_counted_for_ever(files: CacheFiles) -> None:
    room = CacheRoom(files, 10 * PAGE)
    room.load()
    for number in range(10):
        os.unlink(files.path(place_of(number)))
    assert room.make_room(10 * PAGE) == (True, [])
    assert (room.used_bytes, room.taken_bytes) == (0, 10 * PAGE)


def test_full_disk_makes_the_cache_smaller_for_a_while(files: CacheFiles) -> None:
    room = CacheRoom(files, 100 * PAGE)
    room.load()
    room.found_full_disk(PAGE)
    assert not room.take(PAGE)
    assert room.make_room(PAGE)[0]
    assert len(numbers(files)) == 7
    room._ceiling_until_s = 0.0
    assert room.take(50 * PAGE)


# ------------------------------------------------------------------------------------ the files


def test_start_removes_what_was_being_written_and_leaves_what_is_not_ours(tmp_path: Path) -> None:
    files = CacheFiles(str(tmp_path))
    files.store(place_of(1), b"x")
    (tmp_path / "incoming" / "0123").write_bytes(b"half a block")
    objects = tmp_path / "objects"
    foreign = [objects / "aa" / "notes.txt", objects / "holiday.jpg", tmp_path / "README"]
    (objects / "aa").mkdir()
    for path in foreign:
        path.write_bytes(b"somebody's")
    os.symlink("/etc/passwd", objects / "aa" / ("aa" * 32))
    room = CacheRoom(files, 1 << 20)
    room.load()
    assert os.listdir(tmp_path / "incoming") == []
    assert room.used_bytes == PAGE
    assert all(path.exists() for path in foreign)
    assert files.open(Place(b"\xaa" * 32, 0, True)) is None, "links are not followed"


def test_start_removes_files_that_can_be_no_blocks(tmp_path: Path) -> None:
    files = CacheFiles(str(tmp_path))
    files.store(place_of(1), b"x")
    os.truncate(files.path(place_of(1)), BLOCK_BYTES_LIMIT + 1)
    files.store(place_of(2), b"")
    files.store(Place(bytes(32), 3, False), b"")
    assert [*files.scan()] == []
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert not (tmp_path / "objects" / "00" / ("00" * 32 + ".d")).exists()


def test_two_that_store_the_same_leave_one_file(tmp_path: Path) -> None:
    files = CacheFiles(str(tmp_path))
    files.store(place_of(1), b"first")
    files.store(place_of(1), b"other")
    descriptor = files.open(place_of(1))
    assert descriptor is not None
    assert os.pread(descriptor, 10, 0) == b"first"
    os.close(descriptor)
    assert os.listdir(tmp_path / "incoming") == []


# --------------------------------------------------------------------------------- reading ahead


def in_order(ahead: ReadAhead, blocks: range) -> list[range]:
    """What is wanted as each block is read, in requests as the kernel sends them."""
    wanted = []
    for index in blocks:
        found = [ahead.wanted(index, REQUEST, is_sequential=True) for _ in range(4)]
        together = [number for one in found for number in one]
        wanted.append(range(together[0], together[-1] + 1) if together else range(0))
    return wanted


def test_read_ahead_doubles_up_to_its_limit() -> None:
    ahead = ReadAhead(BLOCK_BYTES, 100, 8 * BLOCK_BYTES)
    wanted = in_order(ahead, range(8))
    assert [len(one) for one in wanted] == [1, 2, 3, 5, 1, 1, 1, 1]
    told = [number for one in wanted for number in one]
    assert told == [*range(1, 16)]


def test_read_ahead_ends_with_the_file() -> None:
    ahead = ReadAhead(BLOCK_BYTES, 5, 8 * BLOCK_BYTES)
    assert [n for one in in_order(ahead, range(5)) for n in one] == [1, 2, 3, 4]


def test_random_reading_is_not_read_ahead() -> None:
    ahead = ReadAhead(BLOCK_BYTES, 1000)
    for index in (0, 17, 5, 900, 5, 300):
        assert not ahead.wanted(index, 4096, is_sequential=False)


def test_beginning_alone_is_not_read_ahead() -> None:
    ahead = ReadAhead(BLOCK_BYTES, 1000)
    assert not ahead.wanted(0, 128 << 10, is_sequential=False)
    assert not ahead.wanted(0, SETTLED_BYTES - 1, is_sequential=True)
    assert [*ahead.wanted(0, 1, is_sequential=True)] == [1]


def test_requests_out_of_order_are_reading_in_order_all_the_same() -> None:
    ahead = ReadAhead(BLOCK_BYTES, 100)
    for index in (0, 0, 1, 0, 1, 2, 1, 2):
        ahead.wanted(index, REQUEST, is_sequential=True)
    assert ahead._window >= 2


async def test_sequential_reader_has_its_blocks_before_it_asks(
    tmp_path: Path, clock: MockClock
) -> None:
    bench = FarBench(tmp_path)
    await bench.cache.load()
    data = random.Random(6).randbytes(8 * BLOCK_BYTES)
    node = await store(bench, data)
    handle = await bench.open_file(node, os.O_RDONLY)
    for start in range(0, len(data), REQUEST):
        assert await bench.contents.read(handle, start, REQUEST) == data[start : start + REQUEST]
        with trio.move_on_after(0):
            await bench.settled()
        await bench.settled()
    bench.contents.release(handle)
    urgent = [job.index for _, job, urgency in bench.told if urgency == 0 and job.kind == "block"]
    assert urgent == [0]
    assert sorted(bench.fetched()) == [*range(8)]
    bench.cache.close()


def test_cache_leaves_some_of_its_disk_free(
    files: CacheFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a disk of 100 pages, on which others come to take what is left."""
    room = CacheRoom(files, 1 << 30)
    room.load()
    free = [50]

    def free_bytes(_: CacheFiles) -> tuple[int, int]:
        return (free[0] + 10 - len(numbers(files))) * PAGE, 100 * PAGE

    monkeypatch.setattr(CacheFiles, "free_bytes", free_bytes)
    assert room.take(45 * PAGE)
    assert not room.take(PAGE)
    room.settle(45 * PAGE, 0)
    free[0] = 3
    assert room.make_room(PAGE)[0]
    assert len(numbers(files)) == 7
    free[0] = -10
    assert not room.make_room(PAGE)[0]
    assert numbers(files) == set()
