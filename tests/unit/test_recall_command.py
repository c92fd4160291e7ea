"""`artstorefs recall` of more files than one request can name."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from artstorefs_daemon.control.methods import METHODS
from artstorefs_daemon.control.protocol import parse_request
from artstorefs_daemon.mount_table import MountEntry
from artstorefs_tools.commands import recall

ENTRY = MountEntry("0:50", "/srv/museum", "fuse.artstorefs", "museum", frozenset())


class Daemon:
    """In place of a client; `asked` are the parameters of each request."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return self.call_with_progress(method, None, params)

    def call_with_progress(self, method: str, _: Any, params: dict[str, Any]) -> dict[str, Any]:
        line = json.dumps({"jsonrpc": "2.0", "id": 12345, "method": method, "params": params})
        METHODS[method].checked(parse_request(line.encode())["params"])
        self.asked.append(params)
        if params.get("detach"):
            return {"job": len(self.asked)}
        files = len(params["inos"])
        if method == "recall_release":
            return {"files": files}
        failed = [{"path": "/x", "error": "gone"}] if params.get("wait") else []
        numbers = {"bytes": 10 * files, "waiting": 0, "online": 1, "failed": len(failed)}
        return {"files": files, **numbers, "limit_bytes": 99, "errors": failed}


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    daemon = Daemon()
    monkeypatch.setattr(recall, "ControlClient", lambda *_: daemon)
    monkeypatch.setattr(recall, "runtime_dir", lambda _: Path("/run"))
    return daemon


def arguments(**given: bool) -> argparse.Namespace:
    options = dict.fromkeys(("wait", "job", "estimate", "release"), False) | given
    return argparse.Namespace(days=30.0, **options)


INOS = [(1 << 40) + number for number in range(2000)]


def test_all_are_asked_for_before_the_first_is_waited_for(daemon: Daemon) -> None:
    (result,) = recall._of_mount(ENTRY, INOS, arguments(wait=True))
    assert [one["wait"] for one in daemon.asked] == [False] * 3 + [True] * 3
    assert [ino for one in daemon.asked[:3] for ino in one["inos"]] == INOS
    assert (result["files"], result["bytes"], result["online"]) == (2000, 20_000, 3)
    assert (result["failed"], len(result["errors"]), result["limit_bytes"]) == (3, 3, 99)


def test_few_are_one_request(daemon: Daemon) -> None:
    recall._of_mount(ENTRY, INOS[:5], arguments(wait=True))
    assert [one["wait"] for one in daemon.asked] == [True]


@pytest.mark.parametrize("what", ["estimate", "release"])
def test_sums_of_several_requests(daemon: Daemon, what: str) -> None:
    (result,) = recall._of_mount(ENTRY, INOS, arguments(**{what: True}))
    assert (result["files"], len(daemon.asked)) == (2000, 3)


def test_a_job_for_each_request(daemon: Daemon) -> None:
    results = recall._of_mount(ENTRY, INOS, arguments(job=True))
    assert results == [{"job": 1}, {"job": 2}, {"job": 3}]
    assert recall._together(results, arguments(job=True)) == {"jobs": [1, 2, 3]}
