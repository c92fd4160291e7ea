"""The index from the elements alone: the same tree, the newest document, a place for everything."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from trio.testing import MockClock

from artstorefs.core.configuration import ElementConfiguration
from artstorefs.core.errors import ElementUnavailable
from artstorefs.core.naming import OFFLINE_KEY, record_key
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.gather import made_directory_id
from artstorefs.recovery.renew import PendingChanges
from artstorefs.state import files
from artstorefs.state.index import ROOT_INO

from .rebuilding import (
    change,
    close,
    document_of,
    element_files,
    make_tree,
    rebuild,
    rebuild_again,
    tree,
)
from .workbench import DIRECTORY, ME, Workbench

IN_MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
"""What a hundred thousand documents, the index and the copy of it take, and as much again."""


@pytest.mark.parametrize("processes", [1, 2])
async def test_rebuilt_tree_is_the_tree_before(
    bench: Workbench, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: ELEM-6, DATA-9"""
    monkeypatch.setattr("artstorefs.recovery.gather.PARALLEL_FROM_DOCUMENTS", 1)
    before = await make_tree(bench)
    report = rebuild(bench, processes=processes)
    assert tree(bench) == before
    execute = bench.archive.database.execute
    assert execute("SELECT count(carried) FROM nodes").fetchone() == (0,)
    assert execute("SELECT count(*) FROM nodes WHERE sum IS NULL").fetchone() == (0,)
    assert (report.nodes, report.documents, report.problems) == (len(before), len(before) + 1, [])
    assert report.aside is not None
    assert files.problem_of(report.aside, files.Look.PAGES) is None
    await bench.drain()
    assert bench.archive.log.summary()["intents"] == 0


async def test_lesson_19_an_element_that_cannot_be_listed_fails_the_rebuild_as_a_whole(
    bench: Workbench,
) -> None:
    before = await make_tree(bench)
    close(bench)

    class Unreachable(LocalElement):
        def list(self, prefix: str = "") -> Any:
            yield from list(super().list(prefix))[:3]
            raise ElementUnavailable("main", "2026", "input/output error")

    with pytest.raises(ElementUnavailable):
        rebuild_again(bench, element=Unreachable("main", str(bench.root)))
    bench.open()
    assert tree(bench) == before
    close(bench)
    shutil.rmtree(bench.base / "state")
    os.makedirs(bench.base / "state")
    bench.root.rename(bench.base / "away")
    with pytest.raises(ElementUnavailable):
        bench.open()
    assert not (bench.base / "state/state.db").exists()
    (bench.base / "away").rename(bench.root)
    bench.open()
    assert tree(bench) == before


async def test_an_element_that_goes_away_while_it_is_read_fails_the_rebuild_as_a_whole(
    bench: Workbench,
) -> None:
    """It has been listed whole; that nothing of it can be read then is no damage of documents."""
    before = await make_tree(bench)
    close(bench)

    class Gone(LocalElement):
        """And is back when what is offline is asked for, after all documents."""

        def read(self, key: str, offset: int, length: int) -> bytes:
            if key == OFFLINE_KEY:
                return super().read(key, offset, length)
            raise ElementUnavailable("main", key, "input/output error")

        def stat(self, key: str) -> Any:
            raise ElementUnavailable("main", key, "input/output error")

    with pytest.raises(ElementUnavailable):
        rebuild_again(bench, element=Gone("main", str(bench.root)))
    bench.open()
    assert tree(bench) == before


def rebuild_that_is_killed(bench: Workbench) -> "subprocess.CompletedProcess[bytes]":
    """By itself, with the new index filled and not yet on the disk."""
    program = (
        "import os, sys, uuid\n"
        "from artstorefs.elements.local import LocalElement\n"
        "from artstorefs.recovery.renew import rebuild_index\n"
        "from artstorefs.transfer.documents import Account\n"
        "from artstorefs.state import bulk\n"
        "bulk.NewIndex.finish = lambda self: os.kill(os.getpid(), 9)\n"
        "state, root, archive = sys.argv[1:]\n"
        "rebuild_index('test', state, {'main': LocalElement('main', root)}, uuid.UUID(archive),\n"
        "    lambda uid: Account('u', ''), lambda progress: None)\n"
    )
    archive = json.loads((bench.root / ".artstorefs/archive.json").read_bytes())["archive_id"]
    return subprocess.run(
        [sys.executable, "-c", program, str(bench.base / "state"), str(bench.root), archive],
        check=False,
        timeout=60,
    )


