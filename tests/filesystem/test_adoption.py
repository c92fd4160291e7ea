"""An element that ArtStore has written, in use: known by what is on it, written to when it is
changed and not before."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio.testing

from artstorefs.core.configuration import ArchiveConfiguration, ElementConfiguration
from artstorefs.core.errors import DocumentTooLarge, ElementUnavailable
from artstorefs.elements.adoption import Adoption
from artstorefs.elements.identified import read_layout
from artstorefs.elements.local import LocalElement
from artstorefs.elements.opening import identified_element
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.recovery.layout import write_layout
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node
from artstorefs.state.witnesses import has_joined, witnesses_of
from artstorefs_daemon.introductions import Introductions
from artstorefs_daemon.mount_daemon import open_archive

from ..artstore import read_element, write_file
from .rebuilding import close, element_files
from .workbench import ME, Workbench

HOUR = b"2024/03/05/14"


class AdoptedBench(Workbench):
    """Its element is one of ArtStore's, and its carrier gets it as the transfer process does."""

    def configured(self, mode: str, settings: dict[str, Any]) -> ArchiveConfiguration:
        made = super().configured(mode, settings)
        element = ElementConfiguration(id="main", path=self.root, mode=mode, adopted=True)
        return made.model_copy(update={"elements": (element,)})

    def make_element(self) -> LocalElement:
        return LocalElement("main", str(self.root), adoption=Adoption())

    def elements_of_carrier(self) -> dict[str, Any]:
        introductions = Introductions(self.configuration, self.archive.id, read_only=False)
        element = introductions.open("main")
        with suppress(ElementUnavailable):
            element.capacity()  # waits for the first answer
        return {"main": element}

    def file(self, name: bytes, folder: bytes = HOUR) -> Node:
        node = self.archive.index.node(ROOT_INO)
        for part in (*filter(None, folder.split(b"/")), name):
            assert node is not None
            node = self.archive.index.child(node.ino, part)
        assert node is not None, name
        return node


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An element of ArtStore's with a file of each version."""
    root = tmp_path / "element"
    write_file(root, "Отчёт.pdf", b"report", schema="1.0", description="2024")
    write_file(root, "scan.tif", b"scan", custom_attributes={"project": "Архив", "pages": 3})
    return root


@pytest.fixture
async def bench(root: Path, tmp_path: Path, clock: trio.testing.MockClock) -> AdoptedBench:
    return AdoptedBench(tmp_path)


async def test_nothing_is_written_until_something_changes(bench: AdoptedBench) -> None:
    """SEMANTICS: ADOPT-1, ADOPT-2"""
    before = everything(bench.root)
    assert await bench.content(bench.file("Отчёт.pdf".encode())) == b"report"
    scan = bench.file(b"scan.tif")
    assert bench.xattrs.get(scan, b"user.project") == "Архив".encode()
    assert bench.xattrs.get(scan, b"user.pages") == b"3"
    bench.tree.accessed(scan)
    await bench.drain()
    bench.restart()
    await bench.drain()
    assert everything(bench.root) == before


