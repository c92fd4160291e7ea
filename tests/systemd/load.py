"""What works on a mount in the machine, and says what it saw; standard library only.

load.py write DIRECTORY JOURNAL   makes files until that fails; each one that was closed is in
                                  the journal, and can be named again
load.py check DIRECTORY JOURNAL   compares them with what they have to be; says how many
load.py watch DIRECTORY END       until END is there: makes a file, reads another and writes a
                                  third, both open from the start; says as JSON for how long
                                  each of that failed with which error, and how long the
                                  longest took that did not
load.py check-written DIRECTORY ROUNDS   compares what `watch` has written
"""

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

MIXED_SIZES = (0, 1, 4096, 70_000)


def content(number: int) -> bytes:
    """That of a file of the load, by its number."""
    size = MIXED_SIZES[number % len(MIXED_SIZES)]
    return (b"%08d" % number * (size // 8 + 1))[:size]


def write(directory: str, journal: str) -> None:
    place = os.open(directory, os.O_DIRECTORY)  # stays on the mount, wherever that is by then
    with open(journal, "a") as acknowledged:
        number = 0
        while True:
            try:
                target = os.open(f"f{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=place)
                os.write(target, content(number))
                os.close(target)
            except OSError as exc:
                print(exc, flush=True)
                return
            acknowledged.write(f"{number}\n")
            acknowledged.flush()
            number += 1
            time.sleep(0.002)  # what it has made has to be carried, too


def check(directory: str, journal: str) -> None:
    with open(journal) as acknowledged:
        numbers = [int(line) for line in acknowledged]
    for number in numbers:
        with open(f"{directory}/f{number}", "rb") as file:
            assert file.read() == content(number), f"f{number} has lost something"
    print(len(numbers))


class Watched:
    """One kind of action: for how long it has failed, by error; and the longest that did not."""

    def __init__(self) -> None:
        self.failed_s: dict[str, float] = {}
        self.longest_s = 0.0
        self._tried_s = time.monotonic()

    def do(self, action: Callable[[Any], object], argument: object) -> None:
        begun = time.monotonic()
        try:
            action(argument)
        except OSError as exc:
            error = errno.errorcode[exc.errno or 0]
            since = time.monotonic() - self._tried_s
            self.failed_s[error] = self.failed_s.get(error, 0.0) + since
        else:
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
        self._tried_s = time.monotonic()


def watch(directory: str, end: str) -> None:
    reader = os.open(f"{directory}/read", os.O_RDONLY)
    writer = os.open(f"{directory}/written", os.O_WRONLY | os.O_CREAT, 0o644)
    data = content(3)
    names, reads, writes = Watched(), Watched(), Watched()
    rounds = 0
    print("watching", flush=True)
    while not os.path.exists(end):
        names.do(
            lambda name: os.close(os.open(name, os.O_CREAT | os.O_WRONLY)), f"{directory}/{rounds}"
        )
        reads.do(lambda at: os.pread(reader, 4096, at), rounds % 250 * 4096)
        writes.do(lambda at: os.pwrite(writer, data, at), rounds * len(data))
        rounds += 1
        time.sleep(0.005)
    watched = {"names": names, "reads": reads, "writes": writes}
    told = {
        kind: {"failed_s": of.failed_s, "longest_s": of.longest_s} for kind, of in watched.items()
    }
    print(json.dumps({**told, "rounds": rounds}))


def check_written(directory: str, rounds: str) -> None:
    with open(f"{directory}/written", "rb") as file:
        assert file.read() == content(3) * int(rounds), "it has lost something"
    print("whole")


if __name__ == "__main__":
    verbs = {"write": write, "check": check, "watch": watch, "check-written": check_written}
    verbs[sys.argv[1]](*sys.argv[2:])
