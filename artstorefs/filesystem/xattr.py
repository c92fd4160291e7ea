"""Extended attributes: `user.*` are the custom_attributes of attr.json, the rest lives in `posix`.

    user.KEY                      custom_attributes[KEY]; the value forms are xattr_values.py's
    user.artstore.NAME            answers of ours: can be read, not set, never listed, so that
                                  `cp -a` does not try to copy them; `sealed` can be set to `now`,
                                  `retain_until` to a later time
    security.*, trusted.*, system.posix_acl_*
                                  posix.xattrs; access lists go together with the mode bits

What would not fit an attr.json of 4,096 bytes is ENOSPC, for every kind of node, so that a file
never loses attributes by being truncated, filled or renamed.
"""

import json
import stat
from collections.abc import Callable, Mapping
from uuid import UUID

from artstorefs.core.errors import DocumentInvalid
from artstorefs.core.json_text import JsonObject, key_from_json, key_to_json
from artstorefs.core.marks import MARKS, RETAIN_UNTIL, SEALED, mark, marked_ns, moment_text
from artstorefs.core.modes import Operation
from artstorefs.core.timestamps import timestamp_ns
from artstorefs.core.xattr_values import value_to_bytes, value_to_json
from artstorefs.filesystem import acl
from artstorefs.filesystem.archive import Archive, Caller, now_ns
from artstorefs.filesystem.errors import (
    AttributeAbsent,
    AttributeReserved,
    AttributeUnsupported,
    BeingWritten,
    InvalidArgument,
    NameExists,
    NotSealable,
    RetentionShortened,
)
from artstorefs.state.attribute_room import require_room
from artstorefs.state.copies import has_content
from artstorefs.state.expiring import mark_of
from artstorefs.state.index import ROOT_INO
from artstorefs.state.mending import damage_of
from artstorefs.state.node import ContentState, Node

USER = b"user."
OWN = b"user.artstore."
SELINUX = b"security.selinux"
CAPABILITY = b"security.capability"
_KEPT = (b"security.", b"trusted.", acl.ACCESS, acl.DEFAULT)

NAME_LIMIT_BYTES = 255
"""XATTR_NAME_MAX of Linux."""

XATTR_CREATE = 1
XATTR_REPLACE = 2

STATES = {
    ContentState.EMPTY: "stored",
    ContentState.ARCHIVED: "stored",
    ContentState.SEALED: "pending",
    ContentState.OPEN: "open",
}


def get_system(node: Node, name: bytes) -> bytes | None:
    """Value of an attribute kept in posix.xattrs, None if it is not set.

    An access list by others that is none counts as not set: the kernel, and what makes new nodes,
    could do nothing with it. It is kept until somebody sets a good one.
    """
    if node.xattrs is None:
        return None
    document = json.loads(node.xattrs)
    key = key_to_json(name)
    if key not in document:
        return None
    value = value_to_bytes(document[key])
    return value if name not in (acl.ACCESS, acl.DEFAULT) or acl.is_valid(value) else None


def set_system(xattrs: str | None, values: Mapping[bytes, bytes | None]) -> str | None:
    """`Node.xattrs` with these attributes set, or removed where the value is None."""
    document = json.loads(xattrs) if xattrs else {}
    for name, value in values.items():
        key = key_to_json(name)
        if value is None:
            document.pop(key, None)
        else:
            document[key] = value_to_json(value)
    return _text(document)


def without_privileges(node: Node, uid: int) -> tuple[int, str | None]:
    """`Node.mode` and `Node.xattrs` after a change of the content by `uid`: capabilities go, and of
    anybody but root the set-user-id bit and, of an executable, the set-group-id bit (inode(7))."""
    mode = node.mode
    if uid != 0:
        mode &= ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            mode &= ~stat.S_ISGID
    return mode, set_system(node.xattrs, {CAPABILITY: None})


def _text(document: dict[str, object]) -> str | None:
    if not document:
        return None
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _names_of(custom: JsonObject) -> list[bytes]:
    """Attribute names of custom attributes; keys by others that cannot be one stay unseen."""
    names = []
    for key in custom:
        try:
            name = USER + key_from_json(key)
        except DocumentInvalid:
            continue
        if len(USER) < len(name) and _can_be_listed(name) and not _is_own(name):
            names.append(name)
    return names


def _is_own(name: bytes) -> bool:
    return name.startswith(OWN) or name == OWN.rstrip(b".")


def _can_be_listed(name: bytes) -> bool:
    """Whether the kernel can be asked for an attribute of this name."""
    return len(name) <= NAME_LIMIT_BYTES and b"\0" not in name


