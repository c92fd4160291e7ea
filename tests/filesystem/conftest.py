"""Each test gets an archive of its own, and time that passes only when the test says so."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from artstorefs.elements.hashing import BlockHasher

from .workbench import Workbench


@pytest.fixture
def clock() -> MockClock:
    """pytest-trio runs the test on it; `clock.jump(seconds)` lets time pass."""
    return MockClock()


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> AsyncIterator[Workbench]:
    """After the test a check finds nothing wrong, unless the test has said that it does damage."""
    bench = Workbench(tmp_path)
    yield bench
    bench.check_soundness()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each block that is read to be summed."""
    sizes: list[int] = []
    add = BlockHasher.add

    def counted(hasher: BlockHasher, descriptor: int, buffer: bytearray) -> int:
        sizes.append(length := add(hasher, descriptor, buffer))
        return length

    monkeypatch.setattr(BlockHasher, "add", counted)
    return sizes
