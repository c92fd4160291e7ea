"""Several elements in several modes: whose mode a file obeys, and where what is new goes."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from artstorefs.core.errors import ArtStoreFSError, StateFull, errno_of
from artstorefs.core.mode_changes import ModeState, prepared
from artstorefs.core.modes import ElementMode, Operation
from artstorefs.elements.local import LocalElement
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.state.element_modes import ElementModes, setting_of
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from .copies_bench import NAMES, CopiesBench
from .rebuilding import rebuild, tree
from .workbench import DIRECTORY, ME

CONTENT, METADATA, DELETE, READ = (
    *(Operation.CHANGE_CONTENT, Operation.CHANGE_METADATA, Operation.DELETE, Operation.READ),
)


class ModesBench(CopiesBench):
    """Elements main, second and third, filled in this order; all in mode `edit` at first."""

    def set_modes(self, **modes: str) -> None:
        """In the configuration, and a start."""
        elements = tuple(
            one.model_copy(update={"mode": modes.get(one.id, one.mode)})
            for one in self.configuration.elements
        )
        self.configuration = self.configuration.model_copy(update={"elements": elements})
        self.restart()

    def code(self, operation: Operation, node: Node) -> int:
        """The errno that an operation is refused with, or 0."""
        try:
            self.archive.require(operation, self.tree.node(node.ino))
        except ArtStoreFSError as exc:
            return errno_of(exc)
        return 0

    def codes(self, node: Node) -> list[int]:
        return [self.code(operation, node) for operation in (CONTENT, METADATA, DELETE, READ)]

    def records(self, name: str) -> dict[str, bytes]:
        """Node records of an element, by key."""
        root = self.place(name)
        folder = root / ".artstorefs" / "nodes"
        return {str(p.relative_to(root)): p.read_bytes() for p in folder.rglob("*.json")}

    def holders(self, node: Node) -> list[str]:
        return sorted(copy.element for copy in self.archive.index.copies(node.ino))

    def rebuild(self) -> None:
        others = {name: LocalElement(name, str(self.place(name))) for name in NAMES[1:]}
        rebuild(self, others=others)


@pytest.fixture
async def single(tmp_path: Path, clock: MockClock) -> AsyncIterator[ModesBench]:
    bench = ModesBench(tmp_path, wanted=1)
    yield bench
    bench.check_soundness()


@pytest.fixture
async def double(tmp_path: Path, clock: MockClock) -> AsyncIterator[ModesBench]:
    bench = ModesBench(tmp_path, wanted=2)
    yield bench
    bench.check_soundness()


BY: dict[str, Any] = {"now_ns": 1, "uid": 0, "why": ""}
EPERM, EROFS, EREMOTE = errno.EPERM, errno.EROFS, errno.EREMOTE

OF_TWO = [
    ("edit", "edit", [0, 0, 0, 0]),
    ("edit", "rw", [EPERM, 0, EPERM, 0]),
    ("rw", "edit", [EPERM, 0, EPERM, 0]),
    ("edit", "ro", [EROFS, EROFS, EROFS, 0]),
    ("rw", "ro", [EROFS, EROFS, EROFS, 0]),
    ("ar", "edit", [EROFS, EROFS, EROFS, 0]),
    ("ro", "ar", [EROFS, EROFS, EROFS, 0]),
    ("ar", "ar", [EROFS, EROFS, EROFS, EREMOTE]),
]


@pytest.mark.parametrize(("first", "second", "codes"), OF_TWO)
async def test_file_on_two_elements_obeys_the_strictest(
    double: ModesBench, first: str, second: str, codes: list[int]
) -> None:
    """SEMANTICS: MODE-7"""
    node = await double.write(b"f", b"content")
    await double.drain()
    assert double.holders(node) == ["main", "second"]
    double.set_modes(main=first, second=second)
    assert double.codes(node) == codes


@pytest.mark.parametrize(
    ("modes", "codes"),
    [
        ({"main": "ro", "second": "rw"}, [0, 0, 0, 0]),
        ({"main": "ro", "second": "ro", "third": "edit"}, [0, 0, 0, 0]),
        (dict.fromkeys(NAMES, "ro"), [EROFS, EROFS, EROFS, 0]),
        (dict.fromkeys(NAMES, "ar"), [EROFS, EROFS, EROFS, 0]),
    ],
    ids=str,
)
async def test_what_no_element_has_obeys_the_one_that_new_files_go_to(
    single: ModesBench, modes: dict[str, str], codes: list[int]
) -> None:
    """SEMANTICS: MODE-7"""
    node = await single.write(b"f", b"content")
    single.set_modes(**modes)
    assert single.codes(node) == codes
    creation = 0
    try:
        single.make(b"new")
    except ArtStoreFSError as exc:
        creation = errno_of(exc)
    assert creation == codes[0]
    single.set_modes(**dict.fromkeys(NAMES, "edit"))
    await single.drain()


async def test_directory_goes_on_elsewhere_and_its_record_stays_as_it_is(
    single: ModesBench,
) -> None:
    """SEMANTICS: MODE-7"""
    bench = single
    directory = bench.make(b"d", mode=DIRECTORY)
    empty = bench.make(b"empty", mode=DIRECTORY)
    file = await bench.write(b"f", b"content", directory.ino)
    await bench.drain()
    before = bench.records("main")
    bench.set_modes(main="ro")
    directory, empty = bench.tree.node(directory.ino), bench.tree.node(empty.ino)
    assert bench.codes(file) == [EROFS, EROFS, EROFS, 0]
    further = await bench.write(b"g", b"further", directory.ino)
    await bench.attributes.change(directory, AttributeChange(mode=0o700), ME)
    bench.rename(b"d", b"renamed")
    await bench.drain()
    assert bench.holders(further) == ["second"]
    assert bench.holders(directory) == ["main", "second"]
    assert bench.records("main") == before
    assert bench.code(DELETE, empty) == EROFS
    assert bench.code(METADATA, empty) == 0
    bench.check_soundness()
    shown = tree(bench)
    bench.rebuild()
    assert tree(bench) == shown
    assert bench.holders(bench.tree.lookup(ROOT_INO, b"renamed")) == ["main", "second"]
    bench.unlink(b"g", bench.tree.lookup(ROOT_INO, b"renamed").ino)
    await bench.drain()
    assert bench.records("main") == before


async def test_directory_that_changed_before_nobody_takes_it_goes_where_it_is(
    single: ModesBench,
) -> None:
    """What was acknowledged is carried. SEMANTICS: MODE-7"""
    bench = single
    directory = bench.make(b"d", mode=DIRECTORY)
    await bench.drain()
    await bench.attributes.change(directory, AttributeChange(mode=0o700), ME)
    bench.set_modes(**dict.fromkeys(NAMES, "ro"))
    await bench.drain()
    (copy,) = bench.archive.index.copies(directory.ino)
    assert copy.element == "main"
    assert b'"0700"' in bench.records("main")[copy.key]


async def test_one_of_two_copies_is_frozen(double: ModesBench) -> None:
    """A directory is on two elements again; a file that cannot change needs nothing. SEMANTICS:
    MODE-7, ELEM-21"""
    bench = double
    directory = bench.make(b"d", mode=DIRECTORY)
    file = await bench.write(b"f", b"content", directory.ino)
    await bench.drain()
    before = bench.records("main")
    bench.set_modes(main="ro")
    directory = bench.tree.node(directory.ino)
    await bench.write(b"g", b"further", directory.ino)
    await bench.drain()
    assert bench.holders(directory) == ["main", "second", "third"]
    assert bench.holders(bench.tree.node(file.ino)) == ["main", "second"]
    assert bench.records("main") == before


async def test_element_that_prepares_takes_what_was_accepted_if_nobody_else_does(
    single: ModesBench,
) -> None:
    """SEMANTICS: MODE-8"""
    bench = single
    bench.set_modes(main="rw", second="ro", third="ro")
    node = await bench.write(b"f", b"content")
    modes = bench.archive.modes
    state = prepared("main", modes.states["main"], ElementMode.RO, **BY)
    modes.put("main", state)
    assert modes.takers == []
    await bench.drain()
    assert bench.holders(node) == ["main"]
    assert bench.codes(node) == [EROFS, EROFS, EROFS, 0]


async def test_index_that_does_not_tell_the_mode_any_more_allows_no_change(
    single: ModesBench, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: MODE-9"""
    bench = single
    node = await bench.write(b"f", b"content")
    await bench.drain()
    with bench.archive.database.transaction():
        bench.archive.database.set_setting(setting_of("main"), '{"mode": "wr"}')
    bench.restart()
    assert bench.codes(node) == [EROFS, EROFS, EROFS, 0]
    assert "does not tell the mode of element main" in caplog.text
    bench.set_modes(main="rw")
    assert bench.codes(node) == [EPERM, 0, EPERM, 0]


