"""Names: creation, lookup, lengths, bytes, listing, rename, removal.

The local filesystem is the oracle.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import MountedArchive
from ..limits.many_files import SIZE_BYTES, add_files
from .conftest import make_archive, remove_archive
from .errnos import refused
from .system_calls import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2

ODD_NAMES = [
    b"new\nline",
    b"tab\there",
    b"'single' \"double\" `back`",
    b"back\\slash",
    b"-rf",
    b"~",
    b"...",
    b" ",
    b"* ? [a]",
    b"$HOME;true",
    b"\x01\x7f",
    b"\xff\xfe not utf-8",
    b"half \xc3",
    "é as one".encode(),
    "e\u0301 as two".encode(),
    "絵画.jpg".encode(),
    "\U0001f3a8".encode(),
    b"a.attr.json",
    b"b.node.json",
    b".artstorefs",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_name_is_listed_and_found_as_it_was_given(place: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(place), name)
    with open(path, "wb") as file:
        file.write(name)
    assert os.listdir(os.fsencode(place)) == [name]
    with open(path, "rb") as file:
        assert file.read() == name
    os.rename(path, path + b"2")
    assert os.listdir(os.fsencode(place)) == [name + b"2"]
    os.unlink(path + b"2")
    assert os.listdir(os.fsencode(place)) == []


@pytest.mark.parametrize("letter", [b"n", b'"', b"\xff", "é".encode()])
def test_name_of_255_bytes_is_taken_and_256_refused(place: Path, letter: bytes) -> None:
    longest = (letter * 255)[:255]
    path = os.path.join(os.fsencode(place), longest)
    for make in (os.mkdir, lambda p: os.symlink(b"t", p), lambda p: os.mknod(p, 0o600)):
        make(path)
        assert os.listdir(os.fsencode(place)) == [longest]
        with refused(errno.ENAMETOOLONG):
            make(path + b"x")
        with refused(errno.ENAMETOOLONG):
            os.rename(path, path + b"x")
        (os.rmdir if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink)(path)


def test_path_of_more_than_4095_bytes_is_refused(place: Path) -> None:
    with refused(errno.ENAMETOOLONG):
        os.stat(str(place) + "/x" * 2048)


def test_names_with_other_case_are_other_files(place: Path) -> None:
    (place / "a").write_text("small")
    (place / "A").write_text("large")
    assert (place / "a").read_text() == "small"


def test_create_exclusive_refuses_what_exists(place: Path) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(place / "f", flags))
    os.symlink("nowhere", place / "s")
    for name in ("f", "s"):
        with refused(errno.EEXIST):
            os.open(place / name, flags)
    for make in (os.mkdir, os.mkfifo, lambda p: os.symlink("t", p), lambda p: os.link(p, p)):
        with refused(errno.EEXIST):
            make(place / "f")


def test_missing_name_can_be_made_after_it_was_looked_up(place: Path) -> None:
    for _ in range(3):
        assert not (place / "f").exists()
        (place / "f").touch()
        assert (place / "f").exists()
        (place / "f").unlink()


def test_what_is_no_directory_is_not_walked_through(place: Path) -> None:
    (place / "f").touch()
    for call in (os.stat, os.mkdir, os.unlink, os.rmdir, os.listdir):
        with refused(errno.ENOTDIR):
            call(place / "f" / "x")
    with refused(errno.ENOTDIR):
        os.rmdir(place / "f")
    with refused(errno.ENOTDIR):
        os.rename(place / "f", place / "f" / "x")


def test_directory_is_removed_only_when_it_is_empty(place: Path) -> None:
    (place / "d" / "e").mkdir(parents=True)
    with refused(errno.ENOTEMPTY):
        os.rmdir(place / "d")
    with refused(errno.EISDIR):
        os.unlink(place / "d")
    with refused(errno.EINVAL):
        os.rmdir(f"{place}/d/e/.")
    with refused(errno.ENOTEMPTY):
        os.rmdir(f"{place}/d/e/..")
    os.rmdir(place / "d" / "e")
    os.rmdir(place / "d")
    with refused(errno.ENOENT):
        os.rmdir(place / "d")


def test_removed_working_directory_is_empty_and_takes_nothing(place: Path) -> None:
    (place / "d").mkdir()
    descriptor = os.open(place / "d", os.O_RDONLY)
    os.rmdir(place / "d")
    assert os.fstat(descriptor).st_nlink == 0
    assert os.listdir(descriptor) == []
    with refused(errno.ENOENT):
        os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    with refused(errno.ENOENT):
        os.mkdir("g", dir_fd=descriptor)
    os.close(descriptor)


def test_links_of_a_directory_count_its_directories(place: Path) -> None:
    (place / "d" / "e").mkdir(parents=True)
    (place / "d" / "f").touch()
    assert (place / "d").stat().st_nlink == 3
    os.rename(place / "d" / "e", place / "e")
    assert ((place / "d").stat().st_nlink, place.stat().st_nlink) == (2, 4)
    os.rmdir(place / "e")
    assert place.stat().st_nlink == 3


def test_dot_and_dot_dot_are_the_directory_and_its_parent(place: Path) -> None:
    (place / "d").mkdir()
    inner = place / "d"
    assert os.stat(f"{inner}/.").st_ino == inner.stat().st_ino
    assert os.stat(f"{inner}/..").st_ino == place.stat().st_ino
    os.mkdir(place / "new")
    os.rename(inner, place / "new" / "d")
    assert os.stat(place / "new" / "d" / "..").st_ino == (place / "new").stat().st_ino


def test_listing_goes_on_while_entries_are_removed(place: Path) -> None:
    names = {f"n{number:04}" for number in range(1500)}
    for name in names:
        (place / name).touch()
    seen = set()
    with os.scandir(place) as entries:
        for entry in entries:
            assert entry.name not in seen
            seen.add(entry.name)
            os.unlink(entry.path)
    assert seen == names
    assert os.listdir(place) == []


def test_inode_numbers_and_types_of_a_listing_are_those_of_stat(place: Path) -> None:
    (place / "f").touch()
    (place / "d").mkdir()
    (place / "s").symlink_to("f")
    os.mkfifo(place / "p")
    with os.scandir(place) as entries:
        for entry in entries:
            found = os.lstat(entry.path)
            assert entry.inode() == found.st_ino
            assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(found.st_mode)
            assert entry.is_symlink() == stat.S_ISLNK(found.st_mode)


@pytest.fixture
def resting_archive() -> Iterator[MountedArchive]:
    """One of the test's own, that carries nothing to its element while the test runs."""
    archive = make_archive("settle_s = 600")
    yield archive
    remove_archive(archive)


