"""What others add to, change and remove on an element while the archive is in use."""

import json
import os
import random
from pathlib import Path
from uuid import UUID

import pytest
import trio.testing

from artstorefs.core.errors import StateError
from artstorefs.core.naming import record_key
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.recovery.survey import PART
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import ContentState

from ..artstore import read_element, write_file
from .rebuilding import close, rebuild_again, tree
from .test_adoption import HOUR, AdoptedBench, everything
from .workbench import ME, Workbench

PATH = [(b"", b"2024"), (b"2024", b"03"), (b"2024/03", b"05"), (b"2024/03/05", b"14")]
NAMES = [b"14", b"05", b"03", b"2024"]


@pytest.fixture
async def bench(tmp_path: Path, clock: trio.testing.MockClock) -> AdoptedBench:
    write_file(tmp_path / "element", "scan.tif", b"scan")
    return AdoptedBench(tmp_path)


def counts(found: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in found.items() if value and key not in ("seen", "gone")}


async def test_files_that_are_added_show(bench: AdoptedBench) -> None:
    """In directories that are there, in new ones, without a write. SEMANTICS: ADOPT-2, ADOPT-6"""
    came: list[tuple[int, bytes]] = []
    bench.link.surveys._entry_came = lambda directory, name: came.append((directory, name))
    write_file(bench.root, "Новый.pdf", b"new", schema="1.0", description="d")
    write_file(bench.root, "scan.tif", b"second", file_id=UUID("ffffffff" + "0" * 24))
    write_file(bench.root, "other", b"other", storage_path="elsewhere/it/")
    before = everything(bench.root)
    assert counts(bench.rescan()) == {"added": 3}
    assert await bench.content(bench.file("Новый.pdf".encode())) == b"new"
    assert await bench.content(bench.file(b"scan (ffffffff).tif")) == b"second"
    assert await bench.content(bench.file(b"other", b"elsewhere/it")) == b"other"
    hour = bench.archive.index.first_name(bench.file(b"scan.tif").ino).parent  # type: ignore[union-attr]
    assert {(hour, "Новый.pdf".encode()), (ROOT_INO, b"elsewhere")} < set(came)
    assert counts(bench.rescan()) == {}
    await bench.drain()
    assert everything(bench.root) == before
    bench.restart()
    assert counts(bench.rescan()) == {}
    assert bench.tree.node(ROOT_INO).nlink == 2 + 2
    bench.check_soundness()
    same_after_a_rebuild(bench)


def same_after_a_rebuild(bench: AdoptedBench) -> None:
    """The tree is the one that a rebuild gives, but for times of directories that it makes up."""
    before = {path: node["file_id"] for path, node in tree(bench).items()}
    (bench.root / ".artstorefs").mkdir(exist_ok=True)
    record = bench.root / ".artstorefs/archive.json"
    had_record = record.exists()
    if not had_record:
        record.write_text(json.dumps({"archive_id": str(bench.archive.id)}))
    close(bench)
    try:
        rebuild_again(bench)
    finally:
        if not had_record:
            record.unlink()
        bench.open()
    assert {path: node["file_id"] for path, node in tree(bench).items()} == before


async def test_a_directory_that_was_renamed_gets_what_is_put_into_it(bench: AdoptedBench) -> None:
    """As in a rebuild, by its file_id. SEMANTICS: ADOPT-6"""
    node = bench.file(b"05", b"2024/03")
    parent = bench.archive.index.first_name(node.ino).parent  # type: ignore[union-attr]
    bench.rename(b"05", b"March 5th", parent, parent)
    await bench.drain()
    before = (node.mtime_ns, node.ctime_ns, node.revision)
    write_file(bench.root, "new", b"new")
    assert counts(bench.rescan()) == {"added": 1}
    assert await bench.content(bench.file(b"new", b"2024/03/March 5th/14")) == b"new"
    assert (node.mtime_ns, node.ctime_ns, node.revision) == before
    assert bench.link.schedule.is_empty
    bench.check_soundness()