@pytest.mark.slow
async def test_killed_rebuild_leaves_the_old_index_and_can_begin_anew(bench: Workbench) -> None:
    before = await make_tree(bench)
    close(bench)
    done = rebuild_that_is_killed(bench)
    assert done.returncode == -9
    assert (bench.base / "state/state.db.new").exists()
    assert not (bench.base / "state/aside").exists()
    bench.open()
    assert tree(bench) == before
    assert rebuild(bench).nodes == len(before)
    assert tree(bench) == before
    assert not (bench.base / "state/state.db.new").exists()


async def test_what_is_pending_is_not_rebuilt_over(bench: Workbench) -> None:
    """SEMANTICS: ELEM-9"""
    await bench.drain()
    await bench.write(b"f", b"nobody else has it")
    with pytest.raises(PendingChanges):
        rebuild(bench)
    found = bench.tree.lookup(ROOT_INO, b"f")
    assert found is not None
    assert await bench.content(found) == b"nobody else has it"


async def test_spool_files_are_not_taken_for_those_of_other_nodes(bench: Workbench) -> None:
    """A lost index with content in the spool: inode numbers mean other files afterwards, and the
    start removed what seemed to be content that was never begun."""
    for number in range(5):
        await bench.write(b"%d" % number, b"old")
    await bench.drain()
    for number in range(5):
        await bench.write(b"%d" % number, b"new %d" % number)
    spool = set(bench.spool_files().values())
    assert len(spool) == 5
    close(bench)
    for path in (bench.base / "state").glob("state.db*"):
        path.unlink()
    bench.open()
    kept = {path.read_bytes() for path in (bench.base / "state/spool/lost").iterdir()}
    assert kept == spool


@pytest.mark.parametrize("order", [("main", "second"), ("second", "main")])
@pytest.mark.parametrize("mode", ["edit", "ro"])
async def test_the_highest_revision_of_all_elements_counts(
    bench: Workbench, order: tuple[str, ...], mode: str
) -> None:
    """In whatever order they are read. SEMANTICS: ELEM-21"""
    bench.is_sound = False
    file = await bench.write(b"f", b"content")
    await bench.drain()
    path = document_of(bench, file)
    second = bench.base / "second"
    shutil.copytree(bench.root, second)
    other = second / path.relative_to(bench.root)
    change(other, posix={"revision": 50, "name": "newer"}, original_filename="newer")
    places = {"main": bench.root, "second": second}
    modes = {"main": mode, "second": "edit"}
    elements = [ElementConfiguration(id=n, path=places[n], mode=modes[n]) for n in order]
    bench.configuration = bench.configuration.model_copy(update={"elements": tuple(elements)})
    rebuild(bench, ordered={name: str(places[name]) for name in order})
    assert list(tree(bench)) == [b"/newer"]
    node = bench.tree.lookup(ROOT_INO, b"newer")
    assert node is not None
    revisions = {copy.element: copy.revision for copy in bench.archive.index.copies(node.ino)}
    assert revisions.pop("second") == 50
    if mode == "edit":
        assert revisions.pop("main") < 50
        assert bench.archive.log.is_waiting(node.ino), "main is told of the newer"
    assert revisions == {}, "what nothing may be changed on has an older file, which is no copy"


async def test_orphans_clashes_and_circles_have_a_place_and_bad_documents_stay(
    bench: Workbench,
) -> None:
    """SEMANTICS: ELEM-10"""
    bench.is_sound = False
    names = (b"a.txt", b"b.txt", b"orphan", b"bad")
    nodes = {name: await bench.write(name, name) for name in names}
    outer = bench.make(b"outer", mode=DIRECTORY)
    inner = bench.make(b"inner", outer.ino, mode=DIRECTORY)
    await bench.write(b"inside", b"inside", inner.ino)
    await bench.drain()
    change(document_of(bench, nodes[b"b.txt"]), posix={"name": "a.txt"})
    change(document_of(bench, nodes[b"orphan"]), posix={"parent": str(uuid4())})
    change(document_of(bench, outer), posix={"parent": str(UUID(bytes=inner.file_id))})
    bad = document_of(bench, nodes[b"bad"])
    bad.write_text("{")
    report = rebuild(bench)
    found = set(tree(bench))
    (clash,) = (path for path in found if b"(" in path)
    assert clash in {
        b"/a (%s).txt" % UUID(bytes=nodes[n].file_id).hex[:8].encode() for n in names[:2]
    }
    assert b"/lost+found/orphan" in found
    assert any(path.endswith(b"/inside") and b"lost+found" in path for path in found)
    assert (report.unreadable, report.renamed, report.lost) == (1, 1, 2)
    assert bad.read_text() == "{"
    again = rebuild(bench)
    assert set(tree(bench)) == found
    assert again.problems == report.problems


