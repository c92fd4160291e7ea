"""Options of the whole suite; pytest takes them from here only."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--operations", type=int, default=20_000, help="random operations, tests/model (20000)"
    )
    parser.addoption("--seed", type=int, default=None, help="of the random operations")
