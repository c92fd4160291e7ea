"""Running a sequence: on the layer with an archive of its own, or on a directory of the kernel."""

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from .layer import Layer
from .mounted import Mounted
from .operations import Operation
from .shrink import as_test, shrink
from .system_calls import Local
from .trial import Difference, Trial

TIME_LIMIT_S = 300.0
"""For one sequence on a mount. A system call that waits for a daemon ends when that is killed."""


def run_on_layer(base: Path, operations: list[Operation]) -> dict[str, int]:
    """Raises Difference; how often each operation was performed."""

    async def run() -> dict[str, int]:
        layer = Layer(base)
        try:
            trial = Trial(layer)
            await trial.run(operations)
            return trial.performed
        finally:
            layer.bench.close()

    return trio.run(run, clock=MockClock())


def run_on_mount(base: Path, operations: list[Operation], copies: int = 1) -> dict[str, int]:
    """The same on a mount, of an archive of so many elements with everything on each."""

    async def run() -> dict[str, int]:
        mounted = Mounted(base, copies)
        limit = threading.Timer(TIME_LIMIT_S, mounted.archive.clean_up)  # ends what hangs
        limit.start()
        try:
            trial = Trial(mounted)
            await trial.run(operations)
            log = mounted.archive.log()
            assert "Traceback" not in log, log[-4000:]
            return trial.performed
        finally:
            limit.cancel()
            mounted.end()

    return trio.run(run)


def run_on_local(base: Path, operations: list[Operation]) -> dict[str, int]:
    """The same on the local filesystem below `base`, to which nothing happens."""

    async def run() -> dict[str, int]:
        local = Local(base)
        try:
            trial = Trial(local)
            await trial.run(operations)
            return trial.performed
        finally:
            local.lose_descriptors()

    return trio.run(run)


def check_or_shrink(
    base: Path,
    operations: list[Operation],
    run: Callable[[Path, list[Operation]], dict[str, int]] = run_on_layer,
    limit_s: float = 60.0,
) -> dict[str, int]:
    """Run it below `base`. A failure is cut down and raised as a test ready to be kept."""

    def attempt(candidate: list[Operation]) -> dict[str, int]:
        place = Path(tempfile.mkdtemp(dir=base))
        try:
            return run(place, candidate)
        finally:
            shutil.rmtree(place)

    def failure(candidate: list[Operation]) -> Exception | None:
        try:
            attempt(candidate)
        except Exception as exc:
            return exc
        return None

    try:
        return attempt(operations)
    except Exception as exc:
        first: Exception = exc
    left = shrink(operations, lambda candidate: failure(candidate) is not None, limit_s)
    reason: Any = failure(left) or first
    raise Difference(f"{reason}\n{len(left)} operations are left:\n{as_test(left, '')}") from reason
