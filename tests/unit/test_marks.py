"""Moments that a file carries with it, in `posix.xattrs`."""

import json

import pytest

from artstorefs.core.marks import MARKS, RETAIN_UNTIL, SEALED, mark, marked_ns, moment_text

MOMENT_NS = 1_800_000_000_123_456_000


@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("before", [None, '{"security.selinux":"x"}'])
def test_what_is_marked_is_read_again(name: str, before: str | None) -> None:
    marked = mark(before, name, MOMENT_NS)
    assert marked_ns(marked, name) == MOMENT_NS
    assert marked_ns(mark(marked, name, MOMENT_NS + 1000), name) == MOMENT_NS + 1000
    assert mark(marked, name, None) == before


def test_both_are_independent_and_nothing_else_is_touched() -> None:
    text = mark(mark('{"trusted.é":[1]}', SEALED, 0), RETAIN_UNTIL, MOMENT_NS)
    assert json.loads(text or "") == {
        "trusted.é": [1],
        SEALED: "1970-01-01T00:00:00.000000Z",
        RETAIN_UNTIL: "2027-01-15T08:00:00.123456Z",
    }
    assert marked_ns(mark(text, RETAIN_UNTIL, None), SEALED) == 0


def test_less_than_a_microsecond_is_cut_off() -> None:
    assert marked_ns(mark(None, SEALED, MOMENT_NS + 999), SEALED) == MOMENT_NS


@pytest.mark.parametrize(
    "value", [None, 5, True, [], {}, "", "now", "9999-99-99", {"$b64": "/w=="}, "x" * 5000]
)
def test_what_others_have_written_there_is_no_moment(value: object) -> None:
    assert marked_ns(json.dumps({SEALED: value}), SEALED) is None
    assert marked_ns(mark(json.dumps({SEALED: value}), SEALED, MOMENT_NS), SEALED) == MOMENT_NS


def test_the_name_alone_in_another_attribute_means_nothing() -> None:
    assert marked_ns(json.dumps({"trusted.k": SEALED}), SEALED) is None
    assert mark(json.dumps({"trusted.k": SEALED}), SEALED, None) is not None


def test_there_is_an_end_of_time() -> None:
    assert moment_text(253_402_300_799 * 10**9) == "9999-12-31T23:59:59.000000Z"
    with pytest.raises(OverflowError):
        moment_text(253_402_300_800 * 10**9)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_what_an_offset_leads_out_of_is_the_end(text: str, shown: str) -> None:
    moment = marked_ns(json.dumps({RETAIN_UNTIL: text}), RETAIN_UNTIL)
    assert moment_text(moment or 0) == shown
