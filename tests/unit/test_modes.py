"""The table of modes, as the design has it, and sizes."""

import errno

import pytest

from artstorefs.core.modes import TABLE, TRANSITIONS, ElementMode, Operation, refusal
from artstorefs.core.sizes import format_size, parse_size

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


def test_before_sealing_only_rw_differs_and_only_for_content():
    differing = {case for case in TABLE if refusal(*case, sealed=False) != refusal(*case, True)}
    assert differing == {(ElementMode.RW, Operation.CHANGE_CONTENT)}
    assert refusal(ElementMode.RW, Operation.CHANGE_CONTENT, sealed=False) == 0


def test_at_run_time_modes_only_get_stricter_by_one_step():
    steps = {(before.value, after.value) for before in TRANSITIONS for after in TRANSITIONS[before]}
    assert steps == {("rw", "ro"), ("ro", "ar")}
    assert set(TRANSITIONS) == set(ElementMode)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1TiB", 2**40),
        ("1.5 GiB", 3 * 2**29),
        ("500 MB", 500_000_000),
        ("1kb", 1000),
        (" 2 kib ", 2048),
        ("0.1B", 0),
        ("1EiB", 2**60),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1e3", "1 XB", "1.GiB", "1,5GB", "٣", "1K", "∞"])
def test_other_sizes_are_refused_with_an_example(text):
    with pytest.raises(ValueError, match="write for example"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1023.9 KiB"),
        (2**40, "1.0 TiB"),
        (2**70, "1024.0 EiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_sizes_are_shown(size, text):
    assert format_size(size) == text
