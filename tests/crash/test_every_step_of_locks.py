"""A kill at each step while a bucket is told what it is to lock, and a start after it; RECOVERY.md.

The bucket is one of SeaweedFS, with Object Lock.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ..harness import MountedArchive
from ..s3.servers import Server, seaweedfs
from .armed import Armed

BUCKET = "locked"
UNTIL = "user.artstore.retain_until"
YEAR_1, YEAR_2 = datetime(2198, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC)

CHANGE = ["attributes.committed", "documents.durable", "object.locked", "batch.carried"]
CHANGE += ["stored.committed"]
BY_ITSELF = ["locks.wanted", "assign.committed", "object.locked", "object.locked:2"]
BY_ITSELF += ["stored.committed"]


class LocksBench:
    """An archive that all points use one after the other."""

    def __init__(self, server: Server, armed: Armed) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="asfs-"))
        self.client = server.client()
        self.client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        self.archive = MountedArchive(
            self.base,
            settings="settle_s = 0\nseal_after_s = 0",
            place=f"s3:{BUCKET}",
            element_arguments=f",endpoint={server.url},credentials_file={server.credentials}",
        )
        self.armed, self.starter = armed, armed.starter
        self.number = 0

    def close(self) -> None:
        self.archive.clean_up()
        self.starter.finish()
        self.archive.clean_up()
        shutil.rmtree(self.base)

    def prepare(self) -> list[Path]:
        """New files, which the bucket has."""
        self.armed.disarm()
        self.starter.mount(self.archive)
        self.number += 1
        files = [self.archive.mount / f"{self.number}-{name}" for name in ("a", "b", "c")]
        for file in files:
            file.write_bytes(b"content")
        self.archive.ask("flush")
        return files

    def end_where_armed(self) -> None:
        self.armed.wait_until_reached()
        self.archive.kill_what_is_left()

    def lock(self, file: Path) -> Any:
        """Until when the bucket keeps the content of a file."""
        key = os.getxattr(file, "user.artstore.key").decode()
        found = self.client.head_object(Bucket=BUCKET, Key=key)
        until = found.get("ObjectLockRetainUntilDate")
        return None if until is None else until.astimezone(UTC)

    def check(self, files: list[Path], until: datetime) -> None:
        """After a start: that nothing was forgotten, and nothing is left to be done."""
        answer = self.archive.ask("flush")
        assert (answer["pending"], answer["errors"]) == (0, [])
        assert [self.lock(file) for file in files] == [until] * len(files)
        assert all(file.read_bytes() == b"content" for file in files)
        self.archive.stop()
        assert self.archive.run("fsck", str(self.archive.toml)).returncode == 0
        assert "Traceback" not in self.archive.log(), self.archive.log()[-4000:]


@pytest.fixture(scope="module")
def locks(_armed: Armed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocksBench]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        bench = LocksBench(server, _armed)
        try:
            yield bench
        finally:
            bench.close()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["change", "by itself"])
def test_kill_while_content_is_locked(locks: LocksBench, what: str) -> None:
    """By a time of their own, and by that of the element, which a configuration makes later.
    SEMANTICS: RETAIN-5"""
    bench = locks
    if what == "change":
        for point in CHANGE:
            files = bench.prepare()
            bench.armed.arm(point)
            with suppress(OSError):  # committed, and not answered any more
                os.setxattr(files[0], UNTIL, b"2198-01-01")
            bench.end_where_armed()
            bench.starter.mount(bench.archive)
            bench.check(files[:1], YEAR_1)
        return
    text = bench.archive.toml.read_text()
    for number, point in enumerate(BY_ITSELF):
        bench.archive.toml.write_text(text)
        files = bench.prepare()
        bench.archive.stop()
        until = YEAR_2.replace(month=number + 1)
        later = f'mode = "edit"\nretain_until = {until:%Y-%m-%d}'
        bench.archive.toml.write_text(text.replace('mode = "edit"', later))
        bench.armed.arm(point)
        bench.starter.begin("mount", str(bench.archive.toml), str(bench.archive.mount))
        bench.end_where_armed()
        bench.starter.mount(bench.archive)
        bench.check(files, until)
