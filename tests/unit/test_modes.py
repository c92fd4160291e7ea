"""The table of modes, as the design has it."""

import errno

import pytest

from artstorefs.core.modes import TABLE, TRANSITIONS, ElementMode, Operation, refusal

DESIGN = """
edit  0      0        0      0      0
rw    0      0        EPERM  0      EPERM
ro    EROFS  0        EROFS  EROFS  EROFS
ar    EROFS  EREMOTE  EROFS  EROFS  EROFS
"""


def cells():
    for line in DESIGN.split("\n")[1:-1]:
        mode, *codes = line.split()
        for operation, code in zip(Operation, codes, strict=True):
            yield ElementMode(mode), operation, getattr(errno, code, 0)


@pytest.mark.parametrize(("mode", "operation", "code"), list(cells()))
def test_a_sealed_file_follows_the_table_of_the_design(mode, operation, code):
    assert refusal(mode, operation, sealed=True) == code


def test_the_table_covers_every_case():
    assert set(TABLE) == {(mode, operation) for mode in ElementMode for operation in Operation}


def test_before_sealing_only_rw_differs_and_only_for_content_and_removing():
    differing = {case for case in TABLE if refusal(*case, sealed=False) != refusal(*case, True)}
    kept = (Operation.CHANGE_CONTENT, Operation.DELETE)
    assert differing == {(ElementMode.RW, operation) for operation in kept}
    assert all(refusal(*case, sealed=False) == 0 for case in differing)


def test_at_run_time_modes_only_get_stricter_by_one_step():
    steps = {(before.value, after.value) for before in TRANSITIONS for after in TRANSITIONS[before]}
    assert steps == {("rw", "ro"), ("ro", "ar")}
    assert set(TRANSITIONS) == set(ElementMode)
