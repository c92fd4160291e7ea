"""fuse_names.c: what it calls absent is absent, whatever requests have come by before."""

import ctypes
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import artstorefs_daemon

LIBRARY = Path(artstorefs_daemon.__file__).with_name("libartstorefs_fuse.so")

# linux/fuse.h
LOOKUP, SYMLINK, MKNOD, MKDIR, RENAME, LINK, CREATE, RENAME2 = 1, 6, 8, 9, 12, 13, 35, 45
HEADER = struct.Struct("=IIQQIIII")
ENTRY_BYTES = 128

MADE = 100
"""The inode number of a directory that was made on the mount."""


class Names:
    """The requests and replies of a mount, as /dev/fuse has them."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(LIBRARY))
        self._library.is_surely_absent.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._library.names_of_request.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._library.names_of_reply.argtypes = [
            *(ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t)
        ]
        self._unique = 0
        self.forget()

    def forget(self) -> None:
        self._library.artstorefs_names_unknown()

    def _request(self, opcode: int, ino: int, body: bytes) -> bytes:
        self._unique += 2
        length = HEADER.size + len(body)
        return HEADER.pack(length, opcode, self._unique, ino, 0, 0, 0, 0) + body

    def ask(self, opcode: int, ino: int, body: bytes) -> None:
        request = self._request(opcode, ino, body)
        self._library.names_of_request(request, len(request))

    def is_absent(self, parent: int, name: bytes) -> bool:
        request = self._request(LOOKUP, parent, name + b"\0")
        return bool(self._library.is_surely_absent(request, len(request)))

    def reply(self, entry: bytes) -> None:
        """To the last request."""
        self._library.names_of_reply(self._unique, entry or None, len(entry))

    def mkdir(self, parent: int, name: bytes, ino: int) -> None:
        self.ask(MKDIR, parent, struct.pack("=II", 0o755, 0) + name + b"\0")
        self.reply(struct.pack("=Q", ino).ljust(ENTRY_BYTES, b"\0"))

    def create(self, parent: int, name: bytes) -> None:
        self.ask(CREATE, parent, struct.pack("=IIII", 0, 0o644, 0, 0) + name + b"\0")

    def mknod(self, parent: int, name: bytes) -> None:
        self.ask(MKNOD, parent, struct.pack("=IIII", 0o644, 0, 0, 0) + name + b"\0")

    def symlink(self, parent: int, name: bytes) -> None:
        self.ask(SYMLINK, parent, name + b"\0target\0")

    def link(self, parent: int, name: bytes) -> None:
        self.ask(LINK, parent, struct.pack("=Q", 7) + name + b"\0")

    def rename(self, parent: int, name: bytes) -> None:
        self.ask(RENAME, 1, struct.pack("=Q", parent) + b"old\0" + name + b"\0")

    def rename2(self, parent: int, name: bytes) -> None:
        self.ask(RENAME2, 1, struct.pack("=QII", parent, 1, 0) + b"old\0" + name + b"\0")


WAYS = [Names.create, Names.mknod, Names.symlink, Names.link, Names.rename, Names.rename2]


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names()
    made.mkdir(1, b"made", MADE)
    yield made
    made.forget()


def test_name_in_a_directory_that_was_made_is_absent_until_it_comes_by(names: Names) -> None:
    assert names.is_absent(MADE, b"file")
    names.create(MADE, b"file")
    assert not names.is_absent(MADE, b"file")
    assert names.is_absent(MADE, b"file2")
    assert names.is_absent(MADE, b"fil")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [b"a", b"12345678", b"123456789", b"\xff" * 255])
def test_every_way_to_give_a_name_counts(
    names: Names, way: Callable[[Names, int, bytes], None], name: bytes
) -> None:
    way(names, MADE, name)
    assert not names.is_absent(MADE, name)
    names.mkdir(MADE, b"deeper", 101)
    assert not names.is_absent(MADE, b"deeper")
    assert names.is_absent(101, name)


def test_nothing_is_known_of_other_directories(names: Names) -> None:
    assert not names.is_absent(1, b"made")
    assert not names.is_absent(1, b"anything")
    assert not names.is_absent(MADE + 1, b"anything")


def test_directory_that_could_not_be_made_is_not_known(names: Names) -> None:
    names.ask(MKDIR, 1, struct.pack("=II", 0o755, 0) + b"refused\0")
    names.reply(b"")
    names.reply(struct.pack("=Q", 102).ljust(ENTRY_BYTES, b"\0"))
    assert not names.is_absent(102, b"anything")


@pytest.mark.parametrize("name", [b"", b".", b"..", b"n" * 256])
def test_names_that_are_none_are_left_to_the_filesystem(names: Names, name: bytes) -> None:
    assert not names.is_absent(MADE, name)


def test_requests_that_are_cut_off_do_no_harm(names: Names) -> None:
    for opcode in (SYMLINK, MKNOD, MKDIR, RENAME, LINK, CREATE, RENAME2):
        for length in range(12):
            names.ask(opcode, MADE, b"\x64" * length)
    assert names.is_absent(MADE, b"file")


def test_what_is_called_absent_never_came_by(names: Names) -> None:
    """Also of many names in many directories, whose tables have grown, and were forgotten once."""
    chosen = random.Random(5)
    known: set[tuple[int, bytes]] = set()
    directories = [MADE]
    for number in range(60_000):
        parent = chosen.choice(directories)
        name = b"%d" % chosen.randrange(40_000)
        assert not ((parent, name) in known and names.is_absent(parent, name))
        if number % 100 == 0:
            names.mkdir(parent, name, 1000 + number)
            directories.append(1000 + number)
        else:
            chosen.choice(WAYS)(names, parent, name)
        known.add((parent, name))
    others = [(chosen.choice(directories), b"-%d" % number) for number in range(1000)]
    assert sum(names.is_absent(*other) for other in others) > 990
    assert not any(names.is_absent(*name) for name in known)


def test_table_that_is_full_begins_anew(names: Names) -> None:
    for number in range((1 << 19) + 1):
        names.create(MADE, b"%d" % number)
    assert not names.is_absent(MADE, b"-1")
    names.mkdir(1, b"another", 103)
    assert names.is_absent(103, b"0")
