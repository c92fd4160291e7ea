"""Options of the tests that kill: how often, and from which seed."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("artstorefs")
    group.addoption("--kills", type=int, default=50, help="kills of the daemon under load")
    group.addoption("--seed", type=int, default=None, help="repeat a run from what it printed")