class Xattrs:
    """`in_group(caller, gid)` says whether the caller is a member of a group."""

    def __init__(
        self,
        archive: Archive,
        in_group: Callable[[Caller, int], bool],
        is_written: Callable[[int], bool],
        seal_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """`is_written` says of an inode number whether somebody may be writing its content;
        `seal_closed` records at once what was closed."""
        self._archive = archive
        self._in_group = in_group
        self._is_written = is_written
        self._seal_closed = seal_closed

    # ------------------------------------------------------------------------------- reads

    def get(self, node: Node, name: bytes) -> bytes:
        """getxattr(2). Raises AttributeAbsent (ENODATA) or AttributeUnsupported (EOPNOTSUPP)."""
        if name.startswith(USER):
            if name.startswith(OWN):
                return self._answer(node, name)
            if node.custom is None:
                raise AttributeAbsent(name)
            custom = json.loads(node.custom)
            key = key_to_json(name[len(USER) :])
            if key not in custom:
                raise AttributeAbsent(name)
            return value_to_bytes(custom[key])
        self._require_kept(name)
        value = get_system(node, name)
        if value is None:
            # ls asks for this on every file until it is told that there is no SELinux here, as a
            # kernel with SELinux itself tells it on FUSE mounts
            raise AttributeUnsupported(name) if name == SELINUX else AttributeAbsent(name)
        return value

    def list(self, node: Node) -> list[bytes]:
        """listxattr(2): what can be copied to another file."""
        names = []
        if node.custom is not None:
            names += _names_of(json.loads(node.custom))
        if node.xattrs is not None:
            kept = (key_from_json(key) for key in json.loads(node.xattrs))
            names += [
                name
                for name in kept
                if name.startswith(_KEPT)
                and _can_be_listed(name)
                and get_system(node, name) is not None
            ]
        return names

    # ------------------------------------------------------------------------------ changes

    def set(self, node: Node, name: bytes, value: bytes, flags: int, caller: Caller) -> None:
        """setxattr(2); `flags` are XATTR_CREATE and XATTR_REPLACE."""
        self._archive.require(Operation.CHANGE_METADATA, node)
        if name == SEALED.encode():
            self._seal(node, value, caller)
            return
        if name == RETAIN_UNTIL.encode():
            self._retain(node, value, caller)
            return
        if _is_own(name):
            raise AttributeReserved(name)
        if name == USER:  # EINVAL on every filesystem
            raise InvalidArgument(name)
        if name in (acl.ACCESS, acl.DEFAULT):
            self._set_acl(node, name, value, caller)
            return
        if not name.startswith(USER):
            self._require_kept(name)
        self._check_flags(node, name, flags)
        if name.startswith(USER):
            custom = json.loads(node.custom) if node.custom else {}
            custom[key_to_json(name[len(USER) :])] = value_to_json(value)
            xattrs = node.xattrs
            custom_text = _text(custom)
        else:
            custom_text = node.custom
            xattrs = set_system(node.xattrs, {name: value})
        require_room(self._archive.index, node, custom_text, xattrs)
        with self._archive.changes.attributes(node, now_ns(), caller.uid):
            node.custom = custom_text
            node.xattrs = xattrs

    def remove(self, node: Node, name: bytes, caller: Caller) -> None:
        """removexattr(2)."""
        self._archive.require(Operation.CHANGE_METADATA, node)
        if name.startswith(OWN):
            raise AttributeReserved(name)
        self.get(node, name)
        custom_text, xattrs = node.custom, node.xattrs
        if name.startswith(USER):
            custom = json.loads(node.custom or "{}")
            custom.pop(key_to_json(name[len(USER) :]))
            custom_text = _text(custom)
        else:
            xattrs = set_system(node.xattrs, {name: None})
        with self._archive.changes.attributes(node, now_ns(), caller.uid):
            node.custom = custom_text
            node.xattrs = xattrs

    def _seal(self, node: Node, value: bytes, caller: Caller) -> None:
        """From now on the file is complete; what is sealed already stays as it is."""
        guard = self._archive.guard
        if value != b"now" or not node.is_regular:
            raise InvalidArgument(SEALED)
        if not guard.seals(node):
            raise NotSealable(node.ino)
        self._seal_closed()
        if node.content_state == ContentState.OPEN or guard.is_written(node.ino):
            raise BeingWritten(node.ino)
        if not guard.is_sealed(node):
            xattrs = mark(node.xattrs, SEALED, guard.now_ns())
            with self._archive.changes.attributes(node, now_ns(), caller.uid):
                node.xattrs = xattrs

    def _retain(self, node: Node, value: bytes, caller: Caller) -> None:
        """Nobody changes the content or removes the file before this time, which is one to come
        and no earlier one than it has."""
        if not node.is_regular:
            raise InvalidArgument(RETAIN_UNTIL)
        try:
            until_ns = timestamp_ns(value.decode())
            xattrs = mark(node.xattrs, RETAIN_UNTIL, until_ns)
        except (ValueError, OverflowError) as exc:
            raise InvalidArgument(RETAIN_UNTIL) from exc
        before_ns = marked_ns(node.xattrs, RETAIN_UNTIL)
        if before_ns is not None and until_ns < before_ns:
            raise RetentionShortened(node.ino)
        if until_ns < self._archive.guard.now_ns() and before_ns is None:
            raise InvalidArgument(RETAIN_UNTIL)
        require_room(self._archive.index, node, node.custom, xattrs)
        with self._archive.changes.attributes(node, now_ns(), caller.uid):
            node.xattrs = xattrs

    def _set_acl(self, node: Node, name: bytes, value: bytes, caller: Caller) -> None:
        """Mode bits follow the access list (acl(5)); a list that says no more is not kept."""
        if stat.S_ISLNK(node.mode):
            raise AttributeUnsupported(name)
        mode = node.mode
        kept: bytes | None = value
        try:
            parsed = acl.Acl.parse(value) if len(value) > 4 else None
        except acl.AclInvalid as exc:
            raise InvalidArgument(name) from exc
        if name == acl.DEFAULT:
            if not node.is_directory:
                raise InvalidArgument(name)
            kept = value if parsed else None
        elif parsed is None:
            kept = None
        else:
            mode = mode & ~0o777 | parsed.mode_bits()
            kept = None if parsed.is_minimal else value
            if mode & stat.S_ISGID and caller.uid != 0 and not self._in_group(caller, node.gid):
                mode &= ~stat.S_ISGID
        xattrs = set_system(node.xattrs, {name: kept})
        require_room(self._archive.index, node, node.custom, xattrs)
        with self._archive.changes.attributes(node, now_ns(), caller.uid):
            node.mode = mode
            node.xattrs = xattrs

    # ----------------------------------------------------------------------------- helpers

    def _check_flags(self, node: Node, name: bytes, flags: int) -> None:
        if flags == 0:
            return
        try:
            self.get(node, name)
        except (AttributeAbsent, AttributeUnsupported):
            if flags & XATTR_REPLACE:
                raise AttributeAbsent(name) from None
        else:
            if flags & XATTR_CREATE:
                raise NameExists(name)

    def _require_kept(self, name: bytes) -> None:
        if not name.startswith(_KEPT):
            raise AttributeUnsupported(name)

    def _answer(self, node: Node, name: bytes) -> bytes:
        archive = self._archive
        what = name[len(OWN) :]
        answer: str | None = None
        if what == b"file_id":
            answer = str(UUID(bytes=node.file_id))
        elif what == b"state":
            answer = STATES[ContentState(node.content_state)]
            if answer == "stored" and archive.log.is_waiting(node.ino):
                answer = "pending"
            elif answer == "open" and not self._is_written(node.ino):
                answer = "pending"  # closed, and about to be sealed
            if node.content_state == ContentState.ARCHIVED and archive.guard.is_archived(node):
                answer = archive.guard.state_of_archived(node)
        elif what == b"created_by":
            answer = str(node.creator)
        elif what == b"error":
            known = archive.damage.error(node) or damage_of(archive.database, node)
            answer = archive.log.failure(node.ino) or known
        elif what == b"runtime_dir" and node.ino == ROOT_INO:
            answer = str(archive.configuration.runtime_dir)
        elif what == b"expires":
            at_ns = archive.lifetimes.removal_ns(node, mark_of(archive.database.execute, node.ino))
            answer = None if at_ns is None else moment_text(at_ns)
        elif name.decode(errors="replace") in MARKS:
            answer = self._answer_of_mark(node, name.decode())
        elif what in (b"element", b"key", b"checksum"):
            answer = self._answer_of_copy(node, what)
        if answer is None:
            raise AttributeAbsent(name)
        return answer.encode()

    def _answer_of_mark(self, node: Node, name: str) -> str | None:
        """The moment; nobody knows yet when a file will be closed that is open for writing."""
        if name == SEALED and not self._is_written(node.ino):
            self._seal_closed()
        is_open = node.content_state == ContentState.OPEN or self._is_written(node.ino)
        moment_ns = None if name == SEALED and is_open else marked_ns(node.xattrs, name)
        return None if moment_ns is None else moment_text(moment_ns)

    def _answer_of_copy(self, node: Node, what: bytes) -> str | None:
        copies = self._archive.policy.counted(self._archive.index.copies(node.ino))
        if not copies:
            return None
        current = [copy for copy in copies if has_content(copy, node)]
        copy = (current or copies)[0]
        if what == b"element":
            return ",".join(one.element for one in current) or copy.element
        if what == b"key":
            return copy.key
        is_current = copy.content == node.content and copy.sha256 is not None
        return copy.sha256.hex() if is_current and copy.sha256 else None
