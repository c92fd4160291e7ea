"""Frozen samples of what releases left: each must mount and be, to the nanosecond, what it was.

A sample is never made anew in place: the hash of every file is in its manifest. The tests work on
copies. Git keeps neither times, modes nor empty directories, and nothing depends on them.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs.recovery.layout import README_KEY, RESTORE_KEY

from ..harness import MountedArchive
from .make_sample import main
from .trees import describe_files, describe_tree

SAMPLES = sorted(Path(__file__).parent.glob("format-*"))
OTHERS = "2023"
"""Where ArtStore's own files belong, once they are shown."""

pytestmark = pytest.mark.slow


def manifest_of(sample: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((sample / "manifest.json").read_bytes())
    return manifest


@pytest.fixture
def archive() -> Iterator[MountedArchive]:
    base = Path(tempfile.mkdtemp(prefix="asfs-"))
    made = MountedArchive(base / "a", settings="settle_s = 0.1", new_processes=True)
    try:
        yield made
    finally:
        made.clean_up()
        shutil.rmtree(base)


def install(archive: MountedArchive, element: Path, state: Path | None = None) -> None:
    shutil.rmtree(archive.element)
    shutil.copytree(element, archive.element)
    shutil.rmtree(archive.state, ignore_errors=True)
    if state is not None:
        shutil.copytree(state, archive.state, ignore=shutil.ignore_patterns("element"))


def assert_tree(archive: MountedArchive, expected: dict[str, Any]) -> None:
    found = describe_tree(archive.mount)
    for path in [path for path in found if path.partition("/")[0] == OTHERS]:
        del found[path]
    for tree in (found, expected):
        tree["."].pop("nlink", None)
    assert sorted(found) == sorted(expected)
    differing = {
        path: (found[path], expected[path]) for path in found if found[path] != expected[path]
    }
    assert differing == {}


def test_there_is_a_sample() -> None:
    assert [sample.name for sample in SAMPLES] == ["format-1", "format-1-blocks"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_sample_is_never_made_anew(sample: Path) -> None:
    assert describe_files(sample) == manifest_of(sample)["files"]
    assert main([str(sample)]) == 1
    assert describe_files(sample) == manifest_of(sample)["files"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_lesson_12_an_element_of_this_format_is_the_whole_tree(
    sample: Path, archive: MountedArchive
) -> None:
    """And mounting writes nothing on it but the guides of this release."""
    install(archive, sample / "element")
    for path in sorted(archive.element.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    archive.start()
    assert_tree(archive, manifest_of(sample)["trees"]["element"])
    archive.flush()
    assert archive.status()["quarantined"]["documents"] == 0
    archive.stop()
    before = manifest_of(sample)["files"]
    expected = {
        path.removeprefix("element/"): digest
        for path, digest in before.items()
        if path.startswith("element/")
    }
    after = describe_files(archive.element)
    for guide in (README_KEY, RESTORE_KEY):
        assert after.pop(guide)
        expected.pop(guide, None)
    assert after == expected


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_state_directory_of_this_format_mounts_and_drains(
    sample: Path, archive: MountedArchive
) -> None:
    """Its log and spool are carried out; then the elements alone are the same tree."""
    assert any((sample / "state" / "spool").iterdir()), "nothing is pending in this sample"
    install(archive, sample / "state" / "element", sample / "state")
    expected = manifest_of(sample)["trees"]["state"]
    archive.start()
    assert_tree(archive, expected)
    archive.flush()
    assert archive.status()["pending"]["intents"] == 0
    archive.stop()
    shutil.rmtree(archive.state)
    archive.start()
    assert_tree(archive, expected)
    documents = [json.loads(path.read_bytes()) for path in archive.element.rglob("*.attr.json")]
    mine = next(one for one in documents if one["original_filename"] == "foreign keys")
    assert mine["catalogue"] == {"number": 10**30, "é": [1.5, None, True]}
    assert mine["posix"]["later"] == {"than": "this release"}
