"""S3 servers for the tests of this folder: one of each kind for each process of a test run."""

from collections.abc import Iterator

import pytest

from .proxy import Proxy
from .servers import Server, moto, seaweedfs


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
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
