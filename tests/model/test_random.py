"""Random operations on the reference, the kernel's own filesystem, the layer, and a mount.

`pytest tests/model --operations 1000000 --seed 7` for more, or the same again. A failure is cut
down and printed as a test for `test_regressions.py`. An eighth of the operations goes to a mount,
where each costs more. The reference itself is held against the kernel first.
"""

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from .operations import (
    CALLS,
    ENVIRONMENT,
    MOUNT_ENVIRONMENT,
    MOUNT_ENVIRONMENT_SHARE,
    Generator,
)
from .runs import check_or_shrink, run_on_local, run_on_mount

LENGTH = 300
"""Operations in a sequence: enough for a tree to grow, few enough to be cut down soon."""

MOUNT_LENGTH = 1400
"""Longer, for a mount takes seconds to make and to check at the end."""

MOUNT_PART = 8


def test_reference_is_what_the_kernel_does(tmp_path: Path, seed: int, operations: int) -> None:
    print(f"seed {seed}")
    for number in range(max(1, operations // 10 // LENGTH)):
        sequence = Generator(seed + number, {}).sequence(LENGTH)
        check_or_shrink(tmp_path, sequence, run_on_local)


@pytest.mark.slow
@pytest.mark.long
def test_random_operations_on_the_layer(base: Path, seed: int, operations: int) -> None:
    """SEMANTICS: ELEM-1, ELEM-5, ELEM-6, DUR-1, NAME-1"""
    print(f"seed {seed}")
    performed: Counter[str] = Counter()
    wanted = operations - operations // MOUNT_PART
    number = 0
    while performed.total() < wanted:
        sequence = Generator(seed + number, ENVIRONMENT).sequence(LENGTH)
        performed.update(check_or_shrink(base, sequence))
        number += 1
    print(f"{number} sequences, {performed.total()} operations: {dict(performed)}")
    if wanted > 5000:
        assert performed.keys() == CALLS.keys() - {"create"} | ENVIRONMENT.keys()


@pytest.mark.slow
@pytest.mark.long
def test_random_operations_on_a_mount(base: Path, seed: int, operations: int) -> None:
    """Every second sequence with two elements, and everything on both.
    SEMANTICS: ELEM-1, ELEM-6, ELEM-21, DUR-1, DUR-7, MOUNT-1"""
    print(f"seed {seed}")
    performed: Counter[str] = Counter()
    wanted = operations // MOUNT_PART
    number = 0
    while performed.total() < wanted:
        length = min(MOUNT_LENGTH, (wanted - performed.total()) * 5 // 4 + 20)
        generator = Generator(seed + number, MOUNT_ENVIRONMENT, MOUNT_ENVIRONMENT_SHARE)
        run = partial(run_on_mount, copies=1 + number % 2)
        performed.update(check_or_shrink(base, generator.sequence(length), run))
        number += 1
    print(f"{number} sequences, {performed.total()} operations: {dict(performed)}")
