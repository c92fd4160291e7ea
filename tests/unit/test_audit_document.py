"""AUDIT.md and LOGS.md belong to the code: each operation and key that is written is described."""

import re
from pathlib import Path

from artstorefs.core.configuration import AuditConfiguration
from artstorefs.core.log_fields import ATTRIBUTE, about

ROOT = Path(__file__).parents[2]
WRITERS = (
    "artstorefs/state/audit_log.py",
    "daemon/artstorefs_daemon/auditing.py",
    "daemon/artstorefs_daemon/migrations.py",
    "daemon/artstorefs_daemon/mode_changes.py",
    "daemon/artstorefs_daemon/mount_daemon.py",
    "daemon/artstorefs_daemon/control/server.py",
)
CALL = r'(?:_add|_text|note|note_anyway)\(\s*(?:[\w.]+, )?"(\w+)"'


def described(document: str) -> set[str]:
    """What stands in the first column of its tables."""
    rows = re.findall(r"^\| (`.+?`) \|", (ROOT / document).read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_operation_is_described_and_written() -> None:
    source = "".join((ROOT / path).read_text() for path in WRITERS)
    assert set(re.findall(CALL, source)) == described("artstorefs/AUDIT.md") - {"op"}


def test_every_field_of_the_log_is_described() -> None:
    error = OSError(5, "x", "p")
    fields = about(error, element="e", key="k", file_id=bytes(16))[ATTRIBUTE]
    always = {"time", "level", "logger", "message", "archive", "process", "pid", "traceback"}
    assert set(fields) | always == described("daemon/LOGS.md") - {"JOURNAL_STREAM"}


def test_every_key_of_the_configuration_is_described() -> None:
    readme = (ROOT / "README.md").read_text()
    for key in AuditConfiguration.model_fields:
        assert f"| `{key}` |" in readme
