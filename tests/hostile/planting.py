"""An element that a hostile hand has been at: planting documents, and looking at the result."""

import os
import shutil
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from artstorefs.core.naming import record_key
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from ..filesystem.workbench import Workbench
from .cases import written

CANARY = b"outside, and nobody's business"


async def assert_good(bench: Workbench) -> None:
    node = bench.tree.lookup(ROOT_INO, b"good")
    assert await bench.content(node) == b"good content"
    assert bench.tree.lookup(ROOT_INO, b"good directory").is_directory
    assert (bench.base / "canary").read_bytes() == CANARY


def forget(bench: Workbench) -> None:
    """The state directory is lost."""
    bench.reader.close()
    bench.element.close()
    bench.archive.database.close()
    for element in bench.archive.elements.values():
        element.close()
    shutil.rmtree(bench.base / "state")
    os.makedirs(bench.base / "state")


def tree_of(bench: Workbench) -> dict[bytes, Node]:
    """Every path; fails where a directory is met twice, or a name or link count cannot be."""
    index = bench.archive.index
    tree: dict[bytes, Node] = {}
    directories = set()
    names = 0
    stack = [(b"", index.node(ROOT_INO))]
    while stack:
        path, node = stack.pop()
        assert node.ino not in directories, f"{path!r} has two places"
        directories.add(node.ino)
        subdirectories = 0
        for _, name, child in index.children(node.ino, 0, 1 << 30):
            assert 0 < len(name) <= 255, name
            assert not {b"/"[0], 0} & set(name)
            assert name not in (b".", b"..")
            assert path + b"/" + name not in tree
            tree[path + b"/" + name] = child
            names += 1
            if child.is_directory:
                subdirectories += 1
                stack.append((path + b"/" + name, child))
        assert node.nlink == 2 + subdirectories, path
    for path, node in tree.items():
        if not node.is_directory:
            assert node.nlink == sum(1 for other in tree.values() if other.ino == node.ino), path
    execute = bench.archive.database.execute
    assert execute("SELECT count(*) FROM names").fetchone()[0] == names, "names in no tree"
    return tree


class Planter:
    """Puts documents of strangers on the element, in the form of good ones."""

    def __init__(self, root: Path, root_id: str) -> None:
        self.root = root
        self.root_id = root_id

    def posix(self, name: Any, parent: str, **more: Any) -> dict[str, Any]:
        place = {"revision": 1, "parent": parent, "name": name}
        owner = {"mode": "0755", "uid": 0, "gid": 0}
        times = {"atime_ns": 0, "mtime_ns": 0, "ctime_ns": 0}
        return {**place, **owner, **times, "xattrs": {}, **more}

    def record(self, members: dict[str, Any]) -> str:
        path = self.root / record_key(UUID(members["file_id"]))
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(written({"record_version": "1.0", **members}))
        return members["file_id"]

    def directory(self, name: Any, parent: str, file_id: str = "", **more: Any) -> str:
        members = {"file_id": file_id or str(uuid4()), "type": "directory"}
        return self.record({**members, "posix": self.posix(name, parent), **more})

    def link(self, name: Any, parent: str, target: str, file_id: str = "") -> str:
        place = {"revision": 1, "parent": parent, "name": name}
        members = {"file_id": file_id or str(uuid4()), "type": "link", "target_id": target}
        return self.record({**members, "posix": place})

    def file(self, name: Any, parent: str, key: str = "", **more: Any) -> str:
        """An attr.json; the object is there unless its size is given."""
        members = {"file_id": str(uuid4()), "file_size": 1, "checksum": "0" * 64, **more}
        key = key or f"2025/01/01/00/x_{members['file_id']}"
        path = self.root / f"{key}.attr.json"
        path.parent.mkdir(exist_ok=True, parents=True)
        members |= {"original_filename": "x", "storage_filename": "x", "schema_version": "2.0"}
        path.write_bytes(written({"posix": self.posix(name, parent), **members}))
        return members["file_id"]
