"""The calls of `reference.py` made to the kernel, below a directory: a mount, or a local one."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..mount.system_calls import renameat2
from .reference import Reference


@dataclass(frozen=True)
class Seen:
    """What a filesystem says of one name. `identity` is the same for hard links only."""

    identity: int
    mode: int
    uid: int
    gid: int
    links: int
    size: int
    mtime_ns: int
    content: bytes
    target: str
    xattrs: dict[str, bytes]


class SystemCalls:
    """One method for each of `Reference`'s; OSError is the kernel's own."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.descriptors: dict[int, int] = {}

    def path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.path(path), mode)

    def mkfifo(self, path: str, mode: int) -> None:
        os.mkfifo(self.path(path), mode)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self.path(path))

    def link(self, path: str, new: str) -> None:
        os.link(self.path(path), self.path(new), follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(self.path(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self.path(path))

    def rename(self, path: str, new: str, flags: int) -> None:
        renameat2(self.path(path), self.path(new), flags)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.path(path), mode)

    def lchown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self.path(path), uid, gid)

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self.path(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        os.setxattr(self.path(path), name, value, flags)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self.path(path), name)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self.path(path), name)

    def open(self, number: int, path: str, flags: int, mode: int) -> None:
        self.descriptors[number] = os.open(self.path(path), flags, mode)

    def close(self, number: int) -> None:
        os.close(self.descriptors.pop(number))

    def pwrite(self, number: int, data: bytes, offset: int) -> int:
        return os.pwrite(self.descriptors[number], data, offset)

    def pread(self, number: int, size: int, offset: int) -> bytes:
        return os.pread(self.descriptors[number], size, offset)

    def ftruncate(self, number: int, size: int) -> None:
        os.ftruncate(self.descriptors[number], size)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self.path(path), size)

    def fsync(self, number: int) -> None:
        os.fsync(self.descriptors[number])

    # ----------------------------------------------------------------------------- looking

    at_fault = False

    def lose_descriptors(self) -> None:
        """Close them; a dead mount may say anything to that."""
        for descriptor in self.descriptors.values():
            try:
                os.close(descriptor)
            except OSError:
                continue  # ENOTCONN of a killed daemon; the descriptor is gone all the same
        self.descriptors.clear()

    def snapshot(self) -> dict[str, Seen]:
        """Everything below the root, by path; "" is the root."""
        paths = [self.root]
        for directory, directories, files in os.walk(self.root):
            paths += [os.path.join(directory, name) for name in (*directories, *files)]
        return {path[len(self.root) + 1 :]: self._look(path) for path in paths}

    def _look(self, path: str) -> Seen:
        found = os.lstat(path)
        content, target, xattrs = b"", "", {}
        if stat.S_ISREG(found.st_mode):
            content = Path(path).read_bytes()
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(path)
        else:
            names = [name for name in os.listxattr(path) if name.startswith(("user.", "trusted."))]
            xattrs = {name: os.getxattr(path, name) for name in names}
        return Seen(
            *(found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_nlink),
            *(found.st_size, found.st_mtime_ns, content, target, xattrs),
        )


class Local(SystemCalls):
    """A directory of a local filesystem, which needs no checks but those on the way."""

    def __init__(self, root: Path) -> None:
        root.chmod(0o755)  # as the reference's root
        super().__init__(root)

    def final_checks(self, model: Reference) -> list[Callable[[], None]]:
        return [lambda: None]
