"""What stat and statfs answer, and what chmod, chown, utimensat and truncate change."""

import stat
from dataclasses import dataclass

from artstorefs.core.modes import Operation
from artstorefs.filesystem import acl
from artstorefs.filesystem.archive import Archive, Caller, clamp_time, now_ns
from artstorefs.filesystem.content import Contents
from artstorefs.filesystem.xattr import get_system, set_system
from artstorefs.state.node import Node

BLOCK_BYTES = 4096
"""Preferred I/O size that stat shows, and the unit of statfs."""

DIRECTORY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """What a SETATTR request asks for; None where it says nothing."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    is_by_descriptor: bool = False
    """ftruncate(2): opening the file for writing was allowed, and so is this."""

    @property
    def has_metadata(self) -> bool:
        return not (
            self.mode is None
            and self.uid is None
            and self.gid is None
            and self.atime_ns is None
            and self.mtime_ns is None
        )


@dataclass(frozen=True, slots=True)
class FilesystemSize:
    """statfs(2) in bytes and numbers of files."""

    total_bytes: int
    free_bytes: int
    files: int
    free_files: int


def stat_size(node: Node) -> int:
    """st_size: directories show one block, as ext4 does."""
    return DIRECTORY_BYTES if stat.S_ISDIR(node.mode) else node.size


def stat_blocks(node: Node) -> int:
    """st_blocks, units of 512 bytes, as if there were no holes."""
    return (stat_size(node) + BLOCK_BYTES - 1) // BLOCK_BYTES * (BLOCK_BYTES // 512)


class Attributes:
    """setattr; the kernel has checked who may do it and what bits have to fall."""

    def __init__(self, archive: Archive, contents: Contents) -> None:
        self._archive = archive
        self._contents = contents

    async def change(self, node: Node, change: AttributeChange, caller: Caller) -> None:
        """All of `change`; the size first, because a full spool may refuse it."""
        if change.size is not None:
            if not change.is_by_descriptor:
                self._archive.require(Operation.CHANGE_CONTENT, node)
            self._archive.writes(node.ino, caller)
            await self._contents.truncate(node, change.size, caller.uid)
        if change.has_metadata:
            self._change_metadata(node, change, caller)

    def _change_metadata(self, node: Node, change: AttributeChange, caller: Caller) -> None:
        self._archive.require(Operation.CHANGE_METADATA, node)
        self._archive.acting(caller)
        with self._archive.changes.attributes(node, now_ns(), caller.uid):
            if change.mode is not None:
                node.mode = stat.S_IFMT(node.mode) | change.mode & 0o7777
                self._follow_with_acl(node)
            if change.uid is not None:
                node.uid = change.uid
            if change.gid is not None:
                node.gid = change.gid
            if change.atime_ns is not None:
                node.atime_ns = clamp_time(change.atime_ns)
            if change.mtime_ns is not None:
                node.mtime_ns = clamp_time(change.mtime_ns)
        if change.mtime_ns is not None:
            self._contents.set_times(node)

    def _follow_with_acl(self, node: Node) -> None:
        value = get_system(node, acl.ACCESS)
        if value is not None:
            changed = acl.Acl.parse(value).with_mode(node.mode).render()
            node.xattrs = set_system(node.xattrs, {acl.ACCESS: changed})
