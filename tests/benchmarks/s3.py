#!/usr/bin/env python3
"""Measures ArtStoreFS on an S3 bucket beside other filesystems, and prints a table in Markdown.

The server is SeaweedFS, started here, on loopback; all have their turn on it one after the other,
in each round another one first, each with a bucket and a directory of its own below one temporary
directory. What a turn is, stands in turns.py; who takes part, and with what settings, in
contenders.py. Of a contender that fails the table has what it did before, the notes below say why,
and the exit code is 1.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from botocore.exceptions import BotoCoreError, ClientError

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from artstorefs.core.sizes import format_size, parse_size  # noqa: E402  # needs the path
from tests.benchmarks.contenders import (  # noqa: E402
    CONTENDERS,
    Contender,
    ContenderFailed,
    find_program,
    version_of,
)
from tests.benchmarks.disk import (  # noqa: E402
    add_disk_options,
    check_disk,
    positive,
    wait_for_quick_creates,
)
from tests.benchmarks.mounts import unmount_lazily  # noqa: E402
from tests.benchmarks.table import aligned, amount  # noqa: E402
from tests.benchmarks.turns import Measure, Source, Turn, measures  # noqa: E402
from tests.s3.servers import Server, seaweedfs  # noqa: E402

SIZES_AT_ONCE, SIZES_PER_TURN = 4, 2
"""How often the large file is there: as the source, on the server, in a spool, and as what came
out; and then for each turn in caches that are kept until the end."""

SERVER_FAILURES = (BotoCoreError, ClientError)
FAILURES = (
    ContenderFailed,
    AssertionError,  # of the harness: a command failed
    OSError,
    subprocess.SubprocessError,
    *SERVER_FAILURES,
)
"""What ends a turn and not the run."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=positive, default=2500, help="small files (default 2500)")
    parser.add_argument(
        "--size", type=parse_size, default=512 << 20, help="of the large file (default 512MiB)"
    )
    parser.add_argument("--rounds", type=positive, default=1, help="how often (default 1)")
    parser.add_argument(
        "--only",
        type=_contenders,
        default=list(CONTENDERS),
        metavar="NAME[,NAME…]",
        help=f"who takes part; all are {', '.join(_names())}",
    )
    add_disk_options(parser)
    arguments = parser.parse_args()
    turns = arguments.rounds * len(arguments.only)
    sizes = SIZES_AT_ONCE + SIZES_PER_TURN * turns
    check_disk(parser, arguments.directory, arguments.size * sizes)
    for contender in arguments.only:
        if find_program(contender.program) is None:
            parser.error(
                f"{contender.program} is missing: `{contender.install}` installs it, and"
                " tools/benchmark --s3 all that is needed"
            )
    return arguments


def _names() -> Iterator[str]:
    return (contender.name for contender in CONTENDERS)


def _contenders(text: str) -> list[type[Contender]]:
    """Those named, in the order of the table."""
    wanted = text.split(",")
    if unknown := sorted({*wanted} - {*_names()}):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: none of {', '.join(_names())}")
    return [contender for contender in CONTENDERS if contender.name in wanted]


class Results:
    """Seconds by contender and row, one number for each round; and who failed."""

    def __init__(self, contenders: Sequence[type[Contender]], rows: Sequence[Measure]) -> None:
        self.contenders = contenders
        self.rows = rows
        self.seconds: dict[str, list[list[float]]] = {
            contender.name: [[] for _ in rows] for contender in contenders
        }
        self.failures: dict[str, str] = {}
        self.server = version_of("weed", "version")
        self.notes = [f"- {one.title}: {one.version()}; {one.settings}." for one in contenders]

    def table(self) -> str:
        headings = ("operation", *(contender.title for contender in self.contenders))
        return aligned([headings, *(self._line(number) for number in range(len(self.rows)))])

    def _line(self, number: int) -> tuple[str, ...]:
        row = self.rows[number]
        return (
            row.operation,
            *(self._cell(name, seconds[number], row) for name, seconds in self.seconds.items()),
        )

    def _cell(self, name: str, seconds: list[float], row: Measure) -> str:
        if not seconds and name in self.failures:
            return "failed"
        return amount(seconds, size_bytes=row.size_bytes)


class Benchmark:
    """All turns, below `base`."""

    def __init__(self, base: Path, arguments: argparse.Namespace) -> None:
        self.base = base
        self.rounds: int = arguments.rounds
        self.patience_s: float = arguments.patience
        size = format_size(arguments.size)
        self.results = Results(arguments.only, measures(arguments.files, size, arguments.size))
        (base / "source").mkdir()
        self.source = Source(base / "source", arguments.files, arguments.size)

    def run(self) -> None:
        folder = self.base / "server"
        folder.mkdir()
        with seaweedfs(folder) as server:
            for number in range(self.rounds):
                everybody = self.results.contenders
                first = number % len(everybody)
                for contender in (*everybody[first:], *everybody[:first]):
                    self._run_turn(server, contender, number)

    def _run_turn(self, server: Server, kind: type[Contender], number: int) -> None:
        print(f"{kind.title}, round {number + 1} of {self.rounds}", file=sys.stderr, flush=True)
        bucket = f"{kind.name}-{number}"
        base = self.base / bucket
        wait_for_quick_creates(base / "probe", self.patience_s)
        try:
            server.client().create_bucket(Bucket=bucket)
            with _contender(kind, server, bucket, base) as contender:
                turn = Turn(contender, self.source, server)
                for seconds, value in zip(self.results.seconds[kind.name], turn.run(), strict=True):
                    seconds.append(value)
        except FAILURES as error:
            self.results.failures[kind.name] = f"{kind.title} failed in round {number + 1}: {error}"
            print(f"{kind.title} failed: {error}", file=sys.stderr, flush=True)
        with suppress(*SERVER_FAILURES):  # it is only room for the next one
            server.client().delete_bucket(Bucket=bucket)


@contextmanager
def _contender(
    kind: type[Contender], server: Server, bucket: str, base: Path
) -> Iterator[Contender]:
    """Cleaned up at the end; what it has logged is shown if the turn failed."""
    contender = kind(server, bucket, base)
    try:
        yield contender
    except FAILURES:
        print(contender.log(), file=sys.stderr)
        raise
    finally:
        contender.clean_up()


def report(results: Results, arguments: argparse.Namespace) -> str:
    """The machine, the table, and with what settings, for those who read it elsewhere."""
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    )
    rounds = "1 round" if arguments.rounds == 1 else f"median of {arguments.rounds} rounds"
    title = f"{machine}; SeaweedFS, {results.server}; {rounds}"
    failures = [f"- {failure}" for failure in results.failures.values()]
    return "\n".join([title, "", results.table(), "", *results.notes, *failures])


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """The exit code: 1 if a contender failed."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, _interrupt)  # what is mounted is unmounted then, too
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
    base = Path(tempfile.mkdtemp(prefix="asfs-", dir=arguments.directory))
    try:
        benchmark = Benchmark(base, arguments)
        benchmark.run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        unmount_lazily(base)
        shutil.rmtree(base)
    print(report(benchmark.results, arguments))
    return 1 if benchmark.results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