@pytest.mark.slow
@pytest.mark.time_limit(400)
@pytest.mark.long
def test_directory_of_100_000_entries(resting_archive: MountedArchive) -> None:
    """Most of them are put into the index while it rests: through the mount they take a minute. The
    element is away: it has none of them, and each would be looked for there."""
    count, made = 100_000, 5_000
    resting_archive.stop()
    (name,) = add_files(resting_archive.state, count - made)
    resting_archive.element.rename(resting_archive.base / "away")
    resting_archive.start()
    descriptor = os.open(resting_archive.mount / name, os.O_RDONLY)
    found = set(os.listdir(descriptor))
    assert len(found) == count - made
    for number in range(made):
        os.mknod(f"name{number:06}", 0o600, dir_fd=descriptor)
    expected = found | {f"name{number:06}" for number in range(made)}
    assert set(os.listdir(descriptor)) == expected
    first, second = sorted(found)[:: count // 2]
    os.rename(first, "other", src_dir_fd=descriptor, dst_dir_fd=descriptor)
    os.unlink(second, dir_fd=descriptor)
    os.unlink("name000000", dir_fd=descriptor)
    with os.scandir(descriptor) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries}
    os.close(descriptor)
    assert sizes.keys() == expected - {first, second, "name000000"} | {"other"}
    assert sorted(sizes.values()) == [0] * (made - 1) + [SIZE_BYTES] * (count - made - 1)


# ------------------------------------------------------------------------------------- rename


def test_rename_replaces_a_file_at_once(place: Path) -> None:
    (place / "a").write_text("new")
    (place / "b").write_text("old")
    inode = (place / "a").stat().st_ino
    os.rename(place / "a", place / "b")
    assert os.listdir(place) == ["b"]
    assert (place / "b").read_text() == "new"
    assert (place / "b").stat().st_ino == inode


