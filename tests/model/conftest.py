"""How much, and from which seed: `--operations` (20000 in all) and `--seed` (printed), see
`tests/conftest.py`. Every test works in memory."""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IN_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of this session."""
    given = pytestconfig.getoption("--seed")
    return random.SystemRandom().randrange(2**32) if given is None else int(given)


@pytest.fixture(scope="session")
def operations(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--operations"))


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory in memory: nothing here is about what a power cut leaves, so no disk is to be
    waited for. Its path is short, as that of a socket has to be."""
    parent = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="asfs-", dir=parent) as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The one that the reference has."""
    before = os.umask(0o022)
    yield
    os.umask(before)
