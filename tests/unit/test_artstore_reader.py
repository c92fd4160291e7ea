"""The strict reader of ArtStore's documents refuses what breaks a rule, and takes what does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..artstore import NotArtStore, read_attributes, read_element, write_file

BROKEN: dict[str, dict[str, Any]] = {
    "has 4097 bytes": {"description": "x" * 4000},
    "schema_version is '3.0'": {"schema_version": "3.0"},
    "schema_version is 2.0": {"schema_version": 2.0},
    "content_type is missing": {"content_type": None},
    "created_by_id is missing": {"created_by_id": ...},
    "updated_at is missing": {"updated_at": None},
    "created_by_id is 1000, and no text": {"created_by_id": 1000},
    "version is 1, and no text": {"version": 1},
    "file_id is '12-'": {"file_id": "12-"},
    "file_size is 0": {"file_size": 0},
    "file_size is True": {"file_size": True},
    "file_size is '5'": {"file_size": "5"},
    "checksum is 'xy'": {"checksum": "xy"},
    "created_at is 'yesterday'": {"created_at": "yesterday"},
    "created_at is '2024-02-31T00:00:00'": {"created_at": "2024-02-31T00:00:00"},
    "metadata is []": {"metadata": []},
    "custom_attributes is 'x'": {"custom_attributes": "x"},
    "custom_attributes is missing": {"custom_attributes": ...},
    "storage_filename is a path": {"storage_filename": "a/b"},
    "says that its object is '2024/03/05/14": {"storage_path": "2024/03/05/14"},
    "its object has 5 bytes": {"file_size": 6},
    "its object has the checksum": {"checksum": "0" * 64},
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_breaks_a_rule_is_refused(tmp_path: Path, reason: str) -> None:
    path = write_file(tmp_path, "scan.tif", b"bytes")
    changed = json.loads(path.read_bytes()) | BROKEN[reason]
    kept = {key: value for key, value in changed.items() if value is not ...}
    path.write_text(json.dumps(kept))
    if reason.startswith("has "):
        path.write_bytes(path.read_bytes().ljust(4097))
        path.write_bytes(path.read_bytes()[:4097])
    with pytest.raises(NotArtStore) as raised:
        read_element(tmp_path)
    assert reason in str(raised.value)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a": 1, "a": 1}', b'{"a": NaN}', b"\xff", b"{"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(NotArtStore):
        read_attributes(data)


def test_an_object_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path, "scan.tif", b"bytes")
    Path(str(path).removesuffix(".attr.json")).unlink()
    with pytest.raises(NotArtStore, match="has no object"):
        read_element(tmp_path)


def test_both_versions_are_read_with_keys_that_nobody_knows(tmp_path: Path) -> None:
    first = write_file(tmp_path, "Отчёт.pdf", b"1", schema="1.0", description="x")
    write_file(tmp_path, "b", b"22", custom_attributes={"k": [1]}, posix={"revision": 1}, more=2)
    found = sorted(read_element(tmp_path).values(), key=lambda one: one.version)
    assert [one.version for one in found] == ["1.0", "2.0"]
    assert found[0].fields == json.loads(first.read_bytes())
    assert found[1].custom == {"k": [1]}