def test_rename_over_an_open_file_leaves_its_reader_the_old_content(place: Path) -> None:
    (place / "a").write_text("new")
    (place / "b").write_text("old")
    with open(place / "b") as reader:
        os.rename(place / "a", place / "b")
        assert reader.read() == "old"
        assert os.fstat(reader.fileno()).st_nlink == 0


def test_rename_of_one_name_of_a_file_to_another_name_of_it_does_nothing(place: Path) -> None:
    (place / "a").write_text("x")
    os.link(place / "a", place / "b")
    os.rename(place / "a", place / "b")
    assert sorted(os.listdir(place)) == ["a", "b"]


def test_rename_between_types_is_refused(place: Path) -> None:
    (place / "f").touch()
    (place / "empty").mkdir()
    (place / "full" / "x").mkdir(parents=True)
    with refused(errno.EISDIR):
        os.rename(place / "f", place / "empty")
    with refused(errno.ENOTDIR):
        os.rename(place / "empty", place / "f")
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(place / "empty", place / "full")
    with refused(errno.EINVAL):
        os.rename(place / "full", place / "full" / "x" / "y")
    with refused(errno.ENOENT):
        os.rename(place / "missing", place / "f")
    os.rename(place / "full", place / "empty")
    assert (place / "empty" / "x").is_dir()


def test_rename_changes_ctime_and_both_directories(place: Path) -> None:
    for name in ("one", "two"):
        (place / name).mkdir()
    path = place / "one" / "f"
    path.touch()
    before = [p.stat() for p in (path, place / "one", place / "two")]
    os.rename(path, place / "two" / "f")
    after = [p.stat() for p in (place / "two" / "f", place / "one", place / "two")]
    assert after[0].st_mtime_ns == before[0].st_mtime_ns
    assert after[0].st_ctime_ns > before[0].st_ctime_ns
    assert all(
        new.st_mtime_ns > old.st_mtime_ns for new, old in zip(after[1:], before[1:], strict=True)
    )


def test_rename_noreplace_refuses_what_exists(place: Path) -> None:
    (place / "a").write_text("a")
    (place / "b").write_text("b")
    with refused(errno.EEXIST):
        renameat2(place / "a", place / "b", RENAME_NOREPLACE)
    renameat2(place / "a", place / "c", RENAME_NOREPLACE)
    assert sorted(os.listdir(place)) == ["b", "c"]


def test_rename_exchange_swaps_file_and_directory(place: Path) -> None:
    (place / "one").mkdir()
    (place / "one" / "f").write_text("file")
    (place / "d" / "inside").mkdir(parents=True)
    renameat2(place / "one" / "f", place / "d", RENAME_EXCHANGE)
    assert (place / "d").read_text() == "file"
    assert (place / "one" / "f" / "inside").is_dir()
    assert ((place / "one").stat().st_nlink, place.stat().st_nlink) == (3, 3)
    assert os.stat(place / "one" / "f" / "..").st_ino == (place / "one").stat().st_ino


