"""Kills while a node goes to one element after the other, and while one copy is made of another.

As `test_every_step.py`, on an archive with `copies = 2` and two elements: after each test both hold
the same tree, whole, in objects that share nothing.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..filesystem.element_tree import read_element
from . import scenarios
from .comparison import check_element
from .load import Writer
from .step_bench import Bench, kept

CASES = {
    scenarios.new: [
        *("documents.durable", "stored.committed", "assign.committed:2", "stored.committed:2"),
    ],
    scenarios.large: ["block_list.staged:2"],
    scenarios.overwrite: [
        *("objects.durable:2", "stored.committed", "stored.committed:2", "removal.objects_gone"),
    ],
    scenarios.metadata: ["stored.committed", "documents.durable:2"],
    scenarios.delete: ["removal.documents_gone"],
    scenarios.replace: ["stored.committed:2", "removed.committed"],
    scenarios.replace_first_of_two_links: ["stored.committed", "removal.documents_gone"],
    scenarios.link: ["link_record.staged:2", "stored.committed"],
    scenarios.unlink_first_of_two_links: ["stored.committed"],
    scenarios.others: ["observed.committed", "stored.committed:2"],
}
"""Points of the first element's turn, and (`:2`) of the second's."""

STEPS = [(point, scenario) for scenario, points in CASES.items() for point in points]


class CopiesBench(Bench):
    """Two elements, `archive.element` and `second`."""

    def __init__(self, base: Path, wanted: int) -> None:
        self.second = base / "second"
        super().__init__(
            base, settings=f"copies = {wanted}", further=(f"second=local:{self.second}",)
        )

    def check_everything(self) -> None:
        super().check_everything()
        check_element(self.models, read_element(self.second))
        assert list((self.second / ".artstorefs" / "tmp").iterdir()) == []
        assert not (object_inodes(self.archive.element) & object_inodes(self.second))


def object_inodes(element: Path) -> set[int]:
    documents = [p for p in element.rglob("*.attr.json") if ".artstorefs" not in p.parts]
    return {p.with_name(p.name.removesuffix(".attr.json")).stat().st_ino for p in documents}


_benches: list[CopiesBench] = []


@pytest.fixture(scope="module", autouse=True)
def _clean_up() -> Iterator[None]:
    yield
    while _benches:
        _benches.pop().close()


@pytest.fixture
def bench() -> Iterator[CopiesBench]:
    with kept(_benches, lambda: CopiesBench(Path(tempfile.mkdtemp(prefix="asfs-")), 2)) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "scenario"), STEPS, ids=[f"{point}-{what.__name__}" for point, what in STEPS]
)
def test_kill_between_the_copies(
    bench: CopiesBench, point: str, scenario: Callable[[Writer], None]
) -> None:
    """SEMANTICS: DUR-1, ELEM-21"""
    directory = bench.prepare()
    bench.arm(point)
    bench.work(directory, scenario)
    bench.wait_until_reached()
    bench.end()
    bench.start()
    if scenario is scenarios.others:
        bench.archive.ask("rescan")
        bench.models[directory].node("archived").xattrs["user.other"] = b"theirs"
    bench.check_mount()


@pytest.mark.slow
def test_kill_while_content_is_found_on_an_element(bench: CopiesBench) -> None:
    """The spool has lost what one of two elements has by then. SEMANTICS: DUR-3, ELEM-21"""
    directory = bench.prepare()
    bench.arm("stored.committed")
    bench.work(directory, lambda writer: scenarios.overwrite_one(writer, "archived"))
    bench.wait_until_reached()
    bench.end()
    bench.lose_spool()
    bench.arm("content_found.committed")
    bench.start_dies()
    bench.start()
    bench.check_mount()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["copy.passing", "copy.passing:3", "stored.committed"])
def test_kill_while_further_copies_are_made(tmp_path: Path, point: str) -> None:
    """SEMANTICS: DUR-1, ELEM-21"""
    bench = CopiesBench(tmp_path / "archive", 1)
    try:
        directory = bench.prepare()
        bench.work(directory, scenarios.new)
        bench.archive.ask("flush")
        bench.archive.stop()
        text = bench.archive.toml.read_text()
        assert text.count("\ncopies = 1\n") == 1
        bench.archive.toml.write_text(text.replace("\ncopies = 1\n", "\ncopies = 2\n"))
        bench.arm(point)
        bench.start_dies()
        bench.start()
        bench.check_everything()
    finally:
        bench.close()
