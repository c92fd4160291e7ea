"""Extended attributes and `custom_attributes` of attr.json: acceptance 3 of the first issue.

`user.KEY` is `custom_attributes[KEY]`; the forms of values are those of `core/xattr_values.py`.
"""

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..harness import MountedArchive
from .errnos import refused
from .users import ALICE, BOB, run_as

WRITTEN_BY_OTHERS: dict[str, Any] = {
    "artist": "Rembrandt",
    "year": 1642,
    "height_m": 3.63,
    "on_display": True,
    "stolen": False,
    "restorer": None,
    "tags": ["baroque", 17, {"school": "Dutch"}],
    "provenance": {"owner": "Amsterdam", "years": [1715, 1808], "deep": {"er": {"est": [[]]}}},
    "looks like a number": "1642",
    "looks like true": "true",
    "quoted": '"quoted"',
    "empty": "",
    "ключ": "значение",
    "large": 10**17,
    "exponent": 1e300,
    "negative": -0.5,
}

AS_BYTES: dict[str, bytes] = {
    "artist": b"Rembrandt",
    "year": b"1642",
    "height_m": b"3.63",
    "on_display": b"true",
    "stolen": b"false",
    "restorer": b"null",
    "tags": b'["baroque",17,{"school":"Dutch"}]',
    "provenance": (b'{"owner":"Amsterdam","years":[1715,1808],"deep":{"er":{"est":[[]]}}}'),
    "looks like a number": b'"1642"',
    "looks like true": b'"true"',
    "quoted": b'"quoted"',
    "empty": b"",
    "ключ": "значение".encode(),
    "large": b"100000000000000000",
    "exponent": b"1e+300",
    "negative": b"-0.5",
}


def document_path(archive: MountedArchive, path: Path) -> Path:
    """The attr.json of a file that an element has."""
    return archive.element / (os.getxattr(path, "user.artstore.key").decode() + ".attr.json")


def written_by_others(path: Path, change: dict[str, Any]) -> None:
    """What another program does: read, change, write anew under the same name."""
    document = json.loads(path.read_bytes())
    document |= change
    path.write_text(json.dumps(document, indent=2))


def custom_of(archive: MountedArchive, name: str) -> dict[str, Any]:
    custom: dict[str, Any] = archive.attributes(name)["custom_attributes"]
    return custom


def exactly(value: Any) -> str:
    """JSON text: tells 1 from 1.0 and from true, which == does not."""
    return json.dumps(value, sort_keys=True)


@pytest.fixture
def file(directory: Path) -> Path:
    """A file with a little content, of a name that no other test uses."""
    path = directory / f"{directory.name}.txt"
    path.write_text("content")
    return path


# ---------------------------------------------------------------------------- from us to attr.json


def test_setfattr_is_a_custom_attribute_in_attr_json(archive: MountedArchive, file: Path) -> None:
    subprocess.run(["setfattr", "-n", "user.artist", "-v", "Rembrandt", file], check=True)
    archive.flush()
    assert custom_of(archive, file.name) == {"artist": "Rembrandt"}
    subprocess.run(["setfattr", "-n", "user.artist", "-v", "Vermeer", file], check=True)
    archive.flush()
    assert custom_of(archive, file.name) == {"artist": "Vermeer"}
    subprocess.run(["setfattr", "-x", "user.artist", file], check=True)
    archive.flush()
    assert custom_of(archive, file.name) == {}


