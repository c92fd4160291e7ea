"""What a local element does beyond the contract: links, modes, directories, hostile contents."""

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from artstorefs.core.errors import (
    ElementDenied,
    ElementUnavailable,
    ObjectAbsent,
    ObjectExists,
)
from artstorefs.elements.interface import ARCHIVE_KEY
from artstorefs.elements.local import LocalElement

from .element_conformance import NODE, OBJECT, SIDECAR, content, sha256_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "element"
    LocalElement.initialize(str(path))
    return path


@pytest.fixture
def element(root: Path) -> Iterator[LocalElement]:
    element = LocalElement("disk1", str(root))
    element.replace(ARCHIVE_KEY, b"{}")
    element.barrier()
    yield element
    element.close()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the element, with one file, that must stay as it is."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_bytes(b"secret")
    return path


def _source(tmp_path: Path, data: bytes = b"data") -> str:
    path = tmp_path / "source"
    path.write_bytes(data)
    return str(path)


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --------------------------------------------------------------------------- initialize, open


def test_initialize_is_idempotent_and_keeps_contents(root: Path, element: LocalElement) -> None:
    element.replace(SIDECAR, b"{}")
    element.barrier()
    LocalElement.initialize(str(root))
    assert content(element, SIDECAR) == b"{}"


def test_initialize_refuses_a_directory_with_other_contents(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ElementDenied, match="not empty"):
        LocalElement.initialize(str(tmp_path))
    assert os.listdir(tmp_path) == ["holiday.jpg"]


