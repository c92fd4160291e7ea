"""The script on every element against odd, damaged and hostile elements, by a bare interpreter.

That it gives the whole awkward tree back is shown on a mount, in `tests/mount/test_recovery.py`.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from artstorefs.core.json_text import key_to_json, name_to_json
from artstorefs.core.xattr_values import value_to_bytes, value_to_json
from artstorefs.recovery import restore as script
from artstorefs.state.index import ROOT_INO

from .rebuilding import (
    change,
    close,
    document_of,
    make_tree,
    object_of,
    rebuild,
    tree,
)
from .workbench import DIRECTORY, ME, Workbench


def restore(element: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Nothing of this project can be imported there: no site-packages, no working directory."""
    program = [sys.executable, "-I", "-S", element / ".artstorefs/restore.py", *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)


def paths_below(top: Path) -> set[bytes]:
    base = os.fsencode(top)
    return {
        os.path.join(directory, name).removeprefix(base)
        for directory, below, names in os.walk(base)
        for name in (*below, *names)
    }


def test_it_is_one_file_of_the_standard_library_for_python_3_8() -> None:
    source = Path(script.__file__).read_text()
    parsed = ast.parse(source, feature_version=(3, 8))
    imported = {
        *(name.name for n in ast.walk(parsed) if isinstance(n, ast.Import) for name in n.names),
        *(str(n.module) for n in ast.walk(parsed) if isinstance(n, ast.ImportFrom)),
    }
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
    for later in (
        "removeprefix",
        "removesuffix",
        "is_relative_to",
        "pairwise",
        "strict=",
        "match ",
    ):
        assert later not in source


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"text", b"5", b"1.5", b"1.50", b"-0", b"true", b"null", b"nul", b'"5"', b'"x"'),
        *(b'"\\"5\\""', b'["a",1]', b'["a", 1]', b'{"a":1,"a":2}', b'{"$b64":"/w=="}'),
        *(b'{"$b64":"YQ=="}', b"\xff\xfe", b"NaN", b"1e999", b"1e5", b"9" * 128, b"9" * 129),
        *(b"[" * 29 + b"]" * 29, b"[" * 30 + b"]" * 30, b'"\\ud800"', "é".encode(), b"{", b'"'),
        *(b'"' * 5, b'{"a":[1,2.5,null]}', b"-", b"[NaN]", b'"\\u0041"'),
    ],
)
def test_values_are_read_as_the_program_reads_them(raw: bytes) -> None:
    value = value_to_json(raw)
    assert script.value_bytes(json.loads(json.dumps(value))) == raw == value_to_bytes(value)
    assert script.name_bytes(name_to_json(raw)) == raw
    assert not raw or script.key_bytes(key_to_json(raw)) == raw


async def test_what_is_restored_is_what_a_rebuild_shows(bench: Workbench) -> None:
    """SEMANTICS: ELEM-9, ELEM-10, ELEM-12"""
    bench.is_sound = False
    nodes = {name: await bench.write(name, name) for name in (b"a.txt", b"b.txt", b"orphan", b"o")}
    outer = bench.make(b"outer", mode=DIRECTORY)
    inner = bench.make(b"inner", outer.ino, mode=DIRECTORY)
    await bench.write(b"inside", b"inside", inner.ino)
    await make_tree(bench)
    change(document_of(bench, nodes[b"b.txt"]), posix={"name": "a.txt"})
    change(document_of(bench, nodes[b"orphan"]), posix={"parent": str(uuid4())})
    artstore = document_of(bench, nodes[b"o"])
    document = json.loads(artstore.read_bytes())
    del document["posix"]
    artstore.write_text(json.dumps(document | {"storage_path": "/x/../y", "updated_at": None}))
    done = restore(bench.root, bench.base / "out")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "orphan",
        f"{len(tree(bench)) + 3} nodes, 1 problems",  # root, x, y, lost+found; a link is no node
    ]
    rebuild(bench)
    assert paths_below(bench.base / "out") == set(tree(bench))
    assert (bench.base / "out/x/y/o").read_bytes() == b"o"


async def test_directories_in_a_circle_end_in_lost_and_found(bench: Workbench) -> None:
    bench.is_sound = False
    outer = bench.make(b"outer", mode=DIRECTORY)
    inner = bench.make(b"inner", outer.ino, mode=DIRECTORY)
    await bench.write(b"inside", b"inside", inner.ino)
    await bench.drain()
    change(document_of(bench, outer), posix={"parent": str(UUID(bytes=inner.file_id))})
    done = restore(bench.root, bench.base / "out")
    assert done.returncode == 1
    found = paths_below(bench.base / "out")
    assert [path for path in found if path.startswith(b"/lost+found/") and b"inside" in path]


