"""Every system call that could change something, each on files of its own; see test_modes.py.

`CALLS` has a row for each row of the table in SEMANTICS.md, by the same name. A call is given a
directory that `prepare` has filled, and raises the OSError that the table is about. What a program
would only meet later, as a write after an open(2) that has succeeded, belongs to the call.
"""

import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

from .system_calls import RENAME_EXCHANGE, RENAME_NOREPLACE, fallocate, renameat2

CONTENT = b"content of a file in an archive\n"

ACL = bytes.fromhex("0200000001000600ffffffff02000400010000000400040000000000")
ACL += bytes.fromhex("10000600ffffffff20000400ffffffff")
"""user::rw-, user:1:r--, group::r--, mask::rw-, other::r--, as the kernel takes it."""


def prepare(directory: Path) -> None:
    """What the calls find."""
    directory.mkdir()
    for name in ("file", "other", "linked"):
        (directory / name).write_bytes(CONTENT)
    (directory / "empty").touch()
    (directory / "directory").mkdir()
    (directory / "free").mkdir()
    (directory / "symlink").symlink_to("file")
    os.link(directory / "linked", directory / "linked2")
    os.mkfifo(directory / "fifo")
    os.setxattr(directory / "file", "user.key", b"value")


# ------------------------------------------------------------------------------------- reading


def read(directory: Path) -> None:
    assert (directory / "file").read_bytes() == CONTENT


def map_for_reading(directory: Path) -> None:
    with (
        open(directory / "file", "rb") as file,
        mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped,
    ):
        assert mapped[:] == CONTENT


def read_empty(directory: Path) -> None:
    assert (directory / "empty").read_bytes() == b""


def look(directory: Path) -> None:
    assert (directory / "file").stat().st_size == len(CONTENT)
    assert len(os.listdir(directory)) == 9
    assert os.readlink(directory / "symlink") == "file"
    assert os.getxattr(directory / "file", "user.key") == b"value"
    assert os.listxattr(directory / "file") == ["user.key"]


def access(directory: Path) -> None:
    if not os.access(directory / "file", os.W_OK):
        raise AssertionError("access(2) has become stricter than the table")


# ------------------------------------------------------------------------------------- content


def _open(directory: Path, flags: int, name: str = "file") -> int:
    return os.open(directory / name, flags)


def _change(flags: int) -> Callable[[Path], None]:
    def call(directory: Path) -> None:
        descriptor = _open(directory, flags)
        try:
            if flags & os.O_ACCMODE != os.O_RDONLY:
                assert os.write(descriptor, b"new") == 3
        finally:
            os.close(descriptor)

    return call


def write_into_empty(directory: Path) -> None:
    with open(directory / "empty", "wb", buffering=0) as file:
        file.write(b"no more")


def truncate(directory: Path) -> None:
    os.truncate(directory / "file", 3)


def extend(directory: Path) -> None:
    os.truncate(directory / "file", 3000)


def truncate_to_same(directory: Path) -> None:
    os.truncate(directory / "file", len(CONTENT))


def truncate_open(directory: Path) -> None:
    with open(directory / "file", "r+b") as file:
        os.ftruncate(file.fileno(), 3)


def allocate(directory: Path) -> None:
    with open(directory / "empty", "r+b") as file:
        fallocate(file.fileno(), 0, 0, 5000)


def copy_range(directory: Path) -> None:
    local = os.memfd_create("source")
    os.write(local, b"new")
    os.lseek(local, 0, os.SEEK_SET)
    try:
        with open(directory / "file", "r+b") as file:
            os.sendfile(file.fileno(), local, 0, 3)
    finally:
        os.close(local)


def map_for_writing(directory: Path) -> None:
    with (
        open(directory / "file", "r+b") as file,
        mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_WRITE) as mapped,
    ):
        mapped[:3] = b"new"


# ------------------------------------------------------------------------------------ metadata


def chmod(directory: Path) -> None:
    os.chmod(directory / "file", 0o600)


