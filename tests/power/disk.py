"""The guest's disk: an image with ext4, and what is on it after a cut."""

import errno
import os
import re
import subprocess
from pathlib import Path

SIZE_BYTES = 128 << 20
_MTIME = re.compile(r"^ *mtime: 0x([0-9a-f]+):([0-9a-f]+)", re.MULTILINE)
_ENVIRONMENT = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


def make(image: Path, content: Path, size_bytes: int = SIZE_BYTES) -> None:
    """An image with a copy of the directory `content`, and a journal that is soon full."""
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-d", str(content), str(image))


def copy(image: Path, target: Path) -> None:
    """The same image, with its holes: a tenth of it is data."""
    with open(image, "rb") as source, open(target, "wb") as made:
        size = os.fstat(source.fileno()).st_size
        made.truncate(size)
        end = 0
        while (start := _next_data(source.fileno(), end)) is not None:
            end = os.lseek(source.fileno(), start, os.SEEK_HOLE)
            os.lseek(made.fileno(), start, os.SEEK_SET)
            while start < end:
                start += os.sendfile(made.fileno(), source.fileno(), start, end - start)


def _next_data(descriptor: int, offset: int) -> int | None:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno != errno.ENXIO:  # no more
            raise
        return None


def repair(image: Path) -> None:
    """What the start of a machine does with its disk: replay of the journal, a look at all."""
    _run("e2fsck", "-f", "-p", str(image), allowed=(0, 1))


def extract(image: Path, names: tuple[str, ...], target: Path) -> None:
    """Copy these directories of the image, those that are there, below `target`, which is made;
    no mount is needed."""
    target.mkdir()
    requests = "".join(f"rdump {name} {target}\n" for name in names)
    done = _run("debugfs", "-f", "-", str(image), given=requests)
    absent = tuple(f"{name}: File not found by ext2_lookup" for name in names)
    wrong = [line for line in done.splitlines() if not line.startswith(("debugfs", *absent))]
    assert not wrong, f"debugfs: {wrong}"


def copy_times(image: Path, directory: str, target: Path) -> None:
    """Give the files in a directory that was extracted their times to the nanosecond, which
    debugfs leaves out."""
    names = [path.name for path in target.iterdir() if path.is_file()]
    requests = "".join(f"stat {directory}/{name}\n" for name in names)
    done = _run("debugfs", "-f", "-", str(image), given=requests)
    times = _MTIME.findall(done)
    assert len(times) == len(names), done
    for name, (seconds, extra) in zip(names, times, strict=True):
        mtime_ns = int(seconds, 16) * 10**9 + (int(extra, 16) >> 2)
        mtime_ns += (int(extra, 16) & 3) * 2**32 * 10**9  # two more bits of the seconds
        os.utime(target / name, ns=(mtime_ns, mtime_ns))


def _run(*command: str, given: str | None = None, allowed: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        command,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        env=_ENVIRONMENT,
    )
    assert done.returncode in allowed, f"{command}: {done.returncode}: {done.stdout[-2000:]}"
    return done.stdout
