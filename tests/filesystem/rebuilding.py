"""What tests of rebuilding share: trees and elements as values, ends of all kinds, the command."""

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import UUID

from artstorefs.elements.interface import Element
from artstorefs.elements.local import LocalElement
from artstorefs.recovery.rebuild import Report
from artstorefs.recovery.renew import rebuild_index
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node
from artstorefs.transfer.documents import Account

from .workbench import DIRECTORY, ME, Workbench

LEFT_OUT = {
    *("ino", "nlink", "content", "content_state", "creator", "created_ns", "element"),
    *("carried", "__weakref__"),  # `carried` depends on whose names the machine knows
}


def account(uid: int) -> Account:
    return Account(f"user{uid}", "")


def tree(bench: Workbench) -> dict[bytes, dict[str, Any]]:
    """Path to everything that a rebuild has to give back, and all paths of the same node."""
    found: dict[bytes, dict[str, Any]] = {}
    paths: dict[int, list[bytes]] = {}

    def walk(path: bytes, ino: int) -> None:
        for _, name, node in bench.archive.index.children(ino, 0, 1 << 30):
            inner = path + b"/" + name
            columns = [column for column in Node.__slots__ if column not in LEFT_OUT]
            found[inner] = {c: getattr(node, c) for c in columns}
            found[inner]["paths"] = paths.setdefault(node.ino, [])
            paths[node.ino].append(inner)
            if node.is_directory:
                walk(inner, node.ino)

    walk(b"", ROOT_INO)
    return found


def element_files(bench: Workbench) -> dict[str, bytes]:
    """Everything on the element, by key."""
    return {key: bench.root.joinpath(key).read_bytes() for key in list(bench.keys())}


def object_of(bench: Workbench, node: Node) -> Path:
    """The object of a file."""
    return Path(str(document_of(bench, node)).removesuffix(".attr.json"))


def close(bench: Workbench) -> None:
    """A clean end."""
    bench.reader.close()
    bench.element.close()
    bench.archive.database.close()
    for element in bench.archive.elements.values():
        element.close()


def kill(bench: Workbench) -> None:
    """The end of a killed daemon: the state directory as it is now, with the log of SQLite."""
    state, kept = bench.base / "state", bench.base / "kept"
    shutil.copytree(state, kept)
    close(bench)
    shutil.rmtree(state)
    kept.rename(state)


def rebuild(bench: Workbench, **more: Any) -> Report:
    """The command, between a clean end and a start."""
    close(bench)
    try:
        return rebuild_again(bench, **more)
    finally:
        bench.open()


def rebuild_again(bench: Workbench, **more: Any) -> Report:
    roots = more.pop("ordered", {"main": str(bench.root)})
    elements: dict[str, Element] = {name: LocalElement(name, root) for name, root in roots.items()}
    if "element" in more:
        elements["main"].close()
        elements["main"] = more.pop("element")
    elements |= more.pop("others", {})
    try:
        root_id = json.loads((bench.root / ".artstorefs/archive.json").read_bytes())["archive_id"]
        state = str(bench.base / "state")
        return rebuild_index(
            "test", state, elements, UUID(root_id), account, lambda progress: None, **more
        )
    finally:
        for one in elements.values():
            one.close()


def document_of(bench: Workbench, node: Node) -> Path:
    """The attr.json or node record of a node."""
    copy = bench.archive.index.copies(node.ino)[0]
    return bench.root / (copy.key if copy.is_record else copy.key + ".attr.json")


def change(path: Path, **changes: Any) -> None:
    """Write other values into a document; `posix` is merged."""
    document = json.loads(path.read_bytes())
    posix = document["posix"] | changes.pop("posix", {})
    path.write_text(json.dumps(document | changes | {"posix": posix}))


async def make_tree(bench: Workbench) -> dict[bytes, dict[str, Any]]:
    """A small one with one of each kind, carried to the element."""
    directory = bench.make(b"d", mode=DIRECTORY)
    file = await bench.write(b"f", b"content", directory.ino)
    bench.tree.link(file.ino, ROOT_INO, b"second \xff", ME)
    bench.tree.symlink(directory.ino, b"link", b"\xfe target", ME)
    bench.make(b"empty", directory.ino)
    bench.make(b"fifo", directory.ino, mode=0o010600)
    bench.xattrs.set(file, b"user.k", b'{"a":1}', 0, ME)
    bench.xattrs.set(directory, b"user.k", b"\xff", 0, ME)
    await bench.drain()
    return tree(bench)