async def test_a_directory_that_is_renamed_or_removed_during_the_look(bench: AdoptedBench) -> None:
    """No two directories have one file_id."""
    for number in range(3):
        write_file(bench.root, f"f{number}", b"x", storage_path="new/")
    surveys = bench.link.surveys
    number = surveys.begin()
    ended, parts = bench.look()
    found = parts[0].found
    for index, item in enumerate(found):
        parts[0].found = [item]
        surveys.take({"survey": number, "part": parts[0].to_message()})
        if index == 0:
            bench.rename(b"new", b"renamed")
        if index == 1:
            node = bench.archive.index.child(ROOT_INO, b"renamed")
            assert node is not None
            for _, name, _ in bench.archive.index.children(node.ino, 0, 10):
                bench.unlink(name, node.ino)
            bench.tree.rmdir(ROOT_INO, b"renamed", ME)
            made = node.file_id
    surveys.take({"survey": number, "end": ended.to_message()})
    assert surveys.last["added"] == 3
    node = bench.archive.index.child(ROOT_INO, b"new")
    assert node is not None
    assert node.file_id != made
    await bench.drain()
    bench.make(b"ours", node.ino)  # which has the directory recorded
    await bench.drain()
    bench.check_soundness()
    assert (bench.root / record_key(UUID(bytes=node.file_id))).exists()


async def test_a_directory_whose_record_is_still_to_be_removed(bench: AdoptedBench) -> None:
    """The removal must not take the record of its successor."""
    node = bench.file(b"2024", b"")
    await bench.attributes.change(node, AttributeChange(mode=0o700), ME)
    await bench.drain()
    at = [bench.file(name, folder) for folder, name in PATH]
    bench.unlink(b"scan.tif", at[-1].ino)
    for parent, name in zip([ROOT_INO, *(one.ino for one in at)][-2::-1], NAMES, strict=False):
        bench.tree.rmdir(parent, name, ME)
    write_file(bench.root, "again", b"again")
    assert bench.rescan()["added"] == 1
    again = bench.file(b"2024", b"")
    assert again.file_id != node.file_id
    await bench.attributes.change(again, AttributeChange(mode=0o700), ME)
    await bench.drain()
    assert (bench.root / record_key(UUID(bytes=again.file_id))).exists()
    bench.check_soundness()


async def test_a_file_is_in_the_way_of_a_directory(bench: AdoptedBench) -> None:
    write_file(bench.root, "elsewhere", b"a file", storage_path="")
    write_file(bench.root, "elsewhere", b"of ours").unlink()
    await bench.write(b"folder", b"ours")
    await bench.drain()
    write_file(bench.root, "x", b"x", storage_path="folder/")
    assert bench.rescan()["added"] == 2
    names = [name for _, name, _ in bench.archive.index.children(ROOT_INO, 0, 100)]
    (folder,) = [name for name in names if name.startswith(b"folder (")]
    assert await bench.content(bench.file(b"x", folder)) == b"x"


async def test_an_object_that_is_not_whole_yet(bench: AdoptedBench) -> None:
    """SEMANTICS: ADOPT-6"""
    path = write_file(bench.root, "coming", b"whole")
    content = str(path).removesuffix(".attr.json")
    for size in (0, 3):
        os.truncate(content, size)
        found = bench.rescan()
        assert counts(found) == {"quarantined": 1}
        assert "its object" in bench.link.surveys.bad_documents[0]
    os.unlink(content)
    assert counts(bench.rescan()) == {"quarantined": 1}
    write_object(content, b"whole")
    assert counts(bench.rescan()) == {"added": 1}


