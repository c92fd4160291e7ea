"""Access lists against the rules of acl(5) and values that setfacl makes on ext4."""

import stat
import struct

import pytest

from artstorefs.filesystem.acl import (
    GROUP,
    GROUP_OBJ,
    MASK,
    OTHER,
    USER,
    USER_OBJ,
    Acl,
    AclInvalid,
    inherit,
)

NOBODY = 0xFFFFFFFF

SETFACL_USER_1000_RW = bytes.fromhex(
    "02000000 01000600ffffffff 02000600e8030000 04000400ffffffff 10000600ffffffff 20000400ffffffff"
)
"""setfacl -m u:1000:rw of a file with mode 0644; the mode is then 0664."""


def value(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *e) for e in entries)


BASE = ((USER_OBJ, 7, NOBODY), (GROUP_OBJ, 5, NOBODY), (OTHER, 4, NOBODY))
NAMED = (
    *((USER_OBJ, 7, NOBODY), (USER, 6, 1000), (USER, 0, 1001), (GROUP_OBJ, 5, NOBODY)),
    *((GROUP, 7, 50), (MASK, 3, NOBODY), (OTHER, 4, NOBODY)),
)


def test_a_value_that_setfacl_makes() -> None:
    """SEMANTICS: XATTR-5"""
    acl = Acl.parse(SETFACL_USER_1000_RW)
    assert acl.mode_bits() == 0o664
    assert acl.render() == SETFACL_USER_1000_RW
    assert not acl.is_minimal


@pytest.mark.parametrize("entries", [BASE, NAMED])
def test_render_is_the_inverse_of_parse(entries: tuple[tuple[int, int, int], ...]) -> None:
    assert Acl.parse(value(*entries)).render() == value(*entries)


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"\2\0\0", value(*BASE)[:-1], value(*BASE) + b"\0", value(*BASE, version=1)),
        value(),
        *(value(*BASE[:2]), value(*BASE[1:]), value(BASE[0], BASE[2])),
        *(value(*BASE, entry) for entry in BASE),
        value(*BASE, (USER, 7, 1000)),
        value(*BASE, (GROUP, 7, 1000)),
        value(*NAMED, (MASK, 7, NOBODY)),
        value(*NAMED, (USER, 7, 1000)),
        value(*BASE, (MASK, 8, NOBODY)),
        value(*BASE, (0x40, 7, NOBODY)),
        value(*BASE, (0, 7, NOBODY)),
    ],
)
def test_what_acl_valid_refuses(wrong: bytes) -> None:
    """SEMANTICS: XATTR-5"""
    with pytest.raises(AclInvalid):
        Acl.parse(wrong)


def test_mode_bits_show_the_mask_as_the_group() -> None:
    assert Acl.parse(value(*BASE)).mode_bits() == 0o754
    assert Acl.parse(value(*NAMED)).mode_bits() == 0o734
    assert Acl.parse(value(*BASE)).is_minimal
    with_mask = Acl.parse(value(*BASE, (MASK, 1, NOBODY)))
    assert with_mask.mode_bits() == 0o714
    assert not with_mask.is_minimal


@pytest.mark.parametrize("mode", [0o000, 0o777, 0o640, 0o2751])
def test_chmod_sets_owner_mask_and_others(mode: int) -> None:
    """SEMANTICS: XATTR-5"""
    acl = Acl.parse(value(*NAMED)).with_mode(mode)
    assert acl.mode_bits() == mode & 0o777
    kept = [entry for entry in acl.entries if entry[0] in (USER, GROUP, GROUP_OBJ)]
    assert kept == [entry for entry in NAMED if entry[0] in (USER, GROUP, GROUP_OBJ)]


def test_chmod_of_a_list_without_mask_sets_the_group() -> None:
    acl = Acl.parse(value(*BASE)).with_mode(0o421)
    assert acl.entries == ((USER_OBJ, 4, NOBODY), (GROUP_OBJ, 2, NOBODY), (OTHER, 1, NOBODY))


@pytest.mark.parametrize(
    ("asked", "bits"), [(0o666, 0o624), (0o777, 0o734), (0o600, 0o600), (0o4755, 0o4714)]
)
def test_new_nodes_get_at_most_what_was_asked_for(asked: int, bits: int) -> None:
    """acl(5), "object creation and default ACLs". SEMANTICS: XATTR-5"""
    mode, access = inherit(Acl.parse(value(*NAMED)), stat.S_IFREG | asked)
    assert mode == stat.S_IFREG | bits
    assert access is not None
    assert access.mode_bits() == bits & 0o777


def test_a_minimal_default_list_leaves_only_mode_bits() -> None:
    mode, access = inherit(Acl.parse(value(*BASE)), stat.S_IFDIR | 0o777)
    assert mode == stat.S_IFDIR | 0o754
    assert access is None
