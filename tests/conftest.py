"""Options of the longer tests. pytest knows only those of this file when it runs everything."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("artstorefs")
    group.addoption("--kills", type=int, default=50, help="kills of the daemon under load")
    group.addoption("--kills-seed", type=int, help="repeat the kills of a run that printed this")
    group.addoption(
        "--operations", type=int, default=20_000, help="random operations, tests/model (20000)"
    )
    group.addoption("--seed", type=int, help="of the random operations, and of the power cuts")
    group.addoption("--cuts", type=int, default=10, help="power cuts")
    group.addoption("--states", type=int, default=1000, help="states of a disk after a power cut")
    group.addoption("--flips", type=int, default=200, help="bytes to flip in test_fsck_flips.py")
