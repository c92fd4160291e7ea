"""Files come from a directory to a bucket and back, while programs work on them and are killed for.

`ASFS_MIGRATE_FILES=20000` has so many files, with a kill for every hundred of them.
"""

import errno
import hashlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools.control_client import ControlClient

from ..crash.test_every_step_of_migration import files
from ..harness import MountedArchive, children, wait_for_end, wait_until
from ..starter import Starter
from .servers import BUCKET, Server

FILES = int(os.environ.get("ASFS_MIGRATE_FILES", "60"))
FILES_A_KILL = min(100, FILES // 4)
DIRECTORIES = 12
LIMIT_S = 120.0 + FILES * 0.2
OF_A_DEAD_MOUNT = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENOENT, errno.EINTR}
"""Of a daemon that was just killed; ENOENT where nothing is mounted yet."""


def content(path: str, size: int) -> bytes:
    return random.Random(path).randbytes(size)


class Reader(threading.Thread):
    """Compares the hash of one file after the other, as fast as it goes."""

    def __init__(self, root: Path, hashes: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._hashes = hashes
        self._random = random.Random(len(hashes))
        self.ended = threading.Event()
        self.mounts = 0
        """Grows when the mount goes, and when it is there again: odd numbers are of a dead one."""
        self.read = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        paths = list(self._hashes)
        while not self.ended.is_set():
            path, mounts = self._random.choice(paths), self.mounts
            try:
                found = hashlib.sha256((self._root / path).read_bytes()).hexdigest()
            except OSError as exc:
                is_alive = mounts % 2 == 0 and mounts == self.mounts
                if is_alive or exc.errno not in OF_A_DEAD_MOUNT:
                    self.wrong.append(f"{path}: {exc}")
                continue
            self.read += 1
            if found != self._hashes[path]:
                self.wrong.append(f"{path}: other content")


class Rsync(threading.Thread):
    """Copies a tree that changes, again and again; a run that meets a dead mount fails."""

    def __init__(self, source: Path, target: Path) -> None:
        super().__init__(daemon=True)
        self._source, self._target = source, target
        self.ended = threading.Event()
        self.going = threading.Lock()
        """Held while it copies: who has it has the tree for himself."""
        self.runs = 0

    def run(self) -> None:
        while not self.ended.is_set():
            with self.going:
                self._copy_and_change()
            time.sleep(0.01)  # a lock is given to whoever asks first, and we do at once

    def _copy_and_change(self) -> None:
        self.runs += self.once() == 0
        number = self.runs % 7  # of another size each time: rsync compares times by the second
        (self._source / f"new{self.runs % 23}").write_bytes(content(str(self.runs), 5000))
        (self._source / f"changes{number}").write_bytes(
            content(f"c{self.runs}", 20_000 + self.runs)
        )

    def once(self) -> int:
        arguments = ["rsync", "-a", "--delete", f"{self._source}/", f"{self._target}/"]
        return subprocess.run(arguments, capture_output=True, check=False).returncode


@pytest.fixture
def archive(
    seaweedfs_server: Server, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MountedArchive]:
    arguments = f",endpoint={seaweedfs_server.url},credentials_file={seaweedfs_server.credentials}"
    made = MountedArchive(
        tmp_path_factory.mktemp("mig"),
        settings="settle_s = 0",
        further=(f"far=s3:{BUCKET}/{prefix}{arguments},priority=2",),
    )
    try:
        yield made
    finally:
        made.clean_up()


class Migrated:
    """An archive with many files, and what goes on in it."""

    def __init__(self, archive: MountedArchive, starter: Starter, seed: int) -> None:
        self.archive, self.starter = archive, starter
        self.random = random.Random(seed)
        self.kills = {"daemon": 0, "transfer process": 0}
        starter.mount(archive)
        hashes = {}
        for number in range(FILES):
            path = f"d{number % DIRECTORIES}/{number}"
            (archive.mount / path).parent.mkdir(exist_ok=True)
            data = content(path, self.random.choice((100, 4096, 30_000)))
            (archive.mount / path).write_bytes(data)
            hashes[path] = hashlib.sha256(data).hexdigest()
        archive.ask("flush")
        self.reader = Reader(archive.mount, hashes)
        source = archive.base / "source"
        source.mkdir()
        for number in range(30):
            (source / f"{number}").write_bytes(content(f"s{number}", 3000))
        self.rsync = Rsync(source, archive.mount / "rsynced")

    def end(self) -> None:
        """Nobody reads or writes any more."""
        for thread in (self.rsync, self.reader):
            thread.ended.set()
            if thread.is_alive():
                thread.join()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        with ControlClient(self.archive.base / "runtime", "test") as client:
            return client.call(method, params)

    def migrate(self, source: str, target: str, left: Callable[[], Collection[str]]) -> None:
        """To its end, with kills at random moments. Then nothing is `left` at the source, but for
        what is new since it was empty, or since the target did not answer: that follows."""
        self._migrate(source, target, with_kills=True)
        with self.rsync.going:
            self.archive.ask("flush")  # what waits would come to the source after that
            self._migrate(source, target, with_kills=False)
            wait_until(lambda: not left())

    def _migrate(self, source: str, target: str, *, with_kills: bool) -> None:
        self.ask("migrate", source=source, target=target, keep_source_s=0, wait=False)
        deadline = time.monotonic() + LIMIT_S
        left_at_kill = self._left()
        while (last := self.archive.ask("migration")["migration"])["phase"] != "done":
            assert time.monotonic() < deadline, last
            if with_kills and left_at_kill - last["files_left"] >= FILES_A_KILL:
                left_at_kill = last["files_left"]
                self._kill()
            time.sleep(self.random.uniform(0, 0.3))

    def _left(self) -> int:
        return int(self.archive.ask("migration")["migration"]["files_left"])

    def _kill(self) -> None:
        if self.kills["daemon"] > self.kills["transfer process"]:
            self.kills["transfer process"] += 1
            for process in children(self.archive.pid):
                os.kill(process, signal.SIGKILL)
                wait_for_end(process)
            return
        self.kills["daemon"] += 1
        self.reader.mounts += 1
        self.archive.kill()
        self.starter.mount(self.archive)
        self.reader.mounts += 1


@pytest.mark.slow
@pytest.mark.long
def test_there_and_back_under_load_and_kills(
    archive: MountedArchive, seaweedfs_server: Server, prefix: str
) -> None:
    """SEMANTICS: MIGRATE-1, MIGRATE-2, MIGRATE-4, MIGRATE-5"""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    starter = Starter({"ARTSTOREFS_YIELD_LIMIT_S": "0"})
    client = seaweedfs_server.client()

    def in_bucket() -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [
            one["Key"].removeprefix(prefix) for page in pages for one in page.get("Contents", [])
        ]
        own = {".artstorefs/README.txt", ".artstorefs/archive.json", ".artstorefs/restore.py"}
        return [key for key in keys if key not in own and not key.endswith("/")]

    made = Migrated(archive, starter, seed)
    try:
        made.reader.start()
        made.rsync.start()
        made.migrate("main", "far", lambda: files(archive.element))
        assert len(in_bucket()) >= 2 * FILES
        made.migrate("far", "main", in_bucket)
        made.end()
        assert made.rsync.once() == 0
        archive.ask("flush")
        assert in_bucket() == []
        assert made.reader.wrong == []
        print(f"{made.kills}, {made.reader.read} reads, {made.rsync.runs} whole runs of rsync")
        assert made.reader.read > FILES
        assert made.rsync.runs > 0
        assert min(made.kills.values()) > 0
        compared = ["diff", "-r", str(archive.base / "source"), str(archive.mount / "rsynced")]
        assert subprocess.run(compared, check=False).returncode == 0
        archive.stop()
        checked = archive.run("fsck", str(archive.toml), "--deep", limit_s=LIMIT_S, check=False)
        assert checked.returncode == 0, checked.stdout
        assert "Traceback" not in archive.log(), archive.log()[-4000:]
    finally:
        made.end()
        print(archive.log()[-2000:])
        archive.clean_up()
        starter.close()
