"""Failures of a local element's disk: full, read-only, unmounted, flushes and calls that fail.

Real filesystems where the kernel can be made to fail for real (small tmpfs mounts, as root only),
a replaced function where it cannot.
"""

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artstorefs.core.errors import (
    ElementDenied,
    ElementFull,
    ElementUnavailable,
    ObjectAbsent,
    ObjectDamaged,
)
from artstorefs.elements import durable
from artstorefs.elements.interface import ARCHIVE_KEY
from artstorefs.elements.local import LocalElement
from artstorefs.elements.publication import Publication

from .element_conformance import OBJECT, SIDECAR, content, sha256_of


@contextmanager
def _mounted(path: Path, options: str) -> Iterator[None]:
    assert os.geteuid() == 0, "only root may mount: run the tests as root"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        if path.is_mount():
            subprocess.run(["umount", str(path)], check=True)


@contextmanager
def _element(root: Path) -> Iterator[LocalElement]:
    LocalElement.initialize(str(root))
    element = LocalElement("disk1", str(root))
    try:
        element.replace(ARCHIVE_KEY, b"{}")
        element.barrier()
        yield element
    finally:
        element.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "element"


@pytest.fixture
def element(root: Path) -> Iterator[LocalElement]:
    with _element(root) as element:
        yield element


