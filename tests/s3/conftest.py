"""S3 servers for the tests of this folder: moto in each process of a test run, SeaweedFS for all
of them, and archives that are mounted on the real one."""

import os
from collections.abc import Iterator

import pytest

from ..harness import MountedArchive
from .proxy import Proxy
from .servers import BUCKET, Server, moto, shared_seaweedfs


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "seaweedfs"
    folder.mkdir(exist_ok=True)
    with shared_seaweedfs(folder) as server:
        yield server


@pytest.fixture(params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of them."""
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """Between the element of a test and its server."""
    made = Proxy(server.url)
    yield made
    made.close()


@pytest.fixture
def prefix(seaweedfs_server: Server) -> str:
    return seaweedfs_server.new_prefix()


@pytest.fixture
def bucket_proxy(seaweedfs_server: Server) -> Iterator[Proxy]:
    proxy = Proxy(seaweedfs_server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def archive(
    seaweedfs_server: Server,
    prefix: str,
    bucket_proxy: Proxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MountedArchive]:
    """Mounted, with nothing in it. Its path is short: that of a socket has 107 bytes at most."""
    made = MountedArchive(
        tmp_path_factory.mktemp("s3m"),
        settings="settle_s = 0.2",
        place=f"s3:{BUCKET}/{prefix}",
        element_arguments=f",endpoint={bucket_proxy.url},credentials_file="
        f"{seaweedfs_server.credentials},multipart_threshold=5MiB,part_size=5MiB",
    )
    yield made.start()
    bucket_proxy.rule = None
    made.clean_up()
