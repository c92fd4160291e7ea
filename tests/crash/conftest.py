"""The archive of the tests that kill at every step."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .armed import Armed
from .step_bench import Bench, kept

_benches: list[Bench] = []


@pytest.fixture(scope="session", autouse=True)
def _clean_up() -> Iterator[None]:
    yield
    while _benches:
        _benches.pop().close()


@pytest.fixture(scope="session")
def _armed() -> Iterator[Armed]:
    made = Armed()
    yield made
    made.close()


@pytest.fixture
def armed(_armed: Armed) -> Armed:
    """Commands of which one will die; nothing is armed yet."""
    _armed.starter.finish()
    _armed.disarm()
    return _armed


@pytest.fixture
def bench() -> Iterator[Bench]:
    with kept(_benches, lambda: Bench(Path(tempfile.mkdtemp(prefix="asfs-")))) as made:
        yield made


@pytest.fixture
def settling_bench() -> Iterator[Bench]:
    """An archive in which what is written waits in the spool until it is flushed."""
    made = Bench(Path(tempfile.mkdtemp(prefix="asfs-")), settle_s=600)
    try:
        yield made
        made.check_everything()
    except BaseException:
        print(made.archive.log()[-3000:])
        raise
    finally:
        made.close()
