"""Durable local writes: the one place that writes, flushes and renames files of our own.

It stands in `elements` and not in `state`, because `elements` lies below `state` in the import
order and needs the same helpers, and because `core` does no I/O. Everything in the program that
must still be there after a power cut goes through here or through a local element.

The recipe (← restic `local.go` Save): temporary name in the same directory, write all, fsync,
rename, fsync the directory. A flush that failed is final: Linux marks the pages clean, so a second
fsync would say yes to data that no disk has. Nothing here retries; whoever is told of a failure
writes the data anew.

Errors are plain `OSError`; the caller knows what the path means to a person.
"""

import ctypes
import errno
import os
import secrets
import stat
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

SYNCFS_TRUSTED = frozenset(
    {
        0x0000EF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xF2F52010,  # f2fs
        0x01021994,  # tmpfs: durable it is never, and a syncfs is as good as an fsync there
    }
)
"""`f_type` of the filesystems whose syncfs writes and waits for all that their fsync would.

Others may be fine too, but overlayfs, FUSE and network filesystems differ from version to version
in what their syncfs forwards, so that an fsync of each file is used there.
"""

FLUSH_FAILED = stat.S_ISVTX
"""Permission bit of a file of ours whose flush has failed, a bit that means nothing on a file: it
is on the inode itself, so whoever opens it, also after a kill, knows that no further flush of it
is to be believed, nor that of a hard link to it."""

_SYNCFS_REPORTS_ERRORS_SINCE = (5, 8)  # syncfs(2): "In mainline kernel versions prior to Linux 5.8"
_STATFS_BYTES = 256  # struct statfs has 120 bytes on 64-bit Linux
_RENAME_NOREPLACE = 1  # <linux/fs.h>
_NOREPLACE_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS})


def syncfs(fd: int) -> None:
    """Make everything written to the filesystem of `fd` durable; `OSError` if any of it failed.

    The kernel reports a failed write once to each open file description that was open when it
    happened, so `fd` is one that was opened before the writes began, and no two threads that
    answer for different writes share it.
    """
    if _libc.syncfs(fd) != 0:
        _raise_errno("syncfs")


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2) with its modes, which the standard library leaves out; raises `OSError`."""
    if _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        _raise_errno("fallocate")


def flush(fd: int) -> None:
    """fsync; one that has failed once for this file fails for ever, until `written_anew`."""
    if os.fstat(fd).st_mode & FLUSH_FAILED:
        raise OSError(errno.EIO, "an earlier flush of its content failed; write it anew")
    try:
        os.fsync(fd)
    except OSError:
        os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | FLUSH_FAILED)
        raise


def written_anew(fd: int) -> None:
    """Nothing is left of the content whose flush failed: the file has just been emptied."""
    mode = os.fstat(fd).st_mode
    if mode & FLUSH_FAILED:
        os.fchmod(fd, stat.S_IMODE(mode) & ~FLUSH_FAILED)


def honours_syncfs(fd: int) -> bool:
    """Whether one `syncfs(fd)` is as safe as an fsync of every file: filesystem and kernel say so.

    `f_type` is read as the first machine word of struct statfs, as on every Linux but s390x,
    where the answer is False and an fsync of each file is used.
    """
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(fd, buffer) != 0:
        _raise_errno("fstatfs")
    filesystem_type = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    return filesystem_type in SYNCFS_TRUSTED and _kernel_version() >= _SYNCFS_REPORTS_ERRORS_SINCE


def rename_new(source: str, source_fd: int, target: str, target_fd: int) -> None:
    """Rename `source` in one directory to `target` in another, only if nothing has that name.

    Atomic; `FileExistsError` if something has it, also when it is the very same inode (a plain
    rename(2) of two links to one inode does nothing and says that it worked). Where the filesystem
    does not know RENAME_NOREPLACE (NFS, some FUSE) it is a link and an unlink, which a crash may
    leave with both names.
    """
    result = _libc.renameat2(
        source_fd, os.fsencode(source), target_fd, os.fsencode(target), _RENAME_NOREPLACE
    )
    if result == 0:
        return
    if ctypes.get_errno() not in _NOREPLACE_UNKNOWN:
        _raise_errno(target)
    os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
    os.unlink(source, dir_fd=source_fd)


def fsync_directory(directory: str | os.PathLike[str] | int) -> None:
    """Make the names in a directory durable, given by path or by descriptor."""
    if isinstance(directory, int):
        os.fsync(directory)
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; write(2) may take less at a time, near a full disk for example."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_file_durably(path: str | os.PathLike[str], data: bytes, mode: int = 0o600) -> None:
    """Put `data` under `path`, atomically and durably, over whatever file is there.

    When this returns the new content survives a power cut. When it raises, the old content is
    whole, with one exception: a failure of the last flush leaves the new content in place, and it
    is not known whether it would survive. The mode is exactly `mode`, whatever the umask is.
    """
    target = Path(path)
    # Not made from the target's name, which may have 255 bytes already.
    temporary = target.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(target.parent)


def rename_durably(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a file whose content is durable already over `target`, atomically and durably."""
    os.rename(source, target)
    fsync_directory(Path(target).parent)
    if Path(source).parent != Path(target).parent:
        fsync_directory(Path(source).parent)


def rename_over(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a file over `target`, atomically, without waiting for a disk: for what may have either
    name after a power cut."""
    os.rename(source, target)


def make_directories_durably(path: str | os.PathLike[str], mode: int = 0o700) -> None:
    """Make a directory and its missing parents, each with exactly `mode`, and make them durable.

    What exists keeps its mode. An existing last component has its name flushed all the same: it
    may stem from a call that a crash cut off. Not in a directory that we may not read, nor make
    anything in: that call was somebody else's.
    """
    target = Path(path).absolute()
    if not target.parent.is_dir():
        make_directories_durably(target.parent, mode)
    try:
        target.mkdir(mode)
        target.chmod(mode)
    except FileExistsError:
        if not target.is_dir():
            raise
    fsync_directory(target)
    try:
        fsync_directory(target.parent)
    except PermissionError:
        if os.access(target.parent, os.W_OK):
            raise


def _kernel_version() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or "0")


def _raise_errno(what: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), what)
