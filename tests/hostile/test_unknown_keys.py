"""Keys that others write survive every rewrite of ours, through index, rebuild and every document.

The way of a key: document → rebuild or observation → `nodes.carried` → document.
"""

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artstorefs.core.naming import record_key
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from ..filesystem.workbench import DIRECTORY, ME, Workbench
from .cases import written
from .parsers import exact
from .planting import Planter, forget

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from(
    ["model_config", "__class__", "as_json", "$b64", "type", "target", "rdev", "major", "x.y"]
)
NUMBERS = st.integers(-(10**100), 10**100) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OWN = {"schema_version", "file_id", "original_filename", "storage_filename", "file_size"}
OWN |= {"content_type", "created_at", "updated_at", "created_by_id", "created_by_username"}
OWN |= {"created_by_fullname", "description", "version", "storage_path", "checksum", "metadata"}
OWN |= {"custom_attributes", "posix", "record_version", "type", "target", "rdev", "target_id"}
POSIX = {"revision", "parent", "name", "mode", "uid", "gid", "atime_ns", "mtime_ns", "ctime_ns"}
POSIX |= {"xattrs", "blocks"}
MEMBERS = st.dictionaries(KEYS.filter(lambda key: key not in OWN), VALUES, max_size=5)
POSIX_MEMBERS = st.dictionaries(KEYS.filter(lambda key: key not in POSIX), VALUES, max_size=3)

KINDS = ["file", "directory", "device", "link"]


async def make(bench: Workbench, kind: str) -> tuple[Node, Path]:
    """A node on the element, and its document; of a link, the link's."""
    if kind == "directory":
        node = bench.tree.create(ROOT_INO, b"it", DIRECTORY, ME)
    elif kind == "device":
        node = bench.tree.create(ROOT_INO, b"it", 0o020644, ME, rdev=0x103)
    else:
        node = await bench.write(b"it", b"content")
    if kind == "link":
        bench.tree.link(node.ino, ROOT_INO, b"again", ME)
    await bench.drain()
    return node, path_of(bench, node, kind)


def path_of(bench: Workbench, node: Node, kind: str) -> Path:
    if kind == "link":
        entry = next(iter(bench.archive.index.link_names(node.ino)))
        return bench.root / record_key(UUID(bytes=entry.link_id))
    copy = bench.archive.index.copies(node.ino)[0]
    return bench.root / (copy.key if copy.is_record else f"{copy.key}.attr.json")


async def rewrite(bench: Workbench, kind: str) -> Path:
    """A change of ours, carried; the document after it."""
    name = b"again" if kind == "link" else b"it"
    bench.rename(name, b"for a moment")
    bench.rename(b"for a moment", name)
    node = bench.tree.lookup(ROOT_INO, name)
    await bench.attributes.change(node, AttributeChange(mtime_ns=node.mtime_ns + 1), ME)
    await bench.drain()
    return path_of(bench, node, kind)


def added(path: Path, members: dict[str, Any], posix: dict[str, Any]) -> None:
    document = json.loads(path.read_bytes())
    path.write_bytes(written({**members, **document, "posix": {**posix, **document["posix"]}}))


def check(path: Path, members: dict[str, Any], posix: dict[str, Any], before: int) -> None:
    document = json.loads(path.read_bytes())
    assert document["posix"]["revision"] > before, "it was not rewritten"
    for key, value in members.items():
        assert exact(document[key]) == exact(value), key
    for key, value in posix.items():
        assert exact(document["posix"][key]) == exact(value), key
    known = [key for key in document if key not in members]
    assert list(document) == known + [key for key in document if key in members]
    assert [key for key in document if key in members] == [
        key for key in members if key in document
    ], "in another order"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(members=MEMBERS, posix=POSIX_MEMBERS)
def test_lesson_18_rewrites_keep_unknown_keys(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    members: dict[str, Any],
    posix: dict[str, Any],
) -> None:
    """SEMANTICS: ELEM-5. Observed, rewritten twice, rebuilt from the element, rewritten again."""

    async def scenario() -> None:
        base = tmp_path_factory.mktemp("keys")
        bench = Workbench(base)
        _, path = await make(bench, kind)
        added(path, members, posix)
        for _ in range(2):
            before = json.loads(path.read_bytes())["posix"]["revision"]
            path = await rewrite(bench, kind)
            check(path, members, posix, before)
        forget(bench)
        bench.open()
        before = json.loads(path.read_bytes())["posix"]["revision"]
        check(await rewrite(bench, kind), members, posix, before)
        forget(bench)
        shutil.rmtree(base)

    trio.run(scenario)


async def test_lesson_18_keys_survive_empty_and_full_again(bench: Workbench) -> None:
    """attr.json → node record → attr.json, with keys that mean something in the other one."""
    await bench.write(b"it", b"content")
    await bench.drain()
    members = {"type": "photograph", "target": 5, "rdev": [], "record_version": "9", "x": {"y": 1}}
    document = path_of(bench, bench.tree.lookup(ROOT_INO, b"it"), "file")
    added(document, members, {"here": None})
    node = await bench.write(b"it", b"")
    await bench.drain()
    record = json.loads(path_of(bench, node, "file").read_bytes())
    assert (record["type"], record["x"], record["posix"]["here"]) == ("file", {"y": 1}, None)
    await bench.write(b"it", b"content again")
    await bench.drain()
    again = json.loads(path_of(bench, node, "file").read_bytes())
    assert {key: again[key] for key in members} == members
    assert again["posix"]["here"] is None


async def test_keys_of_a_record_that_no_attr_json_can_have(bench: Workbench) -> None:
    """`version` of a node record is nobody's; an attr.json's has to be a number or text."""
    node = bench.make(b"it")
    await bench.drain()
    root = bench.archive.index.node(ROOT_INO)
    planter = Planter(bench.root, str(UUID(bytes=root.file_id)))
    path = bench.root / record_key(UUID(bytes=node.file_id))
    strange = {"version": {"a": 1}, "checksum": "mine", "file_size": -1, "x": 1}
    added(path, strange, {})
    assert planter.root_id
    await bench.write(b"it", b"content")
    await bench.drain()
    document = json.loads(path_of(bench, node, "file").read_bytes())
    assert (document["file_size"], document["x"]) == (7, 1)
    await bench.write(b"it", b"")
    await bench.drain()
    record = json.loads(path_of(bench, node, "file").read_bytes())
    assert {key: record[key] for key in ("version", "x")} == {"version": {"a": 1}, "x": 1}


@pytest.fixture
async def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)
