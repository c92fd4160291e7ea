"""The calls of `reference.py` made to the filesystem layer in this process, without a mount.

What the kernel does before it asks a filesystem is done here: walking paths, what open(2) refuses,
the checks of rename(2) and link(2) that need no filesystem. `environment` is what happens to the
archive: the transfer process carries or dies, the element fails, somebody else writes on it.
"""

import errno
import os
import random
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from artstorefs.core.errors import ArtStoreFSError, errno_of
from artstorefs.elements.faults import FaultPlan, Faults, FaultyElement
from artstorefs.elements.local import LocalElement
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.filesystem.content import Handle
from artstorefs.state.index import ROOT_INO
from artstorefs.state.node import Node

from ..filesystem.workbench import ME, Workbench
from .outside import check_element, write_outside
from .reference import RENAME_EXCHANGE, RENAME_NOREPLACE, Reference, refuse
from .system_calls import Seen

REQUEST_BYTES = 128 << 10

PLANS = (
    FaultPlan(error=0.2),
    FaultPlan(lost_reply=0.3),
    FaultPlan(failed_barrier=0.5),
    FaultPlan(torn_barrier=0.3),
    FaultPlan(timeout=0.1, slow=0.3),
    FaultPlan(wrong_bytes=0.4, short_read=0.0),
    FaultPlan(error=0.05, lost_reply=0.1, failed_barrier=0.1, torn_barrier=0.1, wrong_bytes=0.1),
)


class FaultyWorkbench(Workbench):
    """A workbench whose element fails as `faults` says, for the mount process and the other."""

    def __init__(self, base: Path) -> None:
        self.faults = Faults(0, clock=trio.current_time, sleep=lambda seconds: None)
        super().__init__(base)

    def _faulty(self) -> FaultyElement:
        return FaultyElement(lambda: LocalElement("main", str(self.root)), self.faults)

    def open(self) -> None:
        """A start; the element is well for as long as that takes."""
        super().open()
        for element in self.archive.elements.values():
            element.close()
        self.archive.elements = {"main": self._faulty()}

    def start_carrier(self) -> None:
        """A transfer process, with the faulty element below the hooks."""
        super().start_carrier()
        self.element.close()
        self.element = self.carrier._elements["main"]._element = self._faulty()  # type: ignore

    def close(self) -> None:
        """Let go of everything, without a word to the filesystem: a kill."""
        for file in list(self.contents._files.values()):
            if file.descriptor >= 0:
                os.close(file.descriptor)
        self.reader.close()
        self.element.close()
        self.archive.database.close()
        for element in self.archive.elements.values():
            element.close()


@contextmanager
def errors_of_the_kernel() -> Iterator[None]:
    """Errors of the layer as the system call would give them."""
    try:
        yield
    except ArtStoreFSError as exc:
        raise refuse(errno_of(exc)) from exc


