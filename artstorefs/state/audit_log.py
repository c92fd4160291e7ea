"""The audit log of an archive: what was done, by whom, on what. AUDIT.md describes the records.

A record is made inside the transaction whose change it tells of, kept until the end of it, and
written before the commit. That costs a few microseconds, so a record is put together from texts
that are remembered: who it is by process, for a second; where it is by directory, until one moves.
"""

import errno
import logging
import stat
import time
from collections.abc import Callable, Mapping
from json import JSONEncoder
from json.encoder import encode_basestring
from typing import Any

from artstorefs.core.audit_record import head_of, record_line
from artstorefs.core.errors import StateError, StateFull
from artstorefs.core.json_text import encode_b64
from artstorefs.core.log_fields import about
from artstorefs.core.marks import moment_text
from artstorefs.state.audit import Place, Who
from artstorefs.state.audit_files import AuditFiles
from artstorefs.state.index import Index
from artstorefs.state.node import ContentState, Node

log = logging.getLogger(__name__)

NAME_TRUSTED_S = 1.0
"""How long the name of a process is believed: looking takes longer than all else, and within a
second a number is not given to another process. exec(2) may have given it another name meanwhile.
"""

REMEMBERED_MAX = 4096
"""Processes, directories and writers that are remembered, each."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}

_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class AuditLog:
    """See `audit.Audit`, whose one implementation this is."""

    def __init__(
        self,
        files: AuditFiles,
        index: Index,
        *,
        required: bool,
        user_name: Callable[[int], str | None],
        command_name: Callable[[int], str | None],
    ) -> None:
        """`required`: what cannot be recorded is refused. The names are asked for in the loop and
        must not block."""
        self.who: Who | None = None
        self._files = files
        self._index = index
        self._required = required
        self._user_name = user_name
        self._command_name = command_name
        self._pending: list[str] = []
        self._doubtful: tuple[int, int] | None = None
        """First and last number of records that are written, of a change that is not committed."""
        self._lost = 0
        self._lost_since = self._lost_because = ""
        self._callers: dict[tuple[int, int, int], tuple[float, str]] = {}
        self._directories: dict[int, tuple[bytes, str]] = {}
        self._writers: dict[int, tuple[int, str]] = {}
        """By inode number: user id, and who it was. When the content is sealed it may be over."""
        self._second, self._second_text, self._day = -1, "", ""

    # ------------------------------------------------------------------------------ changes

    def writes(self, ino: int, who: Who) -> None:
        self._writers[ino] = (who.uid, self._who(who))
        if len(self._writers) > REMEMBERED_MAX:
            del self._writers[next(iter(self._writers))]

    def created(self, node: Node, place: Place) -> None:
        if node.content_state == ContentState.OPEN and self.who is not None:
            self.writes(node.ino, self.who)
        self._add(
            "create",
            f'{self._who(self.who)},"file_id":"{_uuid(node.file_id)}"'
            f',"path":{self._path(*place)},"kind":"{_kind(node)}"'
            f',"mode":"{node.mode & 0o7777:04o}"',
        )

    def linked(self, node: Node, place: Place) -> None:
        self._add(
            "link",
            f'{self._who(self.who)},"file_id":"{_uuid(node.file_id)}","path":{self._path(*place)}',
        )

    def removed(self, node: Node, place: Place) -> None:
        path = self._path(*place)
        self._add("remove", f'{self._who(self.who)},"path":{path},{self._gone(node)}')

    def expired(self, node: Node, place: Place, changed_ns: int) -> None:
        gone = f'"path":{self._path(*place)},{self._gone(node)}'
        self._add("cleanup", f'{gone},"changed":"{moment_text(changed_ns)}"')

    def renamed(self, node: Node, place: Place, to: Place, replaced: Node | None) -> None:
        over = "" if replaced is None else f',"replaced":{{{self._gone(replaced)}}}'
        self._add(
            "rename",
            f'{self._who(self.who)},"file_id":"{_uuid(node.file_id)}"'
            f',"path":{self._path(*place)},"to":{self._path(*to)}{over}',
        )
        if node.is_directory:
            self._directories.clear()

    def exchanged(self, node: Node, place: Place, other: Node, other_place: Place) -> None:
        self._add(
            "exchange",
            f'{self._who(self.who)},"file_id":"{_uuid(node.file_id)}"'
            f',"path":{self._path(*place)},"to":{self._path(*other_place)}'
            f',"other_file_id":"{_uuid(other.file_id)}"',
        )
        if node.is_directory or other.is_directory:
            self._directories.clear()

    def owner_changed(self, node: Node, uid: int, before: tuple[int, int, int]) -> None:
        if before == (node.mode, node.uid, node.gid):
            return
        mode, owner, group = before
        self._add(
            "permissions",
            f'{self._by(uid, node.ino)},"file_id":"{_uuid(node.file_id)}"'
            f',"path":{self._path_of(node)},"mode":"{node.mode & 0o7777:04o}"'
            f',"owner":{node.uid},"group":{node.gid},"before":{{"mode":"{mode & 0o7777:04o}"'
            f',"owner":{owner},"group":{group}}}',
        )

    def sealed(self, node: Node, uid: int) -> None:
        self._add(
            "seal",
            f'{self._by(uid, node.ino)},"file_id":"{_uuid(node.file_id)}"'
            f',"path":{self._path_of(node)},"size":{node.size},"version":{node.content}',
        )

    def stored(
        self, node: Node, element: str, key: str, content: int, size: int, sha256: bytes | None
    ) -> None:
        digest = "null" if sha256 is None else f'"{sha256.hex()}"'
        self._add(
            "store",
            f'"file_id":"{_uuid(node.file_id)}","path":{self._path_of(node)}'
            f',"element":{encode_basestring(element)},"key":{encode_basestring(key)}'
            f',"size":{size},"version":{content},"sha256":{digest}',
        )

    def note(self, operation: str, who: Who | None, details: Mapping[str, Any]) -> None:
        """A record of its own; beside it there must be no transaction under way."""
        told = _encode(dict(details))[1:-1]
        parts = [part for part in (self._who(who) if who else "", told) if part]
        self._add(operation, ",".join(parts))
        self.write()
        self.committed()

    # ------------------------------------------------------------------------------ writing

    def write(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        try:
            self._write(pending)
        except OSError as exc:
            self._failed(exc, len(pending))

    def committed(self) -> None:
        self._doubtful = self.who = None

    def rolled_back(self) -> None:
        self._pending.clear()
        self.who = None
        if self._doubtful is not None:
            first, last = self._doubtful
            self._doubtful = None
            try:
                self.note("undone", None, {"first": first, "last": last})
            except StateError as exc:  # the change is refused; that its record is wrong, we tell
                log.error("records %d to %d did not happen: %s", first, last, exc, extra=about(exc))

    def _write(self, pending: list[str]) -> None:
        files = self._files
        if files.is_due(self._day):
            if files.head.seq:
                log.info("audit log: record %d has SHA-256 %s", files.head.seq, files.head.sha256)
            removed = files.begin_file(self._day)
            if removed:
                pending = [self._text("expired", f'"files":{_encode(removed)}'), *pending]
        if self._lost:
            gap = {"records": self._lost, "since": self._lost_since, "error": self._lost_because}
            pending = [self._text("gap", _encode(gap)[1:-1]), *pending]
        head, data = files.head, b""
        for rest in pending:
            line = record_line(head, rest)
            head = head_of(line, head.seq + 1)
            data += line + b"\n"
        first = files.head.seq + 1
        files.append(data, head)
        if self._lost:
            log.warning("audit log: %d records are missing, and that is recorded", self._lost)
            self._lost = 0
        self._doubtful = (first, head.seq)

    def _failed(self, exc: OSError, records: int) -> None:
        """The change is refused, or goes on without a record."""
        directory = self._files.directory
        if self._required:
            reason = f"no change goes without a record of the audit log: {exc.strerror}"
            kind = StateFull if exc.errno in _FULL else StateError
            raise kind(directory, reason) from exc
        if not self._lost:
            told = ("audit log: changes go on without a record: %s", exc)
            log.error(*told, extra=about(exc, path=directory))
            self._lost_since, self._lost_because = self._time(), str(exc.strerror)
        self._lost += records

    def sync(self) -> None:
        self._files.sync()

    def close(self) -> None:
        head = self._files.head
        self._files.close()
        log.info("audit log: record %d has SHA-256 %s", head.seq, head.sha256)

    # -------------------------------------------------------------------------------- texts

    def _add(self, operation: str, rest: str) -> None:
        self._pending.append(self._text(operation, rest))

    def _text(self, operation: str, rest: str) -> str:
        return f'"time":"{self._time()}","op":"{operation}"{"," if rest else ""}{rest}'

    def _time(self) -> str:
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            moment = time.gmtime(second)
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
            self._day = time.strftime("%Y%m%d", moment)
            self._second = second
        return f"{self._second_text}.{rest // 1000:06d}Z"

    def _who(self, who: Who | None) -> str:
        if who is None:
            return '"uid":null'
        key = (who.uid, who.gid, who.pid)
        until_s, text = self._callers.get(key, (0.0, ""))
        now_s = time.monotonic()
        if now_s >= until_s:
            text = self._describe(who)
            if len(self._callers) >= REMEMBERED_MAX:
                self._callers.clear()
            self._callers[key] = (now_s + NAME_TRUSTED_S, text)
        return text

    def _by(self, uid: int, ino: int) -> str:
        """Who it is that is known to have this user id: who asks now, or who writes the file."""
        if self.who is not None and self.who.uid == uid:
            return self._who(self.who)
        writer, text = self._writers.get(ino, (None, ""))
        return text if writer == uid else f'"uid":{uid}'

    def _describe(self, who: Who) -> str:
        user, command = self._user_name(who.uid), self._command_name(who.pid)
        values: dict[str, Any] = {"uid": who.uid, "gid": who.gid, "pid": who.pid}
        if user is not None:
            values["user"] = user
        if command is not None:
            values["command"] = command
        return _encode(values)[1:-1]

    def _path(self, parent: int, name: bytes) -> str:
        directory, beginning = self._directories.get(parent) or self._directory(parent)
        if beginning:
            try:
                text = name.decode()
                if text.isprintable():
                    return beginning + encode_basestring(text)[1:]
            except UnicodeDecodeError:
                pass
        return _encode({"$b64": encode_b64(directory + name)})

    def _directory(self, ino: int) -> tuple[bytes, str]:
        """A directory's path with a slash at its end, and that as the beginning of a JSON text, ""
        where it is no text, or would garble a terminal (the form of `json_text` is used then)."""
        path = self._index.path(ino).rstrip(b"/") + b"/"
        text = path.decode(errors="replace")
        is_text = text.isprintable() and text.encode() == path
        if len(self._directories) >= REMEMBERED_MAX:
            self._directories.clear()
        self._directories[ino] = found = (path, encode_basestring(text)[:-1] if is_text else "")
        return found

    def _path_of(self, node: Node) -> str:
        """By its first name. What has none any more has no path."""
        entry = self._index.first_name(node.ino)
        return '"/"' if entry is None else self._path(entry.parent, entry.name)

    def _gone(self, node: Node) -> str:
        """What a node was, of which a name goes."""
        left = 0 if node.is_directory else node.nlink - 1
        text = f'"file_id":"{_uuid(node.file_id)}","kind":"{_kind(node)}","links_left":{left}'
        if not stat.S_ISREG(node.mode):
            return text
        self._writers.pop(node.ino, None)
        text += f',"size":{node.size}'
        if node.content_state == ContentState.ARCHIVED:
            known = [c.sha256 for c in self._index.copies(node.ino) if c.content == node.content]
            if known and known[0] is not None:
                text += f',"sha256":"{known[0].hex()}"'
        return text


def ended_cleanly(files: AuditFiles) -> bool:
    """Whether the last record is that of an unmount, or there is none."""
    return not files.last_line or b'","op":"unmount"' in files.last_line[:160]


def _kind(node: Node) -> str:
    return _KINDS.get(stat.S_IFMT(node.mode), "file")


def _uuid(file_id: bytes) -> str:
    digits = file_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
