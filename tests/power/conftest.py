"""How much is done, and from which seed: for a soak by hand more than for every run."""

import os

import pytest

from .load import new_seed


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("power cuts")
    group.addoption("--cuts", type=int, help="power cuts (ASFS_CUTS, 10)")
    group.addoption("--states", type=int, help="crash states of the disk (ASFS_STATES, 1000)")


def _number(config: pytest.Config, option: str, default: int) -> int:
    """From the option, else from the environment; the option is known only where this folder is
    named on the command line."""
    given = config.getoption(option, None)
    return int(os.environ.get(f"ASFS_{option.upper()}", default)) if given is None else int(given)


@pytest.fixture
def cuts(request: pytest.FixtureRequest) -> int:
    return _number(request.config, "cuts", 10)


@pytest.fixture
def states(request: pytest.FixtureRequest) -> int:
    return _number(request.config, "states", 1000)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    chosen = _number(request.config, "seed", new_seed())
    print(f"seed {chosen}")
    return chosen
