"""FORMAT.md against the code: each example in it is a document that the models take."""

import hashlib
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from artstorefs.core.archive_record import ArchiveRecord, parse_archive_record
from artstorefs.core.attributes import FileAttributesV2, parse_attributes
from artstorefs.core.block_list import BLOCK_BYTES, parse_block_list, render_block_list
from artstorefs.core.json_text import key_to_json, name_to_json
from artstorefs.core.mode_record import ModeRecord, parse_mode_record
from artstorefs.core.naming import (
    ARCHIVE_KEY,
    MODE_KEY,
    OFFLINE_KEY,
    blocks_key,
    check_key,
    object_key,
    record_key,
    sidecar_key,
)
from artstorefs.core.node_record import LinkRecord, NodeRecord, NodeType, parse_record
from artstorefs.core.offline_record import OfflineRecord, parse_offline_record
from artstorefs.core.posix_section import PosixLink, PosixSection
from artstorefs.core.quarantine import quarantine_keys, render_report
from artstorefs.core.timestamps import parse_timestamp
from artstorefs.core.xattr_values import value_to_bytes, value_to_json
from artstorefs.state.schema import SPOOL_SUMS

TEXT = (Path(__file__).parents[2] / "artstorefs" / "FORMAT.md").read_text(encoding="utf-8")
PARSERS = {
    "attr.json": parse_attributes,
    "attr.json v1.0": parse_attributes,
    "node record": parse_record,
    "link record": parse_record,
    "archive.json": parse_archive_record,
    "mode.json": parse_mode_record,
    "offline.json": parse_offline_record,
}
EXAMPLES = re.findall(r"^```json (.*?)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
KEYS = re.search(r"^```text keys\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1].split()
VALUES = re.findall(r"^\| (?:`(.*?)`|0x(..)) \| `(.*?)` \|$", TEXT.split("| bytes |")[1], re.M)


def example(kind: str):
    return PARSERS[kind](next(text for name, text in EXAMPLES if name == kind).encode(), kind)


def test_every_format_has_an_example():
    assert {kind for kind, _ in EXAMPLES} == set(PARSERS)
    assert TEXT.count("```json") == len(EXAMPLES)


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_every_example_is_valid_and_has_no_key_unknown_to_us(kind, text):
    record = PARSERS[kind](text.encode(), kind)
    assert record.unknown() == {}
    assert getattr(record, "posix", None) is None or record.posix.unknown() == {}
    if kind != "attr.json v1.0":
        written = json.dumps(json.loads(text), sort_keys=True)
        without_defaults = record.as_json()
        if "posix" in without_defaults and "xattrs" not in json.loads(text)["posix"]:
            without_defaults["posix"].pop("xattrs", None)
        assert json.dumps(without_defaults, sort_keys=True) == written


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (FileAttributesV2, "attr.json"),
        (ArchiveRecord, "archive.json"),
        (ModeRecord, "mode.json"),
        (OfflineRecord, "offline.json"),
        (LinkRecord, "link record"),
        (NodeRecord, "node record"),
        (PosixSection, "attr.json"),
        (PosixLink, "link record"),
    ],
)
def test_every_field_is_in_the_document(model, kind):
    texts = "".join(text for name, text in EXAMPLES if name in (kind, "node record"))
    missing = {field for field in model.model_fields if f'"{field}"' not in texts}
    assert missing <= {"created_at"}


def test_every_node_type_is_named():
    assert all(f"`{kind}`" in TEXT for kind in NodeType)


def test_the_keys_are_those_that_we_make():
    attributes = example("attr.json")
    made = object_key(
        attributes.original_filename.encode(),
        attributes.created_by_username,
        parse_timestamp(attributes.created_at),
        attributes.file_id,
    )
    assert made == f"{attributes.storage_path}{attributes.storage_filename}"
    root = UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
    beside = [sidecar_key(made), blocks_key(made)]
    assert [made, *beside, record_key(root), ARCHIVE_KEY, MODE_KEY, OFFLINE_KEY] == KEYS
    for key in KEYS:
        check_key(key)


def test_the_example_of_a_block_list():
    text = re.search(r"^```text block list\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1]
    blocks = parse_block_list(text.encode(), "example")
    assert render_block_list(blocks) == text.encode()
    content = bytes(blocks.object_bytes)
    for index in range(len(blocks)):
        offset, length = blocks.span(index)
        part = content[offset : offset + length]
        assert hashlib.sha256(part).digest() == blocks.digest(index)
    assert (blocks.object_bytes, blocks.block_bytes, len(blocks)) == (9_000_000, BLOCK_BYTES, 3)


def test_the_report_in_quarantine_is_the_one_that_we_write():
    shown = re.search(r"^```text quarantine report\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1]
    report = json.loads(shown)
    key, time_ns = report["original_key"], 1749283750 * 10**9
    written = render_report(time_ns, key, report["class"], report["what"], report["why"])
    assert written.decode() == shown
    kept, beside = quarantine_keys(time_ns, key)
    assert kept == f".artstorefs/quarantine/20250607T080910Z/{key}.kept"
    assert beside == f".artstorefs/quarantine/20250607T080910Z/{key}.report.json"
    check_key(beside)


def test_the_table_of_sums_is_the_one_that_we_make():
    shown = re.search(r"^```sql spool_sums\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[1]
    schemas = []
    for statement in (shown, SPOOL_SUMS):
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(statement)
            schemas.append(connection.execute("PRAGMA table_info(spool_sums)").fetchall())
    assert schemas[0] == schemas[1]
    assert len(schemas[0]) == 5


def test_names_that_are_not_text():
    assert name_to_json(b"caf\xe9") == {"$b64": "Y2Fm6Q=="}
    assert key_to_json(b"caf\xe9") == "$b64:Y2Fm6Q=="


def test_the_table_of_values_is_complete():
    assert len(VALUES) == 12


@pytest.mark.parametrize(("text", "digits", "shown"), VALUES)
def test_each_row_of_the_table_of_values(text, digits, shown):
    raw = bytes.fromhex(digits) if digits else text.encode()
    value = json.loads(shown)
    assert json.dumps(value_to_json(raw)) == json.dumps(value)
    assert value_to_bytes(value) == raw
