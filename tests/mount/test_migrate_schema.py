"""`artstorefs migrate-schema`, on elements that ArtStore and we have written."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..artstore import read_attributes, read_element, write_file
from ..harness import MountedArchive
from .conftest import SETTINGS, live_archives

HOUR = "2024/03/05/14"


@pytest.fixture
def adopted() -> Iterator[MountedArchive]:
    """An adopted element with files of both versions, not mounted."""
    base = Path(tempfile.mkdtemp(prefix="asfs-"))
    base.chmod(0o755)
    root = base / "element"
    for number in range(5):
        write_file(root, f"файл {number}", b"%d" % number, schema="1.0", description=f"{number}")
    write_file(root, "second", b"2", custom_attributes={"k": "v", "Ключ": 1})
    archive = MountedArchive(base, settings=SETTINGS, adopts=True)
    live_archives.append(archive)
    archive.adopt()
    yield archive
    live_archives.remove(archive)
    archive.clean_up()
    shutil.rmtree(base)


def migrate(archive: MountedArchive, *options: str) -> dict[str, Any]:
    done = archive.run("migrate-schema", str(archive.toml), "main", "--json", *options, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if found["left"] else 0), done.stderr
    return found


def numbers(found: dict[str, Any]) -> tuple[int, ...]:
    return tuple(found[key] for key in ("documents", "migrated", "before", "left"))


def documents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.attr.json")}


def test_v1_becomes_v2(adopted: MountedArchive) -> None:
    """SEMANTICS: ADOPT-8"""
    before = documents(adopted.element)
    assert numbers(migrate(adopted, "--dry-run")) == (6, 5, 1, 0)
    assert documents(adopted.element) == before
    assert not (adopted.element / ".artstorefs").exists()
    assert numbers(migrate(adopted)) == (6, 5, 1, 0)
    assert (adopted.element / ".artstorefs/archive.json").is_file()
    assert {one.version for one in read_element(adopted.element).values()} == {"2.0"}
    for key, data in documents(adopted.element).items():
        old = json.loads(before[key])
        added = {"schema_version": "2.0", "custom_attributes": old.get("custom_attributes", {})}
        assert json.loads(data) == {**old, **added}
    assert numbers(migrate(adopted)) == (6, 0, 6, 0)
    adopted.start()
    assert adopted.status()["survey"]["changed"] == 0  # the index knows what was written
    file = adopted.mount / HOUR / "файл 3"
    assert file.read_bytes() == b"3"
    os.setxattr(file, "user.k", b"v")
    adopted.flush()
    changed = [one for one in read_element(adopted.element).values() if "posix" in one.fields]
    assert [(one.custom, one.fields["description"]) for one in changed] == [({"k": "v"}, "3")]


def test_what_cannot_become_v2_is_left(adopted: MountedArchive) -> None:
    """SEMANTICS: ADOPT-8"""
    full = write_file(adopted.element, "full", b"x", schema="1.0", description="")
    room = 4096 - len(json.dumps(json.loads(full.read_bytes()), ensure_ascii=False).encode())
    text = full.read_text().replace('"description": ""', f'"description": "{"x" * room}"')
    full.write_text(json.dumps(json.loads(text), ensure_ascii=False))
    poor = write_file(adopted.element, "poor", b"x", schema="1.0", content_type=None)
    broken = write_file(adopted.element, "broken", b"x", schema="1.0")
    broken.write_bytes(broken.read_bytes()[:100])
    number = write_file(adopted.element, "number", b"x", schema="1.0", version=7)
    before = {path: path.read_bytes() for path in (full, poor, broken)}
    found = migrate(adopted)
    assert numbers(found) == (10, 6, 1, 3)
    told = "\n".join(found["problems"])
    assert "at most 4096 are allowed" in told
    assert "has no content_type, which v2.0 has to have" in told
    assert broken.name in told
    assert {path: path.read_bytes() for path in before} == before
    assert read_attributes(number.read_bytes()).fields["version"] == "7"


def test_what_others_have_changed_meanwhile_is_still_seen(adopted: MountedArchive) -> None:
    """It was not looked at before it was rewritten. SEMANTICS: ADOPT-8, ELEM-5"""
    path = next(adopted.element.rglob("файл 3*.attr.json"))
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | {"custom_attributes": {"by": "others"}}))
    os.utime(path, (1, 1))
    migrate(adopted)
    adopted.start()
    assert os.getxattr(adopted.mount / HOUR / "файл 3", "user.by") == b"others"


def test_copies_as_v1(adopted: MountedArchive) -> None:
    """Also of documents of ours, and while the archive is mounted. SEMANTICS: ADOPT-8"""
    adopted.start()
    (adopted.mount / "ours").write_bytes(b"ours")
    os.setxattr(adopted.mount / "ours", "user.mine", b"1")
    adopted.flush()
    before = documents(adopted.element)
    target = adopted.base / "v1"
    done = adopted.run(
        *("migrate-schema", str(adopted.toml), "main", "--to", "1.0", "--into", str(target))
    )
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    lost = {key: fields for key, fields in told.items() if "second" in key}
    assert list(lost.values()) == ["custom_attributes.k, custom_attributes.Ключ"]
    assert [fields for key, fields in told.items() if "ours" in key] == [
        "custom_attributes.mine, posix"
    ]
    assert len(told) == 2
    assert documents(adopted.element) == before
    copies = documents(target)
    assert copies.keys() == before.keys()
    for key, data in copies.items():
        attributes = read_attributes(data)
        assert attributes.version == "1.0"
        assert "posix" not in attributes.fields
        old = json.loads(before[key])
        assert attributes.fields == {name: old[name] for name in attributes.fields}
    assert sorted(path.name for path in target.iterdir()) == sorted(
        {key.partition("/")[0] for key in copies}
    )
    again = migrate(adopted, "--to", "1.0", "--into", str(target))
    assert numbers(again) == (7, 0, 7, 0)
    assert again["lost"]["custom_attributes.mine"] == 1


REFUSED = {
    "mounted": ((), "in use"),
    "no element": (("other",), "has no element other, but main"),
    "into itself": (("main", "--to", "1.0", "--into", "{element}/v1"), "lies on element main"),
    "into nowhere": (("main", "--to", "1.0"), "needs --into DIR"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(adopted: MountedArchive, what: str) -> None:
    arguments, reason = REFUSED[what]
    if what == "mounted":
        adopted.start()
    words = [word.format(element=adopted.element) for word in arguments or ("main",)]
    before = documents(adopted.element)
    done = adopted.run("migrate-schema", str(adopted.toml), *words, check=False)
    assert done.returncode
    assert reason in done.stderr
    assert documents(adopted.element) == before


def test_an_element_that_is_not_changed_is_not_migrated(adopted: MountedArchive) -> None:
    """SEMANTICS: MODE-3"""
    adopted.toml.write_text(adopted.toml.read_text() + 'mode = "ro"\n')
    done = adopted.run("migrate-schema", str(adopted.toml), "main", check=False)
    assert "element main is ro: nothing is changed there" in done.stderr