def write_object(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


# --------------------------------------------------------------- what happens during the look


async def test_what_is_removed_here_does_not_come_back(bench: AdoptedBench) -> None:
    """Before the look, during it, and after its listing. SEMANTICS: ADOPT-6"""
    hour = bench.archive.index.first_name(bench.file(b"scan.tif").ino).parent  # type: ignore[union-attr]
    for name in ("before", "during", "stays"):
        write_file(bench.root, name, name.encode())
    bench.rescan()
    bench.unlink(b"before", hour)
    surveys = bench.link.surveys
    number = surveys.begin()
    bench.unlink(b"during", hour)
    ended, parts = bench.look()  # the elements have not been told yet
    assert {item.name for item in parts[0].found} == {b"before", b"during"}
    await bench.drain()
    surveys.take({"survey": number, "part": parts[0].to_message()})
    surveys.take({"survey": number, "end": ended.to_message()})
    assert surveys.last["added"] == 0
    names = {one.fields["original_filename"] for one in read_element(bench.root).values()}
    assert names == {"scan.tif", "stays"}
    assert counts(bench.rescan()) == {}


async def test_what_is_made_here_meanwhile_is_not_found_again(bench: AdoptedBench) -> None:
    """A file of ours whose store is not committed yet is no addition. SEMANTICS: ADOPT-6"""
    await bench.write(b"ours", b"ours")
    await bench.send()
    answer = bench.carry()
    assert counts(bench.rescan()) == {}
    bench.answer(answer)
    await bench.drain()
    assert counts(bench.rescan()) == {}
    bench.check_soundness()


async def test_parts_that_come_again_after_a_failure(
    bench: AdoptedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state directory was full for a moment."""
    for number in range(PART + 5):
        write_file(bench.root, f"f{number}", b"x")
    surveys = bench.link.surveys
    number = surveys.begin()
    ended, parts = bench.look()
    assert sum(len(part.found) for part in parts) == PART + 5
    assert len(parts) > 1  # more of them where the look takes long: somebody waits
    assert max(len(part.found) for part in parts) <= PART
    message = {"survey": number, "part": parts[0].to_message()}
    observe = bench.archive.outcomes.observe
    monkeypatch.setattr(bench.archive.outcomes, "observe", _full)
    with pytest.raises(StateError):
        surveys.take(message)
    monkeypatch.setattr(bench.archive.outcomes, "observe", observe)
    surveys.take(message)
    for part in parts[1:]:
        surveys.take({"survey": number, "part": part.to_message()})
    surveys.take({"survey": number - 1, "end": ended.to_message()})  # of another look
    surveys.take({"survey": number, "end": ended.to_message()})
    assert surveys.last["added"] == PART + 5
    assert len(bench.archive.index.children(_hour(bench), 0, 1000)) == PART + 6


def _full(*_: object) -> int:
    raise StateError("state", "is full")


def _hour(bench: AdoptedBench) -> int:
    entry = bench.archive.index.first_name(bench.file(b"scan.tif").ino)
    assert entry is not None
    return entry.parent


# ------------------------------------------------------------------------- changed, and gone


async def test_what_others_have_removed_is_told_of_and_stays(
    bench: AdoptedBench, clock: trio.testing.MockClock
) -> None:
    """SEMANTICS: ADOPT-7"""
    sidecars = [write_file(bench.root, name, name.encode()) for name in ("a", "b", "c")]
    bench.rescan()
    objects = [Path(str(path).removesuffix(".attr.json")) for path in sidecars]
    objects[0].unlink()
    sidecars[1].unlink()
    objects[2].unlink()
    sidecars[2].unlink()
    found = bench.rescan()
    assert counts(found) == {"vanished": 3}
    told = {one["path"].rpartition("/")[2]: one["error"] for one in found["gone"]}
    assert set(told) == {"a", "b", "c"}
    assert "_ivanov_" in told["a"]
    assert ".attr.json is not there any more" in told["b"]
    assert len(tree(bench)) == 4 + 4
    before = everything(bench.root)
    await bench.drain()
    assert everything(bench.root) == before
    for name in (b"a", b"c"):  # a new attr.json would speak of nothing
        await bench.attributes.change(bench.file(name), AttributeChange(mode=0o600), ME)
    await bench.step()
    error = bench.archive.log.failure(bench.file(b"c").ino)
    assert error is not None
    assert "its object is gone" in error
    assert not sidecars[2].exists()
    for name in (b"a", b"b", b"c"):
        bench.unlink(name, _hour(bench))
    clock.jump(100)  # what failed is tried again
    await bench.drain()
    assert counts(bench.rescan()) == {}


async def test_another_content_is_not_believed(bench: AdoptedBench) -> None:
    """SEMANTICS: ADOPT-7"""
    (path,) = bench.root.rglob("*.attr.json")
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | {"file_size": 5, "checksum": "0" * 64}))
    os.utime(path, (1, 1))
    found = bench.rescan()
    assert counts(found) == {"quarantined": 1}
    assert "speaks of other content" in bench.link.surveys.bad_documents[0]
    assert await bench.content(bench.file(b"scan.tif")) == b"scan"


async def test_what_others_have_changed_is_taken_over(bench: AdoptedBench) -> None:
    """SEMANTICS: ELEM-5, ADOPT-6"""
    (path,) = bench.root.rglob("*.attr.json")
    document = json.loads(path.read_bytes())
    document |= {"description": "new", "custom_attributes": {"k": "их"}, "theirs": [1]}
    path.write_text(json.dumps(document))
    assert counts(bench.rescan()) == {"changed": 1}
    scan = bench.file(b"scan.tif")
    assert bench.xattrs.get(scan, b"user.k") == "их".encode()
    bench.xattrs.set(scan, b"user.ours", b"1", 0, ME)
    await bench.drain()
    (one,) = read_element(bench.root).values()
    assert (one.fields["description"], one.fields["theirs"]) == ("new", [1])
    assert one.custom == {"k": "их", "ours": 1}


async def test_a_document_of_an_archive_that_is_not_known_is_left(bench: AdoptedBench) -> None:
    """SEMANTICS: ADOPT-7"""
    posix = {"revision": 3, "parent": str(UUID(int=7)), "name": "x", "mode": "0644", "uid": 0}
    posix |= {"gid": 0, "atime_ns": 0, "mtime_ns": 0, "ctime_ns": 0}
    write_file(bench.root, "x", b"x", posix=posix)
    before = everything(bench.root)
    assert counts(bench.rescan()) == {"unknown": 1}
    assert everything(bench.root) == before


async def test_many_files_of_both_sides(bench: AdoptedBench) -> None:
    """Others add and remove, programs write, links carry, and a look comes now and then."""
    choose = random.Random(int(os.environ["ASFS_SEED"]))
    theirs: dict[str, Path] = {}
    expected = {"scan.tif"}
    gone: set[str] = set()
    for number in range(120):
        what = choose.choice(["add", "add", "drop", "chmod", "make", "unlink", "look", "step"])
        name = f"f{number}"
        known = sorted(expected - gone - {"scan.tif"})
        if what == "add":
            theirs[name] = write_file(bench.root, name, name.encode())
        elif what == "make":
            await bench.write(name.encode(), b"ours", _hour(bench))
            expected.add(name)
        elif what == "look":
            bench.rescan()
            expected |= theirs.keys()
            theirs.clear()
        elif what == "step":
            await bench.step()
        elif what == "chmod" and known:
            node = bench.file(choose.choice(known).encode())
            await bench.attributes.change(node, AttributeChange(mode=0o600), ME)
        elif what == "unlink" and known:
            chosen = choose.choice(known)
            bench.unlink(chosen.encode(), _hour(bench))
            expected.discard(chosen)
    await bench.drain()
    bench.rescan()
    expected |= theirs.keys()
    names = {name.decode() for _, name, _ in bench.archive.index.children(_hour(bench), 0, 1000)}
    assert names == expected
    assert {one.fields["original_filename"] for one in read_element(bench.root).values()} == names
    for name in names:
        assert bench.file(name.encode()).content_state == ContentState.ARCHIVED
    bench.check_soundness()


async def test_an_archive_of_ours_gets_files_as_well(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    """An element that was made by `init`. SEMANTICS: ADOPT-6"""
    bench = Workbench(tmp_path)
    await bench.write(b"ours", b"ours")
    await bench.drain()
    write_file(bench.root, "theirs", b"theirs")
    assert bench.rescan()["added"] == 1
    at = ROOT_INO
    for part in HOUR.split(b"/"):
        child = bench.archive.index.child(at, part)
        assert child is not None
        at = child.ino
    theirs = bench.archive.index.child(at, b"theirs")
    assert theirs is not None
    assert await bench.content(theirs) == b"theirs"
    assert bench.link.schedule.is_empty
    bench.check_soundness()
