"""One sequence of operations on a system and on the reference; the first difference ends it."""

import errno
import inspect
import os
from typing import Any

from .operations import CALLS, Operation, is_applicable, perform
from .reference import Node, Reference
from .system_calls import Seen

READING = {"pread", "pwrite", "truncate", "ftruncate"}
"""Calls that may need content from an element: while it is at fault they may be EIO, and then
have done nothing."""


class Difference(AssertionError):
    """The system is not what the reference says."""


async def outcome(system: Any, operation: Operation) -> tuple[str, Any]:
    """What a call gave: ("is", value) or ("refused", name of the errno)."""
    try:
        value = perform(system, operation)
        if inspect.isawaitable(value):
            value = await value
    except OSError as exc:
        return "refused", errno.errorcode.get(exc.errno or 0, repr(exc))
    return "is", value


class Trial:
    """A system has the methods of `Reference`, `snapshot`, the environment's, `at_fault` (whether
    EIO is allowed now), and `outside`, which gives what others have added to a file."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.model = Reference()
        self.performed: dict[str, int] = {}

    async def run(self, operations: list[Operation]) -> None:
        """All of them, and the comparison at the end. Raises Difference."""
        for number, operation in enumerate(operations):
            try:
                await self.step(operation)
            except Exception as exc:
                raise Difference(f"operation {number}, {operation}: {exc!r}") from exc
        await self.finish()

    async def step(self, operation: Operation) -> None:
        if not is_applicable(self.model, operation):
            return
        name = operation[0]
        self.performed[name] = self.performed.get(name, 0) + 1
        if name == "compare":
            await self.compare()
        elif name == "outside":
            await self._outside(*operation[1:])
        elif name in CALLS:
            await self._call(operation)
        else:
            done = perform(self.system, operation)
            if inspect.isawaitable(done):
                await done
            if name in {"restart", "rebuild", "remount", "kill"}:
                self.model.lose_descriptors()
                await self.compare()

    async def _call(self, operation: Operation) -> None:
        before = set(self.model.open_files)
        got = await outcome(self.system, operation)
        if got == ("refused", "EIO") and operation[0] in READING and self.system.at_fault:
            return
        wanted = await outcome(self.model, operation)
        if got != wanted:
            self.model.open_files = {n: self.model.open_files[n] for n in before}
            raise Difference(f"{_short(got)}, not {_short(wanted)}")

    async def _outside(self, kind: str, path: str, seed: int) -> None:
        try:
            node = self.model.find(path)
        except OSError:
            return
        added = self.system.outside(kind, path, seed) if node.is_file else {}
        if inspect.isawaitable(added):
            added = await added
        node.xattrs.update(added)

    # -------------------------------------------------------------------------- comparing

    async def snapshot(self) -> dict[str, Seen]:
        found = self.system.snapshot()
        return await found if inspect.isawaitable(found) else found

    async def compare(self) -> None:
        """The whole tree, and what can be read through the open descriptors."""
        check_tree(self.model, await self.snapshot())
        if self.system.at_fault:
            return
        for number, descriptor in self.model.open_files.items():
            if descriptor.may_read and descriptor.node.is_file:
                await self._call(("pread", number, len(descriptor.node.data) + 1, 0))

    async def finish(self) -> None:
        """Everything closed and carried: tree, element, and the tree made anew from the element."""
        for number in list(self.model.open_files):
            await self._call(("close", number))
        for check in self.system.final_checks(self.model):
            done = check()
            if inspect.isawaitable(done):
                await done
            await self.compare()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:100]}… ({len(text)} characters)"


def check_tree(model: Reference, seen: dict[str, Seen]) -> None:
    """Raise Difference, naming the first thing in which a tree is not the model's."""
    wanted = {"": model.root, **dict(model.walk())}
    if wanted.keys() != seen.keys():
        raise Difference(
            f"missing {sorted(wanted.keys() - seen.keys())},"
            f" too many {sorted(seen.keys() - wanted.keys())}"
        )
    identities: dict[int, Node] = {}
    for path, node in wanted.items():
        difference = _difference(node, seen[path])
        if difference:
            raise Difference(f"{path!r}: {difference}")
        if identities.setdefault(seen[path].identity, node) is not node:
            raise Difference(f"{path!r}: shares its inode with another file")
    if len(identities) != len(set(map(id, wanted.values()))):
        raise Difference("hard links are not of one inode")


def _difference(node: Node, seen: Seen) -> str | None:
    facts = {
        "mode": (seen.mode, node.mode),
        "owner": ((seen.uid, seen.gid), (node.uid, node.gid)),
        "links": (seen.links, node.links),
        "target": (seen.target, node.target),
        "xattrs": (seen.xattrs, node.xattrs),
    }
    if node.mtime_ns is not None:
        facts["mtime_ns"] = (seen.mtime_ns, node.mtime_ns)
    if node.is_file:
        facts["size"] = (seen.size, len(node.data))
    for name, (found, wanted) in facts.items():
        if found != wanted:
            return f"{name} {found!r}, not {wanted!r}"
    if seen.content != bytes(node.data):
        shorter = min(len(seen.content), len(node.data))
        pairs = enumerate(zip(seen.content, node.data, strict=False))
        first = next((i for i, (found, right) in pairs if found != right), shorter)
        return f"content differs from byte {first} of {len(node.data)} on"
    return None


def describe(operation: Operation) -> str:
    """One line of a sequence, as Python."""
    return repr(operation) if operation[0] != "open" else _open_as_python(operation)


def _open_as_python(operation: Operation) -> str:
    _, number, path, flags, mode = operation
    names = [name for name in ("O_WRONLY", "O_RDWR") if flags & os.O_ACCMODE == getattr(os, name)]
    for name in ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND"):
        if flags & getattr(os, name):
            names.append(name)
    return f"('open', {number}, {path!r}, {' | '.join('os.' + n for n in names) or 0}, {mode:#o})"
