"""attr.json: both schemas, documents by others, hostile ones, and the room that attributes have."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artstorefs.core.attributes import (
    ATTR_JSON_LIMIT_BYTES,
    FileAttributesV2,
    detect_schema,
    migrate_v1,
    parse_attributes,
    render,
    to_v1_compatible,
)
from artstorefs.core.document import validated
from artstorefs.core.errors import DocumentInvalid, DocumentTooLarge
from artstorefs.core.json_text import encoded_size, name_to_json
from artstorefs.core.posix_section import format_mode
from artstorefs.core.room import LONGEST, ROOM_BYTES, check_room
from artstorefs.core.timestamps import format_timestamp, parse_timestamp, timestamp_ns

FILE_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
V1 = {
    "file_id": FILE_ID,
    "original_filename": "report.pdf",
    "storage_filename": f"report_anna_20250102T030405_{FILE_ID}.pdf",
    "file_size": 1234,
    "content_type": "application/pdf",
    "created_at": "2025-01-02T03:04:05.678901",
    "updated_at": "2025-01-02 03:04:05+01:00",
    "created_by_id": "u-17",
    "created_by_username": "anna",
    "created_by_fullname": None,
    "description": None,
    "version": 3,
    "storage_path": "2025/01/02/03",
    "checksum": "ab" * 32,
    "metadata": {"camera": "X100"},
}
V2 = {"schema_version": "2.0"} | V1 | {"custom_attributes": {"rating": 5, "tags": ["a", 1.0]}}
POSIX = {
    "revision": 7,
    "parent": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "name": "report.pdf",
    "mode": "0644",
    "uid": 1000,
    "gid": 100,
    "atime_ns": 1735787045678901234,
    "mtime_ns": -1,
    "ctime_ns": 0,
    "xattrs": {"security.selinux": "unconfined_u:object_r:user_home_t:s0\x00"},
}
OURS = V2 | {"posix": POSIX}


def parse(document) -> FileAttributesV2:
    return parse_attributes(json.dumps(document).encode(), "a/x.attr.json")


def reason(document) -> str:
    with pytest.raises(DocumentInvalid) as caught:
        parse(document)
    text = str(caught.value)
    assert text.startswith("a/x.attr.json: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("document", [V2, OURS, OURS | {"later": {"b": 1, "a": [None]}, "x": 1.0}])
def test_a_v2_document_comes_back_as_it_was(document):
    again = json.loads(render(parse(document)))
    assert again == document
    assert list(again) == list(document)


def test_v1_is_migrated_in_memory_and_nothing_else_changes():
    again = json.loads(render(parse(V1)))
    assert again == V1 | {"schema_version": "2.0", "custom_attributes": {}}
    assert next(iter(again)) == "schema_version"
    assert migrate_v1({"a": 1, "schema_version": "1.0"})["schema_version"] == "2.0"


def test_only_what_is_required_must_be_there_and_nothing_is_made_up():
    required = ("file_id", "original_filename", "storage_filename", "file_size", "checksum")
    least = {key: V1[key] for key in required}
    assert set(json.loads(render(parse(least)))) == {
        *required,
        "schema_version",
        "custom_attributes",
    }
    for key in required:
        assert f"{key}: Field required" in reason({k: v for k, v in least.items() if k != key})


def test_unknown_keys_survive_changes_even_with_names_of_our_methods():
    odd = {"copy": 1, "unknown": {"x": None}, "model_fields": [1], "as_json": "y", "__dict__": 2}
    attributes = parse(OURS | odd | {"posix": POSIX | {"later": 1}})
    changed = attributes.with_changes(
        custom_attributes={"k": 1}, posix=attributes.posix.with_changes(revision=8)
    )
    document = json.loads(render(changed))
    assert document == OURS | odd | {
        "custom_attributes": {"k": 1},
        "posix": POSIX | {"later": 1, "revision": 8},
    }
    assert changed.unknown() == odd
    assert list(changed.unknown()) == list(odd)


def test_changes_are_validated_and_the_old_document_stays():
    attributes = parse(OURS)
    with pytest.raises(DocumentInvalid):
        attributes.with_changes(file_size=0)
    with pytest.raises(DocumentInvalid):
        attributes.with_changes(custom_attributes={"k": float("nan")})
    assert attributes == parse(OURS)


@pytest.mark.parametrize(
    "lenient",
    [
        {"version": "1.2"},
        {"version": 1.5},
        {"version": None},
        {"created_by_id": 17},
        {"metadata": None},
        {"updated_at": "2025-01-02T03:04:05.123456789Z"},
        {"checksum": "AB" * 32},
        {"posix": None},
        {"custom_attributes": None},
    ],
    ids=str,
)
def test_types_that_other_writers_use_are_taken(lenient):
    assert parse(V2 | lenient)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema_version": "3.0"}, "schema_version"),
        ({"schema_version": 2.0}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"file_id": "no"}, "file_id"),
        ({"file_size": 0}, "file_size"),
        ({"file_size": "12"}, "file_size"),
        ({"file_size": True}, "file_size"),
        ({"file_size": 2**63}, "file_size"),
        ({"checksum": "ab" * 31 + "zz"}, "checksum"),
        ({"checksum": "ab" * 32 + "\n"}, "checksum"),
        ({"original_filename": ""}, "original_filename"),
        ({"storage_filename": "../../etc/passwd"}, "storage_filename"),
        ({"storage_filename": ".."}, "storage_filename"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": 5}, "created_at"),
        ({"metadata": []}, "metadata"),
        ({"custom_attributes": [1]}, "custom_attributes"),
        ({"custom_attributes": {"a\nb": json.loads("[" * 30 + "]" * 30)}}, "custom_attributes"),
        ({"posix": {}}, "posix.revision"),
        ({"posix": POSIX | {"revision": 0}}, "posix.revision"),
        ({"posix": POSIX | {"parent": None}}, "posix.parent"),
        ({"posix": POSIX | {"name": ""}}, "posix"),
        ({"posix": POSIX | {"name": "a/b"}}, "posix.name"),
        ({"posix": POSIX | {"name": ".."}}, "posix.name"),
        ({"posix": POSIX | {"name": {"$b64": "AA=="}}}, "posix.name"),
        ({"posix": POSIX | {"name": {"$b64": "x"}}}, "posix.name"),
        ({"posix": POSIX | {"mode": "644"}}, "posix.mode"),
        ({"posix": POSIX | {"mode": "0844"}}, "posix.mode"),
        ({"posix": POSIX | {"mode": 420}}, "posix.mode"),
        ({"posix": POSIX | {"uid": -1}}, "posix.uid"),
        ({"posix": POSIX | {"gid": 2**32 - 1}}, "posix.gid"),
        ({"posix": POSIX | {"mtime_ns": 2**63}}, "posix.mtime_ns"),
        ({"posix": POSIX | {"mtime_ns": 1.0}}, "posix.mtime_ns"),
        ({"posix": POSIX | {"xattrs": {"$b64:!": 1}}}, "posix.xattrs"),
        ({"posix": POSIX | {"blocks": "ab"}}, "posix.blocks"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_field_that_breaks_its_rule_is_named_in_one_line(change, field):
    assert reason(V2 | change).startswith(f"a/x.attr.json: {field}: ")


def test_several_problems_are_counted_and_long_ones_cut():
    assert reason(V2 | {"file_id": 1, "checksum": 2}).endswith("(and 1 more)")
    assert len(reason(V2 | {"posix": POSIX | {"xattrs": {"$b64:" + "é" * 300: 1}}})) < 400


def test_schemas_are_detected():
    assert detect_schema({}) == detect_schema({"schema_version": "1.0"}) == "1.0"
    assert detect_schema({"schema_version": "2.0"}) == "2.0"


def test_v1_for_old_readers_says_what_is_lost():
    document, lost = to_v1_compatible(parse(OURS | {"later": 1}))
    assert document == V1 | {"later": 1}
    assert lost[:2] == ["custom_attributes.rating", "custom_attributes.tags"]
    assert set(lost[2:]) == {f"posix.{key}" for key in POSIX}


def test_too_large_documents_are_refused_when_read():
    with pytest.raises(DocumentTooLarge):
        parse(V2 | {"custom_attributes": {"a": "x" * 4096}})


def test_the_layout_is_readable_until_only_compact_fits():
    attributes = parse(OURS)
    assert b'\n  "file_id": "' in render(attributes)
    room = ATTR_JSON_LIMIT_BYTES - encoded_size(attributes.as_json())
    full = attributes.with_changes(description="x" * (room + len("null") - 2))
    assert len(render(full)) == ATTR_JSON_LIMIT_BYTES
    assert render(full).startswith(b'{"schema_version":"2.0","file_id":')


@pytest.mark.parametrize("letter", ["x", "é", '"', "\u0001"])
def test_the_readable_name_is_shortened_where_only_that_fits(letter):
    attributes = parse(OURS).with_changes(original_filename=letter * 250)
    room = ATTR_JSON_LIMIT_BYTES - encoded_size(attributes.as_json())
    long = attributes.with_changes(description="x" * (room + len("null") - 2 + 100))
    data = render(long)
    shown = json.loads(data)["original_filename"]
    assert ATTR_JSON_LIMIT_BYTES - 6 <= len(data) <= ATTR_JSON_LIMIT_BYTES
    assert set(shown) == {letter}
    with pytest.raises(DocumentTooLarge):
        render(long.with_changes(posix=None, description="x" * 4000))
    with pytest.raises(DocumentTooLarge):
        render(long.with_changes(description="x" * 4096))


def test_halves_of_surrogate_pairs_are_never_written():
    with pytest.raises(DocumentInvalid):
        render(parse(OURS).with_changes(custom_attributes={"a": ["\ud800"]}))


def test_timestamps():
    assert timestamp_ns("1970-01-01T00:00:01") == 10**9
    assert timestamp_ns("1970-01-01T01:00:00.5+01:00") == 500_000_000
    assert timestamp_ns("0001-01-01T00:00:00+23:59") < timestamp_ns("0001-01-01T00:00:00")
    moment = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert format_timestamp(moment) == "2025-01-02T03:04:05.000000Z"
    assert parse_timestamp(format_timestamp(moment)) == moment
    with pytest.raises(ValueError, match="timezone"):
        format_timestamp(moment.replace(tzinfo=None))


def test_modes_are_four_octal_digits_without_the_file_type():
    assert format_mode(0o104755) == "4755"
    assert parse(OURS).posix.mode_bits == 0o644


attribute_values = st.text(max_size=300) | st.integers() | st.lists(st.booleans(), max_size=9)
attribute_sets = st.dictionaries(st.text(max_size=40), attribute_values, max_size=8)


@pytest.mark.slow
@settings(deadline=None)
@given(attribute_sets, attribute_sets, attribute_sets, st.binary(min_size=1, max_size=255))
def test_what_has_room_can_be_written_whatever_happens_to_the_file(custom, xattrs, carried, name):
    xattrs = {f"trusted.{position}": value for position, value in enumerate(xattrs.values())}
    carried = {f"by others {position}": value for position, value in enumerate(carried.values())}
    for padding in (0, 1500, ROOM_BYTES):
        padded = custom | {"padding": "x" * padding}
        try:
            check_room(padded, xattrs, carried, name)
        except DocumentTooLarge:
            continue
        section = LONGEST.posix.as_json() | {"name": name_to_json(name.replace(b"/", b'"'))}
        section["name"] = section["name"] if section["name"] not in (".", "..") else "..."
        members = LONGEST.as_json() | carried | {"custom_attributes": padded}
        section = section | {"xattrs": LONGEST.posix.xattrs | xattrs}
        members |= {"posix": section, "original_filename": "é" * 255}
        if b"\0" not in name:
            data = render(validated(FileAttributesV2, members, "x"))
            assert parse_attributes(data, "x").custom_attributes == padded


def test_room_is_exact():
    fixed = encoded_size({"k": ""})
    check_room({"k": "x" * (ROOM_BYTES - fixed)}, {}, {}, b"x")
    with pytest.raises(DocumentTooLarge) as caught:
        check_room({"k": "x" * (ROOM_BYTES - fixed + 1)}, {}, {}, b"x\xff\n")
    assert "\n" not in str(caught.value)
    assert ROOM_BYTES > 2000
