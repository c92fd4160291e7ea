"""Documents that are each in order and make no tree: circles, strangers, impossible names, sizes.
A rebuild makes a tree of what there is, loses nothing of it, and the mount goes on."""

import json
import os
import shutil
import stat
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from artstorefs.core.json_text import name_from_json
from artstorefs.core.naming import record_key
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node
from artstorefs.transfer.reading import REPORTED_MAX

from ..filesystem.workbench import DIRECTORY, ME, Workbench
from .cases import written
from .planting import CANARY, Planter, assert_good, forget, tree_of

pytestmark = pytest.mark.slow


@pytest.fixture
async def bench(tmp_path: Path) -> Workbench:
    (tmp_path / "canary").write_bytes(CANARY)
    return Workbench(tmp_path)


@pytest.fixture
async def planter(bench: Workbench) -> Planter:
    await bench.write(b"good", b"good content")
    bench.tree.create(ROOT_INO, b"good directory", DIRECTORY, ME)
    await bench.drain()
    root = bench.archive.index.node(ROOT_INO)
    return Planter(bench.root, str(UUID(bytes=root.file_id)))


async def rebuilt(bench: Workbench) -> dict[bytes, Node]:
    forget(bench)
    bench.open()
    await assert_good(bench)
    tree = tree_of(bench)
    bench.restart()
    await assert_good(bench)
    return tree


async def test_parents_in_a_circle(bench: Workbench, planter: Planter) -> None:
    """SEMANTICS: ELEM-8"""
    for size in (2, 3, 50):
        ids = [str(uuid4()) for _ in range(size)]
        for number, file_id in enumerate(ids):
            planter.directory("same", ids[(number + 1) % size], file_id)
        planter.file("below", ids[0])
    tree = await rebuilt(bench)
    assert sum(path.endswith(b"/below") for path in tree) == 3
    assert all(path.startswith(b"/lost+found/") for path in tree if b"below" in path)


async def test_many_circles_take_no_time(bench: Workbench, planter: Planter) -> None:
    for _ in range(1500):
        one, two = str(uuid4()), str(uuid4())
        planter.directory("a", two, one)
        planter.directory("a", one, two)
    tree = await rebuilt(bench)
    assert len(tree) == 3000 + 3


async def test_parents_that_are_no_directories(bench: Workbench, planter: Planter) -> None:
    file = planter.file("file", planter.root_id)
    planter.file("child of a file", file)
    planter.directory("directory of a file", file)
    orphan = planter.directory("orphan", str(uuid4()))
    planter.link("child of a link", planter.link("link", planter.root_id, file), file)
    planter.file("below an orphan", orphan)
    tree = await rebuilt(bench)
    found = [b"child of a file", b"directory of a file", b"orphan", b"child of a link"]
    assert all(b"/lost+found/" + name in tree for name in found)
    assert b"/lost+found/orphan/below an orphan" in tree


@pytest.mark.parametrize("first", [True, False])
async def test_something_else_called_lost_and_found(
    bench: Workbench, planter: Planter, first: bool
) -> None:
    if first:
        planter.file("orphan", str(uuid4()))
    planter.file("lost+found", planter.root_id)
    planter.file("orphan", str(uuid4()))
    planter.file("orphan", str(uuid4()))
    tree = await rebuilt(bench)
    directories = [path for path, node in tree.items() if node.is_directory and b"lost" in path]
    assert len(directories) == 1
    assert sum(path.startswith(directories[0] + b"/orphan") for path in tree) == 2 + first


async def test_names_that_stand_twice(bench: Workbench, planter: Planter) -> None:
    for name in ("x.txt", "x." + "e" * 253, "n" * 255, "é" * 127, {"$b64": "/w=="}, "good"):
        for _ in range(3):
            planter.file(name, planter.root_id)
        file_id = planter.directory(name, planter.root_id)
        stem, dot, extension = name.rpartition(".") if isinstance(name, str) else ("", "", "")
        if len(name) < 100 and dot:
            planter.file(f"{stem} ({file_id[:8]}).{extension}", planter.root_id)
    tree = await rebuilt(bench)
    assert len(tree) == 2 + 6 * 4 + 1
    assert all(path.decode() for path, node in tree.items() if b"\xff" not in path)


async def test_names_that_differ_by_normalisation_are_two(
    bench: Workbench, planter: Planter
) -> None:
    planter.file("\u00e9", planter.root_id)
    planter.file("e\u0301", planter.root_id)
    planter.file("E\u0301", planter.root_id)
    tree = await rebuilt(bench)
    assert {"/\u00e9".encode(), "/e\u0301".encode(), "/E\u0301".encode()} < set(tree)


async def test_links_that_cannot_be(bench: Workbench, planter: Planter) -> None:
    directory = planter.directory("directory", planter.root_id)
    file = planter.file("file", planter.root_id)
    planter.link("to a directory", planter.root_id, directory)
    planter.link("to the root", directory, planter.root_id)
    planter.link("to nothing", planter.root_id, str(uuid4()))
    link = planter.link("good link", directory, file)
    planter.link("to a link", planter.root_id, link)
    planter.link(
        "to itself",
        planter.root_id,
        "11111111-1111-4111-8111-111111111111",
        "11111111-1111-4111-8111-111111111111",
    )
    planter.link("of the id of a file", planter.root_id, file, file)
    tree = await rebuilt(bench)
    added = {path for path in tree if b"good" not in path}
    assert added == {b"/directory", b"/file"}
    assert tree[b"/directory/good link"].ino == tree[b"/file"].ino


