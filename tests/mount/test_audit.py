"""The audit log of a mounted archive: everything that was acknowledged is in it, whatever ends the
daemon."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..harness import MountedArchive, wait_until
from .conftest import SETTINGS, make_archive, remove_archive

AUDITED = f"{SETTINGS}\n[audit]\nenabled = true\n"


@pytest.fixture
def audited() -> Iterator[MountedArchive]:
    archive = make_archive(AUDITED)
    yield archive
    remove_archive(archive)


def records(archive: MountedArchive, *options: str) -> list[dict[str, Any]]:
    shown = archive.run("audit", str(archive.toml), "--json", *options).stdout
    return [json.loads(line) for line in shown.splitlines()]


def told(archive: MountedArchive, operation: str) -> list[Any]:
    """Paths, and where they went to, of an operation."""
    found = [record for record in records(archive) if record["op"] == operation]
    return [(r["path"], r["to"]) if "to" in r else r["path"] for r in found]


def is_whole(archive: MountedArchive) -> bool:
    verdict = json.loads(archive.run("audit", str(archive.toml), "--verify", "--json").stdout)
    return bool(verdict["good"])


def test_every_acknowledged_change_is_there_after_a_kill(audited: MountedArchive) -> None:
    """SEMANTICS: AUDIT-1, AUDIT-2"""
    mount = audited.mount
    (mount / "d").mkdir()
    for number in range(50):
        (mount / "d" / f"f{number}").write_bytes(b"x" * number)
        os.rename(mount / "d" / f"f{number}", mount / "d" / f"g{number}")
    (mount / "d" / "g0").chmod(0o600)
    os.link(mount / "d" / "g1", mount / "link")
    os.symlink("d", mount / "s")
    os.replace(mount / "d" / "g2", mount / "d" / "g3")
    os.unlink(mount / "d" / "g4")
    (mount / "empty").mkdir()
    (mount / "empty").rmdir()
    audited.kill()
    assert is_whole(audited)
    created = [f"/d/f{number}" for number in range(50)]
    assert told(audited, "create") == ["/d", *created, "/s", "/empty"]
    assert told(audited, "rename") == [
        *((f"/d/f{n}", f"/d/g{n}") for n in range(50)),
        ("/d/g2", "/d/g3"),
    ]
    assert told(audited, "remove") == ["/d/g4", "/empty"]
    assert told(audited, "link") == ["/link"]
    [chmod] = [record for record in records(audited) if record["op"] == "permissions"]
    assert (chmod["path"], chmod["mode"], chmod["before"]["mode"]) == ("/d/g0", "0600", "0644")
    me = {"uid": os.geteuid(), "gid": os.getegid(), "pid": os.getpid()}
    assert {key: chmod[key] for key in me} == me
    assert chmod["command"] == Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    replaced = next(r["replaced"] for r in records(audited) if "replaced" in r)
    assert replaced["links_left"] == 0
    assert replaced["size"] == 3
    audited.start()
    assert is_whole(audited)
    starts = [record["after_clean_end"] for record in records(audited) if record["op"] == "start"]
    assert starts == [True, False]


def test_content_gets_its_hash_and_deletion_remembers_it(audited: MountedArchive) -> None:
    """SEMANTICS: AUDIT-3"""
    file = audited.mount / "a b.tif"
    subprocess.run(["sh", "-c", f"printf hello > '{file}'"], check=True)
    audited.flush()
    file.unlink()
    found = {record["op"]: record for record in records(audited, "--path", "/a b.tif")}
    assert set(found) == {"create", "seal", "store", "remove"}
    digest = hashlib.sha256(b"hello").hexdigest()
    assert (found["store"]["sha256"], found["remove"]["sha256"]) == (digest, digest)
    assert found["store"]["element"] == "main"
    assert found["seal"]["size"] == 5
    assert found["seal"]["command"] == "sh"
    assert len({record["file_id"] for record in found.values()}) == 1


def test_mounts_and_control_requests_are_there(audited: MountedArchive) -> None:
    """SEMANTICS: AUDIT-1"""
    audited.flush()
    audited.remount()
    operations = [record["op"] for record in records(audited)]
    assert operations == ["start", "mount", "control", "unmount", "start", "mount"]
    control = records(audited)[2]
    assert (control["method"], control["uid"]) == ("flush", os.geteuid())
    assert records(audited)[4]["after_clean_end"] is True
    heads = [line for line in audited.log().splitlines() if "audit log: record 4 has" in line]
    assert len(heads) == 1  # of the unmount: for whoever keeps it elsewhere


def test_without_configuration_there_is_none(archive: MountedArchive) -> None:
    """SEMANTICS: AUDIT-1"""
    (archive.mount / "f").touch()
    assert not (archive.state / "audit").exists()
    shown = archive.run("audit", str(archive.toml), check=False)
    assert shown.returncode == 1
    assert "has no audit log; [audit] enabled = true begins one" in shown.stderr


def test_log_that_was_moved_away_goes_on_under_its_name(audited: MountedArchive) -> None:
    """By logrotate, which sends SIGHUP."""
    log = audited.state / "daemon.log"
    log.rename(audited.base / "moved.log")
    os.kill(audited.pid, 1)
    wait_until(log.exists)
    (audited.mount / "f").write_bytes(b"x")
    audited.flush()
    audited.remount()
    assert "is unmounted" in audited.log()
