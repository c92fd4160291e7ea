"""Node records, link records and archive.json."""

import json

import pytest

from artstorefs.core.archive_record import parse_archive_record, render_archive_record
from artstorefs.core.errors import DocumentInvalid, DocumentTooLarge
from artstorefs.core.json_text import name_to_json
from artstorefs.core.node_record import (
    RECORD_LIMIT_BYTES,
    LinkRecord,
    NodeRecord,
    NodeType,
    parse_record,
    render_record,
)
from artstorefs.core.room import ROOM_BYTES, check_room

NODE_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PARENT_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
POSIX = {
    "revision": 1,
    "parent": PARENT_ID,
    "name": "photos",
    "mode": "0755",
    "uid": 0,
    "gid": 0,
    "atime_ns": 1,
    "mtime_ns": 2,
    "ctime_ns": 3,
    "xattrs": {},
}
DIRECTORY = {
    "record_version": "1.0",
    "file_id": NODE_ID,
    "type": "directory",
    "created_at": "2025-01-02T03:04:05Z",
    "created_by_id": 1000,
    "created_by_username": "anna",
    "custom_attributes": {"rating": 5},
    "posix": POSIX,
}
ROOT = DIRECTORY | {"posix": POSIX | {"parent": NODE_ID, "name": ""}}
SYMLINK = DIRECTORY | {"type": "symlink", "target": "../a b"}
DEVICE = DIRECTORY | {"type": "char", "rdev": {"major": 1, "minor": 3}}
LINK = {
    "record_version": "1.0",
    "file_id": NODE_ID,
    "type": "link",
    "target_id": PARENT_ID,
    "posix": {"revision": 2, "parent": PARENT_ID, "name": {"$b64": "/w=="}},
}
ARCHIVE = {
    "format": "artstorefs/1",
    "archive_id": NODE_ID,
    "archive_name": "photos",
    "element_id": PARENT_ID,
    "created_at": "2025-01-02T03:04:05Z",
}


def parse(document):
    return parse_record(json.dumps(document).encode(), "x.node.json")


@pytest.mark.parametrize(
    "document",
    [
        DIRECTORY,
        ROOT,
        SYMLINK,
        DEVICE,
        DEVICE | {"type": "block"},
        LINK,
        *(DIRECTORY | {"type": kind} for kind in ("file", "fifo", "socket")),
        DIRECTORY | {"later": 1, "posix": POSIX | {"later": [2]}},
        LINK | {"later": 1},
    ],
)
def test_records_come_back_as_they_were(document):
    again = json.loads(render_record(parse(document)))
    assert again == document
    assert list(again) == list(document)


def test_links_and_nodes_are_models_of_their_own():
    link, node = parse(LINK), parse(SYMLINK)
    assert isinstance(link, LinkRecord)
    assert link.posix.name_bytes == b"\xff"
    assert isinstance(node, NodeRecord)
    assert node.target_bytes == b"../a b"
    assert node.type is NodeType.SYMLINK
    assert parse(ROOT).is_root
    assert not parse(DIRECTORY).is_root
    assert parse(DIRECTORY).target_bytes == b""


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (DIRECTORY | {"record_version": "2.0"}, "record_version"),
        (DIRECTORY | {"type": "door"}, "type"),
        (DIRECTORY | {"type": None}, "type"),
        (DIRECTORY | {"target": "x"}, "target"),
        (DIRECTORY | {"type": "symlink"}, "target"),
        (SYMLINK | {"target": ""}, "target"),
        (SYMLINK | {"target": "a\0b"}, "target"),
        (SYMLINK | {"target": "x" * 4096}, "target"),
        (SYMLINK | {"target": 5}, "target"),
        (DIRECTORY | {"rdev": {"major": 1, "minor": 3}}, "rdev"),
        (DIRECTORY | {"type": "block"}, "rdev"),
        (DEVICE | {"rdev": {"major": -1, "minor": 3}}, "rdev.major"),
        (DIRECTORY | {"posix": POSIX | {"name": ""}}, "posix.name"),
        (ROOT | {"posix": POSIX | {"parent": NODE_ID}}, "posix.name"),
        (ROOT | {"type": "file"}, "posix.parent"),
        (DIRECTORY | {"posix": LINK["posix"]}, "posix.mode"),
        (LINK | {"target_id": None}, "target_id"),
        (LINK | {"posix": LINK["posix"] | {"name": ""}}, "posix.name"),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_a_record_that_breaks_a_rule_is_refused_in_one_line(document, field):
    with pytest.raises(DocumentInvalid) as caught:
        parse(document)
    assert str(caught.value).startswith(f"x.node.json: {field}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("byte", [b"x", b'"', b"\xff", b"\x01"])
def test_the_longest_symlink_fits_with_all_the_attributes_there_is_room_for(byte):
    custom = {"k": "x" * (ROOM_BYTES - len('{"k":""}'))}
    check_room(custom, {}, {}, b"photos")
    longest = {
        "target": name_to_json(byte * 4095),
        "custom_attributes": custom,
        "created_by_username": "x" * 32,
        "posix": POSIX | {"name": '"' * 255},
    }
    assert len(render_record(parse(SYMLINK | longest))) <= RECORD_LIMIT_BYTES


def test_too_large_a_record_is_refused():
    with pytest.raises(DocumentTooLarge):
        parse(DIRECTORY | {"custom_attributes": {"k": "x" * RECORD_LIMIT_BYTES}})
    with pytest.raises(DocumentTooLarge):
        render_record(parse(DIRECTORY).with_changes(custom_attributes={"k": "x" * 20_000}))


def test_archive_json_comes_back_with_what_it_does_not_know():
    document = ARCHIVE | {"later": 1}
    record = parse_archive_record(json.dumps(document).encode(), "x")
    assert json.loads(render_archive_record(record)) == document


@pytest.mark.parametrize("change", [{"format": "artstorefs/2"}, {"format": 1}, {"archive_id": ""}])
def test_an_archive_of_another_format_is_refused(change):
    with pytest.raises(DocumentInvalid):
        parse_archive_record(json.dumps(ARCHIVE | change).encode(), "x")