@pytest.mark.parametrize(
    ("value", "in_json"),
    [
        (b"text", "text"),
        (b"42", 42),
        (b"1.5", 1.5),
        (b"1.50", "1.50"),
        (b"true", True),
        (b"null", None),
        (b"[1,2]", [1, 2]),
        (b'{"a":1}', {"a": 1}),
        (b'{"a": 1}', '{"a": 1}'),
        (b'"42"', "42"),
        (b'"text"', '"text"'),
        (b"", ""),
        (b"\xff\0", {"$b64": "/wA="}),
        (b"with\0zero", "with\0zero"),
        (b'{"$b64":"/wA="}', '{"$b64":"/wA="}'),
    ],
    ids=repr,
)
def test_value_is_got_as_it_was_set_and_has_its_type_in_attr_json(
    archive: MountedArchive, file: Path, value: bytes, in_json: object
) -> None:
    os.setxattr(file, "user.key", value)
    assert os.getxattr(file, "user.key") == value
    archive.flush()
    assert exactly(custom_of(archive, file.name)["key"]) == exactly(in_json)
    assert os.getxattr(file, "user.key") == value


@pytest.mark.parametrize("kind", ["file", "empty file", "directory", "fifo", "hard link"])
@pytest.mark.usefixtures("root")
def test_attributes_of_every_kind_of_node_are_there_after_a_remount(
    archive: MountedArchive, directory: Path, kind: str
) -> None:
    path = directory / "node"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("" if kind == "empty file" else "content")
    if kind == "hard link":
        os.link(path, directory / "other")
    prefix = "trusted" if kind == "fifo" else "user"  # xattr(7): user.* is of files and directories
    os.setxattr(path, f"{prefix}.a", b"\xff")
    os.setxattr(path, f"{prefix}.b", b"42")
    os.setxattr(path, "security.c", b"")
    archive.remount()
    assert sorted(os.listxattr(path)) == sorted([f"{prefix}.a", f"{prefix}.b", "security.c"])
    assert os.getxattr(path, f"{prefix}.a") == b"\xff"
    assert os.getxattr(path, f"{prefix}.b") == b"42"
    assert os.getxattr(path, "security.c") == b""
    if kind == "hard link":
        assert os.getxattr(directory / "other", "user.b") == b"42"


def test_attributes_stay_through_rename_truncate_and_rewrite(
    archive: MountedArchive, file: Path
) -> None:
    os.setxattr(file, "user.k", b"v")
    archive.flush()
    file.write_text("other content")
    os.truncate(file, 0)
    archive.flush()
    renamed = file.with_name(f"renamed {file.name}")
    file.rename(renamed)
    archive.flush()
    renamed.write_text("content again")
    archive.flush()
    assert os.getxattr(renamed, "user.k") == b"v"
    assert custom_of(archive, renamed.name) == {"k": "v"}


# ---------------------------------------------------------------------------- from others to us


@pytest.mark.parametrize("while_mounted", [False, True], ids=["unmounted", "mounted"])
def test_attributes_by_others_are_read_and_survive_copies_with_their_types(
    archive: MountedArchive, file: Path, while_mounted: bool
) -> None:
    """SEMANTICS: ELEM-5"""
    archive.flush()
    sidecar = document_path(archive, file)
    if not while_mounted:
        archive.stop()
    written_by_others(sidecar, {"custom_attributes": WRITTEN_BY_OTHERS})
    if while_mounted:
        archive.run("rescan", str(archive.toml))
    else:
        archive.start()
    assert set(os.listxattr(file)) == {f"user.{key}" for key in WRITTEN_BY_OTHERS}
    for key, value in AS_BYTES.items():
        assert os.getxattr(file, f"user.{key}") == value
    copy, synced = f"copied {file.name}", f"synced {file.name}"
    subprocess.run(["cp", "-a", file, file.with_name(copy)], check=True)
    subprocess.run(["rsync", "-aX", file, file.with_name(synced)], check=True)
    os.setxattr(file, "user.one_more", b"by us")
    archive.flush()
    for name in (copy, synced):
        assert exactly(custom_of(archive, name)) == exactly(WRITTEN_BY_OTHERS)
    expected = {**WRITTEN_BY_OTHERS, "one_more": "by us"}
    assert exactly(custom_of(archive, file.name)) == exactly(expected)


BY_OTHERS_ONLY = {
    "description": "The Night Watch",
    "metadata": {"legacy": [1, "two"]},
    "version": "2.7",
    "x_unknown": {"nested": [1, None, 2.0]},
    "another": True,
}


