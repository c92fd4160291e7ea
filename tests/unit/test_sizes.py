"""Sizes as people write them."""

import pytest

from artstorefs.core.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("1B", 1),
        ("500MB", 500_000_000),
        ("500mb", 500_000_000),
        ("1kB", 1000),
        ("1TiB", 1 << 40),
        ("1.5 GiB", 3 << 29),
        (" 2EiB ", 2 << 60),
    ],
)
def test_size_is_read_exactly(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "1G", "-1", "1,5GiB", "1e9", "0.5B", "١", "1  GiB"])
def test_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (3 << 29, "1.5GiB"),
        ((1 << 20) - 1, "1MiB"),
        (5 << 60, "5EiB"),
    ],
)
def test_size_for_a_person(size: int, text: str) -> None:
    assert format_size(size) == text


def test_whole_sizes_survive_both_ways() -> None:
    for exponent in range(7):
        for number in (1, 50, 1023):
            size = number * 1024**exponent
            assert parse_size(format_size(size)) == size
