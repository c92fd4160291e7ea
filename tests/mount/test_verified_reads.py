"""What programs get of a file whose object has gone bad on its element."""

import errno
import os
import subprocess

import pytest

from ..harness import MountedArchive
from .conftest import LogWatch

BLOCK = 4 << 20
SIZE = 3 * BLOCK + 5


def test_program_that_reads_a_damaged_file_gets_eio(
    fresh_archive: MountedArchive, log_watch: LogWatch
) -> None:
    """SEMANTICS: DATA-3, XATTR-3"""
    archive = fresh_archive
    data = os.urandom(SIZE)
    path = archive.mount / "f"
    path.write_bytes(data)
    archive.flush()
    archive.remount()  # the kernel's cache is empty
    key = os.getxattr(path, "user.artstore.key").decode()
    with open(archive.element / key, "r+b") as file:
        file.seek(BLOCK + 7)
        file.write(bytes([data[BLOCK + 7] ^ 1]))
    log_watch.allow("damaged: element main")
    log_watch.allow("read: .* no element holds the content")
    done = subprocess.run(["cat", path], capture_output=True, timeout=30, check=False)
    assert done.returncode != 0
    assert done.stdout == data[: len(done.stdout)]
    assert len(done.stdout) <= BLOCK
    with open(path, "rb", buffering=0) as file:
        assert os.pread(file.fileno(), 1000, BLOCK - 1000) == data[BLOCK - 1000 : BLOCK]
        assert os.pread(file.fileno(), 5000, 3 * BLOCK - 4995) == data[3 * BLOCK - 4995 :]
        with pytest.raises(OSError, match="Input/output") as refused:
            os.pread(file.fileno(), 1, BLOCK + BLOCK // 2)
        assert refused.value.errno == errno.EIO
    error = f"element main: {key}: block 2 of 4: does not have its SHA-256"
    assert os.getxattr(path, "user.artstore.error").decode() == error
    assert error in archive.log()
    damaged = archive.status()["damaged"]
    assert [(one["path"], one["error"]) for one in damaged] == [("/f", error)]
    assert error in archive.run("status", str(archive.toml)).stdout