@pytest.mark.parametrize("while_mounted", [False, True], ids=["unmounted", "mounted"])
def test_keys_of_others_survive_our_rewrites(
    archive: MountedArchive, file: Path, while_mounted: bool
) -> None:
    archive.flush()
    sidecar = document_path(archive, file)
    if not while_mounted:
        archive.stop()
    written_by_others(sidecar, BY_OTHERS_ONLY)
    if while_mounted:
        archive.run("rescan", str(archive.toml))
    else:
        archive.start()
    file.chmod(0o600)
    archive.flush()
    kept = {key: archive.attributes(file.name)[key] for key in BY_OTHERS_ONLY}
    assert exactly(kept) == exactly(BY_OTHERS_ONLY)
    file.write_text("new content")
    archive.flush()
    renamed = file.with_name(f"renamed {file.name}")
    file.rename(renamed)
    archive.flush()
    document = archive.attributes(renamed.name)
    assert exactly({key: document[key] for key in BY_OTHERS_ONLY}) == exactly(BY_OTHERS_ONLY)
    assert document["file_size"] == len("new content")


# --------------------------------------------------------------------------------- the limits


def test_value_over_64_kib_is_too_big_and_one_that_does_not_fit_has_no_room(file: Path) -> None:
    with refused(errno.E2BIG):
        os.setxattr(file, "user.k", bytes((64 << 10) + 1))
    with refused(errno.ENOSPC):
        os.setxattr(file, "user.k", b"x" * (64 << 10))
    with refused(errno.ENOSPC):
        os.setxattr(file, "user.k", b"x" * 4096)
    assert os.listxattr(file) == []
    os.setxattr(file, "user.k", b"x" * 1000)
    assert os.getxattr(file, "user.k") == b"x" * 1000


def test_file_filled_with_attributes_keeps_them_whatever_happens_to_it(
    archive: MountedArchive, file: Path
) -> None:
    expected = {}
    with refused(errno.ENOSPC):
        for number in range(1000):
            os.setxattr(file, f"user.key{number}", b"\xff" * 20)
            expected[f"user.key{number}"] = b"\xff" * 20
    assert len(expected) > 20
    longest = file.with_name('"' * 255)
    file.rename(longest)
    longest.write_text("other content")
    archive.flush()
    archive.remount()
    assert {name: os.getxattr(longest, name) for name in os.listxattr(longest)} == expected
    os.removexattr(longest, "user.key0")
    os.setxattr(longest, "user.key0", b"\xff" * 20)
    longest.unlink()


def test_names_at_the_limits(archive: MountedArchive, file: Path) -> None:
    longest = "user." + "n" * 250
    os.setxattr(file, longest, b"v")
    with refused(errno.ERANGE):
        os.setxattr(file, longest + "n", b"v")
    with refused(errno.EINVAL):
        os.setxattr(file, "user.", b"v")
    odd = [b"user.a b", "user.ключ".encode(), b"user.new\nline", b"user.\xff\xfe"]
    odd += [b"user.a.b.c"]
    for name in odd:
        os.setxattr(file, name, name)
    archive.remount()
    assert set(map(os.fsencode, os.listxattr(file))) == {longest.encode(), *odd}
    for name in odd:
        assert os.getxattr(file, name) == name


def test_missing_attribute_is_enodata_and_too_small_a_buffer_erange(file: Path) -> None:
    with refused(errno.ENODATA):
        os.getxattr(file, "user.none")
    with refused(errno.ENODATA):
        os.removexattr(file, "user.none")


def test_create_and_replace(place: Path) -> None:
    file = place / "f"
    file.touch()
    with refused(errno.ENODATA):
        os.setxattr(file, "user.k", b"1", os.XATTR_REPLACE)
    os.setxattr(file, "user.k", b"1", os.XATTR_CREATE)
    with refused(errno.EEXIST):
        os.setxattr(file, "user.k", b"2", os.XATTR_CREATE)
    os.setxattr(file, "user.k", b"3", os.XATTR_REPLACE)
    assert os.getxattr(file, "user.k") == b"3"