async def test_start_on_a_full_disk_takes_the_modes_of_the_configuration(
    single: ModesBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SEMANTICS: MODE-9, FULL-3"""
    bench = single

    def full(modes: ElementModes, element: str, state: ModeState) -> None:
        raise StateFull("state.db", "its disk is full")

    modes = bench.archive.modes
    state = prepared("main", ModeState(ElementMode.RW, ElementMode.RW), ElementMode.RO, **BY)
    modes.put("main", state)
    with monkeypatch.context() as patch:
        patch.setattr(ElementModes, "_write", full)
        bench.restart()
    assert bench.archive.modes.in_force["main"] == "edit"
    assert "kept by a later start" in caplog.text
    bench.restart()
    assert bench.archive.modes.states["main"].configured == "edit"


@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
async def test_what_is_no_file_in_the_place_of_the_record(single: ModesBench, kind: str) -> None:
    """SEMANTICS: MODE-9, ELEM-7"""
    bench = single
    await bench.write(b"f", b"content")
    await bench.drain()
    place = bench.root / ".artstorefs" / "mode.json"
    if kind == "symlink":
        place.symlink_to("/etc/passwd")
    elif kind == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    bench.rebuild()
    assert bench.tree.lookup(ROOT_INO, b"f") is not None
    assert bench.archive.modes.in_force["main"] == "edit"
    place.rmdir() if kind == "directory" else place.unlink()
