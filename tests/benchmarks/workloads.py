"""What is measured: a workload works in a directory and says how many seconds it took.

The same function runs on the mount and on the local filesystem. What it needs it makes first, and
what would disturb the next one it takes away afterwards; only what is between is timed. They build
on one another, in the order of `workloads`: the files that are created first are renamed, listed,
and unlinked later.
"""

import itertools
import os
import shutil
import statistics
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from artstorefs.core.sizes import format_size

from .memory import drop_caches, memory_in_large_pieces

CONTENT = b"\xa5" * 4096
BLOCK_BYTES = 1 << 20

ATTRIBUTE = "user.artist"
VALUE = b"Rembrandt van Rijn"

FILES_PER_DIRECTORY = 10
DIRECTORIES_PER_DIRECTORY = 20

REPEATS = 5
"""A listing takes milliseconds: one alone would show the scheduler more than the filesystem."""

PROGRAM_LIMIT_S = 300
"""No program here works on more than some thousand files; longer means that something hangs."""

CREATE_GOAL_PER_S = 2000.0
LISTING_GOAL = 1.5
LARGE_FILE_GOAL = 1.3
"""The goals of the first issue; the last two are times the time of the local filesystem."""


@dataclass(frozen=True)
class Workload:
    """One row of the table."""

    operation: str
    run: Callable[[Path], float]
    count: int = 0
    """Operations in one run, 0 where only the time of the whole counts."""
    size_bytes: int = 0
    goal_per_s: float | None = None
    goal_ratio: float | None = None
    """At most so many times the time of the local filesystem."""
    carried: bool = False
    """Also tell how long it then takes until the elements have everything."""
    remounted: bool = False
    """On the mount only, and on one that has just been made."""
    on_tree: bool = False
    """Works on the tree that all rounds share."""
    times_per_round: int = 1
    """More where a few single runs differ by more than what is to be told apart."""


def workloads(files: int, size_bytes: int, source: Path) -> list[Workload]:
    """All of them in their order; `source` is the tree that `copy_tree` copies."""
    copied = sum(len(names) for _, _, names in os.walk(source))
    size = format_size(size_bytes)
    flat = f"{files} files in a directory"
    tree = f"{files} files in {_directories(files)} directories"
    write = partial(write_file, size_bytes=size_bytes, sync=False)
    write_sync = partial(write_file, size_bytes=size_bytes, sync=True)
    large = partial(Workload, size_bytes=size_bytes, goal_ratio=LARGE_FILE_GOAL)
    return [
        Workload(
            "create, write 4 KiB, close",
            partial(create, files=files),
            count=files,
            goal_per_s=CREATE_GOAL_PER_S,
            carried=True,
        ),
        Workload("stat, warm", stat_all, count=files),
        Workload("scandir and stat, warm", scan_all, count=files),
        Workload("setxattr", set_attributes, count=files),
        Workload("getxattr", get_attributes, count=files),
        Workload("rename", rename_all, count=files),
        Workload(f"`find`, {flat}", find_flat, goal_ratio=LISTING_GOAL),
        Workload(f"`ls -lR`, {flat}", list_flat, goal_ratio=LISTING_GOAL),
        Workload("unlink", unlink_all, count=files),
        Workload(
            f"`find`, {tree}, first after mounting", find_tree_first, remounted=True, on_tree=True
        ),
        Workload(f"`find`, {tree}", find_tree, goal_ratio=LISTING_GOAL, on_tree=True),
        Workload(f"`ls -lR`, {tree}", list_tree, goal_ratio=LISTING_GOAL, on_tree=True),
        Workload(f"`cp -r` of {copied} files", partial(copy_tree, source=source), carried=True),
        large(f"write {size}", write, times_per_round=3),
        large(f"write {size} and fsync", write_sync, carried=True),
        large(f"read {size}, warm", read_file),
    ]


# ------------------------------------------------------------------------- a flat directory


def create(directory: Path, files: int) -> float:
    """`files` new files of 4 KiB."""
    flat = directory / "flat"
    flat.mkdir()
    paths = [f"{flat}/{number}" for number in range(files)]
    start = time.perf_counter()
    for path in paths:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(descriptor, CONTENT)
        os.close(descriptor)
    return time.perf_counter() - start


def stat_all(directory: Path) -> float:
    """stat of each file, after each has been asked once."""
    paths = _paths(directory)
    for path in paths:
        os.stat(path)
    return _timed(paths, os.stat)


def scan_all(directory: Path) -> float:
    """One pass over the directory with the attributes of each entry, the second such pass."""

    def scan(path: str) -> None:
        with os.scandir(path) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)

    flat = str(directory / "flat")
    scan(flat)
    return _timed([flat], scan)


def set_attributes(directory: Path) -> float:
    """A new attribute on each file."""
    return _timed(_paths(directory), lambda path: os.setxattr(path, ATTRIBUTE, VALUE))


def get_attributes(directory: Path) -> float:
    """The attribute that `set_attributes` has set."""
    return _timed(_paths(directory), lambda path: os.getxattr(path, ATTRIBUTE))


