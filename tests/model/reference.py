"""What is right: a POSIX filesystem in memory, small enough to be read and believed.

Every method is one system call of the superuser, by path or by the number of an open descriptor;
what it refuses raises OSError with the errno that Linux gives. The random tests run the same calls
here, on the archive, and on a local filesystem of the kernel, which keeps this file honest.

Left out on purpose: permissions (the kernel's work), set-id bits, names over 255 bytes, and
paths through symbolic links: all links here lead to nothing, so that what follows one is ENOENT. A
time that the clock has set is None; only what utimensat(2) has set is known, until a change of
content sets it anew.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

UMASK = 0o022
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


def refuse(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@dataclass(eq=False)
class Node:
    """A file, directory, symbolic link or FIFO. `names` counts the links to it."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int | None = None
    data: bytearray = field(default_factory=bytearray)
    target: str = ""
    children: dict[str, "Node"] = field(default_factory=dict)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    names: int = 0

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def links(self) -> int:
        """st_nlink: of a directory its name, its `.`, and the `..` of each directory in it."""
        if self.is_directory:
            return 2 + sum(child.is_directory for child in self.children.values())
        return self.names

    def changed(self) -> None:
        """Content, or the names in a directory, changed now."""
        self.mtime_ns = None


@dataclass
class Descriptor:
    node: Node
    flags: int

    @property
    def may_read(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def may_write(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class Reference:
    """The filesystem. Paths are relative to its root, with "/" between names; "" is the root."""

    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755)
        self.open_files: dict[int, Descriptor] = {}

    # ------------------------------------------------------------------------------- paths

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every name with its node, directories before what is in them; not the root."""

        def below(path: str, directory: Node) -> Iterator[tuple[str, Node]]:
            for name, child in sorted(directory.children.items()):
                yield path + name, child
                yield from below(f"{path}{name}/", child)

        return below("", self.root)

    def find(self, path: str) -> Node:
        """The node of a path, itself a link or not."""
        node = self.root
        for name in path.split("/") if path else ():
            if node.is_symlink:
                raise refuse(errno.ENOENT)  # leads to nothing
            if not node.is_directory:
                raise refuse(errno.ENOTDIR)
            if name not in node.children:
                raise refuse(errno.ENOENT)
            node = node.children[name]
        return node

    def follow(self, path: str) -> Node:
        node = self.find(path)
        if node.is_symlink:
            raise refuse(errno.ENOENT)
        return node

    def place(self, path: str) -> tuple[Node, str]:
        """The directory that a path is in, and the name there, free or not."""
        parent, _, name = path.rpartition("/")
        directory = self.follow(parent)
        if not directory.is_directory:
            raise refuse(errno.ENOTDIR)
        return directory, name

    def _add(self, path: str, node: Node) -> Node:
        directory, name = self.place(path)
        if name in directory.children:
            raise refuse(errno.EEXIST)
        directory.children[name] = node
        node.names += 1
        directory.changed()
        return node

    # ------------------------------------------------------------------------------- names

    def mkdir(self, path: str, mode: int) -> None:
        self._add(path, Node(stat.S_IFDIR | mode & ~UMASK))

    def mkfifo(self, path: str, mode: int) -> None:
        self._add(path, Node(stat.S_IFIFO | mode & ~UMASK))

    def symlink(self, target: str, path: str) -> None:
        self._add(path, Node(stat.S_IFLNK | 0o777, target=target))

    def link(self, path: str, new: str) -> None:
        node = self.find(path)
        directory, name = self.place(new)
        if name in directory.children:
            raise refuse(errno.EEXIST)
        if node.is_directory:
            raise refuse(errno.EPERM)
        self._add(new, node)

    def unlink(self, path: str) -> None:
        directory, name = self.place(path)
        node = self.find(path)
        if node.is_directory:
            raise refuse(errno.EISDIR)
        self._take(directory, name)

    def rmdir(self, path: str) -> None:
        directory, name = self.place(path)
        node = self.find(path)
        if not node.is_directory:
            raise refuse(errno.ENOTDIR)
        if node.children:
            raise refuse(errno.ENOTEMPTY)
        self._take(directory, name)

    def _take(self, directory: Node, name: str) -> None:
        directory.children.pop(name).names -= 1
        directory.changed()

    def rename(self, path: str, new: str, flags: int) -> None:
        (source, name), (directory, new_name) = self.place(path), self.place(new)
        if name not in source.children:
            raise refuse(errno.ENOENT)
        node, other = source.children[name], directory.children.get(new_name)
        if flags & RENAME_NOREPLACE and other is not None:
            raise refuse(errno.EEXIST)
        if flags & RENAME_EXCHANGE and other is None:
            raise refuse(errno.ENOENT)
        if f"{new}/".startswith(f"{path}/") and new != path:
            raise refuse(errno.EINVAL if node.is_directory else errno.ENOTDIR)
        if f"{path}/".startswith(f"{new}/") and new != path:
            raise refuse(errno.EINVAL if flags & RENAME_EXCHANGE else errno.ENOTEMPTY)
        if node is other:
            return
        if other is not None and not flags & RENAME_EXCHANGE:
            self._check_replaceable(node, other)
            self._take(directory, new_name)
        source.changed()
        directory.changed()
        del source.children[name]
        directory.children[new_name] = node
        if other is not None and flags & RENAME_EXCHANGE:
            source.children[name] = other

    def _check_replaceable(self, node: Node, other: Node) -> None:
        if node.is_directory and not other.is_directory:
            raise refuse(errno.ENOTDIR)
        if other.is_directory and not node.is_directory:
            raise refuse(errno.EISDIR)
        if other.children:
            raise refuse(errno.ENOTEMPTY)

    # -------------------------------------------------------------------------- attributes

    def chmod(self, path: str, mode: int) -> None:
        node = self.follow(path)
        node.mode = stat.S_IFMT(node.mode) | mode

    def lchown(self, path: str, uid: int, gid: int) -> None:
        node = self.find(path)
        node.uid, node.gid = uid, gid

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        self.find(path).mtime_ns = mtime_ns

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        node = self.follow(path)
        if name.startswith("user.") and not (node.is_file or node.is_directory):
            raise refuse(errno.EPERM)  # xattr(7)
        if flags & os.XATTR_CREATE and name in node.xattrs:
            raise refuse(errno.EEXIST)
        if flags & os.XATTR_REPLACE and name not in node.xattrs:
            raise refuse(errno.ENODATA)
        node.xattrs[name] = value

    def getxattr(self, path: str, name: str) -> bytes:
        node = self.follow(path)
        if name not in node.xattrs:
            raise refuse(errno.ENODATA)
        return node.xattrs[name]

    def removexattr(self, path: str, name: str) -> None:
        node = self.follow(path)
        if name.startswith("user.") and not (node.is_file or node.is_directory):
            raise refuse(errno.EPERM)
        if name not in node.xattrs:
            raise refuse(errno.ENODATA)
        del node.xattrs[name]

    # ----------------------------------------------------------------------------- content

    def open(self, number: int, path: str, flags: int, mode: int) -> None:
        """open(2), as descriptor `number`, which is free."""
        directory, name = self.place(path)
        node = directory.children.get(name)
        if node is None:
            if not flags & os.O_CREAT:
                raise refuse(errno.ENOENT)
            node = self._add(path, Node(stat.S_IFREG | mode & ~UMASK))
        else:
            self._check_openable(node, flags)
            if flags & os.O_TRUNC:
                self._resize(node, 0)
        self.open_files[number] = Descriptor(node, flags)

    def _check_openable(self, node: Node, flags: int) -> None:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise refuse(errno.EEXIST)
        if node.is_symlink:
            raise refuse(errno.ENOENT)
        if node.is_directory and flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
            raise refuse(errno.EISDIR)

    def close(self, number: int) -> None:
        del self.open_files[number]

    def pwrite(self, number: int, data: bytes, offset: int) -> int:
        descriptor = self.open_files[number]
        if not descriptor.may_write:
            raise refuse(errno.EBADF)
        node = descriptor.node
        if descriptor.flags & os.O_APPEND:  # as Linux has it, whatever the offset
            offset = len(node.data)
        if data:
            node.data.extend(bytes(max(0, offset - len(node.data))))
            node.data[offset : offset + len(data)] = data
            node.changed()
        return len(data)

    def pread(self, number: int, size: int, offset: int) -> bytes:
        descriptor = self.open_files[number]
        if not descriptor.may_read:
            raise refuse(errno.EBADF)
        if descriptor.node.is_directory:
            raise refuse(errno.EISDIR)
        return bytes(descriptor.node.data[offset : offset + size])

    def ftruncate(self, number: int, size: int) -> None:
        descriptor = self.open_files[number]
        if not descriptor.may_write:
            raise refuse(errno.EINVAL)
        self._resize(descriptor.node, size)

    def truncate(self, path: str, size: int) -> None:
        node = self.follow(path)
        if node.is_directory:
            raise refuse(errno.EISDIR)
        if not node.is_file:
            raise refuse(errno.EINVAL)
        self._resize(node, size)

    def _resize(self, node: Node, size: int) -> None:
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))
        node.changed()

    def fsync(self, number: int) -> None:
        """Changes nothing that can be seen."""

    # ------------------------------------------------------------------------------- kills

    def lose_descriptors(self) -> None:
        """The mount is gone and another is there: no descriptor survives, all else does."""
        self.open_files.clear()