def everything(root: Path) -> dict[str, tuple[float, bytes | None]]:
    """All that is there, directories too, with times of change and content."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in root.rglob("*")
    }


async def test_first_change_makes_it_an_element_of_the_archive(bench: AdoptedBench) -> None:
    """SEMANTICS: ADOPT-2, ADOPT-3"""
    assert not has_joined(bench.archive.database, "main")
    scan = bench.file(b"scan.tif")
    bench.xattrs.set(scan, b"user.year", b"1642", 0, ME)
    await bench.drain()
    element = LocalElement("main", str(bench.root))
    record = read_layout(element)
    element.close()
    assert record is not None
    assert (record.archive_id, record.element_id) == (bench.archive.id, "main")
    assert has_joined(bench.archive.database, "main")
    (changed,) = [one for one in read_element(bench.root).values() if "posix" in one.fields]
    assert changed.custom == {"project": "Архив", "pages": 3, "year": 1642}
    assert changed.fields["posix"]["revision"] == 1
    assert changed.fields["created_by_fullname"] == "Иван Иванов"
    files = element_files(bench)
    assert ".artstorefs/restore.py" not in files  # left out by it; it is there all the same:
    assert (bench.root / ".artstorefs/restore.py").is_file()
    bench.restart()
    assert bench.xattrs.get(bench.file(b"scan.tif"), b"user.year") == b"1642"
    bench.check_soundness()


async def test_every_kind_of_change_leaves_what_artstore_reads(bench: AdoptedBench) -> None:
    """SEMANTICS: ADOPT-3, ADOPT-4"""
    report, scan = bench.file("Отчёт.pdf".encode()), bench.file(b"scan.tif")
    hour = bench.archive.index.first_name(scan.ino).parent  # type: ignore[union-attr]
    await bench.attributes.change(report, AttributeChange(mode=0o600), ME)
    bench.rename("Отчёт.pdf".encode(), "Итог.pdf".encode(), hour, hour)
    handle = await bench.open_file(scan)
    await bench.contents.write(handle, 4, b" again")
    bench.contents.release(handle)
    await bench.write(b"new", b"new", hour)
    await bench.drain()
    found = {one.fields["original_filename"]: one for one in read_element(bench.root).values()}
    assert set(found) == {"Итог.pdf", "scan.tif", "new"}
    assert found["Итог.pdf"].version == "2.0"
    assert found["Итог.pdf"].fields["description"] == "2024"
    assert found["scan.tif"].fields["file_size"] == len(b"scan again")
    bench.unlink(b"new", hour)
    bench.unlink("Итог.pdf".encode(), hour)
    await bench.drain()
    assert [one.fields["original_filename"] for one in read_element(bench.root).values()] == [
        "scan.tif"
    ]
    bench.check_soundness()


async def test_the_state_directory_is_lost(bench: AdoptedBench) -> None:
    """Before the first change, and after it. SEMANTICS: ELEM-6, ADOPT-2"""
    for is_changed in (False, True):
        if is_changed:
            await bench.attributes.change(bench.file(b"scan.tif"), AttributeChange(mode=0o600), ME)
            await bench.drain()
        close(bench)
        before = everything(bench.root)
        shutil.rmtree(bench.base / "state")
        os.mkdir(bench.base / "state")
        bench.open()
        assert bench.file(b"scan.tif").mode & 0o777 == (0o600 if is_changed else 0o644)
        assert everything(bench.root) == before
    assert has_joined(bench.archive.database, "main")


async def test_no_room_for_a_posix_section(root: Path, tmp_path: Path) -> None:
    """A full attr.json of others can be read, and its file removed. SEMANTICS: ADOPT-4"""
    attributes = {"k": "x" * 2900}
    write_file(root, "full", b"full", custom_attributes=attributes)
    bench = AdoptedBench(tmp_path)
    full = bench.file(b"full")
    hour = bench.archive.index.first_name(full.ino).parent  # type: ignore[union-attr]
    assert bench.xattrs.get(full, b"user.k") == attributes["k"].encode()
    before = everything(root)
    with pytest.raises(DocumentTooLarge):
        await bench.attributes.change(full, AttributeChange(mode=0o600), ME)
    with pytest.raises(DocumentTooLarge):
        bench.rename(b"full", b"fuller", hour, hour)
    with pytest.raises(DocumentTooLarge):
        await bench.open_file(full, os.O_RDWR | os.O_TRUNC)
    await bench.drain()
    assert everything(root) == before
    assert (full.revision, full.mode & 0o777) == (0, 0o644)
    bench.xattrs.set(full, b"user.k", b"short", 0, ME)
    await bench.drain()
    assert bench.archive.log.failure(full.ino) is None
    bench.unlink(b"full", hour)
    await bench.drain()
    assert len(read_element(root)) == 2


# ------------------------------------------------------------------------- is it this element?


def identified(bench: AdoptedBench) -> Any:
    path = bench.archive.database.path
    return identified_element(
        bench.configuration.elements[0],
        bench.archive.id,
        witnesses=lambda: witnesses_of(path, "main"),
    )


async def test_an_empty_mount_point_is_not_it(bench: AdoptedBench) -> None:
    """SEMANTICS: ADOPT-5"""
    close(bench)
    bench.root.rename(bench.base / "away")
    bench.root.mkdir()
    with pytest.raises(ElementUnavailable, match="none of 2 files that were there is there"):
        identified(bench).list()
    archive = open_archive(bench.configuration, read_only=False)  # starts all the same
    assert archive.index.count_nodes() > 2
    with pytest.raises(ElementUnavailable, match="none of 2 files"):
        archive.elements["main"].list()
    archive.database.close()
    shutil.rmtree(bench.base / "state")
    (bench.base / "state").mkdir()
    with pytest.raises(ElementUnavailable, match=r"no attr.json is there; is its disk mounted"):
        open_archive(bench.configuration, read_only=False)
    assert list(bench.root.iterdir()) == []


async def test_another_element_is_not_it(bench: AdoptedBench) -> None:
    """Of ArtStore's, and of an archive. SEMANTICS: ADOPT-5"""
    bench.root.rename(bench.base / "away")
    write_file(bench.root, "scan.tif", b"scan")
    with pytest.raises(ElementUnavailable, match="none of 2 files"):
        identified(bench).list()
    shutil.rmtree(bench.root)
    (bench.base / "away").rename(bench.root)
    element = identified(bench)
    assert list(element.list())
    stranger = uuid4()
    own = bench.root / ".artstorefs"
    own.mkdir()
    somebody = LocalElement("main", str(bench.root))
    write_layout(somebody, stranger, "museum")
    somebody.close()
    with pytest.raises(ElementUnavailable, match="become an element of another archive, museum"):
        list(element.list())