def test_initialize_accepts_a_fresh_filesystem(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir(mode=0o700)
    LocalElement.initialize(str(tmp_path))
    element = LocalElement("disk1", str(tmp_path))
    assert list(element.list()) == []
    element.close()


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_open_where_no_element_is_unavailable(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    before = _open_descriptors()
    with pytest.raises(ElementUnavailable):
        LocalElement("disk1", str(tmp_path / name))
    assert _open_descriptors() == before


def test_archive_document_vanished_is_unavailable(root: Path, element: LocalElement) -> None:
    (root / ARCHIVE_KEY).unlink()
    with pytest.raises(ElementUnavailable, match="mounted"):
        element.stat(OBJECT)


def test_another_archive_document_makes_it_unavailable_and_untouched(
    tmp_path: Path, root: Path, element: LocalElement
) -> None:
    (root / ARCHIVE_KEY).write_bytes(b"[]")
    temporaries = (root / ".artstorefs/tmp").stat().st_mtime_ns
    for call in (
        lambda: element.put(OBJECT, _source(tmp_path), size_bytes=4),
        lambda: element.replace(SIDECAR, b"{}"),
        lambda: element.stat(OBJECT),
        element.capacity,
    ):
        with pytest.raises(ElementUnavailable, match="is another one now; put it back"):
            call()
    assert (root / ".artstorefs/tmp").stat().st_mtime_ns == temporaries
    (root / ARCHIVE_KEY).write_bytes(b"{}")
    element.replace(SIDECAR, b"{}")
    element.barrier()
    assert content(element, SIDECAR) == b"{}"


def test_archive_document_changed_while_something_is_staged_fails_the_barrier(
    root: Path, element: LocalElement
) -> None:
    element.replace(SIDECAR, b"{}")
    (root / ARCHIVE_KEY).write_bytes(b"[]")
    with pytest.raises(ElementUnavailable, match="is another one now"):
        element.barrier()
    assert not (root / SIDECAR).exists()


# ------------------------------------------------------------------------- links and modes


def test_put_on_one_filesystem_links_the_source(
    tmp_path: Path, root: Path, element: LocalElement
) -> None:
    source = _source(tmp_path)
    element.put(OBJECT, source, size_bytes=4)
    element.barrier()
    assert (root / OBJECT).samefile(source)
    assert os.stat(source).st_nlink == 2


def test_put_of_a_symlink_is_refused(tmp_path: Path, element: LocalElement) -> None:
    link = tmp_path / "link"
    link.symlink_to(_source(tmp_path))
    with pytest.raises(OSError, match="symbolic links"):
        element.put(OBJECT, str(link), size_bytes=4)


def test_modes_do_not_depend_on_the_umask(
    tmp_path: Path, root: Path, element: LocalElement
) -> None:
    old = os.umask(0o077)
    try:
        element.put(OBJECT, _source(tmp_path), size_bytes=4)
        element.replace(SIDECAR, b"{}")
        element.barrier()
    finally:
        os.umask(old)
    for key, mode in ((OBJECT, 0o640), (SIDECAR, 0o640), ("2026", 0o750), ("2026/11/23", 0o750)):
        assert stat.S_IMODE((root / key).stat().st_mode) == mode


def test_object_made_by_somebody_else_meanwhile_is_kept(
    tmp_path: Path, root: Path, element: LocalElement
) -> None:
    element.put(OBJECT, _source(tmp_path), size_bytes=4, sha256=sha256_of(b"data"))
    (root / OBJECT).parent.mkdir(parents=True)
    (root / OBJECT).write_bytes(b"theirs")
    with pytest.raises(ObjectExists):
        element.barrier()
    assert content(element, OBJECT) == b"theirs"
    assert os.listdir(root / ".artstorefs/tmp") == []


# ------------------------------------------------------------------------------ directories


def test_remove_prunes_empty_hours_up_to_the_year(root: Path, element: LocalElement) -> None:
    other_day = "2026/11/24/00/other"
    for key in (SIDECAR, other_day, NODE):
        element.replace(key, b"{}")
    element.barrier()
    element.remove(SIDECAR)
    element.barrier()
    assert os.listdir(root / "2026/11") == ["24"]
    element.remove(other_day)
    element.remove(NODE)
    element.barrier()
    assert os.listdir(root) == [".artstorefs"]
    assert os.listdir(root / ".artstorefs/nodes") == []


def test_remove_leaves_other_empty_directories(root: Path, element: LocalElement) -> None:
    element.replace("catalogue/2026/list", b"")
    element.barrier()
    element.remove("catalogue/2026/list")
    element.barrier()
    assert (root / "catalogue/2026").is_dir()


def test_directory_removed_and_made_anew_by_somebody_else(
    root: Path, element: LocalElement
) -> None:
    element.replace(SIDECAR, b"ours")
    element.barrier()
    hour = (root / SIDECAR).parent
    hour.rename(hour.with_name("aside"))
    hour.mkdir()
    (root / OBJECT).write_bytes(b"theirs")
    assert content(element, OBJECT) == b"theirs"
    with pytest.raises(ObjectAbsent):
        element.stat(SIDECAR)
    element.replace(SIDECAR, b"ours again")
    element.barrier()
    assert (root / SIDECAR).read_bytes() == b"ours again"


def test_descriptors_are_bounded_and_given_back(root: Path) -> None:
    before = _open_descriptors()
    element = LocalElement("disk1", str(root))
    for number in range(150):
        element.replace(f"2026/11/{number:03}/x", b"")
    element.barrier()
    assert _open_descriptors() - before <= 70
    element.close()
    assert _open_descriptors() == before


def test_temporary_directory_lost_is_made_anew(root: Path, element: LocalElement) -> None:
    (root / ".artstorefs/tmp").rmdir()
    element.replace(SIDECAR, b"{}")
    element.barrier()
    assert content(element, SIDECAR) == b"{}"


# -------------------------------------------------------------------------- hostile contents


def _refused_everywhere(element: LocalElement, key: str, source: str) -> None:
    for call in (
        lambda: element.stat(key),
        lambda: element.read(key, 0, 10),
        lambda: element.open_read(key),
        lambda: element.put(key, source, size_bytes=4, sha256=sha256_of(b"data")),
        lambda: element.replace(key, b"overwritten"),
        lambda: element.remove(key),
    ):
        with pytest.raises(ElementDenied):
            call()
    element.barrier()


@pytest.mark.parametrize("target", ["outside", "element/aside"])
def test_symlinked_directory_is_never_passed(
    tmp_path: Path, root: Path, element: LocalElement, outside: Path, target: str
) -> None:
    (root / "aside").mkdir()
    (root / "aside/secret").write_bytes(b"secret")
    (root / "2026").symlink_to(tmp_path / target)
    _refused_everywhere(element, "2026/secret", _source(tmp_path))
    with pytest.raises(ElementDenied):
        list(element.list("2026/"))
    assert os.listdir(tmp_path / target) == ["secret"]
    assert (tmp_path / target / "secret").read_bytes() == b"secret"


def test_symlinked_object_is_never_followed_and_is_listed(
    tmp_path: Path, root: Path, element: LocalElement, outside: Path
) -> None:
    (root / "2026").mkdir()
    (root / "2026/object").symlink_to(outside / "secret")
    _refused_everywhere(element, "2026/object", _source(tmp_path))
    assert (outside / "secret").read_bytes() == b"secret"
    assert "2026/object" in {found.key for found in element.list()}


def test_symlink_in_place_of_a_directory_in_use(
    tmp_path: Path, root: Path, element: LocalElement, outside: Path
) -> None:
    element.replace("2026/x", b"ours")
    element.barrier()
    (root / "2026").rename(outside / "moved")
    (root / "2026").symlink_to(outside / "moved")
    with pytest.raises(ElementDenied):
        element.stat("2026/x")
    with pytest.raises(ElementDenied):
        element.replace("2026/y", b"")
    assert os.listdir(outside / "moved") == ["x"]


def test_symlink_put_in_place_between_staging_and_barrier(
    root: Path, element: LocalElement, outside: Path
) -> None:
    element.replace("2026/x", b"ours")
    (root / "2026").symlink_to(outside)
    with pytest.raises(ElementDenied):
        element.barrier()
    assert os.listdir(outside) == ["secret"]


def test_pipe_and_directory_in_place_of_an_object(
    tmp_path: Path, root: Path, element: LocalElement
) -> None:
    os.mkfifo(root / "pipe")
    (root / "directory").mkdir()
    for key in ("pipe", "directory"):
        _refused_everywhere(element, key, _source(tmp_path))


def test_name_that_is_not_utf8_is_listed(root: Path, element: LocalElement) -> None:
    (root / "2026").mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/2026/\xff")).touch()
    assert "2026/\udcff" in {found.key for found in element.list()}


def test_capacity_is_limited_by_configuration(root: Path) -> None:
    element = LocalElement("disk1", str(root), capacity_bytes=1000)
    room = element.capacity()
    assert (room.total_bytes, room.free_bytes) == (1000, 1000)
    element.close()


def test_an_empty_hour_is_not_pruned_under_the_hands_of_another_thread(
    root: Path, element: LocalElement
) -> None:
    """The two workers of the transfer process have an element object each."""
    with closing(LocalElement("disk1", str(root))) as other, ThreadPoolExecutor(2) as pool:

        def come_and_go(worker: LocalElement, name: str) -> None:
            for number in range(400):
                key = f"2026/11/25/00/{name}{number}"
                worker.replace(key, b"{}")
                worker.barrier()
                assert (root / key).read_bytes() == b"{}"
                worker.remove(key)
                worker.barrier()

        for done in [pool.submit(come_and_go, element, "a"), pool.submit(come_and_go, other, "b")]:
            done.result()
