"""The audit log as the tree, the contents and the outcomes write it, without a mount."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from artstorefs.core.configuration import AuditConfiguration
from artstorefs.core.errors import StateFull
from artstorefs.filesystem.archive import Caller
from artstorefs.filesystem.attributes import AttributeChange
from artstorefs.filesystem.errors import NameExists
from artstorefs.state import audit_log
from artstorefs.state.audit_files import AuditFiles, audit_files, sync_newest
from artstorefs.state.audit_reader import parse, read_lines, verify
from artstorefs.state.index import ROOT_INO
from artstorefs_daemon.auditing import LocalUsers, command_name

from .workbench import DIRECTORY, FILE, ME, Workbench


def audited(base: Path, **settings: Any) -> Workbench:
    return Workbench(base, audit=AuditConfiguration(enabled=True, **settings))


def directory(bench: Workbench) -> str:
    return str(bench.base / "state" / "audit")


def records(bench: Workbench) -> list[dict[str, Any]]:
    """What the chain holds; it has to hold."""
    verdict = verify(directory(bench))
    assert verdict.is_good, verdict.faults
    found = [parse(line) for line in read_lines(directory(bench))]
    return [record for record in found if record is not None]


def operations(bench: Workbench) -> list[str]:
    return [record["op"] for record in records(bench)]


async def test_one_record_for_each_change(tmp_path: Path) -> None:
    bench = audited(tmp_path)
    inner = bench.make(b"d", mode=DIRECTORY)
    node = await bench.write(b"f", b"hello", inner.ino)
    bench.rename(b"f", b"g", inner.ino, inner.ino)
    bench.tree.link(node.ino, ROOT_INO, b"link", ME)
    bench.rename(b"d", b"e")
    await bench.attributes.change(node, AttributeChange(mode=0o600, uid=7), ME)
    await bench.attributes.change(node, AttributeChange(mtime_ns=1), ME)
    await bench.drain()
    await bench.write(b"g", b"other", inner.ino)
    bench.rename(b"link", b"e", flags=2)
    bench.unlink(b"g", inner.ino)
    found = records(bench)[1:]
    assert [(r["op"], r.get("path"), r.get("to")) for r in found] == [
        ("create", "/d", None),
        ("create", "/d/f", None),
        ("seal", "/d/f", None),
        ("rename", "/d/f", "/d/g"),
        ("link", "/link", None),
        ("rename", "/d", "/e"),
        ("permissions", "/e/g", None),
        ("store", "/e/g", None),
        ("seal", "/e/g", None),
        ("exchange", "/link", "/e"),
        ("remove", "/link/g", None),
    ]
    assert (found[6]["owner"], found[6]["before"]["owner"]) == (7, 0)
    assert found[-1]["links_left"] == 1
    bench.close()


async def test_who_it_was(tmp_path: Path) -> None:
    bench = audited(tmp_path)
    caller = Caller(uid=0, gid=12, pid=os.getpid(), umask=0)
    node = bench.tree.create(ROOT_INO, b"f", FILE, caller, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    bench.contents.release(handle)
    bench.tree.create(ROOT_INO, b"g", FILE, Caller(4_000_000, 5, 0, 0))
    _, create, seal, other = records(bench)
    me = {
        "uid": 0,
        "gid": 12,
        "pid": os.getpid(),
        "user": "root",
        "command": command_name(os.getpid()),
    }
    assert {key: create[key] for key in me} == me
    assert {key: seal[key] for key in me} == me
    assert {key: other.get(key) for key in me} == {
        "uid": 4_000_000,
        "gid": 5,
        "pid": 0,
        "user": None,
        "command": None,
    }
    bench.close()


async def test_names_cannot_forge_a_record(tmp_path: Path) -> None:
    bench = audited(tmp_path)
    names = [b'x"}\n{"prev":"', b"\xff\xfe", "ä\u2028".encode(), b"plain \\ name", b"\x1b[2J"]
    for name in names:
        bench.make(name)
    paths = [record["path"] for record in records(bench)[1:]]
    assert paths[3] == "/plain \\ name"
    assert all(isinstance(paths[number], dict) for number in (0, 1, 2, 4))
    bench.close()


async def test_refused_change_leaves_no_record(tmp_path: Path) -> None:
    bench = audited(tmp_path)
    bench.make(b"f")
    with pytest.raises(NameExists):
        bench.make(b"f")
    assert operations(bench) == ["start", "create"]
    bench.close()


async def test_change_that_could_not_be_committed_is_taken_back_in_the_log(tmp_path: Path) -> None:
    """SEMANTICS: AUDIT-2"""
    bench = audited(tmp_path)
    bench.make(b"f")
    database = bench.archive.database
    with pytest.raises(ZeroDivisionError), database.transaction():
        raise ZeroDivisionError
    execute = database.execute

    def failing(statement: str, *rest: Any) -> Any:
        if statement == "COMMIT":
            raise ZeroDivisionError
        return execute(statement, *rest)

    database.execute = failing
    with pytest.raises(ZeroDivisionError):
        bench.make(b"g")
    database.execute = execute
    bench.make(b"h")
    last = records(bench)[-3:]
    assert [record["op"] for record in last] == ["create", "undone", "create"]
    assert (last[1]["first"], last[1]["last"]) == (last[0]["seq"], last[0]["seq"])
    bench.close()


async def test_who_sealed_it_is_known_also_when_the_process_has_ended(tmp_path: Path) -> None:
    bench = audited(tmp_path)
    names = iter(["cp", None, None, None])
    bench.archive.database.audit._command_name = lambda pid: next(names)  # type: ignore[union-attr]
    caller = Caller(uid=0, gid=0, pid=4_000_000, umask=0)
    node = bench.tree.create(ROOT_INO, b"f", FILE, caller, open_content=True)
    handle = bench.contents.created(node, os.O_WRONLY, 0)
    bench.archive.database.audit._callers.clear()  # type: ignore[union-attr]  # a second later
    bench.contents.release(handle)
    assert [record.get("command") for record in records(bench)[1:]] == ["cp", "cp"]
    bench.close()


class Full:
    """A disk without room for the audit log, as long as `is_full`; some bytes still go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        write = os.write

        def written(descriptor: int, data: bytes) -> int:
            if self.is_full and data.startswith(b'{"prev"'):
                if len(data) % 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(descriptor, data[: len(data) // 2])
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", written)


async def test_full_disk_is_a_gap_that_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: AUDIT-4"""
    bench = audited(tmp_path)
    bench.make(b"before")
    full = Full(monkeypatch)
    for name in (b"lost", b"lost too", b"lost as well"):
        bench.make(name)
    full.is_full = False
    bench.make(b"after")
    last = records(bench)[-3:]
    assert [record["op"] for record in last] == ["create", "gap", "create"]
    assert last[1]["records"] == 3
    assert last[1]["error"] == "No space left on device"
    assert verify(directory(bench)).notices[0].count("3 changes have no record") == 1
    bench.close()


async def test_full_disk_refuses_where_records_are_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: AUDIT-4"""
    bench = audited(tmp_path, required=True)
    bench.make(b"before")
    full = Full(monkeypatch)
    for name in (b"refused", b"refused as well"):
        with pytest.raises(StateFull, match="no change goes without a record"):
            bench.make(name)
        assert bench.tree.lookup(ROOT_INO, name) is None
    full.is_full = False
    bench.make(b"after")
    assert operations(bench) == ["start", "create", "create"]
    bench.close()


def spoil_end(bench: Workbench, name: str, spoilt: bytes) -> None:
    with open(os.path.join(directory(bench), name), "ab") as file:
        file.write(spoilt)


def kept(bench: Workbench, name: str) -> bytes:
    return Path(directory(bench), name).read_bytes()


@pytest.mark.parametrize(
    "spoilt",
    [
        b'{"prev":"0000',
        b"\0" * 5000,
        b"\0" * 100 + b"\n",
        b'{"op":"x"}\n{"op":"y"}\n',
        b'{"prev":"' + b"0" * 64 + b'","seq":3,"time":""}\n',
    ],
)
async def test_torn_end_is_kept_apart_and_the_chain_goes_on(tmp_path: Path, spoilt: bytes) -> None:
    """SEMANTICS: AUDIT-2"""
    bench = audited(tmp_path)
    bench.make(b"f")
    bench.close()
    [name] = audit_files(directory(bench))
    spoil_end(bench, name, spoilt)
    bench.open()
    bench.make(b"g")
    found = records(bench)
    assert [r["op"] for r in found] == ["start", "create", "torn", "start", "create"]
    assert kept(bench, found[2]["kept"]) == spoilt
    assert found[2]["size"] == len(spoilt)
    bench.close()


async def test_whole_new_file_that_was_lost(tmp_path: Path) -> None:
    """Of a file that had just been begun only the name has survived."""
    bench = audited(tmp_path)
    bench.make(b"f")
    bench.close()
    spoil_end(bench, "audit-000000000003-20990101.jsonl", b"\0" * 10)
    bench.open()
    bench.make(b"g")
    assert operations(bench) == ["start", "create", "torn", "start", "create"]
    bench.close()


async def test_files_are_begun_by_size_and_day_and_kept_as_long_as_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: AUDIT-5"""
    bench = audited(tmp_path, file_max=65_536, keep_days=2)
    for number in range(300):
        bench.make(b"f%d" % number)
    names = audit_files(directory(bench))
    assert 2 <= len(names) <= 4
    assert operations(bench).count("create") == 300
    now_ns = time.time_ns()
    for day in range(1, 5):
        monkeypatch.setattr(time, "time_ns", lambda day=day: now_ns + day * 86_400 * 10**9)
        bench.make(b"day%d" % day)
    monkeypatch.undo()
    left = audit_files(directory(bench))
    assert not set(names) & set(left)
    assert len(left) == 3
    assert "expired" in operations(bench)
    [notice] = verify(directory(bench)).notices
    assert "what was before it is not here" in notice
    bench.close()


def chain(tmp_path: Path) -> tuple[Path, list[bytes]]:
    """A chain of ten records in one file."""
    files = AuditFiles(str(tmp_path / "audit"), 1 << 20)
    log = audit_log.AuditLog(
        files,
        index=None,  # type: ignore[arg-type]
        required=True,
        user_name=lambda uid: None,
        command_name=lambda pid: None,
    )
    for number in range(10):
        log.note("test", ME, {"number": number})
    log.close()
    [name] = audit_files(str(tmp_path / "audit"))
    path = tmp_path / "audit" / name
    return path, path.read_bytes().splitlines(keepends=True)


TAMPERING: dict[str, tuple[Any, str]] = {
    "changed": (
        lambda lines: [*lines[:4], lines[4].replace(b":4}", b":5}"), *lines[5:]],
        "record 5",
    ),
    "removed": (lambda lines: lines[:4] + lines[5:], "1 are missing"),
    "added": (lambda lines: [*lines[:5], lines[4], *lines[5:]], "put in, or moved"),
    "moved": (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], "missing"),
    "first removed": (lambda lines: lines[1:], "should begin with record 1"),
    "no record": (lambda lines: [*lines[:4], b"x\n", *lines[4:]], "is no record"),
    "cut off inside": (lambda lines: [*lines[:4], lines[4][:50], *lines[5:]], "is no record"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_shows(tmp_path: Path, name: str) -> None:
    """SEMANTICS: AUDIT-3"""
    tamper, words = TAMPERING[name]
    path, lines = chain(tmp_path)
    assert verify(str(path.parent)).is_good
    path.write_bytes(b"".join(tamper(lines)))
    verdict = verify(str(path.parent))
    assert not verdict.is_good
    assert words in " ".join(verdict.faults)


def test_first_file_removed_is_told_of_and_a_middle_one_is_a_fault(tmp_path: Path) -> None:
    path, lines = chain(tmp_path)
    for first, last in ((0, 4), (4, 7), (7, 10)):
        name = f"audit-{first + 1:012}-2026112{first}.jsonl"
        (path.parent / name).write_bytes(b"".join(lines[first:last]))
    path.unlink()
    assert verify(str(path.parent)).records == 10
    names = audit_files(str(path.parent))
    (path.parent / names[1]).rename(tmp_path / "away")
    assert "3 are missing" in verify(str(path.parent)).faults[0]
    (path.parent / names[0]).unlink()
    verdict = verify(str(path.parent))
    assert verdict.is_good
    assert (verdict.first_seq, verdict.head.seq) == (8, 10)


def test_names_of_users_are_those_of_passwd(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text("root:x:0:0::/:/bin/sh\nbroken\n")
    users = LocalUsers(path)
    assert (users.name(0), users.name(7)) == ("root", None)
    path.write_text(path.read_text() + "anna:x:7:7::/:/bin/sh\n")
    os.utime(path, ns=(1, 1))
    assert users.name(7) == "anna"
    assert LocalUsers(tmp_path / "absent").name(0) is None


def test_records_are_json_that_anybody_reads(tmp_path: Path) -> None:
    _, lines = chain(tmp_path)
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 11))


async def test_records_are_on_the_disk_before_the_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEMANTICS: AUDIT-2"""
    bench = audited(tmp_path, file_max=65_536)
    synced: list[str] = []
    fdatasync = os.fdatasync

    def noted(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    bench.make(b"f")
    bench.archive.database.sync_log()
    [name] = audit_files(directory(bench))
    assert synced == [name, "state.db-wal"]
    bench.archive.database.sync_log()
    assert synced[2:] == ["state.db-wal"]  # nothing new is in the audit log
    synced.clear()
    for number in range(250):
        bench.make(b"f%d" % number)
    bench.archive.database.sync_log()
    assert synced == [*audit_files(directory(bench)), "state.db-wal"]
    synced.clear()
    sync_newest(directory(bench))  # as the transfer process does
    assert synced == audit_files(directory(bench))[-2:]
    bench.close()
