"""Bytes as JSON text and back, and the strict reader against hostile documents."""

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artstorefs.core.errors import DocumentInvalid, DocumentTooLarge
from artstorefs.core.json_text import (
    DEPTH_LIMIT,
    check_name,
    cut_utf8,
    decode_b64,
    dump,
    encode_b64,
    encoded_size,
    key_from_json,
    key_to_json,
    name_from_json,
    name_to_json,
    parse_object,
)


def parse(data: bytes):
    return parse_object(data, "x.attr.json", 4096)


@pytest.mark.slow
@settings(deadline=None)
@given(st.binary(max_size=300) | st.text().map(lambda text: text.encode("utf-8")))
def test_names_and_keys_survive_json(raw):
    assert name_from_json(json.loads(json.dumps(name_to_json(raw)))) == raw
    assert key_from_json(json.loads(json.dumps(key_to_json(raw)))) == raw


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"report.pdf", "report.pdf"),
        ("Prüfung ⭐".encode(), "Prüfung ⭐"),
        (b"bell\x07", {"$b64": "YmVsbAc="}),
        (b"del\x7f", {"$b64": "ZGVsfw=="}),
        (b"\xff", {"$b64": "/w=="}),
        (b"$b64", "$b64"),
    ],
)
def test_readable_names_stay_readable(name, expected):
    assert name_to_json(name) == expected


NO_NAMES = [
    *(None, 1, True, [], ["a"], {}, "\ud800", {"b64": "YQ=="}, {"$b64": "YQ==", "more": 1}),
    *({"$b64": text} for text in (1, "YQ", "YR==", "é", "Y Q==")),
]


@pytest.mark.parametrize("value", NO_NAMES, ids=ascii)
def test_other_forms_of_names_are_refused(value):
    with pytest.raises(DocumentInvalid):
        name_from_json(value)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 256])
def test_bad_names_are_refused(name):
    with pytest.raises(DocumentInvalid):
        check_name(name)


@pytest.mark.parametrize("name", [b"...", b"x" * 255, b"\xff", b"a b\n", b"-rf"])
def test_every_posix_name_is_good(name):
    check_name(name)


def test_a_key_that_looks_encoded_is_encoded():
    assert key_to_json(b"$b64:YQ==") == "$b64:" + encode_b64(b"$b64:YQ==")


@pytest.mark.parametrize("text", ["$b64:YQ==", "$b64:!", "$b64:", "a\nb", "\ud800"])
def test_keys_that_are_never_written_stand_for_nothing(text):
    with pytest.raises(DocumentInvalid):
        key_from_json(text)


def test_base64_has_one_form_only():
    assert decode_b64("YQ==") == b"a"
    assert [decode_b64(text) for text in ("YQ", "YR==", "YQ==\n", "=")] == [None] * 4


@given(st.text(max_size=40), st.integers(0, 60))
def test_cutting_keeps_whole_characters(text, limit):
    short = cut_utf8(text, limit)
    assert text.startswith(short)
    assert len(short.encode()) <= limit
    assert short == text or len(text[: len(short) + 1].encode()) > limit


HOSTILE = {
    "empty": b"",
    "not JSON": b"{",
    "not an object": b"[1]",
    "a bare string": b'"x"',
    "trailing text": b"{} {}",
    "latin-1": b'{"a": "\xe9"}',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "encoded surrogate": b'{"a": "\xed\xa0\x80"}',
    "escaped half of a surrogate pair": rb'{"a": "\ud800"}',
    "the same in a key": rb'{"\uDC00": 1}',
    "key twice": b'{"a": 1, "a": 1}',
    "key twice below": b'{"b": [{"a": 1, "a": 2}]}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "overflowing float": b'{"a": 1e999}',
    "huge integer": b'{"a": ' + b"9" * 4000 + b"}",
    "deep": b'{"a":' + b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT + b"}",
    "deeper than any stack": b"[" * 4096,
    "deep objects": b'{"a":' * 800,
    "control character": b'{"a": "\n"}',
    "unterminated strings": b'{"a":"' + b'\\"' * 2000,
    "brackets and quotes": b'["' * 2048,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_documents_are_refused_in_one_line(data):
    with pytest.raises(DocumentInvalid) as caught:
        parse(data)
    assert str(caught.value).startswith("x.attr.json: ")
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data):
    with contextlib.suppress(DocumentInvalid):
        parse(b'{"a":' + data)


def test_size_is_checked_before_anything_else():
    with pytest.raises(DocumentTooLarge):
        parse(b" " * 5000)


def test_the_depth_limit_itself_is_allowed_and_strings_do_not_count():
    deep = b'{"a":' + b"[" * (DEPTH_LIMIT - 1) + b"]" * (DEPTH_LIMIT - 1) + b"}"
    assert parse(deep)
    assert parse(b'{"a": "' + b"[{" * 100 + rb"\"[\\" + b'"}')


@pytest.mark.parametrize("text", [b'{"a":"' + b'\\"' * 500_000, b'["' * 500_000, b"[]" * 500_000])
def test_the_depth_check_is_linear(text):
    start = time.thread_time()
    with pytest.raises(DocumentInvalid):
        parse_object(text, "x", len(text))
    assert time.thread_time() - start < 2  # quadratic, these take minutes


def test_dump_is_indented_where_it_fits_and_compact_where_not():
    assert dump({"a": "ä"}, "x", 100) == '{\n  "a": "ä"\n}\n'.encode()
    assert dump({"a": "ä"}, "x", 12) == '{"a":"ä"}'.encode()
    with pytest.raises(DocumentTooLarge) as caught:
        dump({"a": "ä"}, "x", 9)
    assert caught.value.size_bytes == 10


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", 10**200, object(), b"\xff"],
    ids=["nan", "infinity", "surrogate", "large", "object", "bytes"],
)
def test_dump_writes_nothing_that_cannot_be_read(value):
    with pytest.raises(DocumentInvalid):
        dump({"a": value}, "x", 4096)


def test_dump_refuses_what_nests_too_deep():
    value = {}
    for _ in range(DEPTH_LIMIT):
        value = {"a": value}
    with pytest.raises(DocumentInvalid):
        dump(value, "x", 4096)


def test_text_that_only_mentions_nan_is_written():
    assert parse(dump({"a": "NaN -Infinity"}, "x", 4096)) == {"a": "NaN -Infinity"}


def test_encoded_size_is_that_of_compact_json():
    assert encoded_size({"a": [1, "é"]}) == len('{"a":[1,"é"]}'.encode())
    with pytest.raises(DocumentInvalid):
        encoded_size("\ud800")
