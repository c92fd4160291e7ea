"""Keys on an element."""

import re
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artstorefs.core.errors import KeyInvalid
from artstorefs.core.naming import (
    ARCHIVE_KEY,
    blocks_key,
    check_key,
    content_type,
    is_blocks,
    is_record,
    is_sidecar,
    listed_object,
    object_key,
    object_of,
    record_key,
    sidecar_key,
)

FILE_ID = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
MOMENT = datetime(2025, 1, 2, 3, 4, 5, 999999, tzinfo=UTC)
TAIL = f"_anna_20250102T030405_{FILE_ID}"


def key(name: bytes, username: str = "anna") -> str:
    return object_key(name, username, MOMENT, FILE_ID)


@pytest.mark.parametrize(
    ("name", "stem", "extension"),
    [
        (b"report.pdf", "report", ".pdf"),
        (b"a.tar.gz", "a.tar", ".gz"),
        (b"README", "README", ""),
        (b".bashrc", "_bashrc", ""),
        (b"-rf", "_rf", ""),
        ("Prüfung 1.jpg".encode(), "Prüfung_1", ".jpg"),
        ("写真.写真".encode(), "写真", ".写真"),
        ("हिन्दी.txt".encode(), "हिन्दी", ".txt"),
        (b"bad\xff\n.txt", "bad__", ".txt"),
        (b'a<>:"|?*\\b.x', "a________b", ".x"),
        ("a\u202etxt.exe".encode(), "a_txt", ".exe"),
        (b"end.", "end.", ""),
        (b"x.not an extension", "x.not_an_extension", ""),
        (b"x." + b"e" * 17, "x." + "e" * 17, ""),
        (b"x.attr.json", "x.attr", ".json"),
        (b"x.blocks", "x.blocks", ""),
        (b"\xff", "_", ""),
        ("u\u0308.txt".encode(), "ü", ".txt"),
    ],
)
def test_object_keys_are_readable_and_safe(name, stem, extension):
    assert key(name) == f"2025/01/02/03/{stem}{TAIL}{extension}"


def test_users_are_readable_and_safe():
    assert f"x_DOM_anna_b_2025{MOMENT:%m%d}T" in key(b"x", "DOM\\anna b")
    assert "x___2025" in key(b"x", "")
    assert f"_{'ü' * 16}_2025" in key(b"x", "ü" * 40)


def test_the_time_is_that_of_utc_and_must_know_its_zone():
    east = timezone(timedelta(hours=14))
    moved = object_key(b"x", "anna", MOMENT.astimezone(east), FILE_ID)
    assert moved == key(b"x")
    with pytest.raises(ValueError, match="timezone"):
        object_key(b"x", "anna", MOMENT.replace(tzinfo=None), FILE_ID)


@settings(deadline=None)
@given(
    st.binary(max_size=255) | st.text(max_size=255).map(lambda text: text.encode()),
    st.text(max_size=60),
    st.datetimes(timezones=st.just(UTC)),
)
def test_every_name_makes_a_key_that_every_element_can_hold(name, username, created):
    made = object_key(name, username, created, FILE_ID)
    for one in (made, sidecar_key(made), blocks_key(made)):
        check_key(one)
        assert len(one.rpartition("/")[2].encode()) <= 200
    assert re.match(r"\d{4}/\d\d/\d\d/\d\d/[^./-]", made)
    assert str(FILE_ID) in made
    assert not is_sidecar(made)
    assert not is_record(made)
    assert not made.endswith(".blocks")
    assert object_of(sidecar_key(made)) == made


def test_our_own_keys_are_told_apart():
    record = record_key(FILE_ID)
    assert record == f".artstorefs/nodes/0f/{FILE_ID}.node.json"
    assert is_record(record)
    assert not is_sidecar(record)
    assert not is_record(f"2025/{FILE_ID}.node.json")
    assert is_sidecar("2025/x.attr.json")
    assert not is_sidecar(".artstorefs/x.attr.json")
    check_key(ARCHIVE_KEY)
    check_key(record)


BAD_KEYS = ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", "a\\b", "a\nb", "\ud800"]
BAD_KEYS += ["x" * 256, "/".join(["x" * 200] * 6)]


@pytest.mark.parametrize("bad", BAD_KEYS, ids=lambda text: ascii(text)[:20])
def test_keys_that_lead_out_or_cannot_be_held_are_refused(bad):
    with pytest.raises(KeyInvalid) as caught:
        check_key(bad, "main")
    assert caught.value.element == "main"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("good", ["a", "a/b.txt", "...", "a b/ü", "x" * 255, ".artstorefs/a"])
def test_ordinary_keys_pass(good):
    check_key(good)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.JPG", "image/jpeg"),
        (b"a.tar.gz", "application/gzip"),
        (b"pdf", "application/octet-stream"),
        (b"a.\xff", "application/octet-stream"),
        (b"a.unknown", "application/octet-stream"),
    ],
)
def test_content_types_are_the_same_everywhere(name, expected):
    assert content_type(name) == expected


def test_block_lists_among_the_keys_that_are_found() -> None:
    assert is_blocks("2025/x.pdf.blocks")
    assert listed_object("2025/x.pdf.blocks") == "2025/x.pdf"
    assert not is_blocks(".artstorefs/x.blocks")
    assert not is_blocks("2025/x.blocks.attr.json")
