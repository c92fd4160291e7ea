"""An answer of `status` with something in each of its keys, for what makes something else of it."""

import json
from typing import Any

BOUNDS_S = [0.001, 0.1]

_CALLS = {"put": {"count": 1200, "total_s": 1.5, "max_s": 0.5}}

_LOCAL = {
    "id": "main",
    "kind": "local",
    "path": "/objects",
    "mode": "edit",
    "object_lock": None,
    "priority": 1,
    "state": "ok",
    "error": None,
    "total_bytes": 1 << 40,
    "free_bytes": 1 << 39,
    "room": "ok",
    "queue": {"intents": 2, "oldest_age_s": 4.5},
    "breaker": None,
    "counters": {
        "calls": _CALLS,
        "sent_bytes": 3 << 20,
        "received_bytes": 512,
        "errors": {"ObjectAbsent": 20, "ElementFull": 2},
        "requests": {},
    },
}

_FAR = {
    **_LOCAL,
    "id": "far",
    "kind": "s3",
    "path": "s3:museum",
    "mode": "rw",
    "object_lock": "governance",
    "priority": 2,
    "state": "unavailable",
    "error": "element far: no connection",
    "total_bytes": None,
    "free_bytes": None,
    "room": "unknown",
    "queue": {"intents": 0, "oldest_age_s": None},
    "breaker": {
        "state": "half-open",
        "since": "2026-01-02T03:04:05Z",
        "next_trial": None,
        "reason": "no connection",
    },
    "counters": {**_LOCAL["counters"], "requests": {"PutObject": 7}},  # type: ignore[dict-item]
}

_STATUS: dict[str, Any] = {
    "archive": "museum",
    "mountpoint": "/srv/museum",
    "pid": 12,
    "transfer_pid": 13,
    "version": "9.8.7",
    "started_at": "2026-01-02T03:04:05Z",
    "durability": "log",
    "copies": 1,
    "read_only": False,
    "recovery_s": 1.25,
    "index_error": None,
    "backup": {"age_s": 60.0, "interval_s": 3600.0, "is_current": True},
    "nodes": 12345,
    "pending": {"intents": 3, "bytes": 3 << 20, "oldest_age_s": 4.5, "failed": 1},
    "errors": [{"path": "/a", "file_id": "f", "error": "no room", "since": None}],
    "damaged": [{"path": "/b", "file_id": "f", "error": "block 1 of 9", "since": None}],
    "quarantined": {"documents": 1200, "errors": []},
    "survey": {"seen": 0},
    "expiring": {
        "files": 1200,
        "bytes": 3 << 20,
        "first_removal": "2026-01-09T03:04:05Z",
        "removed": 0,
        "paused": None,
    },
    "archived": [
        {
            "element": "main",
            "files": 1200,
            "bytes": 3 << 20,
            "offline_files": 1000,
            "offline_bytes": 2 << 20,
            "recalling_files": 3,
            "recalling_bytes": 1 << 20,
            "recalled_files": 5,
            "recalled_bytes": 4096,
            "failed_files": 1,
            "oldest_recall_age_s": 7200.5,
        },
    ],
    "wanted": [
        {
            "element": "main",
            "place": "/mnt/disk",
            "files": 3,
            "bytes": 1 << 20,
            "reason": "element main: /mnt/disk: the medium of element main is wanted there",
        }
    ],
    "spool": {"bytes": 3 << 20, "limit_bytes": 50 << 30},
    "cache": {"bytes": 7 << 20, "limit_bytes": 40 << 30},
    "elements": [_LOCAL, _FAR],
    "operations": {
        "create": {"count": 0, "errors": {}, "total_s": 0.0, "max_s": 0.0, "latency": [0, 0, 0]},
        "getxattr": {
            "count": 10,
            "errors": {"ENODATA": 9},
            "total_s": 0.5,
            "max_s": 0.25,
            "latency": [7, 2, 1],
        },
    },
    "latency_bounds_s": BOUNDS_S,
    "slowest": [
        {
            "kind": "getxattr",
            "took_ms": 250.0,
            "ended_at": "2026-01-02T03:04:06Z",
            "inode": 7,
            "path": "/night/watch.jpg",
        }
    ],
}


def status(**changes: Any) -> dict[str, Any]:
    """A copy of its own, of which no two parts are the same object."""
    copied: dict[str, Any] = json.loads(json.dumps({**_STATUS, **changes}))
    return copied
