"""POSIX access control lists in the form that the kernel passes as xattr values: pure.

`system.posix_acl_access` and `system.posix_acl_default` hold, little-endian (posix_acl_xattr.h):

    u32 version = 2, then for each entry: u16 tag, u16 permissions, u32 id

The rules are those of acl(5) (POSIX 1003.1e draft 17). The kernel checks permissions with what we
answer; ours is to keep mode bits and list in step, and to hand defaults down to new nodes.
"""

import stat
import struct
from dataclasses import dataclass

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_VERSION = 2
_UNDEFINED_ID = 0xFFFFFFFF


class AclInvalid(ValueError):
    """Not an access control list."""


@dataclass(frozen=True, slots=True)
class Acl:
    """Entries (tag, permissions, id) in the order of the value."""

    entries: tuple[tuple[int, int, int], ...]

    @classmethod
    def parse(cls, value: bytes) -> "Acl":
        """Raises AclInvalid for what acl_valid(3) would refuse."""
        if len(value) < 4 or (len(value) - 4) % 8:
            raise AclInvalid("length")
        if struct.unpack_from("<I", value)[0] != _VERSION:
            raise AclInvalid("version")
        entries = tuple(struct.iter_unpack("<HHI", value[4:]))
        tags = [tag for tag, _, _ in entries]
        named = {(tag, who) for tag, _, who in entries}
        if any(tags.count(tag) != 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER)):
            raise AclInvalid("one entry each for owner, group and others")
        if tags.count(MASK) > 1 or len(named) != len(entries):
            raise AclInvalid("an entry stands twice")
        if (USER in tags or GROUP in tags) and MASK not in tags:
            raise AclInvalid("named entries need a mask")
        if any(permissions & ~7 for _, permissions, _ in entries):
            raise AclInvalid("permissions")
        if set(tags) - {USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER}:
            raise AclInvalid("tag")
        return cls(entries)

    def render(self) -> bytes:
        body = b"".join(struct.pack("<HHI", *entry) for entry in self.entries)
        return struct.pack("<I", _VERSION) + body

    @property
    def is_minimal(self) -> bool:
        """Says no more than the mode bits do."""
        return len(self.entries) == 3

    @property
    def _group_class(self) -> int:
        """The tag that the group bits of the mode stand for: the mask where there is one."""
        return MASK if any(tag == MASK for tag, _, _ in self.entries) else GROUP_OBJ

    def mode_bits(self) -> int:
        """The nine permission bits that say the same."""
        shifts = {USER_OBJ: 6, self._group_class: 3, OTHER: 0}
        bits = 0
        for tag, permissions, _ in self.entries:
            if tag in shifts:
                bits |= permissions << shifts[tag]
        return bits

    def with_mode(self, mode: int) -> "Acl":
        """After chmod(2): owner, mask (or group) and others follow the mode bits."""
        return self._combine(mode, keep=0)

    def restricted_to(self, mode: int) -> "Acl":
        """For a new node: what the creator asked for limits what the default grants."""
        return self._combine(mode, keep=7)

    def _combine(self, mode: int, keep: int) -> "Acl":
        shifts = {USER_OBJ: 6, self._group_class: 3, OTHER: 0}
        entries = []
        for tag, permissions, who in self.entries:
            if tag in shifts:
                asked = mode >> shifts[tag] & 7
                permissions = permissions & asked if keep else asked
            entries.append((tag, permissions, who))
        return Acl(tuple(entries))


def is_valid(value: bytes) -> bool:
    """Whether `value` is an access list."""
    try:
        Acl.parse(value)
    except AclInvalid:
        return False
    return True


def inherit(default: Acl, mode: int) -> tuple[int, Acl | None]:
    """Mode and access list of a node made with `mode` in a directory with this default list.

    The umask has no say where a directory has a default list (acl(5), "object creation").
    """
    access = default.restricted_to(mode)
    new_mode = stat.S_IFMT(mode) | mode & 0o7000 | access.mode_bits()
    return new_mode, None if access.is_minimal else access
