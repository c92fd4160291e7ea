"""Who keeps a mount busy, as far as /proc tells, without touching the mount."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_USES: Final = {"cwd": "works in", "root": "has as its root", "exe": "runs"}


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, and one thing by which it holds the mount."""

    pid: int
    command: str
    use: str

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid}) {self.use}"


def find_holders(mountpoint: str, proc: Path = Path("/proc")) -> Iterator[Holder]:
    """The processes with a working directory, root, program or open file below `mountpoint`, but
    this one, which ends by itself.

    Processes of others that may not be looked into are left out, and mapped files are not searched:
    nothing found does not mean that nobody is there.
    """
    for directory in proc.iterdir():
        if not directory.name.isdecimal() or int(directory.name) == os.getpid():
            continue
        with suppress(OSError):  # it ended meanwhile, or is somebody else's
            use = next(_uses(directory, mountpoint), None)
            if use is not None:
                command = (directory / "comm").read_text(errors="replace").strip()
                yield Holder(int(directory.name), command, use)


def find_writers(mountpoint: str, proc: Path = Path("/proc")) -> Iterator[Holder]:
    """The processes that have a file below `mountpoint` open for writing, as far as can be seen."""
    for directory in proc.iterdir():
        if not directory.name.isdecimal():
            continue
        with suppress(OSError):
            target = next(_written(directory, mountpoint), None)
            if target is not None:
                command = (directory / "comm").read_text(errors="replace").strip()
                yield Holder(int(directory.name), command, f"writes {target}")


def find_namespaces(device: str, proc: Path = Path("/proc")) -> Iterator[Holder]:
    """One process of each other mount namespace (mount_namespaces(7)) in which a filesystem is
    mounted that has this device number: of a container that was made while it was mounted here."""
    seen = {os.stat(proc / "self" / "ns" / "mnt").st_ino}
    for directory in proc.iterdir():
        if not directory.name.isdecimal():
            continue
        with suppress(OSError):
            namespace = os.stat(directory / "ns" / "mnt").st_ino
            if namespace in seen:
                continue
            seen.add(namespace)
            lines = (directory / "mountinfo").read_text(errors="replace").splitlines()
            if any(line.split()[2] == device for line in lines):
                command = (directory / "comm").read_text(errors="replace").strip()
                yield Holder(int(directory.name), command, "has it in a mount namespace of its own")


def _written(directory: Path, mountpoint: str) -> Iterator[str]:
    for name in os.listdir(directory / "fd"):
        with suppress(OSError):
            target = os.readlink(directory / "fd" / name)
            if _is_below(target, mountpoint):
                (flags,) = (
                    int(line.split()[1], 8)
                    for line in (directory / "fdinfo" / name).read_text().splitlines()
                    if line.startswith("flags:")
                )
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    yield target


def _uses(directory: Path, mountpoint: str) -> Iterator[str]:
    for link, use in _USES.items():
        with suppress(OSError):
            target = os.readlink(directory / link)
            if _is_below(target, mountpoint):
                yield f"{use} {target}"
    for link in os.listdir(directory / "fd"):
        with suppress(OSError):
            target = os.readlink(directory / "fd" / link)
            if _is_below(target, mountpoint):
                yield f"has {target} open"


def _is_below(path: str, mountpoint: str) -> bool:
    return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")