def write_documents_of_artstore(root: Path, path: Path) -> None:
    """Some made of ours at `path`, with names and paths as others may have them."""
    for number, name in enumerate(("scan.tif", "scan.tif", "../../etc/passwd", "a" * 300 + ".tif")):
        document = json.loads(path.read_bytes())
        del document["posix"]
        document["file_id"] = str(UUID(int=number << 96 | 1))
        document["original_filename"] = name
        document["storage_path"] = "/2020/../01"
        document["updated_at"] = "2020-01-02T03:04:05.5Z"
        target = root / f"2020/01/other_{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"ours")
        Path(f"{target}.attr.json").write_text(json.dumps(document))


async def test_files_of_artstore_show_at_their_path_and_nothing_is_written(
    bench: Workbench,
) -> None:
    """SEMANTICS: ELEM-12"""
    await bench.write(b"ours", b"ours")
    await bench.drain()
    path = document_of(bench, bench.archive.index.child(ROOT_INO, b"ours"))  # type: ignore[arg-type]
    write_documents_of_artstore(bench.root, path)
    before = element_files(bench)
    rebuild(bench)
    found = tree(bench)
    assert set(found) == {
        *(b"/ours", b"/2020", b"/2020/01", b"/2020/01/scan.tif", b"/2020/01/passwd"),
        *(b"/2020/01/scan (00000001).tif", b"/2020/01/" + b"a" * 251 + b".tif"),
    }
    assert found[b"/2020/01/scan.tif"]["mtime_ns"] == 1_577_934_245_500_000_000
    await bench.drain()
    assert element_files(bench) == before

    node = bench.tree.node(bench.archive.index.child(ROOT_INO, b"2020").ino)  # type: ignore[union-attr]
    month = bench.archive.index.child(node.ino, b"01")
    assert month is not None
    file = bench.archive.index.child(month.ino, b"scan.tif")
    assert file is not None
    assert await bench.content(file) == b"ours"
    bench.xattrs.set(file, b"user.k", b"v", 0, ME)
    bench.rename(b"01", b"January", parent=node.ino, to=node.ino)
    await bench.drain()
    for made in (node, month):
        assert (bench.root / record_key(UUID(bytes=made.file_id))).exists()
    expected = set(tree(bench))
    assert b"/2020/January/scan (00000001).tif" in expected
    rebuild(bench)
    assert set(tree(bench)) == expected
    again = bench.archive.index.child(ROOT_INO, b"2020")
    assert again is not None
    assert again.file_id == node.file_id


async def test_a_directory_for_files_of_artstore_takes_no_id_that_a_document_claims(
    bench: Workbench,
) -> None:
    bench.is_sound = False
    ours = await bench.write(b"ours", b"ours")
    await bench.drain()
    path = document_of(bench, ours)
    write_documents_of_artstore(bench.root, path)
    root_id = bench.tree.node(ROOT_INO).file_id
    change(path, file_id=str(UUID(bytes=made_directory_id(root_id, "2020"))))
    rebuild(bench)
    found = set(tree(bench))
    assert {b"/ours", b"/2020/01/scan.tif", b"/2020/01/passwd"} < found
    rebuild(bench)
    assert set(tree(bench)) == found


async def test_of_equal_revisions_the_same_document_counts_in_whatever_order_they_are_read(
    bench: Workbench,
) -> None:
    bench.is_sound = False
    file = await bench.write(b"f", b"content")
    await bench.drain()
    path = document_of(bench, file)
    second = bench.base / "second"
    shutil.copytree(bench.root, second)
    change(second / path.relative_to(bench.root), posix={"name": "other"})
    for order in (("main", "second"), ("second", "main")):
        elements = {"main": bench.root, "second": second}
        rebuild(bench, ordered={name: str(elements[name]) for name in order})
        assert list(tree(bench)) == [b"/other"]
        node = bench.tree.lookup(ROOT_INO, b"other")
        assert node is not None
        copies = bench.archive.index.copies(node.ino)
        assert sorted(copy.element for copy in copies) == ["main", "second"]


