"""A pytest plugin that writes down what was collected, from where, and how each test has failed.

Loaded by `copies.py` into the interpreter that runs tests in a copy of the source, with the file
to write in the environment.
"""

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPORT = "ARTSTOREFS_WITNESS"

PACKAGES = ("artstorefs", "artstorefs_daemon", "artstorefs_tools")

BROKEN = (ImportError, SyntaxError, NameError, AttributeError, TypeError, pytest.UsageError)
"""What a program raises that does not work at all. A bug that shows in this way is one that anybody
would see, and more likely a mistake in the planting."""

_collected: list[str] = []
_failures: list[dict[str, Any]] = []


def pytest_itemcollected(item: pytest.Item) -> None:
    _collected.append(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report: pytest.TestReport = yield
    if report.failed and call.excinfo is not None:
        leaves = list(_leaves(call.excinfo.value))
        _failures.append(
            {
                "test": item.nodeid,
                "broken": any(isinstance(leaf, BROKEN) for leaf in leaves),
                "text": "; ".join(f"{type(leaf).__name__}: {leaf}"[:1000] for leaf in leaves),
            }
        )
    return report


def pytest_sessionfinish() -> None:
    places = {name: importlib.import_module(name).__file__ for name in PACKAGES}
    answer = {"collected": _collected, "failures": _failures, "places": places}
    Path(os.environ[REPORT]).write_text(json.dumps(answer))


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    """An exception, or all that are in a group."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc
