"""FUSE requests to calls of the filesystem, results to replies, exceptions to errnos.

A thin adapter: no rule of POSIX is decided here. Handlers that only touch the index run to their
end without suspending. An exception that leaves a pyfuse3 handler would end the mount, so `answers`
turns everything expected into its errno, and everything else into a traceback in the log and EIO.

pyfuse3 passes parameters by position; their meaning is that of its `Operations` class.
"""

import errno
import functools
import inspect
import logging
import os
import stat
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NoReturn, ParamSpec, TypeVar

from artstorefs.core.errors import ArtStoreFSError, errno_of, one_line
from artstorefs.core.log_fields import about
from artstorefs.filesystem.archive import Caller
from artstorefs.filesystem.attributes import AttributeChange, stat_blocks, stat_size
from artstorefs.filesystem.errors import ContentUnreachable, ForbiddenByMode
from artstorefs.filesystem.open_file import Handle
from artstorefs.filesystem.xattr import CAPABILITY
from artstorefs.state.node import ContentState, Node
from artstorefs_daemon.callers import program_names
from artstorefs_daemon.fuse_library import (
    leave_attributes,
    pyfuse3,
    reply_with_backing,
    set_fallocate,
)
from artstorefs_daemon.operation_statistics import OperationStatistics, SlowRequest, clock_s
from artstorefs_daemon.service import Service

log = logging.getLogger(__name__)

CACHE_S = 86_400.0
"""How long the kernel may keep names and attributes: we know of every change and tell it of those
that did not come through it."""

READDIR_ENTRIES = 256
"""Entries fetched at a time: a reply has room for about as many with short names."""

BLOCK_BYTES = 4096

ADMISSION = b"artstorefs.admission"
"""Asked before a write to a bound file that has used up its allowance; see fuse_device.c."""

SOMETHING = b"\1"

STATISTICS = OperationStatistics()
"""Of the process, which has one session with the kernel, as pyfuse3 has."""