def test_unknown_namespaces_are_unsupported(place: Path) -> None:
    (place / "f").touch()
    for name in ("unknown.k", "system.unknown", "k"):
        with refused(errno.EOPNOTSUPP):
            os.setxattr(place / "f", name, b"v")


# -------------------------------------------------------------------------- answers, namespaces


def test_answers_of_ours_are_got_never_listed_never_set(
    archive: MountedArchive, file: Path
) -> None:
    archive.flush()
    document = archive.attributes(file.name)
    assert os.getxattr(file, "user.artstore.file_id").decode() == document["file_id"]
    assert os.getxattr(file, "user.artstore.checksum").decode() == document["checksum"]
    assert os.getxattr(file, "user.artstore.element") == b"main"
    assert os.getxattr(file, "user.artstore.state") == b"stored"
    assert os.getxattr(file, "user.artstore.created_by") == str(os.getuid()).encode()
    assert os.listxattr(file) == []
    for name in ("file_id", "checksum", "state", "anything"):
        with refused(errno.EPERM):
            os.setxattr(file, f"user.artstore.{name}", b"x")
        with refused(errno.EPERM):
            os.removexattr(file, f"user.artstore.{name}")
    with refused(errno.ENODATA):
        os.getxattr(file, "user.artstore.error")


@pytest.mark.usefixtures("root")
def test_trusted_and_security_are_kept_and_selinux_is_not_there(
    archive: MountedArchive, file: Path
) -> None:
    capability = b"\x01\0\0\x02\x20\0\0\0" + bytes(12)
    values = {"trusted.k": b"\xff\0", "security.ima": b"\x03", "security.capability": capability}
    for name, value in values.items():
        os.setxattr(file, name, value)
    with refused(errno.EOPNOTSUPP):
        os.getxattr(file, "security.selinux")
    assert {name: os.getxattr(file, name) for name in os.listxattr(file)} == values
    archive.flush()
    assert custom_of(archive, file.name) == {}
    assert set(archive.attributes(file.name)["posix"]["xattrs"]) == set(values)
    archive.remount()
    assert {name: os.getxattr(file, name) for name in os.listxattr(file)} == values
    file.write_text("a write takes the capabilities away")
    assert "security.capability" not in os.listxattr(file)


@pytest.mark.usefixtures("root")
def test_ordinary_users_need_write_permission_and_never_see_trusted(place: Path) -> None:
    os.chmod(place, 0o755)
    (place / "f").write_text("x")
    os.chown(place / "f", ALICE.uid, ALICE.gid)
    os.setxattr(place / "f", "trusted.k", b"v")
    run_as(ALICE, place, lambda: os.setxattr("f", "user.k", b"v"))
    with refused(errno.EACCES):
        run_as(BOB, place, lambda: os.setxattr("f", "user.k", b"v"))
    assert run_as(BOB, place, lambda: os.getxattr("f", "user.k")) == b"v"
    with refused(errno.EPERM):
        run_as(ALICE, place, lambda: os.setxattr("f", "trusted.k", b"v"))
    with refused(errno.ENODATA):
        run_as(ALICE, place, lambda: os.getxattr("f", "trusted.k"))


def test_attr_command_and_getfattr_show_the_same(archive: MountedArchive, file: Path) -> None:
    archive.run("attr", str(file), "artist=Rembrandt", "year:=1642", 'tags:=["a",1]')
    dump = subprocess.run(
        ["getfattr", "--absolute-names", "-d", file], capture_output=True, text=True, check=True
    ).stdout
    assert 'user.artist="Rembrandt"' in dump
    assert 'user.year="1642"' in dump
    archive.flush()
    expected = {"artist": "Rembrandt", "year": 1642, "tags": ["a", 1]}
    assert exactly(custom_of(archive, file.name)) == exactly(expected)