def _fails(code: int, at_call: int = 1) -> Callable[..., None]:
    """A function that fails at one of its calls and does nothing at the others."""
    calls = 0

    def function(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise OSError(code, os.strerror(code))

    return function


def _put(element: LocalElement, directory: Path, key: str, data: bytes) -> Path:
    source = directory / f"source-{key.replace('/', '-')}"
    source.write_bytes(data)
    element.put(key, str(source), size_bytes=len(data), sha256=sha256_of(data))
    return source


# ---------------------------------------------------------------------------- real filesystems


def test_full_disk_is_full_and_the_rest_goes_on(tmp_path: Path, root: Path) -> None:
    with _mounted(root, "size=256k"), _element(root) as element:
        _put(element, tmp_path, OBJECT, b"x" * 100_000)
        with pytest.raises(ElementFull):
            _put(element, tmp_path, f"{OBJECT}2", b"x" * 300_000)
        with pytest.raises(ElementFull):
            element.replace(SIDECAR, b"x" * 300_000)
        element.barrier()
        assert element.stat(OBJECT).size_bytes == 100_000
        assert os.listdir(root / ".artstorefs/tmp") == []
        element.remove(OBJECT)
        element.barrier()
        _put(element, tmp_path, f"{OBJECT}2", b"y" * 200_000)
        element.barrier()
        assert element.stat(f"{OBJECT}2").size_bytes == 200_000


def test_no_inodes_left_is_full(root: Path) -> None:
    def fill(element: LocalElement) -> None:
        for number in range(30):
            element.replace(f"2026/{number}", b"")

    with _mounted(root, "nr_inodes=16"), _element(root) as element, pytest.raises(ElementFull):
        fill(element)


def test_read_only_disk_is_read_and_denies_writes(tmp_path: Path, root: Path) -> None:
    with _mounted(root, "size=1m"):
        with _element(root) as element:
            _put(element, tmp_path, OBJECT, b"data")
            element.barrier()
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        element = LocalElement("disk1", str(root))
        assert content(element, OBJECT) == b"data"
        with pytest.raises(ObjectAbsent):
            element.stat(SIDECAR)
        with pytest.raises(ElementDenied):
            element.replace(SIDECAR, b"{}")
        with pytest.raises(ElementDenied):
            _put(element, tmp_path, SIDECAR, b"{}")
        element.remove(OBJECT)
        with pytest.raises(ElementDenied):
            element.barrier()
        element.close()


def test_unmounted_under_the_element_is_unavailable(tmp_path: Path, root: Path) -> None:
    with _mounted(root, "size=1m"), _element(root) as element:
        _put(element, tmp_path, OBJECT, b"data")
        subprocess.run(["umount", "--lazy", str(root)], check=True)
        with pytest.raises(ElementUnavailable):
            element.barrier()
        with pytest.raises(ElementUnavailable):
            element.stat(OBJECT)
        with pytest.raises(ElementUnavailable):
            list(element.list())
        with pytest.raises(ElementUnavailable):
            LocalElement("disk1", str(root))
        assert os.listdir(root) == []


def test_another_disk_inside_is_not_written(tmp_path: Path, root: Path) -> None:
    LocalElement.initialize(str(root))
    with _mounted(root / "2026", "size=1m"), _element(root) as element:
        _put(element, tmp_path, "2026/object", b"data")
        with pytest.raises(ElementDenied):
            element.barrier()
        assert os.listdir(root / "2026") == []


def test_copy_with_another_digest_is_damage(root: Path, element: LocalElement) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == root.stat().st_dev:
        pytest.fail("/dev/shm is no filesystem of its own: mount a tmpfs there")
    with tempfile.NamedTemporaryFile(dir=shared_memory) as source:
        source.write(b"data")
        source.flush()
        with pytest.raises(ObjectDamaged):
            element.put(OBJECT, source.name, size_bytes=4, sha256=sha256_of(b"date"))
        assert os.listdir(root / ".artstorefs/tmp") == []
        element.put(OBJECT, source.name, size_bytes=4, sha256=sha256_of(b"data"))
        element.barrier()
    assert content(element, OBJECT) == b"data"


# ---------------------------------------------------------------------------------- flushes


def test_failed_flush_stores_nothing_and_the_repeat_writes_anew(
    tmp_path: Path, root: Path, element: LocalElement, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{OBJECT}{number}" for number in range(10)]
    sources = [_put(element, tmp_path, key, key.encode()) for key in keys]
    with monkeypatch.context() as patch:
        patch.setattr(durable, "syncfs", _fails(errno.EIO))
        with pytest.raises(ElementUnavailable):
            element.barrier()
    assert list(element.list("2026/")) == []
    assert os.listdir(root / ".artstorefs/tmp") == []
    element.barrier()
    for key in keys:
        _put(element, tmp_path, key, key.encode())
    element.barrier()
    assert len(list(element.list("2026/"))) == 10
    # The pages of the source may be clean and on no disk: linking it again would trust them.
    assert not (root / keys[0]).samefile(sources[0])


def test_failed_flush_of_directories_then_the_repeat_confirms(
    tmp_path: Path, element: LocalElement, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{OBJECT}{number}" for number in range(10)]
    for key in keys:
        _put(element, tmp_path, key, b"data")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "syncfs", _fails(errno.EIO, at_call=2))
        with pytest.raises(ElementUnavailable):
            element.barrier()
    for key in keys:
        _put(element, tmp_path, key, b"data")
    element.barrier()
    assert len(list(element.list("2026/"))) == 10


def test_staged_while_a_flush_failed_is_not_taken_as_stored(
    tmp_path: Path, element: LocalElement, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage_and_fail(fd: int) -> None:
        _put(element, tmp_path, SIDECAR, b"late")
        raise OSError(errno.EIO, "Input/output error")

    for number in range(10):
        element.replace(f"{OBJECT}{number}", b"data")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "syncfs", stage_and_fail)
        with pytest.raises(ElementUnavailable):
            element.barrier()
    with pytest.raises(ElementUnavailable, match="stage it again"):
        element.barrier()
    with pytest.raises(ObjectAbsent):
        element.stat(SIDECAR)
    _put(element, tmp_path, SIDECAR, b"late")
    element.barrier()
    assert content(element, SIDECAR) == b"late"


def test_what_was_flushed_is_forgotten_with_the_last_element_that_is_closed(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever still has it: a disk that comes after it may have its device and inode number."""
    flushed: list[set[str]] = []

    def published(publication: Publication, touched: set[str]) -> None:
        flushed.append(set(touched))
        real(publication, touched)

    real = Publication.flushed
    monkeypatch.setattr(Publication, "flushed", published)
    LocalElement.initialize(str(root))
    kept = []
    for number in range(3):
        kept.append(LocalElement("main", str(root)))
        _put(kept[-1], tmp_path, f"{OBJECT}{number}", b"data")
        kept[-1].barrier()
        if number == 1:
            for element in (*kept, kept[0]):
                element.close()
    kept[-1].close()
    above = {"2026", "2026/11", "2026/11/23"}
    assert [above <= touched for touched in flushed] == [True, False, True]


@pytest.mark.parametrize("made_by_one_that_died", [False, True])
def test_barrier_flushes_new_directories_and_all_above_them(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, made_by_one_that_died: bool
) -> None:
    real = os.fsync
    flushed: set[str] = set()

    def fsync(fd: int) -> None:
        flushed.add(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    LocalElement.initialize(str(root))
    if made_by_one_that_died:
        (root / OBJECT).parent.mkdir(parents=True)
    monkeypatch.setattr(durable, "honours_syncfs", lambda fd: False)
    monkeypatch.setattr(os, "fsync", fsync)
    with _element(root) as element:
        flushed.clear()
        source = _put(element, tmp_path, OBJECT, b"data")
        assert flushed == {str(source)}
        element.barrier()
    above = [str(root / part) for part in ("2026", "2026/11", "2026/11/23", "2026/11/23/22")]
    assert flushed.issuperset(above)
    # The root was flushed with archive.json, by this process and since the other one died.
    assert made_by_one_that_died or str(root) in flushed


@pytest.mark.parametrize("done", range(5))
def test_barrier_cut_off_after_each_move_then_repeated(
    tmp_path: Path, element: LocalElement, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    keys = [f"2026/11/23/{number:02}/object" for number in range(5)]
    real = durable.rename_new
    moved: list[str] = []

    def cut_off(source: str, source_fd: int, target: str, target_fd: int) -> None:
        if len(moved) == done:
            raise OSError(errno.EIO, "Input/output error")
        moved.append(target)
        real(source, source_fd, target, target_fd)

    for key in keys:
        _put(element, tmp_path, key, key.encode())
    with monkeypatch.context() as patch:
        patch.setattr(durable, "rename_new", cut_off)
        with pytest.raises(ElementUnavailable):
            element.barrier()
    visible = sorted(found.key for found in element.list("2026/"))
    assert visible == keys[:done]
    for key in keys:
        _put(element, tmp_path, key, key.encode())
    element.barrier()
    assert [content(element, key) for key in keys] == [key.encode() for key in keys]


# ------------------------------------------------------------------------------------ listing


class _BrokenEntries:
    """The entries of a directory, the reading of which fails after the first."""

    def __init__(self, entries: Iterable[os.DirEntry[str]], code: int) -> None:
        self.entries = entries
        self.code = code

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        yield from list(self.entries)[:1]
        raise OSError(self.code, os.strerror(self.code))

    def __exit__(self, *error: object) -> None:
        return None


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("opened", [False, True])
def test_listing_error_raises_and_is_never_a_shorter_listing(
    element: LocalElement, monkeypatch: pytest.MonkeyPatch, code: int, opened: bool
) -> None:
    for day in range(5):
        element.replace(f"2026/11/{day:02}/x", b"")
    element.barrier()
    real, calls = os.scandir, 0

    def scandir(fd: int) -> object:
        nonlocal calls
        calls += 1
        if calls != 6:
            return real(fd)
        if not opened:
            raise OSError(code, os.strerror(code))
        with real(fd) as entries:
            return _BrokenEntries(list(entries), code)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises((ElementUnavailable, ElementDenied)):
        list(element.list())