ALLOCATIONS = STATISTICS.of("fallocate")  # comes past the decorator

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def answers(
    handler: Callable[Parameters, Coroutine[Any, Any, Result]],
) -> Callable[Parameters, Coroutine[Any, Any, Result]]:
    """Every exception becomes an errno; one that nobody foresaw is also logged with its stack.
    Each call is counted, and how long it took with all that it has waited for."""
    kind = handler.__name__
    names = tuple(inspect.signature(handler).parameters)
    statistic = STATISTICS.of(kind)
    took, errors = statistic.took, statistic.errors

    def ended(began_s: float, arguments: tuple[Any, ...]) -> None:
        duration_s = clock_s() - began_s
        if took(duration_s) and STATISTICS.slowest.is_one(duration_s):
            _note_slow(kind, duration_s, dict(zip(names, arguments, strict=False)))

    def failed(code: int, began_s: float, arguments: tuple[Any, ...]) -> None:
        errors[code] += 1
        ended(began_s, arguments)

    @functools.wraps(handler)
    async def guarded(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        began_s = clock_s()
        try:
            result = await handler(*arguments, **named)
        except pyfuse3.FUSEError as exc:
            errors[exc.errno_] += 1  # not `failed`: here each call shows in what a request costs
            ended(began_s, arguments)
            raise
        except (ArtStoreFSError, OSError) as exc:
            code = errno_of(exc)
            failed(code, began_s, arguments)
            if code == errno.EIO and not isinstance(exc, ContentUnreachable):  # told, and once
                log.error("%s: %s", kind, exc, extra=about(exc))
            raise pyfuse3.FUSEError(code) from None
        except Exception as exc:
            failed(errno.EIO, began_s, arguments)
            operations = arguments[0]
            assert isinstance(operations, Operations)
            if not operations.note_damage(exc):
                log.exception("%s%r failed", kind, arguments[1:])
            raise pyfuse3.FUSEError(errno.EIO) from None
        ended(began_s, arguments)
        return result

    return guarded


def _note_slow(kind: str, duration_s: float, arguments: dict[str, Any]) -> None:
    operations = arguments["self"]
    assert isinstance(operations, Operations)
    inode, path = operations.subject(arguments)
    STATISTICS.slowest.add(SlowRequest(kind, duration_s, time.time(), inode, path))


def _caller(context: pyfuse3.RequestContext) -> Caller:
    return Caller(context.uid, context.gid, context.pid, context.umask)


def entry_attributes(node: Node) -> pyfuse3.EntryAttributes:
    """What stat(2) shows, with the times for which the kernel may believe it."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = node.ino
    entry.st_mode = node.mode
    entry.st_nlink = node.nlink
    entry.st_uid = node.uid
    entry.st_gid = node.gid
    entry.st_rdev = node.rdev
    entry.st_size = stat_size(node)
    entry.st_blocks = stat_blocks(node)
    entry.st_blksize = BLOCK_BYTES
    entry.st_atime_ns = node.atime_ns
    entry.st_mtime_ns = node.mtime_ns
    entry.st_ctime_ns = node.ctime_ns
    entry.attr_timeout = CACHE_S
    entry.entry_timeout = CACHE_S
    return entry


def _absent_entry() -> pyfuse3.EntryAttributes:
    """A name that the kernel may remember as not there."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = CACHE_S
    return entry


class _Handles(dict[int, Handle]):
    """Open files by the numbers that the kernel has for them."""

    def __missing__(self, number: int) -> NoReturn:
        """Handed over, and not to be found in the index."""
        raise pyfuse3.FUSEError(errno.ESTALE)


class Operations(pyfuse3.Operations):
    """The pyfuse3 class. Handles of files are numbers of ours; directories have none."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = True

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self._tree = service.tree
        self._contents = service.contents
        self._attributes = service.attributes
        self._xattrs = service.xattrs
        self.note_damage = service.note_damage
        self._handles = _Handles(service.handles)
        self._last_handle = max(self._handles, default=0)
        self._released = 0, 0
        """The handle that was released last, and the inode of its file."""
        self._refused: set[int] = set()
        """Inodes of writers that find the spool full: see fuse_device.c, admission."""
        set_fallocate(self._fallocate)
        service.operations = STATISTICS

    def subject(self, arguments: dict[str, Any]) -> tuple[int | None, str | None]:
        """Inode number and path of what a request is about, for people; None where it is not
        known. Nothing that goes wrong in this may leave it."""
        inode = arguments.get("parent", arguments.get("inode", arguments.get("directory")))
        if inode is None and "handle" in arguments:
            inode = self._inode_of(arguments["handle"])
        if inode is None:
            return None, None
        try:
            path = self._service.archive.index.path(inode)
        except Exception as exc:
            if not self.note_damage(exc):
                log.warning("the path of inode %d cannot be told: %s", inode, exc)
            return inode, None
        if "parent" in arguments:
            path = b"/".join((path.rstrip(b"/"), arguments["name"]))
        return inode, one_line(path.decode(errors="backslashreplace"))

    def _inode_of(self, handle: int) -> int | None:
        if handle in self._handles:
            return self._handles[handle].file.node.ino
        released, inode = self._released
        return inode if handle == released else None

    @property
    def handles(self) -> Mapping[int, Handle]:
        """What is open, by the numbers that the kernel has for it."""
        return self._handles

    def init(self) -> None:
        """Called within the call that sends the answer to INIT."""
        self._service.begun.set()

    # ------------------------------------------------------------------------------ reading

    @answers
    async def lookup(self, parent: int, name: bytes, context: Any) -> pyfuse3.EntryAttributes:
        node = self._tree.lookup(parent, name)
        return _absent_entry() if node is None else self._entry(node)

    @answers
    async def getattr(self, inode: int, context: Any) -> pyfuse3.EntryAttributes:
        return self._entry(self._node(inode))

    @answers
    async def readlink(self, inode: int, context: Any) -> bytes:
        target = self._node(inode).target
        if target is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        return target

    @answers
    async def opendir(self, inode: int, context: Any) -> int:
        # ENOSYS makes the kernel cache directories and never ask again (see fuse_session.c)
        raise pyfuse3.FUSEError(errno.ENOSYS)

    @answers
    async def readdir(self, directory: int, position: int, token: Any) -> None:
        for name, node, following in self._tree.dots(directory, position):
            if not pyfuse3.readdir_reply(token, name, self._entry(node), following):
                return
            position = following
        while True:
            entries = self._tree.children(directory, position, READDIR_ENTRIES)
            for position, name, node in entries:
                attributes = self._entry(node)
                if not pyfuse3.readdir_reply(token, name, attributes, position):
                    return
            if len(entries) < READDIR_ENTRIES:
                return

    @answers
    async def statfs(self, context: Any) -> pyfuse3.StatvfsData:
        size = self._service.filesystem_size()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_blocks = size.total_bytes // BLOCK_BYTES
        data.f_bfree = data.f_bavail = size.free_bytes // BLOCK_BYTES
        data.f_files = size.files + size.free_files
        data.f_ffree = data.f_favail = size.free_files
        data.f_namemax = 255
        return data

    def _entry(self, node: Node) -> pyfuse3.EntryAttributes:
        if node.content_state == ContentState.OPEN:
            self._contents.refresh(node)
        return entry_attributes(node)

    def _node(self, inode: int) -> Node:
        return self._contents.held_node(inode) or self._tree.node(inode)

    # ------------------------------------------------------------------------ changing names

    @answers
    async def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, context: Any
    ) -> pyfuse3.EntryAttributes:
        device = rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
        node = self._tree.create(parent, name, mode, _caller(context), rdev=device)
        return self._entry(node)

    @answers
    async def mkdir(
        self, parent: int, name: bytes, mode: int, context: Any
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._tree.create(parent, name, mode, _caller(context)))

    @answers
    async def symlink(
        self, parent: int, name: bytes, target: bytes, context: Any
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._tree.symlink(parent, name, target, _caller(context)))

    @answers
    async def link(
        self, inode: int, parent: int, name: bytes, context: Any
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._tree.link(inode, parent, name, _caller(context)))

    @answers
    async def unlink(self, parent: int, name: bytes, context: Any) -> None:
        self._tree.unlink(parent, name, _caller(context))

    @answers
    async def rmdir(self, parent: int, name: bytes, context: Any) -> None:
        self._tree.rmdir(parent, name, _caller(context))

    @answers
    async def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, context: Any
    ) -> None:
        self._tree.rename(parent, name, new_parent, new_name, flags, _caller(context))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, _ in inode_list:
            self._tree.forget(inode)

    # ---------------------------------------------------------------------------- attributes

    @answers
    async def setattr(
        self, inode: int, attr: Any, fields: Any, handle: int | None, context: Any
    ) -> pyfuse3.EntryAttributes:
        node = self._node(inode)
        change = AttributeChange(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            is_by_descriptor=handle is not None,
        )
        await self._attributes.change(node, change, _caller(context))
        return self._entry(node)

    @answers
    async def getxattr(self, inode: int, name: bytes, context: Any) -> bytes:
        node = self._node(inode)
        if name == ADMISSION:
            if not await self._contents.admit(inode):
                self._refused.add(inode)
                return SOMETHING  # what the kernel now removes, and is told why not
            name = CAPABILITY
        if name == CAPABILITY and node.xattrs is None:  # asked before every write
            raise pyfuse3.FUSEError(errno.ENODATA)
        return self._xattrs.get(node, name)

    @answers
    async def setxattr(self, inode: int, name: bytes, value: bytes, context: Any) -> None:
        node = self._node(inode)
        self._xattrs.set(node, name, value, 0, _caller(context))
        if name == CAPABILITY:
            self._contents.capability_changed(node)

    @answers
    async def listxattr(self, inode: int, context: Any) -> Sequence[bytes]:
        return self._xattrs.list(self._node(inode))

    @answers
    async def removexattr(self, inode: int, name: bytes, context: Any) -> None:
        node = self._node(inode)
        if name == CAPABILITY and inode in self._refused:
            self._refused.discard(inode)
            raise pyfuse3.FUSEError(errno.ENOSPC)
        self._xattrs.remove(node, name, _caller(context))
        if name == CAPABILITY:
            self._contents.capability_changed(node)

    # ------------------------------------------------------------------------------- content

    @answers
    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, context: Any
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        caller = _caller(context)
        node = self._tree.create(parent, name, mode, caller, open_content=True)
        handle = self._contents.created(node, flags | os.O_WRONLY, caller.uid)
        self._leave_attributes(parent)
        return self._file_info(handle), entry_attributes(node)  # nobody can have written yet

    def _leave_attributes(self, directory: int) -> None:
        node = self._tree.node(directory)
        leave_attributes(node, stat_size(node), stat_blocks(node), BLOCK_BYTES, int(CACHE_S))

    @answers
    async def open(self, inode: int, flags: int, context: Any) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE:
            self._service.archive.writes(inode, _caller(context))
        node = self._node(inode)
        try:
            handle = await self._contents.open(node, flags, context.uid)
        except ForbiddenByMode as exc:
            names = functools.partial(program_names, context.pid)
            is_archived = exc.errno_code == errno.EREMOTE
            if not is_archived or not self._service.recalls.admits(node, flags, names):
                raise
            handle = await self._contents.open(node, flags, context.uid, may_wait=True)
        return self._file_info(handle)

    def _file_info(self, handle: Handle) -> pyfuse3.FileInfo:
        self._last_handle += 1
        self._handles[self._last_handle] = handle
        direct = handle.passes_cache_by
        if handle.file.backing:
            reply_with_backing(handle.file.backing)  # there is no cache to keep
            return pyfuse3.FileInfo(fh=self._last_handle, direct_io=direct, keep_cache=False)
        # Reads that the page cache answers do not come here, so it is emptied for the one that
        # has to renew the time of access.
        keep = direct or not self._tree.renews_access(handle.file.node)
        return pyfuse3.FileInfo(fh=self._last_handle, direct_io=direct, keep_cache=keep)

    @answers
    async def read(  # type: ignore[override]  # any buffer will do, and saves a copy
        self, handle: int, offset: int, size: int
    ) -> bytes | memoryview:
        opened = self._handles[handle]
        self._tree.accessed(opened.file.node)
        return await self._contents.read(opened, offset, size)

    @answers
    async def write(self, handle: int, offset: int, data: bytes) -> int:
        opened = self._handles[handle]
        written = await self._contents.write(opened, offset, data)
        if opened.is_synchronous:
            await self._sync(opened)
        return written

    @answers
    async def flush(self, handle: int) -> None:
        if not self._service.waits_for_elements:
            raise pyfuse3.FUSEError(errno.ENOSYS)  # close(2) then costs one request less
        opened = self._handles[handle]
        if opened.may_write:
            await self._service.wait_stored(opened)

    @answers
    async def fsync(self, handle: int, datasync: bool) -> None:
        await self._sync(self._handles[handle])

    async def _sync(self, opened: Handle) -> None:
        await self._contents.fsync(opened)
        if self._service.waits_for_elements:
            await self._service.wait_stored(opened)

    @answers
    async def fsyncdir(self, handle: int, datasync: bool) -> None:
        await self._contents.sync_tree()

    def _fallocate(self, handle: int, mode: int, offset: int, length: int) -> int:
        """The errno of fallocate(2); see `fuse_library.set_fallocate`."""
        began_s = clock_s()
        code = self._allocate(handle, mode, offset, length)
        if code:
            ALLOCATIONS.errors[code] += 1
        duration_s = clock_s() - began_s
        if ALLOCATIONS.took(duration_s) and STATISTICS.slowest.is_one(duration_s):
            _note_slow("fallocate", duration_s, {"self": self, "handle": handle})
        return code

    def _allocate(self, handle: int, mode: int, offset: int, length: int) -> int:
        try:
            self._contents.allocate(self._handles[handle], mode, offset, length)
        except (ArtStoreFSError, OSError) as exc:
            return errno_of(exc)
        except pyfuse3.FUSEError as exc:
            return exc.errno
        except Exception:
            log.exception("fallocate failed")
            return errno.EIO
        return 0

    @answers
    async def release(self, handle: int) -> None:
        opened = self._handles.pop(handle)
        self._released = handle, opened.file.node.ino
        self._contents.release(opened)
