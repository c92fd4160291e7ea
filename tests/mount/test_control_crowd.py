"""Acceptance 4 of the issue on daemons: a crowd on the control socket, half of it hostile, takes
less than a tenth of the speed of file operations on the mount.

What else the machine does comes and goes in seconds, so short phases with and without the crowd
alternate, and each phase is compared with those beside it: the median of these ratios is what the
crowd costs. The crowd is in processes of its own, stopped in the phases without it; so that only
what the daemon does for it is measured and not what the crowd itself takes of two cores, it runs
at the lowest priority there is (SCHED_IDLE). The daemon wakes up for it all the same.

Who is in the crowd: 50 that ask as tools do, and 10 each that are half open, that never read, that
flood, that send garbage, and that send lines without an end; who is thrown out comes again.
ASFS_CROWD_S is how long the phases are together; without it some seconds.
"""

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..harness import MountedArchive

CLIENTS = 100
CROWD_S = float(os.environ.get("ASFS_CROWD_S", "6"))
PHASE_S = 0.25
SLOWDOWN_MAX = 0.10

CROWD = r'''
import json, os, random, select, socket, sys, time
path, kinds, seed = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
choose = random.Random(seed)

def request(method, **params):
    return json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n"

NEEDED = ["status", "elements", "modes", "cache", "jobs", "rpc.discover"]
MAKE = {
    "honest": lambda: request(choose.choice(NEEDED)),
    "half-open": lambda: b'{"id": 1, "method": "sta',
    "never-reads": lambda: request("status") * 20,
    "flood": lambda: request(choose.choice(NEEDED)) * 50,
    "garbage": lambda: choose.randbytes(choose.randrange(1, 3000)) + b"\n",
    "long-line": lambda: b"[{}," * 20_000,
}
READS = {"honest", "flood", "garbage"}
ANSWER_BYTES = 1 << 16

class Client:
    def __init__(self, kind):
        self.kind = kind
        self.socket = None
        self.next_s = 0.0

    def step(self):
        """One thing that such a client does, without ever waiting; how much it got."""
        got = 0
        try:
            if self.socket is None:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.setblocking(False)
                self.socket.connect(path)
            if self.kind in READS:
                data = self.receive()
                got = data.count(b"\n")
            if self.kind != "honest" or time.monotonic() >= self.next_s:
                self.next_s = time.monotonic() + 1.0
                self.socket.send(MAKE[self.kind]())
        except BlockingIOError:
            pass
        except OSError:
            self.socket.close()
            self.socket = None
        return got

    def receive(self):
        try:
            data = self.socket.recv(ANSWER_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionResetError
        return data

clients = [Client(kind) for kind in kinds]
print("ready", flush=True)
answers, told_s = 0, time.monotonic()
while True:
    for client in clients:
        got = client.step()
        answers += got if client.kind == "honest" else 0
    if time.monotonic() - told_s > 1:
        print(answers, sum(client.socket is not None for client in clients), flush=True)
        told_s = time.monotonic()
    time.sleep(0.002)
'''

HOSTILE = ("half-open", "never-reads", "flood", "garbage", "long-line")


class Crowd:
    """Its processes; `running` is a phase with it."""

    def __init__(self, path: str, seed: int, log: Path) -> None:
        kinds = ["honest"] * (CLIENTS // 2) + list(HOSTILE) * (CLIENTS // 2 // len(HOSTILE))
        self._log = log.open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", CROWD, path, ",".join(kinds), str(seed)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def wait_ready(self) -> None:
        while "ready" not in self.said():
            assert self._process.poll() is None, self.said()
            time.sleep(0.01)

    def said(self) -> str:
        return Path(self._log.name).read_text()

    @contextmanager
    def running(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def operations_per_s(directory: Path, duration_s: float) -> float:
    """What programs do with small files: make, write, look, read, rename, remove."""
    done, begun_s = 0, time.perf_counter()
    while (now_s := time.perf_counter()) < begun_s + duration_s:
        path, other = directory / f"f{done % 50}", directory / "other"
        path.write_bytes(b"x" * 500)
        path.stat()
        path.read_bytes()
        path.rename(other)
        other.unlink()
        done += 1
    return done / (now_s - begun_s)


@pytest.mark.slow
@pytest.mark.time_limit(60 + 3 * CROWD_S)
def test_hundred_clients_of_which_half_are_hostile_slow_down_nothing(
    fresh_archive: MountedArchive, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    directory = fresh_archive.mount / "work"
    directory.mkdir()
    socket_path = str(fresh_archive.base / "runtime" / "control.sock")
    crowd = Crowd(socket_path, seed, tmp_path / "crowd.log")
    try:
        crowd.wait_ready()
        with crowd.running():
            operations_per_s(directory, 1.0)  # all of them are connected by now
        rates = []
        for _ in range(max(2, round(CROWD_S / PHASE_S / 2))):
            rates.append(operations_per_s(directory, PHASE_S))
            with crowd.running():
                rates.append(operations_per_s(directory, PHASE_S))
        rates.append(operations_per_s(directory, PHASE_S))
        said = crowd.said()
    finally:
        crowd.end()
    ratios = [
        2 * beside / (before + after)
        for before, beside, after in zip(rates[::2], rates[1::2], rates[2::2], strict=False)
    ]
    slowdown = 1 - statistics.median(ratios)
    print(
        f"{statistics.median(rates[::2]):.0f} rounds/s alone, slowdown {slowdown:.1%}, of", ratios
    )
    answers, connected = map(int, said.split()[-2:])
    assert answers > 0, "nobody of those that behave got an answer"
    assert connected > CLIENTS * 0.8
    assert slowdown < SLOWDOWN_MAX
    assert fresh_archive.ask("status")["archive"] == "test"
