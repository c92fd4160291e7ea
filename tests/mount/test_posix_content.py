"""Content of files: writing, reading, holes, mappings, syncing. Oracle: the local filesystem."""

import errno
import mmap
import os
import random
import threading
from pathlib import Path

import pytest

from ..harness import MountedArchive
from .errnos import refused
from .system_calls import syncfs

MIB = 1 << 20


def test_unlinked_file_lives_until_it_is_closed(place: Path) -> None:
    descriptor = os.open(place / "f", os.O_CREAT | os.O_RDWR)
    os.write(descriptor, b"before")
    os.unlink(place / "f")
    assert os.listdir(place) == []
    os.write(descriptor, b" after")
    assert os.pread(descriptor, 100, 0) == b"before after"
    os.fchmod(descriptor, 0o600)
    os.utime(descriptor, ns=(1, 2))
    os.ftruncate(descriptor, 3)
    os.fsync(descriptor)
    found = os.fstat(descriptor)
    assert (found.st_nlink, found.st_size) == (0, 3)
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    assert os.read(again, 10) == b"bef"
    (place / "f").write_text("another")
    assert os.pread(descriptor, 100, 0) == b"bef"
    os.close(descriptor)
    os.close(again)


def test_unlinked_file_that_was_archived_can_still_be_read_and_written(
    archive: MountedArchive, directory: Path
) -> None:
    (directory / "nameless").write_bytes(b"archived" * 100_000)
    archive.flush()
    assert "nameless" in str(archive.objects())
    with open(directory / "nameless", "r+b", buffering=0) as file:
        os.unlink(directory / "nameless")
        archive.flush()
        assert file.read() == b"archived" * 100_000
        file.write(b"!")
        assert os.pread(file.fileno(), 9, 800_000 - 8) == b"archived!"
    archive.flush()
    assert "nameless" not in str(archive.objects())


def test_append_goes_to_the_end_whoever_wrote_last(place: Path) -> None:
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    first, second = os.open(place / "f", flags), os.open(place / "f", flags)
    for descriptor in (first, second, first):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, b"line\n")
    os.close(first)
    os.close(second)
    assert (place / "f").read_text() == "line\n" * 3


