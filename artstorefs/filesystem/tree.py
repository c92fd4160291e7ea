"""The namespace: what lookup, create, link, unlink, rename and readdir do to the tree.

The kernel has checked permissions, sticky bits and the types it knows of (`default_permissions`);
what is checked here is what only the tree can say, or what the kernel may hold a stale opinion of.
Nothing here suspends or touches an element.
"""

import logging
import sqlite3
import stat
from collections.abc import Callable

from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.core.marks import SEALED, mark
from artstorefs.core.modes import Operation
from artstorefs.filesystem import acl
from artstorefs.filesystem.archive import Archive, Caller, now_ns
from artstorefs.filesystem.errors import (
    DirectoryNotEmpty,
    InvalidArgument,
    IsADirectory,
    LinkNotPermitted,
    NameExists,
    NameTooLong,
    NodeGone,
    NoSuchName,
    NotADirectory,
)
from artstorefs.filesystem.xattr import get_system, set_system
from artstorefs.state.index import DOT_DOT_POSITION, DOT_POSITION, ROOT_INO, Name
from artstorefs.state.node import Node

log = logging.getLogger(__name__)

NAME_MAX = 255
"""Bytes in a name: NAME_MAX of Linux, and what attr.json has room for."""

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

RELATIME_NS = 24 * 3600 * 10**9
"""relatime (mount(8)): a time of access older than this is renewed by a read."""