async def test_damage_is_told_and_the_rest_is_restored(bench: Workbench) -> None:
    """SEMANTICS: ELEM-10"""
    bench.is_sound = False
    nodes = {name: await bench.write(name, name * 100) for name in (b"good", b"flipped", b"short")}
    nodes |= {
        name: await bench.write(name, name) for name in (b"absent", b"no json", b"linked out")
    }
    await bench.drain()
    objects = {name: object_of(bench, node) for name, node in nodes.items()}
    data = bytearray(objects[b"flipped"].read_bytes())
    data[50] ^= 1
    objects[b"flipped"].write_bytes(data)
    os.truncate(objects[b"short"], 10)
    objects[b"absent"].unlink()
    document_of(bench, nodes[b"no json"]).write_text('{"a": NaN}')
    objects[b"linked out"].unlink()
    objects[b"linked out"].symlink_to("/etc/passwd")
    done = restore(bench.root, bench.base / "out")
    assert done.returncode == 1
    assert paths_below(bench.base / "out") == {
        *(b"/good", b"/flipped.damaged", b"/short.damaged", b"/absent.damaged"),
        b"/linked out.damaged",
    }
    assert (bench.base / "out/good").read_bytes() == b"good" * 100
    assert (bench.base / "out/linked out.damaged").read_bytes() == b""
    for name in ("flipped", "short", "absent", "no_json", "linked"):
        assert name in done.stderr
    assert "good" not in done.stderr
    checked = restore(bench.root, "--verify-only")
    assert checked.returncode == 1
    assert len(checked.stderr.splitlines()) == 6


async def test_another_element_has_what_is_damaged_here(bench: Workbench) -> None:
    node = await bench.write(b"f", b"content")
    await bench.drain()
    second = bench.base / "second"
    shutil.copytree(bench.root, second)
    object_of(bench, node).write_bytes(b"c0ntent")
    done = restore(bench.root, bench.base / "out", "-e", bench.root, "-e", second)
    assert (bench.base / "out/f").read_bytes() == b"content"
    assert done.returncode == 1  # restored, and yet not everything is whole


HOSTILE: list[dict[str, Any]] = [
    {"posix": {"name": ".."}},
    {"posix": {"name": "../../escaped"}},
    {"posix": {"name": "/escaped"}},
    {"posix": {"name": {"$b64": "Li4vZXNjYXBlZA=="}}},
    {"posix": {"name": "a\0b"}},
    {"posix": {"name": "x" * 256}},
    {"posix": {"mode": "abc"}},
    {"posix": {"parent": 7}},
    {"posix": {"xattrs": [1]}},
    {"file_size": "many"},
    {"file_id": "../../x"},
    {"checksum": None},
    {"custom_attributes": [1]},
]


@pytest.mark.parametrize("changes", HOSTILE)
async def test_hostile_documents_write_nothing_outside_and_stop_nothing(
    bench: Workbench, changes: dict[str, Any]
) -> None:
    bench.is_sound = False
    await bench.write(b"good", b"good")
    node = await bench.write(b"evil", b"evil")
    await bench.drain()
    change(document_of(bench, node), **changes)
    target = bench.base / "deep/er/out"
    before = paths_below(bench.base)
    done = restore(bench.root, target)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert paths_below(target) == {b"/good"}
    assert {p for p in paths_below(bench.base) - before if b"/deep" not in p} == set()


async def test_symlinks_lead_nowhere(bench: Workbench) -> None:
    """A record of a symlink, and one of something in it: the name is taken, nothing is followed."""
    bench.is_sound = False
    outside = bench.base / "outside"
    outside.mkdir()
    link = bench.tree.symlink(ROOT_INO, b"d", os.fsencode(outside), ME)
    file = await bench.write(b"f", b"content")
    await bench.drain()
    change(document_of(bench, file), posix={"parent": str(UUID(bytes=link.file_id))})
    done = restore(bench.root, bench.base / "out")
    assert done.returncode == 1
    assert list(outside.iterdir()) == []
    assert (bench.base / "out/lost+found/f").read_bytes() == b"content"


async def test_a_directory_that_is_not_empty_is_refused(bench: Workbench) -> None:
    await bench.write(b"f", b"new")
    await bench.drain()
    target = bench.base / "out"
    target.mkdir()
    (target / "f").write_text("mine")
    done = restore(bench.root, target)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert (target / "f").read_text() == "mine"
    close(bench)
    bench.open()
