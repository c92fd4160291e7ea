"""Cutting a failing sequence down to what it takes to fail, and printing it as a test."""

import time
from collections.abc import Callable, Sequence

from .operations import Operation
from .trial import describe


def shrink(
    operations: Sequence[Operation],
    fails: Callable[[list[Operation]], bool],
    limit_s: float = 60.0,
) -> list[Operation]:
    """Delta debugging: leave out ever smaller parts as long as what is left still fails, until no
    single operation can go, or the time is up."""
    deadline = time.monotonic() + limit_s
    left = list(operations)
    size = max(1, len(left) // 2)
    while size and time.monotonic() < deadline:
        start = 0
        shorter = False
        while start < len(left) and time.monotonic() < deadline:
            candidate = left[:start] + left[start + size :]
            if fails(candidate):
                left = candidate
                shorter = True
            else:
                start += size
        if size > 1 or not shorter:
            size //= 2
    return left


def as_test(operations: Sequence[Operation], reason: str) -> str:
    """For `test_regressions.py`; only the name of the scenario is left to be thought of."""
    lines = "".join(f"        {describe(operation)},\n" for operation in operations)
    return (
        "def test_NAME_THE_SCENARIO(tmp_path: Path) -> None:\n"
        f'    """{reason}"""\n'
        f"    operations: list[Operation] = [\n{lines}    ]\n"
        "    run_on_layer(tmp_path, operations)\n"
    )