def test_rename_exchange_refuses_what_is_missing_and_cycles(place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    with refused(errno.ENOENT):
        renameat2(place / "a", place / "missing", RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(place / "a", place / "a" / "b", RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(place / "a", place / "b", RENAME_EXCHANGE | RENAME_NOREPLACE)


def test_rename_whiteout_is_refused_or_done_whole(directory: Path) -> None:
    (directory / "a").write_text("a")
    with refused(errno.EINVAL):
        renameat2(directory / "a", directory / "b", RENAME_WHITEOUT)
    assert os.listdir(directory) == ["a"]


# ---------------------------------------------------------------------------- hard links, others


def test_hard_links_are_one_file(place: Path) -> None:
    (place / "d").mkdir()
    (place / "a").write_text("x")
    os.link(place / "a", place / "d" / "b")
    (place / "d" / "b").write_text("changed")
    first, second = (place / "a").stat(), (place / "d" / "b").stat()
    assert (first.st_ino, first.st_nlink) == (second.st_ino, 2)
    os.unlink(place / "a")
    assert (place / "d" / "b").read_text() == "changed"
    assert (place / "d" / "b").stat().st_nlink == 1


def test_directories_are_not_hard_linked(place: Path) -> None:
    (place / "d").mkdir()
    with refused(errno.EPERM):
        os.link(place / "d", place / "e")


@pytest.mark.parametrize("target", ["f", "../away", "/", "dangling", "t" * 4095, "\udcff\udcfe"])
def test_symlink_keeps_its_target(place: Path, target: str) -> None:
    os.symlink(target, place / "s")
    assert os.readlink(place / "s") == target
    assert os.lstat(place / "s").st_size == len(os.fsencode(target))
    os.link(place / "s", place / "hard", follow_symlinks=False)
    assert os.readlink(place / "hard") == target


def test_symlink_loop_and_too_long_or_empty_targets_are_refused(place: Path) -> None:
    os.symlink("loop", place / "loop")
    with refused(errno.ELOOP):
        os.stat(place / "loop")
    with refused(errno.ELOOP):
        os.open(place / "loop", os.O_RDONLY | os.O_NOFOLLOW)
    with refused(errno.ENAMETOOLONG):
        os.symlink("t" * 4096, place / "long")
    with refused(errno.ENOENT):
        os.symlink("", place / "empty")
    with refused(errno.EINVAL):
        os.readlink(place)


def test_fifo_carries_data_between_processes(place: Path) -> None:
    os.mkfifo(place / "p", 0o640)
    found = os.lstat(place / "p")
    assert stat.S_ISFIFO(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o640
    with refused(errno.ENXIO):
        os.open(place / "p", os.O_WRONLY | os.O_NONBLOCK)
    reading = os.open(place / "p", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(place / "p", os.O_WRONLY)
    os.write(writing, b"through")
    assert os.read(reading, 100) == b"through"
    os.close(reading)
    os.close(writing)


def test_socket_is_bound_and_connected(place: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        descriptor = os.open(place, os.O_RDONLY)  # by a short name, paths here are long
        name = f"/proc/self/fd/{descriptor}/s"
        server.bind(name)
        server.listen()
        client.connect(name)
        os.close(descriptor)
    assert stat.S_ISSOCK((place / "s").lstat().st_mode)


@pytest.mark.parametrize(
    ("kind", "number"),
    [(stat.S_IFCHR, (1, 3)), (stat.S_IFBLK, (7, 200)), (stat.S_IFCHR, (4095, 0xFFFFF))],
)
@pytest.mark.usefixtures("root")
def test_device_node_keeps_its_numbers(place: Path, kind: int, number: tuple[int, int]) -> None:
    os.mknod(place / "device", kind | 0o600, os.makedev(*number))
    found = os.lstat(place / "device")
    assert stat.S_IFMT(found.st_mode) == kind
    assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == number


@pytest.mark.usefixtures("root")
def test_device_node_works(place: Path) -> None:
    os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (place / "null").write_bytes(b"away")
    assert (place / "null").read_bytes() == b""


def test_regular_file_is_made_by_mknod(place: Path) -> None:
    os.mknod(place / "f", stat.S_IFREG | 0o600)
    (place / "f").write_text("content")
    assert (place / "f").read_text() == "content"


def test_what_is_made_in_a_new_directory_is_found_when_the_kernel_has_forgotten(
    place: Path,
) -> None:
    """LOOKUP of what is surely absent is answered without the index; see fuse_names.c."""
    made = place / "made"
    made.mkdir()
    outside = place / "outside"
    for name in ("moved", "exchanged", "replacing"):
        (place / name).touch()
    assert not (made / "created").exists()
    (made / "created").touch()
    (made / "directory").mkdir()
    (made / "symlink").symlink_to("created")
    os.mkfifo(made / "fifo")
    os.link(made / "created", made / "linked")
    os.rename(place / "moved", made / "moved")
    (made / "replaced").touch()
    os.rename(place / "replacing", made / "replaced")
    renameat2(place / "exchanged", made / "created", RENAME_EXCHANGE)
    os.rename(made, outside)
    (outside / "after").touch()
    (outside / "gone").touch()
    (outside / "gone").unlink()
    there = ["created", "directory", "symlink", "fifo", "linked", "moved", "replaced", "after"]
    if os.geteuid() == 0:  # others have to hope that the kernel forgets
        Path("/proc/sys/vm/drop_caches").write_text("2")
    assert sorted(os.listdir(outside)) == sorted(there)
    if os.geteuid() == 0:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    for name in there:
        os.lstat(outside / name)
    for name in ("gone", "absent", "directory/absent"):
        assert not (outside / name).exists()
