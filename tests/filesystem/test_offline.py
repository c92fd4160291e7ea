"""Content that goes offline: to a medium that may be away, and how everything else sees it."""

import errno
import json
import math
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from artstorefs.core.block_list import BLOCK_BYTES
from artstorefs.core.errors import ArtStoreFSError, ElementFull
from artstorefs.core.modes import ElementMode
from artstorefs.elements.hashing import hash_blocks
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.fsck_findings import FindingClass
from artstorefs.transfer import take_offline
from artstorefs_daemon.offlining import FAILED_PAUSE_S, LOOK_S

from .offline_bench import OfflineBench
from .rebuilding import rebuild

LARGE = bytes(range(256)) * (BLOCK_BYTES // 128)
"""Of two blocks, so that it has a block list."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[OfflineBench]:
    bench = OfflineBench(tmp_path)
    yield bench
    bench.check_soundness()


async def code_of_reading(bench: OfflineBench, name: bytes) -> int:
    node = bench.tree.lookup(1, name)
    assert node is not None
    try:
        await bench.content(node)
    except ArtStoreFSError as exc:
        return exc.errno_code
    return 0


async def test_content_moves_and_everything_else_stays(bench: OfflineBench) -> None:
    """SEMANTICS: AR-1, AR-2"""
    contents = {b"small": b"content", b"large": LARGE}
    nodes = [await bench.write(name, data) for name, data in contents.items()]
    await bench.drain()
    before = bench.objects(bench.root)
    assert len(before) == 3
    assert await bench.move() == math.inf  # in mode edit nothing goes
    assert bench.objects(bench.root) == before
    bench.put_into(ElementMode.AR)
    assert [bench.state(node) for node in nodes] == ["archived", "archived"]
    assert await bench.move() == math.inf
    assert bench.objects(bench.root) == {}
    assert bench.objects(bench.medium) == before
    assert len(list(bench.root.rglob("*.attr.json"))) == 2
    for name, node in zip(contents, nodes, strict=True):
        assert bench.xattrs.get(node, b"user.artstore.checksum")
        assert await code_of_reading(bench, name) == errno.EREMOTE
    answer = await bench.offlining.describe("main")
    assert (answer["files"], answer["left_files"]) == (2, 0)
    assert answer["bytes"] == len(LARGE) + 7
    assert bench.look()[0].vanished == 0


@pytest.mark.parametrize("there", ["nothing", "empty", "another"])
async def test_no_medium_no_move(bench: OfflineBench, there: str) -> None:
    """An empty mount point, or another disk, is never written to. SEMANTICS: AR-3"""
    await bench.write(b"f", b"content")
    await bench.drain()
    before = bench.objects(bench.root)
    bench.unmount()
    if there == "nothing":
        bench.medium.rmdir()
    elif there == "another":
        other = OfflineBench(bench.base / "other")
        other.close()
        shutil.copytree(other.medium, bench.medium, dirs_exist_ok=True)
    found = sorted(bench.medium.rglob("*"))
    bench.put_into(ElementMode.AR)
    assert await bench.move() == LOOK_S
    assert (await bench.offlining.describe("main"))["error"].count("medium of element main") == 1
    assert bench.objects(bench.root) == before
    assert sorted(bench.medium.rglob("*")) == found
    bench.medium.mkdir(exist_ok=True)
    bench.mount()
    assert await bench.move() == math.inf
    assert bench.objects(bench.medium) == before
    assert (await bench.offlining.describe("main"))["error"] is None


async def test_only_an_empty_directory_becomes_a_medium(tmp_path: Path) -> None:
    """SEMANTICS: AR-3"""
    bench = OfflineBench(tmp_path, prepared=False)

    def prepare() -> str | None:
        error: str | None = bench.work.prepare({"prepare_medium": "main"})["error"]
        return error

    (bench.medium / "of somebody").write_bytes(b"")
    assert "not empty" in str(prepare())
    (bench.medium / "of somebody").unlink()
    bench.medium.rmdir()
    assert "no directory" in str(prepare())
    bench.medium.mkdir()
    assert prepare() is None
    record = json.loads((bench.medium / ".artstorefs" / "archive.json").read_bytes())
    assert record["element_id"] == "main/offline"
    assert "restore.py" in (bench.medium / ".artstorefs" / "README.txt").read_text()
    assert prepare() is None
    shutil.rmtree(bench.medium)
    shutil.copytree(bench.root, bench.medium)
    assert "is element main of archive test" in str(prepare())


async def test_what_is_damaged_stays_and_the_rest_goes(bench: OfflineBench) -> None:
    """SEMANTICS: AR-2"""
    await bench.write(b"bad", b"content")
    await bench.write(b"good", b"other content")
    await bench.drain()
    (bad,) = (path for path in bench.root.rglob("bad*") if path.suffix != ".json")
    bad.write_bytes(b"CONTENT")
    bench.put_into(ElementMode.AR)
    assert await bench.move() == FAILED_PAUSE_S
    assert list(bench.objects(bench.root).values()) == [b"CONTENT"]
    assert list(bench.objects(bench.medium).values()) == [b"other content"]
    answer = await bench.offlining.describe("main")
    (error,) = answer["errors"]
    assert error["path"] == "/bad"
    assert "SHA-256" in error["error"]
    bad.write_bytes(b"content")
    assert await bench.move() == math.inf
    assert (await bench.offlining.describe("main"))["errors"] == []


async def test_what_reads_back_wrong_is_not_removed(
    bench: OfflineBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: AR-2"""
    await bench.write(b"f", b"content")
    await bench.drain()
    bench.put_into(ElementMode.AR)
    with monkeypatch.context() as patch:
        patch.setattr(take_offline, "hash_blocks", lambda fd: (b"\0" * 32, hash_blocks(fd)[1]))
        assert await bench.move() == FAILED_PAUSE_S
    assert list(bench.objects(bench.root).values()) == [b"content"]
    assert bench.objects(bench.medium) == {}
    assert await bench.move() == math.inf
    assert list(bench.objects(bench.medium).values()) == [b"content"]


async def test_a_full_medium_takes_nothing_from_the_element(
    bench: OfflineBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: AR-2"""
    await bench.write(b"f", b"content")
    await bench.write(b"g", b"more content")
    await bench.drain()
    before = bench.objects(bench.root)
    bench.put_into(ElementMode.AR)
    put = LocalElement.put

    def put_until_full(element: LocalElement, key: str, *arguments: Any, **named: Any) -> None:
        if element.id == "main/offline" and "/g_" in key:
            raise ElementFull(element.id, key, "no room")
        put(element, key, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(LocalElement, "put", put_until_full)
        assert await bench.move() == LOOK_S
    assert "no room" in (await bench.offlining.describe("main"))["error"]
    assert bench.objects(bench.root) == before
    assert bench.objects(bench.medium) == {}
    assert await bench.move() == math.inf
    assert bench.objects(bench.medium) == before


async def test_a_check_knows_what_is_offline(bench: OfflineBench) -> None:
    """SEMANTICS: AR-4"""
    await bench.archived(b"large", LARGE)
    report = bench.fsck(deep=True)
    assert not report.findings
    assert report.hashed_bytes == len(LARGE)
    bench.unmount()
    report = bench.fsck(deep=True)
    (finding,) = report.findings
    assert (finding.kind, report.left) == (FindingClass.OFFLINE, [])
    assert "1 objects were not looked at" in finding.detail
    bench.mount()
    (path,) = (p for p in bench.medium.rglob("large*") if p.suffix != ".blocks")
    path.write_bytes(LARGE[:-1] + b"?")
    (finding,) = bench.fsck(deep=True, restart=True).left
    assert finding.kind is FindingClass.WRONG_HASH
    path.unlink()
    (finding,) = bench.fsck().left
    assert finding.kind is FindingClass.SIDECAR_WITHOUT_OBJECT
    bench.is_sound = False


async def test_a_rebuilt_index_knows_what_is_offline(bench: OfflineBench) -> None:
    """Also while the medium is away. SEMANTICS: AR-4"""
    await bench.archived(b"f", b"content")
    bench.unmount()
    report = rebuild(bench)
    assert report.problems == []
    assert await code_of_reading(bench, b"f") == errno.EREMOTE
    assert not bench.fsck().left
    assert bench.look()[0].vanished == 0
    bench.mount()


async def test_restore_takes_content_from_the_medium(bench: OfflineBench) -> None:
    """SEMANTICS: AR-4"""
    await bench.archived(b"f", b"content")
    script = bench.root / ".artstorefs" / "restore.py"
    target = bench.base / "target"
    command = [sys.executable, str(script), str(target), "--offline", str(bench.medium)]
    await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    assert (target / "f").read_bytes() == b"content"


async def test_what_is_copied_back_is_as_before(bench: OfflineBench) -> None:
    """The way back, as README.txt of the medium tells it. SEMANTICS: AR-5"""
    node = await bench.archived(b"f", b"content")
    bench.put_into(ElementMode.EDIT)
    assert bench.state(node) == "archived"
    assert await code_of_reading(bench, b"f") == errno.EREMOTE
    handle = await bench.open_file(node)
    with pytest.raises(ArtStoreFSError) as caught:
        await bench.contents.write(handle, 0, b"new")
    assert caught.value.errno_code == errno.EREMOTE
    bench.contents.release(handle)
    for key, data in bench.objects(bench.medium).items():
        (bench.root / key).write_bytes(data)
    bench.rescan()
    assert bench.state(node) == "stored"
    assert await code_of_reading(bench, b"f") == 0


async def test_a_file_that_is_removed_leaves_no_row(bench: OfflineBench) -> None:
    await bench.archived(b"f", b"content")
    bench.put_into(ElementMode.EDIT)
    bench.unlink(b"f")
    await bench.drain()
    await bench.offlining.forget_stale()
    assert (await bench.offlining.describe("main"))["files"] == 0
    assert len(bench.objects(bench.medium)) == 1
