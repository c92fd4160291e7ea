#!/usr/bin/env python3
"""Measures ArtStoreFS beside the local filesystem and prints a table in Markdown.

Both work below one temporary directory, so on the same disk: the local filesystem in one part of
it, an archive of its own, mounted, with its state and its element, in another. Each workload runs
on both, one directly after the other, in all rounds, each in a directory of its own, before the
next workload has its turn: ext4 creates files ten times slower for some minutes after many were
deleted, and deleting comes last. Which side is first alternates. Before each run the elements have
everything, so that nobody carries the files of the last one meanwhile.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from artstorefs.core.sizes import parse_size  # noqa: E402  # needs the path
from tests.benchmarks.disk import (  # noqa: E402
    add_disk_options,
    check_disk,
    positive,
    wait_for_quick_creates,
)
from tests.benchmarks.table import Row, exit_code, markdown  # noqa: E402
from tests.benchmarks.workloads import collect_source, make_tree, workloads  # noqa: E402
from tests.harness import MountedArchive  # noqa: E402

COPIED_FILES = 1500
"""How many files `cp -r` copies, unless `--files` is smaller."""

SPACE_PER_SIZE = 6
"""The large file lies on the local side, in the spool, and on the element; twice while a new one is
there and the old one is being removed."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=positive, default=5000, help="small files (default 5000)")
    parser.add_argument(
        "--size", type=parse_size, default=1 << 30, help="of the large file (default 1GiB)"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="how often (default 3)")
    add_disk_options(parser)
    parser.add_argument("--json", action="store_true", help="all numbers instead of the table")
    parser.add_argument("--check", action="store_true", help="end with 1 if a goal is missed")
    arguments = parser.parse_args()
    check_disk(parser, arguments.directory, arguments.size * SPACE_PER_SIZE)
    return arguments


class Benchmark:
    """`local` and the mount of `archive` are the two directories that are compared."""

    def __init__(
        self, base: Path, files: int, size_bytes: int, rounds: int, patience_s: float
    ) -> None:
        self.local = base / "local"
        self.local.mkdir()
        source = collect_source(base, min(files, COPIED_FILES))
        self.rows = [Row(workload) for workload in workloads(files, size_bytes, source)]
        self.archive = MountedArchive(base / "archive", new_processes=True)
        self.files = files
        self.rounds = rounds
        self.patience_s = patience_s

    def prepare(self) -> None:
        """The mount, and on both sides the tree that all rounds list."""
        self.archive.start()
        wait_for_quick_creates(self.archive.base / "probe", self.patience_s)
        for directory in (self.local, self.archive.mount):
            make_tree(directory, self.files)
            for number in range(self.rounds):
                (directory / f"round{number}").mkdir()
        self.archive.flush()

    def run(self) -> None:
        """Each workload, in every round, once on each side."""
        for row in self.rows:
            print(row.workload.operation, file=sys.stderr, flush=True)
            for number in range(self.rounds * row.workload.times_per_round):
                directory = "." if row.workload.on_tree else f"round{number % self.rounds}"
                self._run_round(row, directory, number)

    def _run_round(self, row: Row, directory: str, number: int) -> None:
        if row.workload.remounted:
            self.archive.remount()
            self._measure_mount(row, directory)
        elif number % 2 == 0:
            self._measure_local(row, directory)
            self._measure_mount(row, directory)
        else:
            self._measure_mount(row, directory)
            self._measure_local(row, directory)

    def _measure_local(self, row: Row, directory: str) -> None:
        row.local_s.append(row.workload.run(self.local / directory))

    def _measure_mount(self, row: Row, directory: str) -> None:
        row.mount_s.append(row.workload.run(self.archive.mount / directory))
        start = time.perf_counter()
        self.archive.flush()
        row.carried_s.append(time.perf_counter() - start)

    def close(self) -> None:
        """Unmount, also after a failure; what the daemon complained of is shown."""
        self.archive.clean_up()
        complaints = (line for line in self.archive.log().splitlines() if " INFO " not in line)
        print(*complaints, sep="\n", end="", file=sys.stderr)


def report(rows: list[Row], arguments: argparse.Namespace) -> str:
    """What is printed: the table, or everything that was measured, with the machine."""
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    )
    if arguments.json:
        return json.dumps({"machine": machine, "rows": [row.as_json() for row in rows]}, indent=2)
    rounds = "1 round" if arguments.rounds == 1 else f"median of {arguments.rounds} rounds"
    return f"{machine}; {rounds}\n\n{markdown(rows)}"


def main() -> int:
    """The exit code: 1 if `--check` is given and a goal is missed."""
    arguments = parse_arguments()
    base = Path(tempfile.mkdtemp(prefix="asfs-", dir=arguments.directory))
    try:
        benchmark = Benchmark(
            base, arguments.files, arguments.size, arguments.rounds, arguments.patience
        )
        try:
            benchmark.prepare()
            benchmark.run()
        finally:
            benchmark.close()
    finally:
        shutil.rmtree(base)
    print(report(benchmark.rows, arguments))
    missed = [row.workload.operation for row in benchmark.rows if row.is_met is False]
    return exit_code(missed, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