class Layer:
    """One archive below `base`."""

    def __init__(self, base: Path) -> None:
        self.bench = FaultyWorkbench(base)
        self.handles: dict[int, tuple[Node, Handle | None, int]] = {}
        self.late: list[dict[str, Any]] = []
        """What the transfer process has done and not told yet."""

    # ------------------------------------------------------------------------------- paths

    def find(self, path: str) -> Node:
        node = self.bench.tree.node(ROOT_INO)
        for name in path.split("/") if path else ():
            if stat.S_ISLNK(node.mode):
                raise refuse(errno.ENOENT)
            if not node.is_directory:
                raise refuse(errno.ENOTDIR)
            with errors_of_the_kernel():
                found = self.bench.tree.lookup(node.ino, os.fsencode(name))
            if found is None:
                raise refuse(errno.ENOENT)
            node = found
        return node

    def follow(self, path: str) -> Node:
        node = self.find(path)
        if stat.S_ISLNK(node.mode):
            raise refuse(errno.ENOENT)
        return node

    def place(self, path: str) -> tuple[int, bytes, Node | None]:
        parent, _, name = path.rpartition("/")
        directory = self.follow(parent)
        if not directory.is_directory:
            raise refuse(errno.ENOTDIR)
        with errors_of_the_kernel():
            node = self.bench.tree.lookup(directory.ino, os.fsencode(name))
        return directory.ino, os.fsencode(name), node

    def _make(self, path: str, mode: int) -> None:
        parent, name, _ = self.place(path)
        with errors_of_the_kernel():
            self.bench.tree.create(parent, name, mode, ME)

    # ------------------------------------------------------------------------------- names

    def mkdir(self, path: str, mode: int) -> None:
        self._make(path, stat.S_IFDIR | mode)

    def mkfifo(self, path: str, mode: int) -> None:
        self._make(path, stat.S_IFIFO | mode)

    def symlink(self, target: str, path: str) -> None:
        parent, name, _ = self.place(path)
        with errors_of_the_kernel():
            self.bench.tree.symlink(parent, name, os.fsencode(target), ME)

    def link(self, path: str, new: str) -> None:
        node = self.find(path)
        parent, name, there = self.place(new)
        if there is not None:
            raise refuse(errno.EEXIST)
        with errors_of_the_kernel():
            self.bench.tree.link(node.ino, parent, name, ME)

    def unlink(self, path: str) -> None:
        parent, name, _ = self.place(path)
        with errors_of_the_kernel():
            self.bench.tree.unlink(parent, name, ME)

    def rmdir(self, path: str) -> None:
        parent, name, _ = self.place(path)
        with errors_of_the_kernel():
            self.bench.tree.rmdir(parent, name, ME)

    def rename(self, path: str, new: str, flags: int) -> None:
        parent, name, node = self.place(path)
        new_parent, new_name, other = self.place(new)
        if node is None or (flags & RENAME_EXCHANGE and other is None):
            raise refuse(errno.ENOENT)
        if flags & RENAME_NOREPLACE and other is not None:
            raise refuse(errno.EEXIST)
        if path.startswith(f"{new}/") and not flags & RENAME_EXCHANGE:
            raise refuse(errno.ENOTEMPTY)
        with errors_of_the_kernel():
            self.bench.tree.rename(parent, name, new_parent, new_name, flags, ME)

    # -------------------------------------------------------------------------- attributes

    async def _change(self, node: Node, change: AttributeChange) -> None:
        with errors_of_the_kernel():
            await self.bench.attributes.change(node, change, ME)

    async def chmod(self, path: str, mode: int) -> None:
        await self._change(self.follow(path), AttributeChange(mode=mode))

    async def lchown(self, path: str, uid: int, gid: int) -> None:
        await self._change(self.find(path), AttributeChange(uid=uid, gid=gid))

    async def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        change = AttributeChange(atime_ns=atime_ns, mtime_ns=mtime_ns)
        await self._change(self.find(path), change)

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        node = self._for_xattr(path, name)
        with errors_of_the_kernel():
            self.bench.xattrs.set(node, name.encode(), value, flags, ME)

    def getxattr(self, path: str, name: str) -> bytes:
        with errors_of_the_kernel():
            return self.bench.xattrs.get(self.follow(path), name.encode())

    def removexattr(self, path: str, name: str) -> None:
        node = self._for_xattr(path, name)
        with errors_of_the_kernel():
            self.bench.xattrs.remove(node, name.encode(), ME)

    def _for_xattr(self, path: str, name: str) -> Node:
        node = self.follow(path)
        if name.startswith("user.") and not (stat.S_ISREG(node.mode) or node.is_directory):
            raise refuse(errno.EPERM)
        return node

    # ----------------------------------------------------------------------------- content

    async def open(self, number: int, path: str, flags: int, mode: int) -> None:
        parent, name, node = self.place(path)
        handle = None
        with errors_of_the_kernel():
            if node is None:
                if not flags & os.O_CREAT:
                    raise refuse(errno.ENOENT)
                node = self.bench.tree.create(
                    parent, name, stat.S_IFREG | mode, ME, open_content=True
                )
                handle = self.bench.contents.created(node, flags, 0)
            else:
                self._check_openable(node, flags)
                if not node.is_directory:
                    handle = await self.bench.contents.open(node, flags & ~os.O_CREAT, 0)
        self.handles[number] = (node, handle, flags)

    def _check_openable(self, node: Node, flags: int) -> None:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise refuse(errno.EEXIST)
        if stat.S_ISLNK(node.mode):
            raise refuse(errno.ENOENT)
        if node.is_directory and flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
            raise refuse(errno.EISDIR)

    def close(self, number: int) -> None:
        _, handle, _ = self.handles.pop(number)
        if handle is not None:
            self.bench.contents.release(handle)

    async def pwrite(self, number: int, data: bytes, offset: int) -> int:
        node, handle, flags = self.handles[number]
        if handle is None or not handle.may_write:
            raise refuse(errno.EBADF)
        if not data:
            return 0
        if flags & os.O_APPEND:
            offset = node.size
        with errors_of_the_kernel():
            return await self.bench.contents.write(handle, offset, data)

    async def pread(self, number: int, size: int, offset: int) -> bytes:
        _, handle, flags = self.handles[number]
        if flags & os.O_ACCMODE == os.O_WRONLY:
            raise refuse(errno.EBADF)
        if handle is None:
            raise refuse(errno.EISDIR)
        with errors_of_the_kernel():
            return await self._read(handle, size, offset)

    async def _read(self, handle: Handle, size: int, offset: int) -> bytes:
        """In requests of the size that the kernel makes."""
        data = bytearray()
        while len(data) < size:
            length = min(size - len(data), REQUEST_BYTES)
            part = await self.bench.contents.read(handle, offset + len(data), length)
            if not part:
                break
            data += part
        return bytes(data)

    async def _content(self, node: Node) -> bytes:
        handle = await self.bench.open_file(node, os.O_RDONLY)
        try:
            return await self._read(handle, node.size + 1, 0)
        finally:
            self.bench.contents.release(handle)

    async def ftruncate(self, number: int, size: int) -> None:
        node, handle, _ = self.handles[number]
        if handle is None or not handle.may_write:
            raise refuse(errno.EINVAL)
        await self._change(node, AttributeChange(size=size))

    async def truncate(self, path: str, size: int) -> None:
        node = self.follow(path)
        if node.is_directory:
            raise refuse(errno.EISDIR)
        if not stat.S_ISREG(node.mode):
            raise refuse(errno.EINVAL)
        await self._change(node, AttributeChange(size=size))

    async def fsync(self, number: int) -> None:
        _, handle, _ = self.handles[number]
        if handle is not None:
            with errors_of_the_kernel():
                await self.bench.contents.fsync(handle)

    # ----------------------------------------------------------------------------- looking

    @property
    def at_fault(self) -> bool:
        return self.bench.faults.plan != FaultPlan() or self.bench.faults.is_unreachable

    async def snapshot(self) -> dict[str, Seen]:
        """The tree; the element is well while it is read, what others wrote is taken over."""
        plan, left_s = self.bench.faults.plan, self.bench.faults._unreachable_until
        self.calm()
        try:
            self.rescan()
            root = self.bench.tree.node(ROOT_INO)
            seen = {"": await self._look(root)}
            await self._look_below(root, "", seen)
        finally:
            self.bench.faults.plan = plan
            self.bench.faults._unreachable_until = left_s
        return seen

    async def _look_below(self, directory: Node, path: str, seen: dict[str, Seen]) -> None:
        for _, name, node in self.bench.tree.children(directory.ino, 3, 10**6):
            below = f"{path}/{os.fsdecode(name)}" if path else os.fsdecode(name)
            seen[below] = await self._look(node)
            if node.is_directory:
                await self._look_below(node, below, seen)

    async def _look(self, node: Node) -> Seen:
        data = await self._content(node) if stat.S_ISREG(node.mode) else b""
        names = [] if stat.S_ISLNK(node.mode) else self.bench.xattrs.list(node)
        return Seen(
            *(node.ino, node.mode, node.uid, node.gid, node.nlink, node.size, node.mtime_ns),
            *(data, os.fsdecode(node.target or b"")),
            {name.decode(): self.bench.xattrs.get(node, name) for name in names},
        )

    def final_checks(self, model: Reference) -> list[Callable[[], Awaitable[None] | None]]:
        async def flushed() -> None:
            await self._flush()
            check_element(self.bench.root, model)

        return [flushed, self.restart, self.rebuild]

    async def _flush(self) -> None:
        self.calm()
        self.tell_late()
        self.wait(100)
        for _ in range(40):
            await self.bench.step()
            if self.bench.link.schedule.is_empty:
                break
            self.wait(100)
        assert self.bench.link.schedule.is_empty, "what is pending is not carried"
        assert self.bench.budget.used_bytes == 0, f"{self.bench.budget.used_bytes} bytes charged"
        left = [name for name in self.bench.archive.spool.names() if "lost" not in name]
        assert left == [], f"left in the spool: {left}"

    # ------------------------------------------------------------------------- environment

    def calm(self) -> None:
        """The element is well again."""
        self.bench.faults.plan = FaultPlan()
        self.bench.faults.unreachable_for(0)

    def faults(self, seed: int) -> None:
        self.bench.faults.reseed(seed, PLANS[seed % len(PLANS)])

    def unreachable(self, seconds: int) -> None:
        self.bench.faults.unreachable_for(seconds)

    def wait(self, seconds: int) -> None:
        trio.lowlevel.current_clock().jump(seconds)  # type: ignore[attr-defined]

    async def sum_waiting(self) -> None:
        """What waits in the spool has waited for long."""
        await self.bench.sum_waiting()

    async def transfer(self, seed: int) -> None:
        """Some of the way to the element, as the dice of `seed` have it."""
        dice = random.Random(seed)
        self.tell_late()
        await self.bench.send()
        while self.bench.sent and dice.random() < 0.7:
            self.late.append(self.bench.carry())
            fate = dice.random()
            if fate < 0.15:
                self.transfer_dies()
            if fate < 0.3:
                return
            self.tell_late()

    def tell_late(self) -> None:
        for answer in self.late:
            self.bench.answer(answer)
        self.late.clear()

    def transfer_dies(self) -> None:
        self.late.clear()
        self.bench.sent.clear()
        self.bench.link._batches.clear()
        self.bench.link.schedule.transfer_process_died(trio.current_time())

    def restart(self) -> None:
        self.handles.clear()
        self.late.clear()
        self.bench.close()
        self.bench.open()

    async def rebuild(self) -> None:
        """All is carried, the state directory is lost."""
        for number in list(self.handles):
            self.close(number)
        await self._flush()
        self.bench.close()
        shutil.rmtree(self.bench.base / "state")
        os.mkdir(self.bench.base / "state")
        self.bench.open()

    def rescan(self) -> None:
        """`artstorefs rescan`, by a transfer process that answers at once."""
        if self.at_fault:
            return
        last = self.bench.rescan()
        assert (last["errors"], last["quarantined"]) == ([], 0)
        assert (last["added"], last["vanished"]) == (0, 0)

    def outside(self, kind: str, path: str, seed: int) -> dict[str, bytes]:
        """Somebody writes on the element; the attributes that the file has from now on."""
        node = self.find(path)
        copies = [c for c in self.bench.archive.index.copies(node.ino) if not c.is_record]
        if not copies or self.bench.sent:
            return {}
        if self.bench.archive.log.assignment(node.ino) is not None:
            return {}  # being rewritten at this moment: a race that nobody can win
        return write_outside(self.bench.root, copies[0].key, kind, seed)
