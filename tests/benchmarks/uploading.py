#!/usr/bin/env python3
"""Measures a mount while many small files are on their way to a bucket, beside the same mount idle.

The bucket is on a SeaweedFS server of its own. It stands for another machine, so it has the lowest
priority on this one: what it takes of the processors is not what is measured. A set is every
operation on some hundred files, in a directory of its own. Sets are run while nothing waits; then
many small files are made, and more whenever many of them are gone, and sets are run again while
they are on their way. Ends with 1 with `--check` if the mount was slower than the goal allows.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.benchmarks import workloads  # noqa: E402  # needs the path
from tests.benchmarks.disk import positive  # noqa: E402
from tests.benchmarks.table import aligned, exit_code, time_and_spread  # noqa: E402
from tests.harness import MountedArchive  # noqa: E402
from tests.s3.servers import BUCKET, seaweedfs  # noqa: E402

SLOWDOWN_GOAL = 2.0
"""Times the time of the idle mount, of the fourth issue."""

FILES_PER_DIRECTORY = 500
LOWEST_PRIORITY = 19
"""nice(1)"""

BUSY_SETS = 10
LEAST_SHARE = 5
"""A set counts if at least one in so many of the files still waits at its end."""

ATTEMPTS = 3
"""At each set that is to count; where none does, the files are too few for this machine."""

Set = dict[str, float]
"""Seconds by operation."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--uploads", type=positive, default=10_000, help="files (default 10000)")
    parser.add_argument("--files", type=positive, default=300, help="files of a set (default 300)")
    parser.add_argument(
        "--sets",
        type=positive,
        default=BUSY_SETS,
        help=f"while files are uploaded, half as many before (default {BUSY_SETS})",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("/var/tmp"),
        help="where to make a temporary directory (default /var/tmp)",
    )
    parser.add_argument("--check", action="store_true", help="end with 1 if the goal is missed")
    return parser.parse_args()


def operations(files: int) -> dict[str, Callable[[Path], float]]:
    """Of a set, in their order: they build on one another."""
    return {
        "create, write 4 KiB, close": partial(workloads.create, files=files),
        "stat, warm": workloads.stat_all,
        "scandir and stat, warm": workloads.scan_all,
        "setxattr": workloads.set_attributes,
        "getxattr": workloads.get_attributes,
        "rename": workloads.rename_all,
        "`find`": workloads.find_flat,
        "`ls -lR`": workloads.list_flat,
        "unlink": workloads.unlink_all,
    }


class Uploading:
    """`archive` is mounted on an empty part of the bucket."""

    def __init__(self, archive: MountedArchive, uploads: int, files: int, sets: int) -> None:
        self.archive = archive
        self.uploads = uploads
        self.sets = sets
        self.operations = operations(files)
        self._sets = 0
        self.files_made = 0

    def run_set(self) -> Set:
        directory = self.archive.mount / f"set{self._sets}"
        directory.mkdir()
        self._sets += 1
        return {name: run(directory) for name, run in self.operations.items()}

    def idle(self) -> list[Set]:
        """Nothing waits before a set; its own files are on their way only at the end of it."""
        sets = []
        for _ in range(-(-self.sets // 2)):
            self.archive.flush()
            sets.append(self.run_set())
        self.archive.flush()
        return sets

    def busy(self) -> list[Set]:
        """Sets during which files were being uploaded, each from its begin to its end."""
        self._make_uploads(self.uploads)
        while self.waiting() >= self.uploads:
            time.sleep(0.05)
        sets: list[Set] = []
        for _ in range(ATTEMPTS * self.sets):
            gone = self.uploads - self.waiting()
            if gone > self.uploads // 2:
                self._make_uploads(gone)
            measured = self.run_set()
            if self.waiting() >= self.uploads // LEAST_SHARE:
                sets.append(measured)
            if len(sets) == self.sets:
                break
        return sets

    def _make_uploads(self, files: int) -> None:
        for number in range(self.files_made, self.files_made + files):
            directory = self.archive.mount / f"uploads{number // FILES_PER_DIRECTORY}"
            directory.mkdir(exist_ok=True)
            (directory / str(number)).write_bytes(workloads.CONTENT)
        self.files_made += files

    def waiting(self) -> int:
        """Files and directories that the bucket does not have yet."""
        return int(self.archive.ask("status")["pending"]["intents"])


def slowdown(idle: list[Set], busy: list[Set], operation: str) -> float:
    """Median time of an operation while files are uploaded by that of the idle mount."""
    medians = [statistics.median(one[operation] for one in sets) for sets in (busy, idle)]
    return medians[0] / medians[1]


def table(idle: list[Set], busy: list[Set], files: int) -> str:
    rows = [("operation", "idle", "while files are uploaded", "ratio", "goal", "met")]
    for operation in idle[0]:
        count = 1 if operation.startswith("`") else files
        ratio = slowdown(idle, busy, operation)
        cells = [time_and_spread([one[operation] / count for one in sets]) for sets in (idle, busy)]
        met = "yes" if ratio <= SLOWDOWN_GOAL else "no"
        rows.append((operation, *cells, f"{ratio:.2f}", f"≤ {SLOWDOWN_GOAL}", met))
    return aligned(rows)


def main() -> int:
    """The exit code."""
    arguments = parse_arguments()
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="asfs-", dir=arguments.directory)
        base = Path(stack.enter_context(scratch))
        (base / "server").mkdir()
        server = stack.enter_context(seaweedfs(base / "server", LOWEST_PRIORITY))
        archive = MountedArchive(
            base / "a",
            place=f"s3:{BUCKET}/{server.new_prefix()}",
            element_arguments=f",endpoint={server.url},credentials_file={server.credentials}",
            new_processes=True,
        )
        stack.callback(archive.clean_up)
        archive.start()
        benchmark = Uploading(archive, arguments.uploads, arguments.files, arguments.sets)
        idle, busy = benchmark.idle(), benchmark.busy()
    if not busy:
        print("the files were uploaded before a set was done: take more --uploads", file=sys.stderr)
        return 1
    print(f"{len(idle)} sets idle, {len(busy)} while {benchmark.files_made} files were uploaded\n")
    print(table(idle, busy, arguments.files))
    missed = [name for name in idle[0] if slowdown(idle, busy, name) > SLOWDOWN_GOAL]
    return exit_code(missed, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
