"""Roles, parameters, jobs, discovery, and CONTROL.md against the models, in both directions."""

import grp
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from pydantic import BaseModel

from artstorefs.core.errors import ConfigurationError, ElementUnavailable
from artstorefs_daemon import control
from artstorefs_daemon.control import jobs, protocol
from artstorefs_daemon.control.limits import Limits
from artstorefs_daemon.control.methods import METHODS
from artstorefs_daemon.control.models import JobStarted
from artstorefs_daemon.control.roles import Peer, Rights, Role
from artstorefs_daemon.reloading import RELOADABLE

from .control_server import BACKUP, EXPIRING, MODE, STATUS, Server, configured, serving

DOCUMENT = (Path(control.__file__).parents[2] / "CONTROL.md").read_text()

CHANGERS, ADMINISTRATORS = 5001, 5002


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async for made in serving(tmp_path):
        yield made


# --------------------------------------------------------------------------------------- roles


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The next clients are a stranger who is in these groups."""
    groups = [4711]
    real = socket.socket.getsockopt

    def getsockopt(self: Any, level: int, option: int, *more: int) -> Any:
        if option == socket.SO_PEERCRED:
            return struct.pack("3i", 77, 4711, groups[0])
        if option == 59:
            if len(groups) > 256:
                raise OSError(34, "Numerical result out of range")
            return struct.pack(f"{len(groups) - 1}I", *groups[1:])
        return real(self, level, option, *more)

    monkeypatch.setattr(socket.socket, "getsockopt", getsockopt)
    return groups


async def allowed(server: Server) -> set[Role]:
    """The roles whose methods are carried out for a client that connects now."""
    client = await server.connect()
    found = set()
    for role, method in zip(Role, ("modes", "rescan", "shutdown"), strict=True):
        answer = await client.ask({"id": 1, "method": method})
        while "method" in answer:  # its progress
            answer = await client.line() or {}
        if "result" in answer:
            found.add(role)
        else:
            assert answer["error"]["code"] == protocol.REFUSED
            assert f"for who may {role.word}" in answer["error"]["message"]
    return found


async def test_root_and_the_user_of_the_daemon_may_do_everything(server: Server) -> None:
    assert await allowed(server) == {*Role}
    assert server.stopped == 1


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        ([4711], {Role.READ}),
        ([4711, CHANGERS], {Role.READ, Role.CHANGE}),
        ([CHANGERS], {Role.READ, Role.CHANGE}),
        ([4711, 1, 2, ADMINISTRATORS], {*Role}),
        ([4711, *range(300), ADMINISTRATORS], {Role.READ}),
        ([CHANGERS, *range(300), ADMINISTRATORS], {Role.READ, Role.CHANGE}),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_groups_grant(
    groups: list[int], roles: set[Role], server: Server, caller: list[int]
) -> None:
    caller[:] = groups
    assert await allowed(server) == {Role.READ}, "without configured groups nobody else may"
    server.reloading.rights = Rights(CHANGERS, ADMINISTRATORS)
    assert await allowed(server) == roles


async def test_every_method_of_more_than_reading_is_refused_to_strangers(
    server: Server, caller: list[int]
) -> None:
    client = await server.connect()
    for method in METHODS.values():
        if method.role > Role.READ:
            assert (await client.error(method.name))[0] == protocol.REFUSED
    assert (server.service.flushes, server.stopped) == (0, 0)


def test_peer_is_the_process_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Peer.of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}
    assert peer.is_ours


def test_group_that_is_not_there_is_an_error_of_the_configuration() -> None:
    known = grp.getgrall()[0]
    rights = Rights.of(configured(f'control_change_group = "{known.gr_name}"'))
    assert rights == Rights(known.gr_gid, None)
    wrong = configured('control_admin_group = "no such group"')
    with pytest.raises(ConfigurationError) as raised:
        Rights.of(wrong, "museum.toml")
    assert raised.value.key == "control_admin_group"
    assert str(raised.value).startswith('museum.toml: control_admin_group: there is no group "no')


# ---------------------------------------------------------------------------------- parameters

WRONG_PARAMS: list[tuple[str, Any, str]] = [
    ("status", [], "object"),
    ("status", "x", "object"),
    ("status", {"more": 1}, "more: "),
    ("flush", {"detatch": True}, "detatch: "),
    ("flush", {"detach": 1}, "detach: "),
    ("cache_pin", {}, "ino: "),
    ("cache_pin", {"ino": True}, "ino: "),
    ("cache_pin", {"ino": 0}, "ino: "),
    ("cache_pin", {"ino": 1 << 63}, "ino: "),
    ("cache_drop", {"ino": 1, "detach": True}, "detach: "),
    ("job", {"job": "1"}, "job: "),
    ("mode_change", {"element": "main"}, "mode: "),
    ("mode_change", {"element": "main", "mode": "wr"}, "mode: "),
    ("mode_change", {"element": "main", "mode": "ro", "why": "x" * 501}, "why: "),
    ("mode_cancel", {}, "element: "),
    ("expiring", {"after": "1"}, "after: "),
    ("expiring", {"after": "1.-1"}, "after: "),
    ("fsck", {"rate": -1}, "rate: "),
    ("fsck", {"restart": True}, "restart and rate"),
    ("log_level", {"logger": "botocore", "level": "DEBUG"}, "logger: "),
    ("log_level", {"logger": "artstorefs.no_such", "level": "DEBUG"}, "no logger"),
    ("log_level", {"logger": "artstorefs.core.errors.x", "level": "DEBUG"}, "no logger"),
    ("log_level", {"logger": "artstorefs", "level": "LOUD"}, "level: "),
    ("log_level", {"level": "DEBUG"}, "of which logger"),
]


@pytest.mark.parametrize(("method", "params", "told"), WRONG_PARAMS, ids=str)
async def test_parameters_that_a_method_does_not_take(
    method: str, params: Any, told: str, server: Server
) -> None:
    client = await server.connect()
    answer = await client.ask({"id": 1, "method": method, "params": params})
    assert answer["error"]["code"] == protocol.INVALID_PARAMS
    assert told in answer["error"]["message"]


async def test_expiring(server: Server) -> None:
    client = await server.connect()
    assert await client.call("expiring") == EXPIRING
    assert await client.call("expiring", after="17.4") == EXPIRING
    assert await client.call("clock_is_right") == {}
    assert server.service.expiring.asked == [None, "17.4", True]


async def test_backup_by_itself_and_as_a_job(server: Server) -> None:
    client = await server.connect()
    assert await client.call("backup") == BACKUP
    assert await client.call("backup", detach=True) == {"job": 1}
    assert (await client.call("job", job=1))["result"] == BACKUP


async def test_modes_and_elements(server: Server) -> None:
    client = await server.connect()
    assert await client.call("modes") == {"modes": [MODE]}
    assert await client.call("elements") == {"elements": STATUS["elements"]}


async def test_change_of_a_mode(server: Server) -> None:
    """Its progress is told, unless nobody wants to wait for it."""
    client = await server.connect()
    request = {"id": 1, "method": "mode_change", "params": {"element": "main", "mode": "ro"}}
    told = await client.ask(request)
    assert told["params"] == {"phase": "preparing", "intents": 2, "writers": 0, "error": None}
    client = await server.connect()
    given = {"element": "main", "mode": "ar", "why": "it is full", "wait": False}
    assert await client.call("mode_change", **given) == MODE
    assert await client.call("mode_cancel", element="main") == MODE
    uid = os.geteuid()
    asked = [("main", "ro", uid, ""), ("main", "ar", uid, "it is full"), ("main", None, uid, "")]
    assert server.service.mode_changes.asked == asked


async def test_result_that_is_not_as_the_model_says_is_a_bug(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:

    async def status() -> dict[str, Any]:
        return {"elements": [{**STATUS["elements"][0], "more": 1}]}

    server.service.status = status
    client = await server.connect()
    assert (await client.error("elements"))[0] == protocol.INTERNAL_ERROR
    assert "ValidationError" in caplog.text


# ------------------------------------------------------------------------------------- logging


async def test_log_levels_are_changed_told_and_taken_back(server: Server) -> None:
    client = await server.connect()
    before = (await client.call("log_level"))["levels"]
    name = "artstorefs.transfer"
    try:
        answer = await client.call("log_level", logger=name, level="DEBUG")
        assert answer == {"levels": before | {name: "DEBUG"}}
        assert await client.call("log_level") == answer
    finally:
        answer = await client.call("log_level", logger=name, level=None)
    assert answer == {"levels": before}
    assert server.service.link.told == [{name: "DEBUG"}, {name: None}]


# ---------------------------------------------------------------------------------------- jobs


async def test_job_goes_on_without_its_client(server: Server) -> None:
    server.service.more_flushing = trio.Event()
    first = await server.connect()
    assert await first.call("flush", detach=True) == {"job": 1}
    await first.stream.aclose()
    client = await server.connect()
    await trio.testing.wait_all_tasks_blocked()
    (job,) = (await client.call("jobs"))["jobs"]
    assert (job["job"], job["method"], job["state"]) == (1, "flush", "running")
    assert (job["progress"], job["result"]) == ({"pending": 2, "bytes": 0}, None)
    assert job["by"].keys() == {"uid", "pid"}
    server.service.more_flushing.set()
    job = await client.call("job", job=1)
    assert job["state"] == "done"
    assert job["result"] == {"pending": 0, "failed": 0, "errors": []}
    assert job["started_at"] <= job["ended_at"]


async def test_whoever_attaches_is_told_the_progress_until_the_end(server: Server) -> None:
    server.service.more_flushing = trio.Event()
    client, other = await server.connect(), await server.connect()
    await client.call("flush", detach=True)
    await trio.testing.wait_all_tasks_blocked()
    first = await client.ask({"id": 2, "method": "job", "params": {"job": 1}})
    assert first["params"] == {"pending": 2, "bytes": 0}
    assert (await other.ask({"id": 3, "method": "job", "params": {"job": 1}}))["params"]
    server.service.more_flushing.set()
    while "method" in (answer := await client.line() or {}):
        assert answer["params"]["pending"] < 2
    assert (answer["id"], answer["result"]["state"]) == (2, "done")


async def test_job_is_cancelled(server: Server) -> None:
    server.service.more_flushing = trio.Event()
    client = await server.connect()
    await client.call("flush", detach=True)
    assert (await client.call("job_cancel", job=1))["state"] == "cancelled"
    assert (await client.call("job", job=1))["result"] is None
    assert (await client.call("job_cancel", job=1))["state"] == "cancelled"


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ElementUnavailable("main", "", "the disk is gone"), "main: the disk is gone"),
        (RuntimeError("secret"), "internal error, see the daemon's log"),
    ],
)
async def test_job_that_fails_ends_nothing_else(
    server: Server, failure: Exception, error: str
) -> None:
    server.service.failure = failure
    client = await server.connect()
    await client.call("flush", detach=True)
    job = await client.call("job", job=1)
    assert (job["state"], job["error"], job["result"]) == ("failed", error, None)
    assert await client.call("modes")


async def test_number_of_jobs_is_limited_and_the_last_ended_are_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RUNNING_MAX", 2)
    monkeypatch.setattr(jobs, "ENDED_MAX", 3)
    client = await server.connect()
    for number in range(1, 7):
        assert await client.call("rescan", detach=True) == {"job": number}
        await client.call("job", job=number)
    server.service.more_flushing = trio.Event()
    for number in (7, 8):
        assert await client.call("flush", detach=True) == {"job": number}
    code, message = await client.error("flush", detach=True)
    assert (code, message[:18]) == (protocol.FAILED, "2 jobs are running")
    listed = [job["job"] for job in (await client.call("jobs"))["jobs"]]
    assert listed == [4, 5, 6, 7, 8]
    assert (await client.error("job", job=1))[0] == protocol.INVALID_PARAMS
    await client.call("job_cancel", job=7)
    assert await client.call("flush", detach=True) == {"job": 9}


async def test_list_of_jobs_stays_short(server: Server) -> None:
    errors = [{"path": str(n), "file_id": "", "error": "e", "since": None} for n in range(100)]
    server.service.errors = errors
    client = await server.connect()
    await client.call("flush", detach=True)
    assert len((await client.call("job", job=1))["result"]["errors"]) == 100
    (job,) = (await client.call("jobs"))["jobs"]
    assert len(job["result"]["errors"]) == jobs.LISTED_ENTRIES


async def test_answer_that_no_line_holds_is_an_error(server: Server) -> None:
    error = {"path": "x" * 600_000, "file_id": "", "error": "e", "since": None}
    server.service.errors = [error, error]
    client = await server.connect()
    code, message = await client.error("flush")
    assert (code, "1048576 bytes" in message) == (protocol.FAILED, True)
    assert await client.call("modes")


# ----------------------------------------------------------------------------------- discovery


async def test_discovery_describes_every_method(server: Server) -> None:
    client = await server.connect()
    document = await client.call("rpc.discover")
    assert (document["openrpc"], document["x-api-version"]) == ("1.3.2", protocol.API_VERSION)
    described = {method["name"]: method for method in document["methods"]}
    assert described.keys() == METHODS.keys()
    schemas = document["components"]["schemas"]
    assert schemas["Pending"]["properties"]["oldest_age_s"]["anyOf"][0] == {"type": "number"}
    for name, method in METHODS.items():
        found = described[name]
        assert found["x-role"] == method.role.word
        assert [one["name"] for one in found["params"]] == list(method.params.model_fields)
        for reference in references(found):
            assert reference.removeprefix("#/components/schemas/") in schemas
    (ino, detach) = described["cache_pin"]["params"]
    assert (ino["required"], ino["schema"]["type"]) == (True, "integer")
    assert (detach["required"], detach["schema"]["default"]) == (False, False)
    for reference in references(schemas):
        assert reference.removeprefix("#/components/schemas/") in schemas


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


# ------------------------------------------------------------------------------ the document


def table_below(heading: str) -> list[list[str]]:
    """The cells of the rows of the first table after a heading."""
    text = DOCUMENT.partition(f"\n{heading}\n")[2]
    assert text, f"CONTROL.md has no {heading}"
    lines = iter(text.splitlines())
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows or line.startswith("#"):
            break
    return rows[2:]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def all_models() -> dict[str, type[BaseModel]]:
    """Every model that can be in an answer, by name."""
    found: dict[str, type[BaseModel]] = {}

    def visit(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation.__name__ in found:
                assert found[annotation.__name__] is annotation, "two models of one name"
                return
            found[annotation.__name__] = annotation
            for field in annotation.model_fields.values():
                visit(field.annotation)
        for inner in getattr(annotation, "__args__", ()):
            visit(inner)

    for method in METHODS.values():
        visit(method.result)
        visit(method.progress)
    visit(JobStarted)
    return found


def test_document_has_every_method_with_its_role_parameters_and_results() -> None:
    documented = {
        name: (role, names(params), names(result), names(progress))
        for row in table_below("## Methods")
        for (name,), role, params, result, progress in [(names(row[0]), *row[1:])]
    }
    assert documented == {
        name: (
            method.role.word,
            list(method.params.model_fields),
            [method.result.__name__],
            [method.progress.__name__] if method.progress else [],
        )
        for name, method in METHODS.items()
    }


def test_document_has_every_result_with_its_keys() -> None:
    models = all_models()
    headings = re.findall(r"^### `(\w+)`$", DOCUMENT, re.MULTILINE)
    without_keys = {name for name, model in models.items() if not model.model_fields}
    assert without_keys == {"Result", "Discovery"}
    assert sorted(headings) == sorted(models.keys() - without_keys)
    for heading in headings:
        keys = [name for row in table_below(f"### `{heading}`") for name in names(row[0])]
        fields = models[heading].model_fields
        expected = [field.alias or name for name, field in fields.items()]
        assert sorted(keys) == sorted(expected), heading


def test_document_says_the_codes_and_limits() -> None:
    codes = ("PARSE_ERROR", "INVALID_REQUEST", "METHOD_NOT_FOUND", "INVALID_PARAMS")
    for name in (*codes, "INTERNAL_ERROR", "REFUSED", "FAILED", "TOO_MANY"):
        assert f"| {getattr(protocol, name)} |" in DOCUMENT
    limits = Limits()
    text = " ".join(DOCUMENT.split())
    assert (protocol.LINE_LIMIT_BYTES, protocol.ANSWER_LIMIT_BYTES) == (32 << 10, 1 << 20)
    assert f"more than {protocol.OPENED_LIMIT} objects and lists" in text
    assert f"more than {protocol.MARKS_LIMIT} brackets" in text
    assert f"whole within {limits.line_s:.0f} s, and a client takes its answer" in text
    assert f"answer within {limits.send_s:.0f} s" in text
    assert f"{limits.clients} clients at a time: {limits.clients_of_user} of one user" in text
    assert f"{limits.clients_of_others} of all users" in text
    assert f"{limits.client_units_per_s:.0f} requests a second after a burst of" in text
    assert f"a burst of {limits.client_burst:.0f}, and all clients of users" in text
    assert f"users {limits.share_units_per_s:.0f} after {limits.share_burst:.0f}" in text
    assert f"Each {limits.unit_bytes >> 10} KiB of requests" in text
    assert f"{limits.connections_per_s:.0f} connections a second" in text
    assert f"after {limits.connections_burst:.0f}." in text
    assert f"last {jobs.ENDED_MAX} that have ended" in text
    assert f"At most {jobs.RUNNING_MAX} run" in text
    assert "after three entries" in text
    assert jobs.LISTED_ENTRIES == 3
    assert f"of `rpc.discover`) is {protocol.API_VERSION}." in text


def test_document_says_what_can_be_reloaded() -> None:
    (sentence,) = re.findall(r"`reload`: reads (.*?) change at once", DOCUMENT, re.DOTALL)
    assert set(names(sentence)) == RELOADABLE
