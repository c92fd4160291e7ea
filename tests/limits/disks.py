"""Small filesystems of a test's own, that can be filled to the last byte and the last inode, be
unmounted and come back, and be made read-only."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

COMMAND_LIMIT_S = 60
FIRST_PIECE_BYTES = 1 << 20


class Disk:
    """A filesystem mounted at `path`: tmpfs, or ext4 on a file by a loop device."""

    def __init__(self, kind: str, path: Path, image: Path, size_mib: int, inodes: int = 0) -> None:
        self.kind = kind
        self.path = path
        self._image = image
        self._device = ""
        self._options = f"size={size_mib}m" + (f",nr_inodes={inodes}" if inodes else "")
        path.mkdir(parents=True, exist_ok=True)
        if kind == "ext4":
            with open(image, "wb") as file:
                file.truncate(size_mib << 20)
            some = ["-N", str(inodes)] if inodes else []
            _run("mkfs.ext4", "-q", "-F", "-m", "0", *some, str(image))
            self._device = _run("losetup", "--find", "--show", str(image)).strip()
        self.mount()

    def mount(self) -> None:
        if self.kind == "ext4":
            _run("mount", self._device, str(self.path))
        else:
            _run("mount", "-t", "tmpfs", "-o", self._options, "asfs-limits", str(self.path))

    def unmount(self) -> None:
        """Lazily, because programs use it; what is on an ext4 is there again after `mount`."""
        _run("umount", "-l", str(self.path))

    def replug(self) -> None:
        """Another device comes with the same content: a disk on another port (tmpfs only)."""
        assert self.kind == "tmpfs"
        copy = self._image.with_name("copy")
        _run("cp", "-a", str(self.path), str(copy))
        self.unmount()
        self.mount()
        _run("cp", "-a", f"{copy}/.", str(self.path))
        shutil.rmtree(copy)

    def remount(self, options: str) -> None:
        _run("mount", "-o", f"remount,{options}", str(self.path))

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """Until not one byte more can be written."""
        fd = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            size = FIRST_PIECE_BYTES
            while size:
                try:
                    os.write(fd, bytes(size))
                except OSError:
                    size //= 2
            with contextlib.suppress(OSError):
                os.fsync(fd)
        finally:
            os.close(fd)

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def use_up_inodes(self) -> None:
        """Until no file can be made."""
        directory = self.path / "lost+found" / "many"  # no part of an element
        directory.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            for number in range(1_000_000):
                os.close(os.open(directory / str(number), os.O_WRONLY | os.O_CREAT))

    def free_inodes(self) -> None:
        shutil.rmtree(self.path / "lost+found" / "many")

    def clean_up(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True, check=False)
        if self._device:
            subprocess.run(["losetup", "-d", self._device], capture_output=True, check=False)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
