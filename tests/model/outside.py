"""The other hands on an element: they edit custom_attributes, add keys of their own, touch, and
leave files of theirs. And the look at the element that uses none of our code."""

import json
import os
import random
import stat
from pathlib import Path

from ..filesystem.element_tree import Found, read_element
from .reference import Node, Reference
from .trial import Difference

FOREIGN = "foreign"
"""A directory of somebody else on the element."""


def write_outside(root: Path, key: str, kind: str, seed: int) -> dict[str, bytes]:
    """Do it to the object of this key; the xattrs that this adds to the file."""
    dice = random.Random(seed)
    sidecar = root / f"{key}.attr.json"
    if kind == "foreign":
        (root / FOREIGN).mkdir(exist_ok=True)
        (root / FOREIGN / f"{dice.randrange(20)}.txt").write_text("not of the archive")
        return {}
    if not sidecar.exists():
        return {}
    if kind == "touch":
        os.utime(sidecar)
        return {}
    document = json.loads(sidecar.read_bytes())
    added = {}
    if kind == "attribute":
        value = str(dice.randrange(10**6))
        name = f"outside{dice.randrange(3)}"
        document["custom_attributes"][name] = f"n{value}"
        added = {f"user.{name}": f"n{value}".encode()}
    else:
        document["posix"][f"x_outside{dice.randrange(2)}"] = dice.randrange(100)
    text = json.dumps(document)
    if dice.random() < 0.5:
        sidecar.write_text(text)
    else:
        temporary = sidecar.with_name("editor.tmp")
        temporary.write_text(text)
        temporary.rename(sidecar)
    return added


def check_element(root: Path, model: Reference) -> None:
    """The element alone says the same as the model. Everything has been carried."""
    found = read_element(root, foreign=FOREIGN)
    wanted = {b"/": model.root, **{b"/" + os.fsencode(p): n for p, n in model.walk()}}
    if found.keys() != wanted.keys():
        raise Difference(f"on the element: {sorted(found.keys() ^ wanted.keys())}")
    for path, node in wanted.items():
        for name, (there, right) in _facts(found[path], node).items():
            if there != right:
                raise Difference(f"on the element: {path!r}: {name} {there!r}, not {right!r}")


def _facts(found: Found, node: Node) -> dict[str, tuple[object, object]]:
    custom = {f"user.{name}" for name in found.custom}
    facts: dict[str, tuple[object, object]] = {
        "mode": (found.mode, node.mode),
        "owner": ((found.posix["uid"], found.posix["gid"]), (node.uid, node.gid)),
        "target": (found.target or b"", os.fsencode(node.target)),
        "user attributes": (custom, {name for name in node.xattrs if name.startswith("user.")}),
        "content": (found.content, bytes(node.data)),
    }
    if not stat.S_ISDIR(node.mode):
        facts["links"] = (len(found.paths), node.names)
    if node.mtime_ns is not None:
        facts["mtime_ns"] = (found.posix["mtime_ns"], node.mtime_ns)
    return facts
