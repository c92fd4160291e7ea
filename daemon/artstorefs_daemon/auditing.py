"""The audit log of the archive that this process serves: what only a process knows of it."""

import logging
import os
from pathlib import Path

from artstorefs.core.configuration import ArchiveConfiguration
from artstorefs.core.errors import StateError
from artstorefs.core.log_fields import about
from artstorefs.state.audit import Audit
from artstorefs.state.audit_files import DIRECTORY, AuditFiles
from artstorefs.state.audit_log import AuditLog, ended_cleanly
from artstorefs.state.index import Index

log = logging.getLogger(__name__)

_PASSWD = Path("/etc/passwd")


def audit_directory(configuration: ArchiveConfiguration) -> str:
    """Where the files are, if there are any."""
    return os.path.join(str(configuration.state_dir), DIRECTORY)


def open_audit(configuration: ArchiveConfiguration, index: Index) -> AuditLog | None:
    """The audit log, if the configuration wants one. Raises StateError when it cannot be opened:
    whoever wants one wants no change without it."""
    settings = configuration.audit
    if not settings.enabled:
        return None
    directory = audit_directory(configuration)
    try:
        files = AuditFiles(directory, settings.file_max, settings.keep_days)
    except OSError as exc:
        raise StateError(directory, f"the audit log cannot be opened: {exc.strerror}") from exc
    audit = AuditLog(
        files,
        index,
        required=settings.required,
        user_name=LocalUsers().name,
        command_name=command_name,
    )
    if files.torn is not None:
        torn = files.torn
        told = (
            "audit log: %d bytes behind record %d are kept apart",
            torn.size_bytes,
            files.head.seq,
        )
        log.warning(*told, extra=about(path=os.path.join(directory, torn.kept)))
        values = {"kept": torn.kept, "size": torn.size_bytes, "sha256": torn.sha256}
        note_anyway(audit, "torn", values)
    note_anyway(audit, "start", {"after_clean_end": ended_cleanly(files)})
    return audit


def note_anyway(audit: Audit | None, operation: str, details: dict[str, object]) -> None:
    """What is not refused where it cannot be recorded, as changes are: it is there, or over."""
    if audit is None:
        return
    try:
        audit.note(operation, None, details)
    except StateError as exc:
        log.error("%s", exc, extra=about(exc))


def command_name(pid: int) -> str | None:
    """What a process calls itself, which it may choose; None where there is none (any more)."""
    try:
        descriptor = os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it has ended, or lives where we cannot see it
        return None
    try:
        return os.read(descriptor, 64).rstrip(b"\n").decode(errors="backslashreplace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


class LocalUsers:
    """Names of the users of this machine. Those of a directory service have none here: asking it
    may take seconds, and the loop cannot wait."""

    def __init__(self, path: Path = _PASSWD) -> None:
        self._path = path
        self._names: dict[int, str] = {}
        self._read_ns = -1

    def name(self, uid: int) -> str | None:
        if uid not in self._names:
            self._read()
        return self._names.get(uid)

    def _read(self) -> None:
        """passwd(5), if it is another file by now."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns == self._read_ns:
                return
            text = self._path.read_text(errors="backslashreplace")
        except OSError as exc:
            log.debug("users have no names: %s", exc)
            return
        self._read_ns = changed_ns
        fields = (line.split(":") for line in text.splitlines())
        self._names = {int(f[2]): f[0] for f in fields if len(f) > 2 and f[2].isdecimal()}