def test_append_by_several_threads_loses_nothing(place: Path) -> None:
    def append(letter: bytes) -> None:
        for _ in range(100):
            with open(place / "f", "ab", buffering=0) as file:
                file.write(letter * 10 + b"\n")

    threads = [threading.Thread(target=append, args=(bytes([65 + n]),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (place / "f").read_bytes().splitlines()
    assert len(lines) == 400
    assert all(line == line[:1] * 10 for line in lines)


def test_truncate_cuts_and_grows_with_zeros(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"abcdef")
    os.truncate(path, 3)
    os.truncate(path, 8)
    assert path.read_bytes() == b"abc\0\0\0\0\0"
    os.truncate(path, 0)
    assert path.read_bytes() == b""
    os.truncate(path, 5)
    assert path.read_bytes() == bytes(5)
    with refused(errno.EINVAL):
        os.truncate(path, -1)
    with refused(errno.EISDIR):
        os.truncate(place, 0)
    descriptor = os.open(path, os.O_RDONLY)
    with refused(errno.EINVAL, errno.EBADF):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 200_000])
def test_truncate_of_an_archived_file(
    archive: MountedArchive, directory: Path, size: int, archived: bool
) -> None:
    data = random.Random(size).randbytes(100_000)
    (directory / "f").write_bytes(data)
    if archived:
        archive.flush()
    os.truncate(directory / "f", size)
    expected = data[:size].ljust(size, b"\0")
    assert (directory / "f").read_bytes() == expected
    archive.remount()
    assert (directory / "f").read_bytes() == expected


def test_write_behind_the_end_leaves_a_hole_of_zeros(place: Path) -> None:
    descriptor = os.open(place / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(descriptor, b"end", MIB)
    os.pwrite(descriptor, b"start", 0)
    assert os.pread(descriptor, MIB + 10, 0) == b"start" + bytes(MIB - 5) + b"end"
    os.close(descriptor)


def test_file_over_4_gib_is_written_read_and_cut_across_the_boundary(directory: Path) -> None:
    size = (4 << 30) + 12_345
    marks = {
        0: b"first",
        (2 << 30) - 2: b"across 2G",
        (4 << 30) - 2: b"across 4G",
        size - 4: b"last",
    }
    descriptor = os.open(directory / "big", os.O_CREAT | os.O_RDWR)
    for offset, mark in marks.items():
        os.pwrite(descriptor, mark, offset)
    for offset, mark in marks.items():
        assert os.pread(descriptor, len(mark), offset) == mark
    assert os.fstat(descriptor).st_size == size
    assert os.lseek(descriptor, 0, os.SEEK_END) == size
    os.ftruncate(descriptor, (4 << 30) + 5)
    assert os.pread(descriptor, 100, (4 << 30) - 2) == b"across "
    os.close(descriptor)
    os.unlink(directory / "big")  # or the transfer process would hash 4 GiB


def test_size_beyond_what_a_filesystem_has_is_refused(directory: Path) -> None:
    descriptor = os.open(directory / "f", os.O_CREAT | os.O_RDWR)
    with refused(errno.EFBIG, errno.ENOSPC, errno.EINVAL):
        os.pwrite(descriptor, b"x", 2**63 - 2)
    with refused(errno.EFBIG, errno.ENOSPC, errno.EINVAL):
        os.ftruncate(descriptor, 2**63 - 1)
    assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)


def test_random_writes_and_truncates_give_what_a_local_file_gives(
    archive: MountedArchive, directory: Path, local: Path
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    paths = [directory / "f", local / "f"]
    descriptors = [os.open(path, os.O_CREAT | os.O_RDWR) for path in paths]
    for step in range(300):
        choice = rng.random()
        offset, length = rng.randrange(500_000), rng.randrange(1, 50_000)
        data = rng.randbytes(length)
        if choice < 0.5:
            results = [os.pwrite(d, data, offset) for d in descriptors]
        elif choice < 0.8:
            results = [hash(os.pread(d, length, offset)) for d in descriptors]
        elif choice < 0.9:
            for descriptor in descriptors:
                os.ftruncate(descriptor, offset)
            results = [0, 0]
        elif choice < 0.95:
            results = [os.fstat(d).st_size for d in descriptors]
        else:
            for descriptor in descriptors:
                os.close(descriptor)
            if rng.random() < 0.5:
                archive.flush()
            descriptors = [os.open(path, os.O_RDWR) for path in paths]
            results = [0, 0]
        assert results[0] == results[1], f"step {step}"
    for descriptor in descriptors:
        os.close(descriptor)
    archive.flush()
    assert paths[0].read_bytes() == paths[1].read_bytes()


# ------------------------------------------------------------------------------------ mappings


def test_shared_mapping_is_written_back(place: Path) -> None:
    (place / "f").write_bytes(b"-" * 10_000)
    with open(place / "f", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[5000:5004] = b"mapd"
        mapping.flush()
        assert os.pread(file.fileno(), 4, 5000) == b"mapd"
        os.pwrite(file.fileno(), b"WRIT", 100)
        assert mapping[100:104] == b"WRIT"
    data = (place / "f").read_bytes()
    assert (data[5000:5004], data[100:104], len(data)) == (b"mapd", b"WRIT", 10_000)


def test_mapping_that_outlives_its_descriptor_is_archived_whole(
    archive: MountedArchive, directory: Path
) -> None:
    (directory / "mapped").write_bytes(b"-" * 10_000)
    archive.flush()
    file = open(directory / "mapped", "r+b")  # noqa: SIM115  # closed before the mapping is
    mapping = mmap.mmap(file.fileno(), 0)
    file.close()
    mapping[0:5] = b"later"
    archive.flush()
    mapping[9000:9005] = b"again"
    mapping.close()
    archive.remount()
    data = (directory / "mapped").read_bytes()
    assert (data[:5], data[9000:9005]) == (b"later", b"again")


def test_private_mapping_changes_nothing(place: Path) -> None:
    (place / "f").write_bytes(b"-" * 5000)
    with (
        open(place / "f", "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapping,
    ):
        mapping[0:3] = b"abc"
    assert (place / "f").read_bytes() == b"-" * 5000


# ---------------------------------------------------------------------------- flags and syncing


def test_direct_io_reads_and_writes(place: Path) -> None:
    buffer = mmap.mmap(-1, 8192)
    buffer.write(b"d" * 8192)
    descriptor = os.open(place / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    assert os.pwritev(descriptor, [buffer], 0) == 8192
    back = mmap.mmap(-1, 8192)
    assert os.preadv(descriptor, [back], 0) == 8192
    assert back[:] == b"d" * 8192
    os.close(descriptor)
    assert (place / "f").read_bytes() == b"d" * 8192


def test_direct_io_that_is_not_aligned_ends_no_mount(directory: Path) -> None:
    descriptor = os.open(directory / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    os.write(descriptor, b"odd")
    assert os.pread(descriptor, 10, 1) == b"dd"
    os.close(descriptor)


ODD_FLAGS = [
    os.O_SYNC,
    os.O_DSYNC,
    os.O_NOATIME,
    os.O_NOFOLLOW,
    os.O_NONBLOCK,
    os.O_APPEND | os.O_TRUNC,
    os.O_EXCL,
    os.O_ASYNC,
    os.O_CLOEXEC | os.O_NOCTTY | os.O_LARGEFILE,
    0o40000000,
    0x0800_0000,
]


@pytest.mark.parametrize("flags", ODD_FLAGS, ids=oct)
def test_odd_open_flags_write_and_read(place: Path, flags: int) -> None:
    (place / "f").write_bytes(b"")
    descriptor = os.open(place / "f", os.O_RDWR | flags)
    assert os.write(descriptor, b"content") == 7
    assert os.pread(descriptor, 10, 0) == b"content"
    os.close(descriptor)


def test_access_mode_3_allows_neither_reading_nor_writing(place: Path) -> None:
    (place / "f").write_bytes(b"content")
    descriptor = os.open(place / "f", 3)
    with refused(errno.EBADF):
        os.read(descriptor, 1)
    with refused(errno.EBADF):
        os.write(descriptor, b"x")
    os.close(descriptor)


def test_open_of_a_path_only_is_no_access(place: Path) -> None:
    (place / "f").write_bytes(b"content")
    descriptor = os.open(place / "f", os.O_PATH)
    assert os.fstat(descriptor).st_size == 7
    with refused(errno.EBADF):
        os.read(descriptor, 1)
    os.close(descriptor)


def test_open_directory_for_writing_is_refused(place: Path) -> None:
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT):
        with refused(errno.EISDIR):
            os.open(place, flags)
    (place / "f").touch()
    with refused(errno.ENOTDIR):
        os.open(place / "f", os.O_RDONLY | os.O_DIRECTORY)


def test_every_kind_of_sync_succeeds(place: Path) -> None:
    descriptor = os.open(place / "f", os.O_CREAT | os.O_RDWR)
    os.fsync(descriptor)
    os.write(descriptor, b"x")
    for call in (os.fsync, os.fdatasync, syncfs):
        call(descriptor)
    os.close(descriptor)
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY):
        descriptor = os.open(place if flags else place / "f", flags)
        for call in (os.fsync, os.fdatasync, syncfs):
            call(descriptor)
        os.close(descriptor)


def test_descriptor_that_is_duplicated_and_inherited_stays_open(place: Path) -> None:
    descriptor = os.open(place / "f", os.O_CREAT | os.O_RDWR)
    copy = os.dup(descriptor)
    os.write(descriptor, b"one ")
    os.close(descriptor)
    os.write(copy, b"two")
    os.close(copy)
    assert (place / "f").read_bytes() == b"one two"


def test_reader_sees_what_a_writer_has_written(archive: MountedArchive, directory: Path) -> None:
    (directory / "f").write_bytes(b"old content")
    archive.flush()
    with open(directory / "f", "rb", buffering=0) as reader:
        assert reader.read(3) == b"old"
        with open(directory / "f", "r+b", buffering=0) as writer:
            writer.write(b"new")
            assert os.pread(reader.fileno(), 20, 0) == b"new content"
        archive.flush()
        assert os.pread(reader.fileno(), 20, 0) == b"new content"
        assert reader.read() == b" content"


def test_empty_files_and_directories_are_there_after_a_remount(
    archive: MountedArchive, directory: Path
) -> None:
    (directory / "empty").touch()
    (directory / "d" / "nothing").mkdir(parents=True)
    (directory / "emptied").write_text("content")
    archive.flush()
    os.truncate(directory / "emptied", 0)
    archive.remount()
    assert sorted(os.listdir(directory)) == ["d", "emptied", "empty"]
    assert (directory / "emptied").read_bytes() == (directory / "empty").read_bytes() == b""
    assert os.listdir(directory / "d") == ["nothing"]


def test_inode_numbers_are_the_same_after_a_remount(
    archive: MountedArchive, directory: Path
) -> None:
    (directory / "d").mkdir()
    (directory / "d" / "f").write_text("x")
    before = [p.stat().st_ino for p in (archive.mount, directory, *directory.rglob("*"))]
    archive.remount()
    assert before == [p.stat().st_ino for p in (archive.mount, directory, *directory.rglob("*"))]


def test_statfs_says_what_the_element_has(archive: MountedArchive, directory: Path) -> None:
    (directory / "f").write_text("x")
    archive.flush()
    ours, below = os.statvfs(directory), os.statvfs(archive.element)
    assert ours.f_namemax == 255
    assert ours.f_bsize == ours.f_frsize == 4096
    total, expected = ours.f_blocks * ours.f_frsize, below.f_blocks * below.f_frsize
    assert abs(total - expected) < expected / 10
    assert 0 < ours.f_bavail <= ours.f_blocks
    assert 0 < ours.f_ffree < ours.f_files
