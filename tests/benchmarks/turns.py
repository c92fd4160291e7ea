"""One turn: everything that is measured of one contender, on a bucket and a mount of its own.

In: a tree of small files with `cp -r`, then a large file with `cp`; for each the seconds until the
program has returned, and until the server has it all. That is the moment at which the contender has
nothing left to send, or, where it cannot say so, at which a listing began that has everything; a
listing always verifies it. Out, from a mount that has just been made and has no content here: both
again, and what comes out is compared with what went in.
"""

import hashlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Contender, ContenderFailed
from tests.benchmarks.memory import drop_caches
from tests.benchmarks.workloads import BLOCK_BYTES, run_program
from tests.s3.servers import Server

TREE, LARGE = "tree", "large"
"""Names on the mount, and so in the buckets of those who keep files as they are."""

FILES_PER_DIRECTORY = 60
DIRECTORIES_PER_DIRECTORY = 7
MEDIAN_BYTES, SPREAD = 4000, 1.2
"""Of source code: half of the files have less than 4 kB, one in six more than three times that."""

EMPTY_SHARE = 0.02
SMALL_BYTES_LIMIT = 64 << 10

LIMIT_S = 1800.0
"""For one copy, and for one wait: a slow contender is to be measured, one that hangs is not."""

LISTING_LIMIT_S = 120.0
"""The contender has said before that it has nothing left to send."""

LISTING_PAUSE_S = 0.1
"""A listing of 2,500 objects keeps the server busy for about as long."""


@dataclass(frozen=True)
class Measure:
    """A row of the table."""

    operation: str
    size_bytes: int = 0
    """0 where only the time counts."""


class Source:
    """What goes in: `files` small files in `base`/tree, and `base`/large."""

    def __init__(self, base: Path, files: int, size_bytes: int) -> None:
        self.tree = base / TREE
        self.large = base / LARGE
        self.count = files
        self.size_bytes = size_bytes
        self._make_tree(random.Random(files))
        with self.large.open("wb") as file:
            for offset in range(0, size_bytes, BLOCK_BYTES):
                file.write(os.urandom(min(BLOCK_BYTES, size_bytes - offset)))
        self.tree_sums = sums_below(self.tree)
        self.large_sum = sum_of(self.large)

    def _make_tree(self, chance: random.Random) -> None:
        for number in range(self.count):
            folder = number // FILES_PER_DIRECTORY
            path = self.tree / f"d{folder // DIRECTORIES_PER_DIRECTORY}" / f"d{folder}"
            path.mkdir(parents=True, exist_ok=True)
            size_bytes = min(
                int(chance.lognormvariate(0, SPREAD) * MEDIAN_BYTES), SMALL_BYTES_LIMIT
            )
            if chance.random() < EMPTY_SHARE:
                size_bytes = 0
            (path / f"file{number}.py").write_bytes(chance.randbytes(size_bytes))

    def tree_files(self) -> dict[str, int]:
        """Path on a mount → bytes."""
        return {
            f"{TREE}/{path.relative_to(self.tree)}": path.stat().st_size
            for path in self.tree.rglob("*")
            if path.is_file()
        }

    def have_in_memory(self) -> None:
        """All of it, so that no contender waits for the disk that it comes from."""
        for path in (self.large, *self.tree.rglob("*")):
            if path.is_file():
                path.read_bytes()


def sum_of(path: Path) -> str:
    """SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_below(directory: Path) -> dict[str, str]:
    """Path below `directory` → SHA-256 of the file."""
    return {
        str(path.relative_to(directory)): sum_of(path)
        for path in directory.rglob("*")
        if path.is_file()
    }


def objects_in(client: Any, bucket: str) -> dict[str, int]:
    """Key → bytes, of a whole bucket."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}


class Turn:
    """`contender` with `source`; what comes out goes to `contender.base`/out."""

    def __init__(self, contender: Contender, source: Source, server: Server) -> None:
        self.contender = contender
        self.source = source
        self.client = server.client()
        self.out = contender.base / "out"

    def run(self) -> Iterator[float]:
        """Seconds, in the order of `measures`. Raises ContenderFailed."""
        self.out.mkdir()
        tree, large = self.source.tree_files(), {LARGE: self.source.size_bytes}
        self.contender.start()
        yield from self._measure_in(("cp", "-r", str(self.source.tree)), tree)
        yield from self._measure_in(("cp", str(self.source.large)), {**tree, **large})
        self.contender.stop()
        self.contender.drop_cache()
        drop_caches()  # also of what the server has written; before the start, which reads programs
        self.contender.start()
        yield self._measure_tree_out()
        yield self._measure_large_out()
        self.contender.stop()

    def _measure_in(self, copy: tuple[str, ...], files: dict[str, int]) -> Iterator[float]:
        """Until `copy` has returned; from its start until the server has `files`."""
        os.sync()  # what was written before is not to be written meanwhile
        self.source.have_in_memory()
        start = time.perf_counter()
        yield run_program(*copy, str(self.contender.mount), limit_s=LIMIT_S)
        self.contender.wait_until_carried(LIMIT_S)
        yield self._all_listed(files) - start

    def _all_listed(self, files: dict[str, int]) -> float:
        """When a listing of the bucket began that has them all, by `perf_counter`."""
        deadline = time.monotonic() + LISTING_LIMIT_S
        while True:
            asked = time.perf_counter()
            if self.contender.has_all(objects_in(self.client, self.contender.bucket), files):
                return asked
            if time.monotonic() > deadline:
                raise ContenderFailed(f"the bucket has not got all {LISTING_LIMIT_S:.0f} s later")
            time.sleep(LISTING_PAUSE_S)

    def _measure_tree_out(self) -> float:
        mounted, out = self.contender.mount / TREE, self.out / TREE
        seconds = run_program("cp", "-r", str(mounted), str(out), limit_s=LIMIT_S)
        if sums_below(out) != self.source.tree_sums:
            raise ContenderFailed("the tree that came out is not the one that went in")
        return seconds

    def _measure_large_out(self) -> float:
        out = self.out / LARGE
        with out.open("wb") as file:
            seconds = run_program(
                "cat", str(self.contender.mount / LARGE), output=file, limit_s=LIMIT_S
            )
        if sum_of(out) != self.source.large_sum:
            raise ContenderFailed("the file that came out is not the one that went in")
        out.unlink()
        return seconds


def measures(files: int, size: str, size_bytes: int) -> list[Measure]:
    """The rows, in the order in which a turn gives their seconds."""
    carried = "… from its start until the server has it all"
    return [
        Measure(f"`cp -r` of {files} files to the mount"),
        Measure(carried),
        Measure(f"`cp` of {size} to the mount", size_bytes),
        Measure(carried, size_bytes),
        Measure(f"`cp -r` of {files} files from it, nothing cached"),
        Measure(f"`cat` of {size} from it, nothing cached", size_bytes),
    ]
