"""The disk on which filesystems are compared: which one, whether it has room and is quick."""

import argparse
import itertools
import os
import shutil
import sys
import time
from pathlib import Path

from artstorefs.core.sizes import format_size

QUICK_CREATES_PER_S = 12_000
"""A local filesystem that makes fewer files a second is busy with something else."""

RECENTLY_DELETED_S = 330
"""For five minutes ext4 passes over the inodes of deleted files one by one (fs/ext4/ialloc.c,
recently_deleted), for each file that is made beside them: 1 ms instead of 0.05."""

PROBED_FILES = 200


def add_disk_options(parser: argparse.ArgumentParser) -> None:
    """`--directory` and `--patience`, of every benchmark."""
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("/var/tmp"),
        help="where to make a temporary directory, on the disk to be compared (default /var/tmp)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=RECENTLY_DELETED_S,
        help="seconds to wait for a disk that is slow after many files were deleted (default 330)",
    )


def check_disk(parser: argparse.ArgumentParser, directory: Path, needed_bytes: int) -> None:
    """End with a line that says why, if nothing can be measured in `directory`."""
    if not os.path.exists("/dev/fuse"):
        parser.error("/dev/fuse is missing: nothing can be mounted here")
    if not directory.is_dir():
        parser.error(f"{directory} is not a directory")
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        parser.error(
            f"{directory} has {format_size(free_bytes)} free,"
            f" {format_size(needed_bytes)} are needed: name another --directory or a smaller --size"
        )


def positive(text: str) -> int:
    """A number of things on the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def wait_for_quick_creates(directory: Path, patience_s: float) -> None:
    """Wait until files are made in `directory` as fast as usual, at most `patience_s`."""
    deadline = time.monotonic() + patience_s
    for probe in itertools.count():
        place = directory / str(probe)
        place.mkdir(parents=True)
        start = time.perf_counter()
        for number in range(PROBED_FILES):
            (place / str(number)).touch()
        if PROBED_FILES / (time.perf_counter() - start) >= QUICK_CREATES_PER_S:
            return
        if time.monotonic() > deadline:
            print("the disk makes files slowly, also without a mount", file=sys.stderr)
            return
        if probe == 0:
            print("waiting until the disk makes files as fast as usual", file=sys.stderr)
        time.sleep(10)
