"""The tree as the elements alone tell it: what a rebuild would find, read with `json` only."""

import base64
import hashlib
import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = {
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "file": stat.S_IFREG,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}


@dataclass
class Found:
    """A node on the element, with every path that leads to it."""

    mode: int
    content: bytes
    custom: dict[str, Any]
    posix: dict[str, Any]
    target: bytes | None
    names: list[tuple[str, bytes]] = field(default_factory=list)
    paths: set[bytes] = field(default_factory=set)


def _name(value: Any) -> bytes:
    return base64.b64decode(value["$b64"]) if isinstance(value, dict) else value.encode()


def read_element(root: Path, *, foreign: str = "") -> dict[bytes, Found]:
    """Path to node. Every object is checked against its attr.json; an object without one, an
    attr.json without an object, two documents of one file, and a link to nothing are errors.
    Objects in a directory `foreign` are somebody else's."""
    nodes: dict[str, Found] = {}
    links: list[dict[str, Any]] = []
    for path in root.rglob("*.attr.json"):
        document = json.loads(path.read_bytes())
        data = Path(str(path).removesuffix(".attr.json")).read_bytes()
        assert document["file_size"] == len(data), path
        assert document["checksum"] == hashlib.sha256(data).hexdigest(), path
        _check_block_list(Path(str(path).removesuffix(".attr.json") + ".blocks"), document, data)
        _add(nodes, document, stat.S_IFREG, data)
    for path in (root / ".artstorefs" / "nodes").rglob("*.node.json"):
        document = json.loads(path.read_bytes())
        if document["type"] == "link":
            links.append(document)
        else:
            _add(nodes, document, KINDS[document["type"]], b"")
    for document in links:
        assert document["target_id"] in nodes, f"a link to nothing: {document}"
        place = document["posix"]
        nodes[document["target_id"]].names.append((place["parent"], _name(place["name"])))
    _check_objects(root, foreign)
    return _by_path(nodes)


def _add(nodes: dict[str, Found], document: dict[str, Any], kind: int, data: bytes) -> None:
    identifier = document["file_id"]
    assert identifier not in nodes, f"two documents of {identifier}: {document}"
    posix = document["posix"]
    target = _name(document["target"]) if "target" in document else None
    found = Found(kind | int(posix["mode"], 8), data, document["custom_attributes"], posix, target)
    found.names.append((posix["parent"], _name(posix["name"])))
    nodes[identifier] = found


def _check_block_list(path: Path, document: dict[str, Any], data: bytes) -> None:
    """Objects of more than 4 MiB have one, and it is what FORMAT.md says; no others do."""
    expected = document["posix"].get("blocks")
    assert (expected is not None) == path.exists() == (len(data) > 4 << 20), path
    if expected is not None:
        text = path.read_bytes()
        assert hashlib.sha256(text).hexdigest() == expected, path
        parts = [data[start : start + (4 << 20)] for start in range(0, len(data), 4 << 20)]
        assert text.decode().split("\n") == [
            *("artstorefs-blocks/1", f"object_bytes {len(data)}", "block_bytes 4194304", "sha256"),
            *(hashlib.sha256(part).hexdigest() for part in parts),
            "",
        ], path


def _check_objects(root: Path, foreign: str) -> None:
    for path in root.rglob("*"):
        if foreign and path.parent == root / foreign:
            continue
        if path.is_file() and ".artstorefs" not in path.parts and path.suffix != ".json":
            if path.suffix == ".blocks":
                path = path.with_suffix("")
            assert path.with_name(path.name + ".attr.json").exists(), f"no attr.json: {path}"


def _by_path(nodes: dict[str, Found]) -> dict[bytes, Found]:
    tree: dict[bytes, Found] = {}
    for identifier in nodes:
        for parent, name in nodes[identifier].names:
            path = b"/" if parent == identifier else _path(nodes, parent) + name
            assert path not in tree, f"two nodes are {path!r}"
            tree[path] = nodes[identifier]
            nodes[identifier].paths.add(path)
    return tree


def _path(nodes: dict[str, Found], identifier: str) -> bytes:
    """Of a directory, with a slash at the end."""
    parts = []
    while True:
        parent, name = nodes[identifier].names[0]
        if parent == identifier:
            return b"/" + b"".join(part + b"/" for part in reversed(parts))
        parts.append(name)
        identifier = parent