def chmod_open(directory: Path) -> None:
    descriptor = os.open(directory / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def chmod_directory(directory: Path) -> None:
    os.chmod(directory / "directory", 0o700)


def chown(directory: Path) -> None:
    os.chown(directory / "file", 1, 1)


def chown_symlink(directory: Path) -> None:
    os.lchown(directory / "symlink", 1, 1)


def set_times(directory: Path) -> None:
    os.utime(directory / "file", ns=(1, 2))


def set_times_now(directory: Path) -> None:
    os.utime(directory / "file")


def set_attribute(directory: Path) -> None:
    os.setxattr(directory / "file", "user.key", b"other")


def set_trusted(directory: Path) -> None:
    os.setxattr(directory / "file", "trusted.key", b"other")


def set_acl(directory: Path) -> None:
    os.setxattr(directory / "file", "system.posix_acl_access", ACL)


def set_directory_attribute(directory: Path) -> None:
    os.setxattr(directory / "directory", "user.key", b"other")


def remove_attribute(directory: Path) -> None:
    os.removexattr(directory / "file", "user.key")


def rename(directory: Path) -> None:
    os.rename(directory / "file", directory / "renamed")


def rename_noreplace(directory: Path) -> None:
    renameat2(directory / "file", directory / "free" / "renamed", RENAME_NOREPLACE)


def rename_directory(directory: Path) -> None:
    os.rename(directory / "directory", directory / "renamed")


def exchange(directory: Path) -> None:
    renameat2(directory / "file", directory / "other", RENAME_EXCHANGE)


# ------------------------------------------------------------------------------------ deleting


def unlink(directory: Path) -> None:
    os.unlink(directory / "file")


def unlink_empty(directory: Path) -> None:
    os.unlink(directory / "empty")


def unlink_symlink(directory: Path) -> None:
    os.unlink(directory / "symlink")


def unlink_one_of_two(directory: Path) -> None:
    os.unlink(directory / "linked2")


def rmdir(directory: Path) -> None:
    os.rmdir(directory / "directory")


def rename_onto(directory: Path) -> None:
    os.rename(directory / "other", directory / "file")


def rename_onto_directory(directory: Path) -> None:
    os.rename(directory / "free", directory / "directory")


# ------------------------------------------------------------------------------------ creating


def create(directory: Path) -> None:
    descriptor = os.open(directory / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, b"new")
    finally:
        os.close(descriptor)


def open_or_create(directory: Path) -> None:
    os.close(os.open(directory / "new", os.O_CREAT | os.O_RDONLY, 0o600))


def mkdir(directory: Path) -> None:
    os.mkdir(directory / "new")


def mkfifo(directory: Path) -> None:
    os.mkfifo(directory / "new")


def mknod(directory: Path) -> None:
    os.mknod(directory / "new", stat.S_IFREG | 0o600)


def symlink(directory: Path) -> None:
    os.symlink("anywhere", directory / "new")


def link(directory: Path) -> None:
    os.link(directory / "file", directory / "new")


CALLS: dict[str, Callable[[Path], None]] = {
    "`open` for reading, `read`": read,
    "`mmap` shared, for reading": map_for_reading,
    "`open`, `read` of an empty file": read_empty,
    "`stat`, `readdir`, `readlink`, `getxattr`, `listxattr`": look,
    "`access` with `W_OK`": access,
    "`open` with `O_WRONLY`, `write`": _change(os.O_WRONLY),
    "`open` with `O_RDWR`, `write`": _change(os.O_RDWR),
    "`open` with `O_WRONLY`, `O_APPEND`, `write`": _change(os.O_WRONLY | os.O_APPEND),
    "`open` with `O_WRONLY`, `O_TRUNC`": _change(os.O_WRONLY | os.O_TRUNC),
    "`open` with `O_RDONLY`, `O_TRUNC`": _change(os.O_RDONLY | os.O_TRUNC),
    "`open` for writing, `write` of an empty file": write_into_empty,
    "`truncate` to less": truncate,
    "`truncate` to more": extend,
    "`truncate` to the same size": truncate_to_same,
    "`open` for writing, `ftruncate`": truncate_open,
    "`open` for writing, `fallocate`": allocate,
    "`open` for writing, `sendfile` into it": copy_range,
    "`mmap` shared, for writing": map_for_writing,
    "`chmod`": chmod,
    "`fchmod`": chmod_open,
    "`chmod` of a directory": chmod_directory,
    "`chown`": chown,
    "`lchown` of a symbolic link": chown_symlink,
    "`utimensat` to a time": set_times,
    "`utimensat` to now": set_times_now,
    "`setxattr` of `user.*`": set_attribute,
    "`setxattr` of `trusted.*`": set_trusted,
    "`setxattr` of an access list": set_acl,
    "`setxattr` of a directory": set_directory_attribute,
    "`removexattr`": remove_attribute,
    "`rename` to a free name": rename,
    "`renameat2` with `RENAME_NOREPLACE`": rename_noreplace,
    "`rename` of a directory": rename_directory,
    "`renameat2` with `RENAME_EXCHANGE`": exchange,
    "`unlink`": unlink,
    "`unlink` of an empty file": unlink_empty,
    "`unlink` of a symbolic link": unlink_symlink,
    "`unlink` of one name of two": unlink_one_of_two,
    "`rmdir`": rmdir,
    "`rename` onto a file": rename_onto,
    "`rename` onto a directory": rename_onto_directory,
    "`open` with `O_CREAT`, `O_EXCL`": create,
    "`open` with `O_CREAT` for reading": open_or_create,
    "`mkdir`": mkdir,
    "`mkfifo`": mkfifo,
    "`mknod` of a regular file": mknod,
    "`symlink`": symlink,
    "`link`": link,
}
