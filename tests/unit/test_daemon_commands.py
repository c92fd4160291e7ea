"""`reload`, `jobs` and `log`: what is asked of the daemon, and what a person sees."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs_daemon.control.methods import METHODS
from artstorefs_tools import exit_codes
from artstorefs_tools.command_line import main
from artstorefs_tools.commands.jobs import STARTED

from .json_document import check

JOB = {
    "job": 3,
    "method": "fsck",
    "params": {"deep": True},
    "state": "running",
    "progress": {"objects": 1234, "bytes": 5},
    "result": None,
    "error": None,
    "started_at": "2026-01-02T03:04:05Z",
    "ended_at": None,
    "by": {"uid": 1000, "pid": 77},
}
ENDED = JOB | {"ended_at": "2026-01-02T04:00:00Z"}
FAILED = ENDED | {"job": 4, "state": "failed", "error": "element main is away"}
DONE = ENDED | {"job": 5, "state": "done", "result": {"left": 0, "deep": True, "findings": []}}

Serve = Callable[[dict[str, Any]], None]


@pytest.fixture
def asked() -> list[dict[str, Any]]:
    """The requests that came."""
    return []


@pytest.fixture
def archive(tmp_path: Path) -> str:
    path = tmp_path / "museum.toml"
    path.write_text(f'runtime_dir = "{tmp_path}"\n[[element]]\nid = "main"\npath = "/objects"\n')
    return str(path)


@pytest.fixture
def serve(tmp_path: Path, asked: list[dict[str, Any]]) -> Iterator[Serve]:
    """Answer one request, by its method."""
    threads: list[threading.Thread] = []

    def start(answer: dict[str, Any]) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen()

        def run() -> None:
            with listener, listener.accept()[0] as connection, connection.makefile("rb") as lines:
                request = json.loads(lines.readline())
                asked.append(request)
                message = {"jsonrpc": "2.0", "id": request["id"], **answer}
                connection.sendall(json.dumps(message).encode() + b"\n")

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("changed", "told"),
    [([], "nothing has changed\n"), (["settle_s", "copies"], "changed: settle_s, copies\n")],
)
def test_reload(
    serve: Serve,
    archive: str,
    changed: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve({"result": {"changed": changed}})
    assert main(["reload", archive]) == exit_codes.OK
    assert capsys.readouterr().out == told


def test_reload_that_is_refused(
    serve: Serve, archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serve({"error": {"code": -32000, "message": 'durability: "log" → "element": a restart'}})
    assert main(["reload", archive]) == exit_codes.FAILURE
    assert 'durability: "log" → "element": a restart\n' in capsys.readouterr().err


def test_jobs_for_people(serve: Serve, archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    serve({"result": {"jobs": [JOB, FAILED, DONE]}})
    assert main(["jobs", archive]) == exit_codes.OK
    _, running, failed, done = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert running[:5] == ["3", "fsck", "deep=True", "running", "2026-01-02T03:04:05Z"]
    assert running[5:] == ["user", "1000", "1,234", "objects,", "5", "bytes"]
    assert (failed[0], failed[3:5]) == ("4", ["failed", "2026-01-02T04:00:00Z"])
    assert " ".join(failed[7:]) == "element main is away"
    assert done[7:] == ["0", "left"]


def test_no_jobs(serve: Serve, archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    serve({"result": {"jobs": []}})
    assert main(["jobs", archive]) == exit_codes.OK
    assert capsys.readouterr().out == "no job was started since the mount\n"


def test_jobs_as_json(serve: Serve, archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    serve({"result": {"jobs": [JOB, FAILED]}})
    assert main(["jobs", archive, "--json"]) == exit_codes.OK
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"jobs": [JOB, FAILED]}
    assert check("jobs", printed) >= {"jobs[].job", "jobs[].by.uid", "jobs[].progress.*"}


@pytest.mark.parametrize(
    ("command", "answer"),
    [("reload", {"changed": ["settle_s"]}), ("log", {"levels": {"root": "INFO"}})],
)
def test_answers_as_json(
    command: str,
    answer: dict[str, Any],
    serve: Serve,
    archive: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve({"result": answer})
    assert main([command, archive, "--json"]) == exit_codes.OK
    printed = json.loads(capsys.readouterr().out)
    assert printed == answer
    assert check(command, printed)


@pytest.mark.parametrize("what", STARTED)
def test_job_is_started(
    what: str,
    serve: Serve,
    archive: str,
    asked: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve({"result": {"job": 7}})
    assert main(["jobs", archive, "--start", what]) == exit_codes.OK
    assert capsys.readouterr().out == "job 7 goes on by itself\n"
    (request,) = asked
    method = METHODS[request["method"]]
    assert method.checked(request["params"]).model_dump()["detach"] is True
    assert request["params"].get("deep", False) == (what == "fsck-deep")


def test_every_long_method_can_be_started_by_a_command() -> None:
    """`cache --job` and `recall --job` begin the others."""
    long = {name for name, method in METHODS.items() if method.is_long}
    assert long == {method for method, _ in STARTED.values()} | {
        "cache_warm",
        "cache_pin",
        "recall",
    }


def test_job_of_the_cache_is_for_what_takes_long(
    archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", archive, "--drop", "/srv", "--job"]) == exit_codes.USAGE
    assert "--job is for --pin and --warm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "method", "answer", "code"),
    [
        ("--wait", "job", DONE, exit_codes.OK),
        ("--wait", "job", FAILED, exit_codes.FAILURE),
        ("--cancel", "job_cancel", ENDED | {"state": "cancelled"}, exit_codes.OK),
    ],
)
def test_one_job(
    option: str,
    method: str,
    answer: dict[str, Any],
    code: int,
    serve: Serve,
    archive: str,
    asked: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve({"result": answer})
    assert main(["jobs", archive, option, "3"]) == code
    assert (asked[0]["method"], asked[0]["params"]) == (method, {"job": 3})
    assert answer["state"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ([], {}),
        (["artstorefs.transfer", "debug"], {"logger": "artstorefs.transfer", "level": "DEBUG"}),
        (["artstorefs.transfer", "default"], {"logger": "artstorefs.transfer", "level": None}),
    ],
)
def test_log_levels(
    words: list[str],
    params: dict[str, Any],
    serve: Serve,
    archive: str,
    asked: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve({"result": {"levels": {"root": "INFO", "artstorefs.transfer": "DEBUG"}}})
    assert main(["log", archive, *words]) == exit_codes.OK
    assert (asked[0]["method"], asked[0]["params"]) == ("log_level", params)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [["root", "info"], ["artstorefs.transfer", "debug"]]


@pytest.mark.parametrize("words", [["artstorefs.transfer"], ["artstorefs.transfer", "loud"]])
def test_log_level_that_is_none(
    words: list[str], archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", archive, *words]) == exit_codes.USAGE
    assert "debug, info, warning, error, critical, default" in capsys.readouterr().err
