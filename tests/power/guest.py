"""What runs in the guest: the whole daemon on the guest's disk, and the load on its mount.

`python -m tests.power.guest ORDERS`: `orders.json` and the models in the directory ORDERS say what
to do. Everything that is said to the outside is a line on the console, "NUMBER STEP" for a step of
a writer that has returned, or a word with its values. Standard library only, for a quick start.
"""

import fcntl
import json
import os
import pickle
import sqlite3
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from .load import SyncedWriter

DISK = Path("/run/disk")
MOUNT = Path("/run/mount")
TOLD = Path("/run/mount.told")
DAEMON_LIMIT_S = 60

_DM_TARGET_MSG = 0xC138FD0E  # _IOWR(0xfd, 14, struct dm_ioctl), <linux/dm-ioctl.h>
_DM_IOCTL = struct.Struct("=3I I I I i I I I Q 128s 129s 7x")

SQLITE_ROW_BYTES = 700
ENDLESS = 10**9


def say(*words: object) -> None:
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


class Marks:
    """Marks in the record of dm-log-writes: everything before them has been written before."""

    def __init__(self) -> None:
        self._control = os.open("/dev/mapper/control", os.O_RDWR)

    def put(self, text: str) -> None:
        message = struct.pack("=Q", 0) + f"mark {text.replace(' ', ':')}".encode() + b"\0"
        size = _DM_IOCTL.size + len(message)
        head = _DM_IOCTL.pack(4, 0, 0, size, _DM_IOCTL.size, 1, 0, 0, 0, 0, 0, b"record", b"")
        fcntl.ioctl(self._control, _DM_TARGET_MSG, bytearray(head + message))


def flush() -> subprocess.CompletedProcess[str]:
    """Have the elements get everything."""
    command = [sys.executable, "-m", "artstorefs_tools.command_line", "flush"]
    settings = str(DISK / "test.toml")
    return subprocess.run([*command, settings], stderr=subprocess.PIPE, text=True, check=False)


def flush_again_and_again() -> None:
    """Content is archived while it is written; that a file is open all the time is no failure."""
    while True:
        time.sleep(0.5)
        flush()


def start_daemon(environment: dict[str, str]) -> None:
    """`artstorefs mount`; returns once the mount is there, which is before the transfer process
    has looked through the elements."""
    command = [sys.executable, "-m", "artstorefs_tools.command_line", "mount"]
    told = open(TOLD, "wb")  # noqa: SIM115  # the console is a terminal, which shows progress
    daemon = subprocess.Popen(
        [*command, str(DISK / "test.toml"), str(MOUNT)],
        env={**os.environ, **environment},
        stderr=told,
    )
    told.close()
    deadline = time.monotonic() + DAEMON_LIMIT_S
    while not os.path.ismount(MOUNT):
        if time.monotonic() > deadline or daemon.poll():
            log = (DISK / "state" / "daemon.log").read_text()[-2000:]
            say("failed", "no mount:", TOLD.read_text(), log)
            sys.exit(1)
        time.sleep(0.02)


def write(
    number: int, orders: Path, seed: int, actions: int, report: Callable[[str], None]
) -> None:
    """One writer of random calls."""
    model = pickle.loads((orders / f"model{number}").read_bytes())
    directory = MOUNT / f"writer{number}"
    directory.mkdir(exist_ok=True)
    writer = SyncedWriter(str(directory), model, seed, lambda step: report(f"{number} {step}"))
    writer.run(actions)


def insert(journal_mode: str, rows: int, report: Callable[[str], None]) -> None:
    """An application's SQLite: each row that is told has been committed. What survives a power cut
    is FULL with a log, and EXTRA with a journal, whose removal is the commit."""
    directory = MOUNT / f"sqlite-{journal_mode}"
    directory.mkdir(exist_ok=True)
    database = sqlite3.connect(directory / "db", isolation_level=None)
    database.execute(f"PRAGMA journal_mode = {journal_mode}").fetchone()
    synchronous = "FULL" if journal_mode == "wal" else "EXTRA"
    database.execute(f"PRAGMA synchronous = {synchronous}")
    database.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, data BLOB)")
    first = database.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()[0] + 1
    for row in range(first, first + rows):
        values = (row, os.urandom(SQLITE_ROW_BYTES))
        database.execute("INSERT INTO rows VALUES (?, ?)", values)
        report(f"{journal_mode} {row}")
        time.sleep(0.02)


def in_process(work: Callable[[], None]) -> int:
    """Run this in a process of its own; its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        say("failed", traceback.format_exc())
        os._exit(1)


def main(orders: Path) -> int:
    todo = json.loads((orders / "orders.json").read_bytes())
    if not os.path.ismount(DISK):
        return 1
    (DISK / "test.toml").write_bytes((orders / "test.toml").read_bytes())
    say("starting")
    start_daemon(todo["environment"])
    say("mounted")
    if todo.get("flush"):
        done = flush()
        say("flushed" if done.returncode == 0 else f"failed flush {done.returncode} {done.stderr}")
    marks = Marks() if "ASFS_RECORD" in os.environ else None
    report = marks.put if marks else say
    actions, rows = todo.get("actions", ENDLESS), todo.get("rows", ENDLESS)
    children = []
    for number, seed in enumerate(todo["seeds"]):
        children.append(in_process(lambda n=number, s=seed: write(n, orders, s, actions, report)))
    for mode in todo["sqlite"]:
        children.append(in_process(lambda m=mode: insert(m, rows, report)))
    if todo.get("flushes"):
        in_process(flush_again_and_again)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    say("done", len(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