def rename_all(directory: Path) -> float:
    """A new name in the same directory for each file."""
    return _timed(_paths(directory), lambda path: os.rename(path, f"{path}.renamed"))


def find_flat(directory: Path) -> float:
    return _run_warm("find", str(directory / "flat"))


def list_flat(directory: Path) -> float:
    return _run_warm("ls", "-lR", str(directory / "flat"))


def unlink_all(directory: Path) -> float:
    """Every file goes; the directory, then empty, untimed."""
    seconds = _timed(_paths(directory), os.unlink)
    (directory / "flat").rmdir()
    return seconds


def _paths(directory: Path) -> list[str]:
    flat = directory / "flat"
    return [f"{flat}/{name}" for name in sorted(os.listdir(flat))]


def _timed(paths: list[str], operation: Callable[[str], object]) -> float:
    start = time.perf_counter()
    for path in paths:
        operation(path)
    return time.perf_counter() - start


# ------------------------------------------------------------------------- trees of directories


def _directories(files: int) -> int:
    return -(-files // FILES_PER_DIRECTORY)


def make_tree(directory: Path, files: int) -> None:
    """Many small directories in two levels, as in real archives; it lasts for all rounds."""
    for number in range(_directories(files)):
        small = directory / "tree" / str(number // DIRECTORIES_PER_DIRECTORY) / str(number)
        small.mkdir(parents=True)
        for name in range(min(FILES_PER_DIRECTORY, files - number * FILES_PER_DIRECTORY)):
            (small / f"{name}.txt").write_bytes(CONTENT)


def find_tree_first(directory: Path) -> float:
    """Not warmed up: for a mount that has just been made."""
    return run_program("find", str(directory / "tree"))


def find_tree(directory: Path) -> float:
    return _run_warm("find", str(directory / "tree"))


def list_tree(directory: Path) -> float:
    return _run_warm("ls", "-lR", str(directory / "tree"))


def collect_source(directory: Path, files: int) -> Path:
    """A tree of real files: the first `files` of Python's standard library, or all it has."""
    library = Path(sysconfig.get_path("stdlib"))
    source = directory / "source"
    source.mkdir()
    for path in itertools.islice(_library_files(library), files):
        target = source / path.relative_to(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return source


def _library_files(library: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(library):
        folders[:] = sorted({*folders} - {"site-packages", "dist-packages", "__pycache__"})
        paths = (Path(folder, name) for name in sorted(names))
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


def copy_tree(directory: Path, source: Path) -> float:
    """`cp -r` of the source into the directory."""
    return run_program("cp", "-r", str(source), str(directory / "copy"))


def _run_warm(*command: str) -> float:
    """Seconds of one run, as the median of some after a first one that is not counted."""
    run_program(*command)
    return statistics.median(run_program(*command) for _ in range(REPEATS))


def run_program(
    *command: str, output: int | IO[bytes] = subprocess.DEVNULL, limit_s: float | None = None
) -> float:
    """Seconds from the start of the program until its end is known; what it prints is `output`.

    It is waited for without a limit, beside a timer: a wait with one asks again and again, with
    pauses that grow to 50 ms, and every time would be the end of such a pause.
    """
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=output) as program:
        limit = threading.Timer(limit_s or PROGRAM_LIMIT_S, program.kill)
        limit.daemon = True
        limit.start()
        try:
            code = program.wait()
        except BaseException:  # an interrupt is ours alone, and the end of a `with` waits
            program.kill()
            raise
        finally:
            limit.cancel()
        seconds = time.perf_counter() - start
    if code:
        raise subprocess.CalledProcessError(code, command)
    return seconds


# ------------------------------------------------------------------------------ a large file


def write_file(directory: Path, size_bytes: int, sync: bool) -> float:
    """A new file in blocks of 1 MiB, until close has returned; `sync`: with an fsync before it.

    Without, the disk writes afterwards; that is waited for untimed, so that it slows nothing else.
    """
    path = directory / "large"
    path.unlink(missing_ok=True)
    block = os.urandom(min(BLOCK_BYTES, size_bytes))
    with memory_in_large_pieces(2 * size_bytes):
        start = time.perf_counter()
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        for offset in range(0, size_bytes, BLOCK_BYTES):
            os.write(descriptor, block[: size_bytes - offset])
        if sync:
            os.fsync(descriptor)
        os.close(descriptor)
        seconds = time.perf_counter() - start
    if not sync:
        with open(path, "rb+") as file:
            os.fsync(file)
    return seconds


def read_file(directory: Path) -> float:
    """The large file when it is in memory, as the median of some reads; it is removed untimed.

    The first read brings it there, the second makes the kernel move every page to its list of
    those in use; what follows is the warm read.
    """
    path = directory / "large"
    command = ("dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none")
    drop_caches()
    with memory_in_large_pieces(2 * path.stat().st_size):
        run_program(*command)
        seconds = _run_warm(*command)
    path.unlink()
    return seconds
