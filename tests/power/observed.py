"""What an archive shows after a cut, and whether that is what `History` allows."""

import copy
import stat
from dataclasses import dataclass

from ..crash.load import Node
from .load import History, SyncedModel

NAMES = "names missing or too many"


@dataclass
class Observed:
    """Path to node, inode number and number of links, of one directory of the archive."""

    nodes: dict[str, tuple[Node, int, int]]


def match(history: History, observed: Observed) -> SyncedModel:
    """The model of what is there; AssertionError if nothing that is allowed looks like this."""
    told = []
    for tree in history.trees():
        difference = (
            tree_difference(tree, observed)
            or mtime_difference(history, tree, observed)
            or content_difference(history, tree, observed)
        )
        if difference is None:
            return adopted(history, copy.deepcopy(tree), observed)
        told.append(difference)
    near = [difference for difference in told if not difference.startswith(NAMES)] or told
    raise AssertionError(
        f"like none of {len(told)} trees from step {history.synced_steps}: {near[0]}; … {near[-1]}"
    )


def tree_difference(model: SyncedModel, observed: Observed) -> str | None:
    """The first thing in which names and attributes differ."""
    if observed.nodes.keys() != model.names.keys():
        return f"{NAMES}: {sorted(observed.nodes.keys() ^ model.names.keys())}"
    inodes: dict[int, int] = {}
    for path, (node, ino, links) in observed.nodes.items():
        wanted = model.node(path)
        for name in ("mode", "target", "xattrs"):
            if getattr(node, name) != getattr(wanted, name):
                return f"{path}: {name} {getattr(node, name)!r}, not {getattr(wanted, name)!r}"
        if not stat.S_ISDIR(node.mode) and links != model.links(path):
            return f"{path}: {links} links, not {model.links(path)}"
        if inodes.setdefault(model.names[path], ino) != ino:
            return f"{path}: not the same file as its other links"
    return None


def mtime_difference(history: History, model: SyncedModel, observed: Observed) -> str | None:
    """Times that were set: of files to which nothing was written after the sync."""
    for path, (node, _, _) in observed.nodes.items():
        content = history.contents.get(model.names[path])
        wanted = model.node(path).mtime_ns
        if content is None or not content.is_exact or wanted is None:
            continue
        if node.mtime_ns != wanted:
            return f"{path}: mtime {node.mtime_ns}, not {wanted}"
    return None


def content_difference(history: History, model: SyncedModel, observed: Observed) -> str | None:
    """Content that a sync had returned for, of the files that have these names in this tree."""
    for path, (node, _, _) in observed.nodes.items():
        content = history.contents.get(model.names[path])
        if content is None or not stat.S_ISREG(node.mode):
            continue
        difference = content.difference(node.data)
        if difference is not None:
            return f"{path}: {difference}"
    return None


def adopted(history: History, model: SyncedModel, observed: Observed) -> SyncedModel:
    """The model to go on with: what nobody had synced is as it was found."""
    for path, (node, _, _) in observed.nodes.items():
        content = history.contents.get(model.names[path])
        known = model.node(path)
        if content is None or not content.is_exact:
            known.mtime_ns = None
        known.data = node.data
    return model