async def test_without_a_record_of_the_root_everything_is_there_all_the_same(
    bench: Workbench,
) -> None:
    before = await make_tree(bench)
    root = bench.tree.node(ROOT_INO)
    document_of(bench, root).unlink()
    report = rebuild(bench)
    assert set(tree(bench)) == set(before)
    assert report.problems == ["the root directory has no node record; it gets a new one"]
    bench.make(b"new")
    await bench.drain()
    assert (bench.root / record_key(UUID(bytes=root.file_id))).exists()


def fill_element(bench: Workbench, number: int) -> None:
    """`number` small files in a hundred directories, by what writes documents, without fsyncs."""
    root_id = json.loads((bench.root / ".artstorefs/archive.json").read_bytes())["archive_id"]
    sample_root = json.loads(next((bench.root / ".artstorefs/nodes").rglob("*.json")).read_bytes())
    directories = []
    for index in range(100):
        file_id = str(UUID(int=(index << 96) + 5))
        record = json.loads(json.dumps(sample_root))
        record["file_id"] = file_id
        record["posix"] |= {"parent": root_id, "name": f"directory {index}"}
        path = bench.root / record_key(UUID(file_id))
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record))
        directories.append(file_id)
    posix = sample_root["posix"] | {"mode": "0640", "mtime_ns": 1_600_000_000_123_456_789}
    root = str(bench.root)
    for index in range(number):
        file_id = str(UUID(int=(index << 64) + 7))
        folder = f"2026/01/{index % 28 + 1:02d}/{index // 28 % 24:02d}"
        name = f"file_{index}_anna_20260101T000000_{file_id}.txt"
        directory = f"{root}/{folder}"
        if index < 28 * 24:
            os.makedirs(directory, exist_ok=True)
        document = {
            "schema_version": "2.0",
            "file_id": file_id,
            "original_filename": f"file {index}",
            "storage_filename": name,
            "file_size": 1,
            "content_type": "text/plain",
            "created_at": "2026-01-01T00:00:00.000000Z",
            "created_by_id": "1000",
            "storage_path": folder,
            "checksum": "a" * 64,
            "version": "1.0",
            "metadata": {},
            "custom_attributes": {"number": index, "title": f"picture {index}"},
            "posix": posix
            | {"parent": directories[index % 100], "name": f"file {index}", "revision": 1},
        }
        descriptor = os.open(f"{directory}/{name}.attr.json", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, json.dumps(document).encode())
        os.close(descriptor)


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is plenty: making and removing a hundred thousand files on
    a disk takes longer than the rebuild, and here it is about no power cut."""
    found = os.statvfs(IN_MEMORY) if IN_MEMORY.is_dir() else None
    if found is None or found.f_bavail * found.f_frsize < ROOM_BYTES:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="asfs-", dir=IN_MEMORY) as path:
        yield Path(path)


REBUILT = int(os.environ.get("ASFS_REBUILT", "10000"))


@pytest.mark.slow
@pytest.mark.long
async def test_lesson_12_many_files_are_rebuilt_exactly(roomy: Path, clock: MockClock) -> None:
    """`ASFS_REBUILT=100000` is how many; in an ordinary run they are fewer. SEMANTICS: ELEM-6"""
    bench = Workbench(roomy)
    number = REBUILT
    await bench.drain()
    fill_element(bench, number)
    before = sum(os.times()[:4])
    started = time.monotonic()
    report = rebuild(bench, processes=2)
    seconds, cpu_s = time.monotonic() - started, sum(os.times()[:4]) - before
    print(f"{number / seconds:.0f} documents a second, {cpu_s:.1f} s of two processors")
    # A minute of both for a hundred thousand; the clock also counts what else the machine does.
    assert cpu_s < 120 * number / 100_000
    assert (report.nodes, report.problems) == (number + 101, [])
    found = tree(bench)
    assert len(found) == number + 100
    for index in range(number):
        node = found[f"/directory {index % 100}/file {index}".encode()]
        assert node["custom"] == f'{{"number":{index},"title":"picture {index}"}}'
        assert (node["mode"], node["mtime_ns"]) == (0o100640, 1_600_000_000_123_456_789)
