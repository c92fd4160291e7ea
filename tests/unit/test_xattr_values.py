"""The two laws of extended attribute values, by examples and by random search."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artstorefs.core.errors import DocumentInvalid
from artstorefs.core.json_text import dump, encode_b64, parse_object
from artstorefs.core.xattr_values import (
    VALUE_DEPTH_LIMIT,
    check_values,
    value_to_bytes,
    value_to_json,
)


def exact(value):
    """`value` with its types, so that 1, 1.0, True, 0.0 and -0.0 differ."""
    if isinstance(value, dict):
        return {key: exact(member) for key, member in value.items()}
    if isinstance(value, list):
        return [exact(member) for member in value]
    return (type(value), repr(value))


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def quoted(text: str, times: int) -> str:
    for _ in range(times):
        text = json.dumps(text, ensure_ascii=False)
    return text


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.binary(max_size=4).map(lambda raw: {"$b64": encode_b64(raw)})
    | st.sampled_from(["$b64", '{"$b64":"/w=="}', "1", '"1"', "null", "-0", "1.0", "[]", '"', '""'])
)
keys = st.text(max_size=4) | st.just("$b64")
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
)
# JSON text, the same quoted again and again, and almost JSON: where the two laws meet.
texts = st.one_of(
    values.map(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)),
    values.map(lambda value: json.dumps(value, separators=(",", ":"))),
    values.map(json.dumps),
    st.text(alphabet='{}[]",:0123456789.-+eE \\ntrufals$b64/w=', max_size=12),
)
raws = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode()),
    st.builds(quoted, texts, st.integers(0, 4)).map(lambda text: text.encode()),
)


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(raws)
@example(b"")
@example(b'"')
@example(b'""')
@example(b'"\\u0031"')
@example(b'"\\ud800"')
@example(b"\xed\xa0\x80")
@example(b"-0")
@example(b"-0.0")
@example(b"-" + b"9" * 128)
@example(b"9" * 129)
@example(b"9" * 70_000)
@example(b"[" * 70_000)
@example(nested(VALUE_DEPTH_LIMIT).encode())
@example(nested(VALUE_DEPTH_LIMIT + 1).encode())
def test_the_bytes_set_are_the_bytes_got(raw):
    assert value_to_bytes(value_to_json(raw)) == raw


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(values | st.builds(quoted, texts, st.integers(0, 4)))
@example(1)
@example(1.0)
@example(True)
@example(-0.0)
@example(1e16)
@example(-(10**128 - 1))
@example(1e-7)
@example({"$b64": "YQ=="})
@example({"$b64": "/w=="})
@example({"$b64": "/x=="})
@example({"$b64": 1})
@example({"$b64": "/w==", "a": 1})
@example([{"$b64": "/w=="}])
@example(json.loads(nested(VALUE_DEPTH_LIMIT)))
def test_values_by_others_survive_a_copy(value):
    assert exact(value_to_json(value_to_bytes(value))) == exact(value)


@settings(deadline=None)
@given(raws)
def test_what_is_set_survives_a_document(raw):
    document = dump({"posix": {"xattrs": {"k": value_to_json(raw)}}}, "x", 10_000)
    again = parse_object(document, "x", 10_000)
    assert value_to_bytes(again["posix"]["xattrs"]["k"]) == raw


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"hello", "hello"),
        (b"5", 5),
        (b"1.5", 1.5),
        (b"true", True),
        (b"null", None),
        (b"[1,2]", [1, 2]),
        (b'{"b":1,"a":2}', {"b": 1, "a": 2}),
        ('["ä"]'.encode(), ["ä"]),
        (b"1.10", "1.10"),
        (b"1e5", "1e5"),
        (b"1E+16", "1E+16"),
        (b"1e+16", 1e16),
        (b"05", "05"),
        (b" 5", " 5"),
        (b"NaN", "NaN"),
        (b"1e999", "1e999"),
        (b"[1, 2]", "[1, 2]"),
        (b'["\\u00e4"]', '["\\u00e4"]'),
        (b'{"a":1,"a":1}', '{"a":1,"a":1}'),
        (b'"5"', "5"),
        (b'"\\"5\\""', '"5"'),
        (b'"five"', '"five"'),
        (b"\xff", {"$b64": "/w=="}),
        (b'{"$b64":"/w=="}', '{"$b64":"/w=="}'),
        (b'{"$b64":"YQ=="}', {"$b64": "YQ=="}),
        (b"line\nline\x00", "line\nline\x00"),
    ],
)
def test_each_form_of_a_value(raw, value):
    assert exact(value_to_json(raw)) == exact(value)
    assert value_to_bytes(value) == raw


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], "\ud800", ["\ud800"], {1}, b"x"])
def test_what_no_document_holds_is_refused(value):
    with pytest.raises(DocumentInvalid):
        value_to_bytes(value)


def test_values_by_others_that_nest_too_deep_are_refused():
    check_values({"a": json.loads(nested(VALUE_DEPTH_LIMIT))})
    with pytest.raises(DocumentInvalid, match="nests deeper"):
        check_values({"a": json.loads(nested(VALUE_DEPTH_LIMIT + 1))})
