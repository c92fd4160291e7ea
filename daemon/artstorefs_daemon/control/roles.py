"""Who a client of the control socket is, and what it may do.

The kernel says who has connected (SO_PEERCRED, SO_PEERGROUPS in unix(7)): user, group and further
groups as they were at connect(2). Root and the user that the daemon runs as may do everything; the
members of two groups of the configuration may change, or administer; everybody else may read.
"""

import enum
import grp
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import ConfigurationError

_CREDENTIALS: Final = struct.Struct("3i")
_PEERGROUPS: Final = 59
"""SO_PEERGROUPS of <asm-generic/socket.h>, for which Python has no name."""

_GROUPS_BYTES: Final = 1024
"""256 groups, the most that Python's getsockopt takes."""

GROUP_KEYS: Final = ("control_change_group", "control_admin_group")


class _Connection(Protocol):
    """A socket, of the standard library or of trio."""

    def getsockopt(self, level: int, option: int, size: int, /) -> Any: ...


class Role(enum.IntEnum):
    """Each may do what those before it may."""

    READ = 1
    CHANGE = 2
    ADMINISTER = 3

    @property
    def word(self) -> str:
        """As CONTROL.md and `rpc.discover` have it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]
    gid: int = -1
    """The main one of `groups`."""

    @classmethod
    def of(cls, connection: "_Connection") -> Self:
        """Who has connected. One in more than 256 groups counts with its main group alone."""
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(packed)
        try:
            further = connection.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, _GROUPS_BYTES)
        except OSError:  # ERANGE; less is granted then, never more
            further = b""
        groups = struct.unpack(f"{len(further) // 4}I", further)
        return cls(pid, uid, frozenset({gid, *groups}), gid)

    @property
    def is_ours(self) -> bool:
        """Root, or the user of the daemon."""
        return self.uid in (0, os.geteuid())


@dataclass(frozen=True, slots=True)
class Rights:
    """What the configuration grants beyond root and the daemon's user; None is nobody."""

    change_group: int | None = None
    admin_group: int | None = None

    @classmethod
    def of(cls, configuration: ArchiveConfiguration, where: str = "") -> Self:
        """Look the groups up; asks the name service, so it may block. Raises ConfigurationError,
        with `where` as the origin of the configuration."""
        return cls(*(_group_id(configuration, key, where) for key in GROUP_KEYS))

    def role_of(self, peer: Peer) -> Role:
        """The most that `peer` may do."""
        if peer.is_ours or self.admin_group in peer.groups:
            return Role.ADMINISTER
        return Role.CHANGE if self.change_group in peer.groups else Role.READ


def _group_id(configuration: ArchiveConfiguration, key: str, where: str) -> int | None:
    name = getattr(configuration, key)
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        reason = f'there is no group "{name}" on this machine; make it with: groupadd {name}'
        raise ConfigurationError(where or configuration.name, key, reason) from None
