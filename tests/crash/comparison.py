"""What a directory, an element and an index have to show after a kill, and whether they do."""

import copy
import json
import os
import secrets
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from artstorefs_daemon.mount_daemon import open_archive
from artstorefs_tools.configuration_files import read_configuration

from ..filesystem.element_tree import Found
from .load import Model, Node, Step

PAGE_BYTES = 4096


def replay(model: Model, journal: Path) -> tuple[list[str], Step | None]:
    """Apply what was acknowledged; the calls, and what was under way, if anything."""
    acknowledged: list[str] = []
    under_way: Step | None = None
    for line in journal.read_text().splitlines():
        if line.startswith("ok"):
            assert under_way is not None
            assert "at_least" not in under_way, f"a write fell short: {under_way}"
            written = int(line[3:]) if line[3:] else None
            if written is not None and written < under_way["size"]:
                # cut off between two requests: the rest of it was under way
                under_way["at_least"] = written
                continue
            model.apply(under_way, written=written)
            acknowledged.append(under_way["call"])
            under_way = None
        elif under_way is None or "at_least" not in under_way:
            under_way = json.loads(line)
    return acknowledged, under_way


def settle(model: Model, under_way: Step | None, directory: Path) -> tuple[Model, str]:
    """The model that a directory agrees with, and whether the call under way was `done` or
    `not done`; an AssertionError says what is wrong if it agrees with neither."""
    seen = read_directory(directory)
    outcomes = [(changed, "done") for changed in possible(model, under_way)]
    if under_way is None or "at_least" not in under_way:
        outcomes.insert(0, (model, "not done"))
    for outcome in outcomes:
        if differences(outcome[0], seen) is None:
            return outcome
    told = [f"{how}: {differences(changed, seen)}" for changed, how in outcomes[:2]]
    raise AssertionError(f"{directory.name}, under way: {under_way}\n" + "\n".join(told))


def possible(model: Model, step: Step | None) -> Iterator[Model]:
    """What the call that was under way may have left, beside nothing."""
    if step is None:
        return
    sizes: Iterator[int | None] = iter([None])
    if step["call"] == "write":
        sizes = iter([None, *_cut_off(model, step)])
    for written in sizes:
        changed = copy.deepcopy(model)
        changed.apply(step, written=written)
        yield changed


def _cut_off(model: Model, step: Step) -> Iterator[int]:
    """What a killed write may have written: up to some page boundary of the file, since the kernel
    makes several requests of one call, or what it is known to have; or nothing but its time."""
    offset = step["offset"]
    if offset is None:
        offset = len(model.node(step["path"]).data)
    first = step.get("at_least", 1)
    yield first if "at_least" in step else 0
    start = (offset + first + PAGE_BYTES) // PAGE_BYTES * PAGE_BYTES - offset
    yield from range(start, step["size"], PAGE_BYTES)


def read_directory(root: Path) -> dict[str, tuple[Node, int, int]]:
    """Path to node, inode number and number of links."""
    seen: dict[str, tuple[Node, int, int]] = {}
    for path in root.rglob("*"):
        found = path.lstat()
        node = Node(found.st_mode, mtime_ns=found.st_mtime_ns)
        if stat.S_ISREG(found.st_mode):
            node.data = path.read_bytes()
            node.xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            assert found.st_size == len(node.data), path
        elif path.is_symlink():
            node.target = str(path.readlink())
        seen[str(path.relative_to(root))] = (node, found.st_ino, found.st_nlink)
    return seen


def differences(model: Model, seen: dict[str, tuple[Node, int, int]]) -> str | None:
    """The first thing in which a directory is not what the model says."""
    if seen.keys() != model.names.keys():
        return f"names missing or too many: {sorted(seen.keys() ^ model.names.keys())}"
    inodes: dict[int, int] = {}
    for path, (node, ino, links) in seen.items():
        wanted = model.node(path)
        for name in ("mode", "target", "xattrs"):
            if getattr(node, name) != getattr(wanted, name):
                return f"{path}: {name} {getattr(node, name)!r}, not {getattr(wanted, name)!r}"
        if node.data != wanted.data:
            return f"{path}: {len(node.data)} bytes, {len(wanted.data)} wanted, or they differ"
        if wanted.mtime_ns is not None and node.mtime_ns != wanted.mtime_ns:
            return f"{path}: mtime {node.mtime_ns}, not {wanted.mtime_ns}"
        if not stat.S_ISDIR(node.mode) and links != model.links(path):
            return f"{path}: {links} links, not {model.links(path)}"
        if inodes.setdefault(model.names[path], ino) != ino:
            return f"{path}: not the same file as its other links"
    if len(set(inodes.values())) != len(inodes):
        return "two files have one inode number"
    return None


def check_element(models: Mapping[str, Model], tree: dict[bytes, Found]) -> None:
    """The element says the same as the models of these directories, and holds nothing else."""
    paths = {b"/"} | {f"/{directory}".encode() for directory in models}
    for directory, model in models.items():
        for path, node_number in model.names.items():
            full = f"/{directory}/{path}".encode()
            paths.add(full)
            wanted, found = model.nodes[node_number], tree[full]
            assert found.mode & 0o7777 == wanted.mode & 0o7777 or wanted.target, full
            assert found.content == wanted.data, full
            assert (found.target or b"") == wanted.target.encode(), full
            assert {"user." + key for key in found.custom} == wanted.xattrs.keys(), full
            if not stat.S_ISDIR(wanted.mode):
                assert len(found.paths) == model.links(path), full
    assert set(tree) == paths


# ------------------------------------------------------------------------------ the index


def index_tree(state_db: Path) -> dict[bytes, tuple[Any, ...]]:
    """Path to everything that the index knows of the node there, but for what is local to it:
    inode numbers, when it was read last, and when it was made to the nanosecond."""
    database = sqlite3.connect(f"file:{state_db}?mode=ro", uri=True)
    columns = "file_id, mode, uid, gid, nlink, rdev, n.size, mtime_ns, ctime_ns, creator, target,"
    rows = database.execute(
        f"SELECT n.ino, {columns} custom, xattrs, n.revision, c.key, c.sha256, c.element"
        " FROM nodes n LEFT JOIN copies c ON c.ino = n.ino"
    ).fetchall()
    nodes = {row[0]: (*row[1:12], _json(row[12]), _json(row[13]), *row[14:]) for row in rows}
    names = database.execute("SELECT parent, name, ino, id, link_id FROM names").fetchall()
    database.close()
    parents = {ino: (parent, name) for parent, name, ino, entry, _ in names if entry == ino}
    tree = {b"/": nodes[1]}
    for parent, name, ino, _, link_id in names:
        path = name
        while parent != 1:
            parent, above = parents[parent]
            path = above + b"/" + path
        tree[b"/" + path] = (*nodes[ino], link_id)
    return tree


def _json(text: str | None) -> Any:
    return json.loads(text) if text else None


def check_rebuild(toml: Path, scratch: Path) -> None:
    """An index from the elements alone is the index that there is: for an archive that is
    unmounted, with nothing pending. What is made for it lies below `scratch`."""
    configuration = read_configuration(str(toml))
    wanted = index_tree(configuration.state_dir / "state.db")
    state = scratch / f"rebuilt-{secrets.token_hex(4)}"
    state.mkdir()
    archive = open_archive(configuration.model_copy(update={"state_dir": state}), read_only=True)
    archive.database.close()
    for element in archive.elements.values():
        element.close()
    found = index_tree(state / "state.db")
    shutil.rmtree(state)
    assert found.keys() == wanted.keys()
    for path, values in wanted.items():
        assert found[path] == values, path