async def test_two_documents_of_one_file(bench: Workbench, planter: Planter) -> None:
    """The higher revision counts; of equal ones the same each time."""
    file_id = str(uuid4())
    for number, revision in enumerate((5, 9, 7)):
        planter.file(
            f"revision {revision}",
            planter.root_id,
            f"2025/01/01/0{number}/x_{file_id}",
            file_id=file_id,
            posix=planter.posix(f"r{revision}", planter.root_id, revision=revision),
        )
    twin = str(uuid4())
    for number in range(5):
        planter.file(
            "",
            planter.root_id,
            f"2025/01/01/1{number}/x_{twin}",
            file_id=twin,
            posix=planter.posix(f"twin {number}", planter.root_id),
        )
    tree = await rebuilt(bench)
    assert {path for path in tree if b"good" not in path} == {b"/r9", b"/twin 4"}


@pytest.mark.parametrize("what", ["file", "directory elsewhere", "symlink", "garbage", "gone"])
async def test_the_place_of_the_root_is_claimed(
    bench: Workbench, planter: Planter, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = planter.root / record_key(UUID(planter.root_id))
    high = planter.posix("x", str(uuid4()), revision=10**6)
    if what == "file":
        planter.file("x", planter.root_id, file_id=planter.root_id, posix=high)
    elif what == "directory elsewhere":
        planter.directory("x", planter.root_id, planter.root_id, posix=high)
    elif what == "symlink":
        planter.record(
            {"file_id": planter.root_id, "type": "symlink", "target": "/", "posix": high}
        )
    elif what == "garbage":
        path.write_bytes(b"{")
    else:
        path.unlink()
    before = path.read_bytes() if path.exists() else None
    tree = await rebuilt(bench)
    assert set(tree) == {b"/good", b"/good directory"}
    assert "root directory" in caplog.text
    if what == "file":
        return
    bench.xattrs.set(bench.archive.index.node(ROOT_INO), b"user.x", b"y", 0, ME)
    await bench.step()
    if before is None:
        assert json.loads(path.read_bytes())["custom_attributes"] == {"x": "y"}
    elif what == "garbage":
        assert path.read_bytes() == before
        assert bench.archive.log.failure(ROOT_INO)


@pytest.mark.parametrize(
    "created", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59"]
)
@pytest.mark.parametrize("creator", [10**100, -1, 2**32, 1e300, "9" * 1000, "１２", "anna", None])
async def test_odd_creators_and_moments(
    bench: Workbench, planter: Planter, created: str, creator: object
) -> None:
    planter.directory("odd", planter.root_id, created_at=created, created_by_id=creator)
    planter.file("odd file", planter.root_id, created_at=created, created_by_id=creator)
    tree = await rebuilt(bench)
    bench.xattrs.set(bench.archive.index.node(tree[b"/odd"].ino), b"user.x", b"y", 0, ME)
    await bench.drain()
    for path in (bench.root / ".artstorefs" / "nodes").rglob("*.node.json"):
        members = json.loads(path.read_bytes())
        if members["posix"]["name"] == "odd":
            assert members["custom_attributes"] == {"x": "y"}
            assert (members["created_at"], members["created_by_id"]) == (created, creator)


async def test_sizes_that_are_out_of_this_world(bench: Workbench, planter: Planter) -> None:
    for number in range(4):
        planter.file(f"huge {number}", planter.root_id, file_size=2**63 - 1)
    tree = await rebuilt(bench)
    assert tree[b"/huge 0"].size == 2**63 - 1
    assert bench.reader.stored_bytes("main") > 2**63
    with pytest.raises(Exception, match="can be reached"):
        await bench.content(bench.archive.index.node(tree[b"/huge 0"].ino))


async def test_the_highest_revision_can_be_followed(bench: Workbench, planter: Planter) -> None:
    posix = planter.posix("top", planter.root_id, revision=2**62)
    planter.directory("top", planter.root_id, posix=posix)
    tree = await rebuilt(bench)
    bench.xattrs.set(bench.archive.index.node(tree[b"/top"].ino), b"user.x", b"y", 0, ME)
    assert bench.archive.index.node(tree[b"/top"].ino).revision == 2**62 + 1


async def test_keys_that_cannot_be_keys(
    bench: Workbench, planter: Planter, caplog: pytest.LogCaptureFixture
) -> None:
    """Odd names of sidecars, a sidecar of nothing, deep directories: the listing goes on."""
    good = next(bench.root.rglob("*.attr.json")).read_bytes()
    odd = [b"2025/\xff\xfe.attr.json", b"2025/a\\b.attr.json", b"2025/.attr.json", b".attr.json"]
    odd += [b"2025/line\nERROR forged.attr.json", b"2025/esc\x1b[31m.attr.json"]
    (bench.root / "2025").mkdir(exist_ok=True)
    members = json.loads(good)
    for name in odd:
        members |= {"file_id": str(uuid4()), "posix": planter.posix("odd", str(uuid4()))}
        put(os.path.join(os.fsencode(bench.root), name), written(members))
    descriptor = os.open(bench.root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    try:
        await rebuilt(bench)
        found, _ = bench.look()
        assert found.errors == []
        assert found.quarantined == 4
        json.dumps(found.unreadable).encode("ascii")
        assert not any("\n" in r.getMessage() or "\x1b" in r.getMessage() for r in caplog.records)
    finally:
        remove_deep(bench.root)


def put(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def remove_deep(root: Path) -> None:
    """rmtree of this Python recurses, and would not get down there."""
    while (root / "d").exists():
        half = root / "/".join(["d"] * 200)
        if half.exists():
            half.rename(root / "half")
            shutil.rmtree(root / "d")
            (root / "half").rename(root / "d")
        else:
            shutil.rmtree(root / "d")


async def test_attributes_that_cannot_be_extended_attributes(
    bench: Workbench, planter: Planter
) -> None:
    """They are kept, and never listed: what is listed can be got."""
    custom = {"": 1, "$b64:AA==": 1, "n" * 300: 1, "artstore.state": "forged", "artstore": 1}
    custom |= {"a\nb": 1, "ok": [1, {"x": None}], "null": None}
    xattrs = {"user.double": "x", "nonamespace": "x", "system.nfs4_acl": "x", "trusted.": "x"}
    xattrs |= {"trusted.$b64:AA==": "x", "trusted.ok": None, "security." + "n" * 300: "x"}
    posix = planter.posix("odd", planter.root_id, xattrs=xattrs)
    planter.directory("odd", planter.root_id, posix=posix, custom_attributes=custom)
    tree = await rebuilt(bench)
    node = bench.archive.index.node(tree[b"/odd"].ino)
    listed = bench.xattrs.list(node)
    for name in listed:
        assert 0 < len(name) <= 255
        assert b"\0" not in name
        bench.xattrs.get(node, name)
    assert set(listed) >= {b"user.ok", b"user.null", b"trusted.ok"}
    assert not any(name.startswith(b"user.artstore") for name in listed)
    assert b"user.double" not in listed
    assert bench.xattrs.get(node, b"trusted.ok") == b"null"
    bench.xattrs.set(node, b"user.new", b"1", 0, ME)
    await bench.drain()
    document = json.loads((bench.root / record_key(UUID(bytes=node.file_id))).read_bytes())
    assert document["custom_attributes"] == {**custom, "new": 1}
    assert document["posix"]["xattrs"] == xattrs


@pytest.mark.parametrize("value", ["garbage", "", None, 5, {"$b64": "AgAAAP//////////"}])
async def test_access_lists_that_are_none(
    bench: Workbench, planter: Planter, value: object
) -> None:
    """Kept as they are, and of no effect: nothing below the directory fails."""
    xattrs = {"system.posix_acl_access": value, "system.posix_acl_default": value}
    planter.directory(
        "odd", planter.root_id, posix=planter.posix("odd", planter.root_id, xattrs=xattrs)
    )
    tree = await rebuilt(bench)
    node = bench.archive.index.node(tree[b"/odd"].ino)
    assert not any(name.startswith(b"system.") for name in bench.xattrs.list(node))
    bench.tree.create(node.ino, b"child", DIRECTORY, ME)
    await bench.attributes.change(node, AttributeChange(mode=0o700), ME)
    assert stat.S_IMODE(node.mode) == 0o700
    await bench.drain()
    document = json.loads((bench.root / record_key(UUID(bytes=node.file_id))).read_bytes())
    assert document["posix"]["xattrs"] == xattrs
    assert name_from_json(document["posix"]["name"]) == b"odd"


async def test_many_documents_of_one_hour(bench: Workbench, planter: Planter) -> None:
    """ASFS_SIDECARS of them (2,000), a tenth of them bad."""
    count = int(os.environ.get("ASFS_SIDECARS", "2000"))
    members = {"schema_version": "2.0", "file_size": 1, "checksum": "0" * 64}
    members |= {"original_filename": "x", "storage_filename": "x"}
    hour = bench.root / "2025/01/01/00"
    hour.mkdir(parents=True)
    descriptor = os.open(hour, os.O_RDONLY)
    for number in range(count):
        posix = planter.posix(f"file {number}", planter.root_id)
        document = {**members, "file_id": str(UUID(int=number + 1)), "posix": posix}
        data = written(document)[: -1 if number % 10 == 0 else None]
        file = os.open(f"x{number}.attr.json", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor)
        os.write(file, data)
        os.close(file)
    os.close(descriptor)
    begun = time.thread_time()
    tree = await rebuilt(bench)
    assert len(tree) == count - count // 10 + 2
    found, _ = bench.look()
    assert found.quarantined == count // 10
    assert len(found.unreadable) == min(count // 10, REPORTED_MAX)
    assert time.thread_time() - begun < 2 + count / 500