async def test_one_witness_is_enough(bench: AdoptedBench) -> None:
    """Others may remove what they like. SEMANTICS: ADOPT-5"""
    sidecars = sorted(bench.root.rglob("*.attr.json"))
    sidecars[0].unlink()
    assert identified(bench).capacity().total_bytes
    sidecars[1].write_bytes(b"")
    with pytest.raises(ElementUnavailable, match="none of 2 files"):
        identified(bench).capacity()


async def test_archive_json_is_gone_again(bench: AdoptedBench) -> None:
    """What was written to is not believed without it, whatever else is there. SEMANTICS: ADOPT-5"""
    bench.xattrs.set(bench.file(b"scan.tif"), b"user.k", b"v", 0, ME)
    await bench.drain()
    path = bench.root / ".artstorefs/archive.json"
    right = path.read_bytes()
    path.unlink()
    with pytest.raises(ElementUnavailable, match=r"no .artstorefs/archive.json is there"):
        identified(bench).list()
    path.write_bytes(right)
    assert list(identified(bench).list())


async def test_its_disk_is_mounted_anew(bench: AdoptedBench) -> None:
    """As another directory with the same files. SEMANTICS: ADOPT-5, FULL-4"""
    element = identified(bench)
    count = len(list(element.list()))
    away = bench.base / "away"
    bench.root.rename(away)
    bench.root.mkdir()
    with pytest.raises(ElementUnavailable, match="another directory is there"):
        list(element.list())
    bench.root.rmdir()
    shutil.copytree(away, bench.root)
    with pytest.raises(ElementUnavailable, match="has been mounted anew"):
        list(element.list())
    assert len(list(element.list())) == count


async def test_a_check_of_an_adopted_archive(bench: AdoptedBench) -> None:
    """SEMANTICS: ADOPT-2, FSCK-1"""
    report = bench.fsck()
    assert (report.left, report.incomplete, report.documents) == ([], {}, 2)
    assert {finding.kind.label for finding in report.findings} == {"foreign"}
    bench.root.rename(bench.base / "away")
    bench.root.mkdir()
    report = bench.fsck()
    assert "main" in report.incomplete
    assert [finding.kind.label for finding in report.left] == ["archive-record"]


async def test_further_copies_of_an_adopted_file(root: Path, tmp_path: Path) -> None:
    """With `copies = 2` they are made without a change of anybody. SEMANTICS: ELEM-21, ADOPT-3"""
    bench = AdoptedBench(tmp_path)
    scan = bench.file(b"scan.tif")
    close(bench)
    element = ElementConfiguration(id="second", path=tmp_path / "second")
    both = (*bench.configuration.elements, element)
    configuration = bench.configuration.model_copy(update={"copies": 2, "elements": both})
    bench.configuration = configuration
    LocalElement.initialize(str(tmp_path / "second"))
    second = LocalElement("second", str(tmp_path / "second"))
    write_layout(second, bench.archive.id, "test")
    second.close()
    archive = open_archive(configuration, read_only=False)
    assert archive.outcomes.want_copies() == 2 + 5
    row = archive.index.node(scan.ino)
    assert row is not None
    assert row.revision == 1
    archive.database.close()


def test_a_document_keeps_who_may_read_it(tmp_path: Path) -> None:
    """ArtStore can read what it could before. SEMANTICS: ADOPT-4"""
    path = write_file(tmp_path, "scan.tif", b"scan")
    path.chmod(0o664)
    os.chown(path, 4711, 4712)
    element = LocalElement("main", str(tmp_path), adoption=Adoption())
    element.replace(str(path.relative_to(tmp_path)), json.dumps({"x": 1}).encode())
    element.barrier()
    element.close()
    found = path.stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o664, 4711, 4712)
    assert json.loads(path.read_bytes()) == {"x": 1}
