"""How much is done, and from which seed: for a soak by hand more than for every run."""

import pytest

from .load import new_seed


@pytest.fixture
def cuts(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("cuts"))


@pytest.fixture
def states(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("states"))


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    given = pytestconfig.getoption("seed")
    chosen = new_seed() if given is None else int(given)
    print(f"seed {chosen}")
    return chosen