class Tree:
    """`is_held(ino)` says whether somebody has the node open, so that its content must stay."""

    def __init__(self, archive: Archive, is_held: Callable[[int], bool]) -> None:
        self._archive = archive
        self._index = archive.index
        self._changes = archive.changes
        self._is_held = is_held
        self._departed: dict[int, Node] = {}

    # ------------------------------------------------------------------------------- reads

    def node(self, ino: int) -> Node:
        """The node that the kernel means; NodeGone when nobody remembers it."""
        node = self._index.node(ino) or self._departed.get(ino)
        if node is None:
            raise NodeGone(ino)
        return node

    def lookup(self, parent: int, name: bytes) -> Node | None:
        """The node of a directory entry, None if there is none."""
        if len(name) > NAME_MAX:
            raise NameTooLong(name)
        if name == b".":
            return self.node(parent)
        if name == b"..":
            entry = self._index.first_name(parent)
            return self.node(entry.parent if entry else ROOT_INO)
        return self._index.child(parent, name)

    def children(self, ino: int, after: int, limit: int) -> list[tuple[int, bytes, Node]]:
        """Up to `limit` entries (position, name, node) that follow position `after`."""
        self.node(ino)
        return self._index.children(ino, after, limit)

    def dots(self, ino: int, after: int) -> list[tuple[bytes, Node, int]]:
        """Of `.` and `..` those that follow position `after`, with their positions. Reading a
        directory from its beginning is an access to it."""
        if after >= DOT_DOT_POSITION:
            return []
        node = self.node(ino)
        entry = self._index.first_name(ino)
        parent = self.node(entry.parent) if entry else node
        if after == 0:
            self.accessed(node)
        both = [(b".", node, DOT_POSITION), (b"..", parent, DOT_DOT_POSITION)]
        return [dot for dot in both if dot[2] > after]

    def renews_access(self, node: Node) -> bool:
        """Whether a read now changes the time of access: as relatime says, unless read-only."""
        atime = node.atime_ns
        if atime > node.mtime_ns and atime > node.ctime_ns and now_ns() - atime < RELATIME_NS:
            return False
        return not self._archive.read_only and node.nlink > 0

    def accessed(self, node: Node) -> None:
        """The content has been read, or the directory listed; that goes on where nothing can be
        recorded."""
        if self.renews_access(node):
            try:
                self._changes.access_time(node, now_ns())
            except StateError as exc:
                log.debug("a time of access is not kept: %s", exc, extra=about(exc))

    # ---------------------------------------------------------------------------- creation

    def create(
        self,
        parent_ino: int,
        name: bytes,
        mode: int,
        caller: Caller,
        *,
        rdev: int = 0,
        open_content: bool = False,
    ) -> Node:
        """A file, directory or special file: `mode` has its type and the bits asked for."""
        self._archive.acting(caller)
        parent = self._parent_for_new(parent_ino, name)
        gid = caller.gid
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        xattrs = None
        default = get_system(parent, acl.DEFAULT)
        if default is None:
            mode &= ~(caller.umask & 0o777)
        else:
            mode, access = acl.inherit(acl.Acl.parse(default), mode)
            values = {acl.ACCESS: access.render() if access else None}
            if stat.S_ISDIR(mode):
                values[acl.DEFAULT] = default
            xattrs = set_system(None, values)
        if not open_content:
            xattrs = mark(xattrs, SEALED, self._archive.guard.seal_ns())
        try:
            return self._changes.create(
                parent,
                name,
                mode=mode,
                uid=caller.uid,
                gid=gid,
                now_ns=now_ns(),
                rdev=rdev,
                xattrs=xattrs,
                open_content=open_content,
            )
        except sqlite3.IntegrityError:
            self._require_free(parent_ino, name)
            raise

    def symlink(self, parent_ino: int, name: bytes, target: bytes, caller: Caller) -> Node:
        """symlink(2). The mode of a symlink is 0777 and means nothing."""
        self._archive.acting(caller)
        parent = self._parent_for_new(parent_ino, name)
        self._require_free(parent_ino, name)
        if len(target) > 4095:  # PATH_MAX with its NUL
            raise NameTooLong(target)
        return self._changes.create(
            parent,
            name,
            mode=stat.S_IFLNK | 0o777,
            uid=caller.uid,
            gid=parent.gid if parent.mode & stat.S_ISGID else caller.gid,
            now_ns=now_ns(),
            target=target,
            xattrs=mark(None, SEALED, self._archive.guard.seal_ns()),
        )

    def link(self, ino: int, parent_ino: int, name: bytes, caller: Caller) -> Node:
        """link(2)."""
        self._archive.acting(caller)
        node = self.node(ino)
        if node.is_directory:
            raise LinkNotPermitted(name)
        if node.nlink == 0:
            raise NoSuchName(name)
        parent = self._parent_for_new(parent_ino, name)
        self._require_free(parent_ino, name)
        self._archive.require(Operation.CHANGE_METADATA, node)
        self._changes.link(node, parent, name, now_ns(), caller.uid)
        return node

    def _parent_for_new(self, parent_ino: int, name: bytes) -> Node:
        self._archive.guard.require_creation(name)
        parent = self._directory(parent_ino)
        if len(name) > NAME_MAX:
            raise NameTooLong(name)
        return parent

    def _require_free(self, parent_ino: int, name: bytes) -> None:
        if self._index.name(parent_ino, name) is not None:
            raise NameExists(name)

    # ----------------------------------------------------------------------------- removal

    def unlink(self, parent_ino: int, name: bytes, caller: Caller) -> None:
        """unlink(2); the content stays as long as somebody has it open."""
        self._archive.acting(caller)
        parent, entry, node = self._entry(parent_ino, name)
        if node.is_directory:
            raise IsADirectory(name)
        self._archive.require(Operation.DELETE, node)
        held = self._is_held(node.ino)
        self._changes.remove(parent, entry, node, now_ns(), caller.uid, held=held)
        self._note_departure(node, held)

    def rmdir(self, parent_ino: int, name: bytes, caller: Caller) -> None:
        """rmdir(2)."""
        self._archive.acting(caller)
        parent, entry, node = self._entry(parent_ino, name)
        if not node.is_directory:
            raise NotADirectory(name)
        if self._index.has_children(node.ino):
            raise DirectoryNotEmpty(name)
        self._archive.require(Operation.DELETE, node)
        self._changes.remove(parent, entry, node, now_ns(), caller.uid, held=False)
        self._note_departure(node, False)

    def forget(self, ino: int) -> None:
        """The kernel holds no reference any more: a removed node may go from memory."""
        self._departed.pop(ino, None)

    def _note_departure(self, node: Node, held: bool) -> None:
        """A working directory, or a file open by path only, can still be asked about."""
        if node.nlink == 0 and not held:
            self._departed[node.ino] = node

    # ------------------------------------------------------------------------------ rename

    def rename(
        self,
        parent_ino: int,
        name: bytes,
        new_parent_ino: int,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> None:
        """renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE; other flags are EINVAL."""
        self._archive.acting(caller)
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or flags == 3:
            raise InvalidArgument(name)
        parent, entry, node = self._entry(parent_ino, name)
        new_parent = self._directory(new_parent_ino)
        if len(new_name) > NAME_MAX:
            raise NameTooLong(new_name)
        self._archive.require(Operation.CHANGE_METADATA, node)
        target_entry = self._index.name(new_parent_ino, new_name)
        if flags & RENAME_EXCHANGE:
            self._exchange((parent, entry, node), new_parent, target_entry, new_name, caller)
            return
        if node.is_directory:
            self._refuse_cycle(node, new_parent_ino, new_name)
        replaced = None
        if target_entry is not None:
            if flags & RENAME_NOREPLACE:
                raise NameExists(new_name)
            target = self.node(target_entry.ino)
            if target is node:
                return  # POSIX rename: two names of one file, nothing happens
            self._check_replaceable(node, target, new_name)
            replaced = (target_entry, target)
        held = replaced is not None and self._is_held(replaced[1].ino)
        self._changes.rename(
            *(parent, entry, node, new_parent, new_name, replaced, now_ns(), caller.uid),
            held=held,
        )
        if replaced is not None:
            self._note_departure(replaced[1], held)

    def _exchange(
        self,
        source: tuple[Node, Name, Node],
        other_parent: Node,
        other_entry: Name | None,
        new_name: bytes,
        caller: Caller,
    ) -> None:
        parent, entry, node = source
        if other_entry is None:
            raise NoSuchName(new_name)
        other = self.node(other_entry.ino)
        self._archive.require(Operation.CHANGE_METADATA, other)
        if node.is_directory:
            self._refuse_cycle(node, other_parent.ino, new_name)
        if other.is_directory:
            self._refuse_cycle(other, parent.ino, entry.name)
        if other is node:
            return
        self._changes.exchange(
            *(parent, entry, node, other_parent, other_entry, other, now_ns(), caller.uid)
        )

    def _check_replaceable(self, node: Node, target: Node, name: bytes) -> None:
        if node.is_directory and not target.is_directory:
            raise NotADirectory(name)
        if target.is_directory:
            if not node.is_directory:
                raise IsADirectory(name)
            if self._index.has_children(target.ino):
                raise DirectoryNotEmpty(name)
        self._archive.require(Operation.DELETE, target)

    def _refuse_cycle(self, node: Node, new_parent_ino: int, name: bytes) -> None:
        ino = new_parent_ino
        while ino != ROOT_INO:
            if ino == node.ino:
                raise InvalidArgument(name)
            entry = self._index.first_name(ino)
            if entry is None:
                raise NodeGone(ino)
            ino = entry.parent

    # ----------------------------------------------------------------------------- helpers

    def _directory(self, ino: int) -> Node:
        node = self.node(ino)
        if not node.is_directory:
            raise NotADirectory(ino)
        if node.nlink == 0:
            raise NoSuchName(ino)
        return node

    def _entry(self, parent_ino: int, name: bytes) -> tuple[Node, Name, Node]:
        parent = self._directory(parent_ino)
        if len(name) > NAME_MAX:
            raise NameTooLong(name)
        entry = self._index.name(parent_ino, name)
        if entry is None:
            raise NoSuchName(name)
        return parent, entry, self.node(entry.ino)
