"""Each test gets an archive of its own, and time that passes only when the test says so."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from .workbench import Workbench


@pytest.fixture
def clock() -> MockClock:
    """pytest-trio runs the test on it; `clock.jump(seconds)` lets time pass."""
    return MockClock()


@pytest.fixture
async def bench(tmp_path: Path, clock: MockClock) -> Workbench:
    return Workbench(tmp_path)
