"""kill -9 at any moment of a daemon whose element is a bucket, and of one with a directory too."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..crash.kills import ENVIRONMENT, Run
from ..harness import MountedArchive
from ..starter import Starter
from .servers import BUCKET, Server
from .test_s3_mount import download

PART = 10
"""One in so many of the kills: a start takes longer here."""


class BucketRun(Run):
    """One of the elements is in a bucket."""

    server: Server
    prefix: str
    is_up = False
    has_sent = False
    busy_limit_s = 20.0

    def start(self) -> None:
        self.has_sent = False
        super().start()
        self.is_up = True

    def kill(self) -> None:
        self.is_up = False
        super().kill()

    def has_carried(self, database: sqlite3.Connection) -> bool:
        """A bucket tells no time that could be compared: whether this daemon has sent anything."""
        if self.is_up and not self.has_sent:
            elements = self.archive.ask("status")["elements"]
            self.has_sent = any(one["counters"]["sent_bytes"] > 0 for one in elements)
        return self.has_sent

    def elements(self) -> Iterator[Path]:
        yield from super().elements()
        synced = self.archive.base / "synced" / str(self.kills)
        download(self.server, self.prefix, synced)
        yield synced


@pytest.fixture(params=["bucket", "bucket and directory"])
def archive(
    request: pytest.FixtureRequest,
    seaweedfs_server: Server,
    prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MountedArchive]:
    arguments = f",endpoint={seaweedfs_server.url},credentials_file={seaweedfs_server.credentials}"
    place = f"s3:{BUCKET}/{prefix}"
    base = tmp_path_factory.mktemp("s3k")
    if request.param == "bucket":
        made = MountedArchive(
            base, settings="settle_s = 0", place=place, element_arguments=arguments
        )
    else:
        made = MountedArchive(
            base, settings="settle_s = 0\ncopies = 2", further=(f"far={place}{arguments}",)
        )
    try:
        yield made
    finally:
        made.clean_up()


@pytest.mark.slow
@pytest.mark.long
def test_killed_at_any_moment_everything_acknowledged_is_there(
    archive: MountedArchive, seaweedfs_server: Server, prefix: str, pytestconfig: pytest.Config
) -> None:
    """SEMANTICS: DUR-1, ELEM-1, ELEM-21"""
    seed = pytestconfig.getoption("kills_seed")
    starter = Starter(ENVIRONMENT)
    try:
        run = BucketRun(archive, starter, random.randrange(2**32) if seed is None else seed)
        run.server, run.prefix = seaweedfs_server, prefix
        run.run(pytestconfig.getoption("kills") // PART)
    finally:
        archive.clean_up()
        starter.close()
