"""The random operations find bugs that are planted on purpose, within a few dozen sequences."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artstorefs.elements.local import LocalElement
from artstorefs.filesystem.content import Contents, OpenFile
from artstorefs.filesystem.source import ContentSource
from artstorefs.state.changes import Changes
from artstorefs.state.node import ContentState, Node
from artstorefs.state.outcomes import Outcomes
from artstorefs.transfer.carrier import Carrier

from .operations import ENVIRONMENT, Generator, Operation
from .runs import run_on_layer
from .shrink import as_test, shrink

SEQUENCES = 40

Plant = Callable[[pytest.MonkeyPatch], None]


def rename_loses_attributes(patch: pytest.MonkeyPatch) -> None:
    rename = Changes.rename

    def planted(
        self: Changes, parent: Node, entry: Any, node: Node, *rest: Any, **more: Any
    ) -> None:
        node.custom = None
        rename(self, parent, entry, node, *rest, **more)

    patch.setattr(Changes, "rename", planted)


def truncate_keeps_old_bytes(patch: pytest.MonkeyPatch) -> None:
    truncate = Contents._truncate

    async def planted(self: Contents, file: OpenFile, size: int) -> None:
        if file.writable and 0 < size < file.node.size:
            file.node.size = size
        else:
            await truncate(self, file, size)

    patch.setattr(Contents, "_truncate", planted)


def content_is_stale_after_a_rewrite(patch: pytest.MonkeyPatch) -> None:
    opening = ContentSource.open
    first: dict[bytes, int] = {}

    async def planted(self: ContentSource, node: Node) -> int:
        if node.file_id not in first:
            first[node.file_id] = await opening(self, node)
        return os.dup(first[node.file_id])

    patch.setattr(ContentSource, "open", planted)


def others_are_overwritten_unseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Carrier, "_changed_by_others", lambda *arguments: False)


def failed_barrier_counts_as_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Carrier, "_barrier", lambda self, carried, result: carried)


def removal_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LocalElement, "remove", lambda self, key: None)


def removed_attributes_come_back(patch: pytest.MonkeyPatch) -> None:
    """The bug that these tests have found."""
    patch.setattr(Outcomes, "_merged", lambda self, node, theirs: theirs)


def exchange_forgets_the_links_of_directories(patch: pytest.MonkeyPatch) -> None:
    exchange = Changes.exchange

    def planted(self: Changes, parent: Node, *rest: Any) -> None:
        links = parent.nlink
        exchange(self, parent, *rest)
        parent.nlink = links

    patch.setattr(Changes, "exchange", planted)


def sealed_content_is_changed_in_place(patch: pytest.MonkeyPatch) -> None:
    making = Contents._make_writable_now

    def planted(self: Contents, file: OpenFile, truncate: bool) -> bool:
        node = file.node
        if node.content_state == ContentState.SEALED and not truncate:
            descriptor = self._archive.spool.open(node.ino, node.content, write=True)
            self._reopen(file, descriptor, node.content, node.size)
            return True
        return making(self, file, truncate)

    patch.setattr(Contents, "_make_writable_now", planted)


PLANTED: list[Plant] = [
    rename_loses_attributes,
    truncate_keeps_old_bytes,
    content_is_stale_after_a_rewrite,
    others_are_overwritten_unseen,
    failed_barrier_counts_as_stored,
    removal_is_forgotten,
    removed_attributes_come_back,
    exchange_forgets_the_links_of_directories,
    sealed_content_is_changed_in_place,
]


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_bug_is_found(base: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    plant(monkeypatch)
    for seed in range(SEQUENCES):
        place = base / str(seed)
        place.mkdir()
        try:
            run_on_layer(place, Generator(seed, ENVIRONMENT).sequence(300))
        except Exception as exc:
            print(f"found by sequence {seed}: {exc}")
            return
    pytest.fail(f"{plant.__name__} was not found in {SEQUENCES} sequences")


def test_failure_is_cut_down_to_what_it_takes() -> None:
    sequence: list[Operation] = [("mkdir", name, 0o755) for name in "abcdefghijklmnop"]

    def fails(left: list[Operation]) -> bool:
        return {"c", "n"} <= {operation[1] for operation in left}

    left = shrink(sequence, fails)
    assert [operation[1] for operation in left] == ["c", "n"]
    assert "('mkdir', 'n', 493),\n" in as_test(left, "why")
    compile(as_test(left, "why"), "test", "exec")
