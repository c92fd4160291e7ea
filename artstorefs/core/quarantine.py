"""Where a check puts what belongs to nothing, and a start what a power cut may have left nothing
better than, and the report that is laid beside it.

    .artstorefs/quarantine/TIME/KEY.kept             what was found under KEY
    .artstorefs/quarantine/TIME/KEY.report.json      what it is, why it is here, since when

TIME is that of the run, or of the start, in UTC. `.kept`: who looks for every attr.json must not
find one here. No other program of ours reads, changes or removes anything there.
"""

import json
from datetime import UTC, datetime
from typing import Final

from artstorefs.core.naming import OWN_FOLDER

QUARANTINE_FOLDER: Final = f"{OWN_FOLDER}quarantine/"
KEPT_SUFFIX: Final = ".kept"
REPORT_SUFFIX: Final = ".report.json"


def quarantine_keys(time_ns: int, key: str) -> tuple[str, str]:
    """The new key of what lies at `key`, and that of the report on it."""
    moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
    base = f"{QUARANTINE_FOLDER}{moment:%Y%m%dT%H%M%SZ}/{key}"
    return base + KEPT_SUFFIX, base + REPORT_SUFFIX


def render_report(time_ns: int, key: str, kind: str, explanation: str, detail: str) -> bytes:
    """The bytes of the report on what was found at `key`."""
    moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
    report = {
        "original_key": key,
        "class": kind,
        "what": explanation,
        "why": detail,
        "quarantined_at": moment.isoformat(),
    }
    return json.dumps(report, indent=2, ensure_ascii=True).encode() + b"\n"
