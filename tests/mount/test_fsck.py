"""`artstorefs fsck` beside a real daemon, and after it."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from artstorefs_tools import exit_codes

from ..harness import MountedArchive

LOAD = """
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
number = 0
while time.monotonic() < end:
    number += 1
    path = f"{sys.argv[1]}/n{number % 23}"
    with open(path + ".tmp", "wb") as file:
        file.write(os.urandom(number % 5000 + 1))
    os.setxattr(path + ".tmp", "user.number", str(number).encode())
    os.rename(path + ".tmp", path)
    if number % 5 == 0:
        os.link(path, path + ".link")
        os.unlink(path + ".link")
    if number % 7 == 0:
        os.truncate(path, 0)
    if number % 11 == 0:
        os.mkdir(path + ".d")
        os.rename(path, path + ".d/inside")
        os.unlink(path + ".d/inside")
        os.rmdir(path + ".d")
"""


def fsck(archive: MountedArchive, *options: str) -> tuple[int, dict[str, Any]]:
    done = archive.run("fsck", str(archive.toml), "--json", *options, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.time_limit(120)
def test_no_false_findings_beside_a_busy_daemon(fresh_archive: MountedArchive) -> None:
    """SEMANTICS: FSCK-1"""
    load = subprocess.Popen([sys.executable, "-c", LOAD, str(fresh_archive.mount), "12"])
    try:
        runs = 0
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            code, report = fsck(fresh_archive, "--deep")
            assert (code, report["findings"]) == (exit_codes.OK, [])
            assert report["mounted"]
            runs += report["documents"] > 0
        assert runs, "nothing was carried while the checks ran"
    finally:
        load.wait(60)
    assert load.returncode == 0
    fresh_archive.flush()
    assert fsck(fresh_archive, "--deep")[1]["unsettled"] == 0


def test_status_names_what_a_check_has_found_damaged(fresh_archive: MountedArchive) -> None:
    """SEMANTICS: FSCK-5"""
    (fresh_archive.mount / "d").mkdir()
    (fresh_archive.mount / "d/f").write_bytes(b"content")
    fresh_archive.flush()
    fresh_archive.stop()
    (path,) = (path for path in fresh_archive.element.glob("2*/**/f_*") if path.suffix != ".json")
    path.write_bytes(b"c0ntent")
    assert fsck(fresh_archive, "--deep", "--repair")[0] == exit_codes.FINDINGS_REPAIRED
    fresh_archive.start()
    (entry,) = fresh_archive.status()["damaged"]
    assert (entry["path"], "SHA-256" in entry["error"]) == ("/d/f", True)
    assert "/d/f" in fresh_archive.run("status", str(fresh_archive.toml)).stdout
    (fresh_archive.mount / "d/f").write_bytes(b"new content")
    assert fresh_archive.status()["damaged"] == []


def test_found_mounted_and_repaired_unmounted(
    fresh_archive: MountedArchive,
) -> None:
    (fresh_archive.mount / "f").write_bytes(b"content")
    (fresh_archive.mount / "g").write_bytes(b"the other one")
    fresh_archive.flush()
    assert fsck(fresh_archive)[0] == exit_codes.OK
    next(fresh_archive.element.glob("2*/**/f_*.attr.json")).unlink()
    code, report = fsck(fresh_archive)
    assert code == exit_codes.FINDINGS_LEFT
    assert report["findings"][0]["class"] == "object-without-sidecar"
    assert report["findings"][0]["path"] == "/f"
    refused = fresh_archive.run("fsck", str(fresh_archive.toml), "--repair", check=False)
    assert refused.returncode == exit_codes.FAILURE
    assert "unmount it first: artstorefs umount" in refused.stderr
    assert refused.stderr.count("\n") == 1
    fresh_archive.stop()
    code, report = fsck(fresh_archive, "--repair")
    assert (code, report["left"]) == (exit_codes.FINDINGS_REPAIRED, 0)
    fresh_archive.start()
    fresh_archive.flush()
    assert fsck(fresh_archive, "--deep")[0] == exit_codes.OK
    assert fresh_archive.attributes("f")["file_size"] == 7
    assert (fresh_archive.mount / "f").read_bytes() == b"content"


def test_table_on_a_clean_archive(archive: MountedArchive) -> None:
    archive.flush()
    done = archive.run("fsck", str(archive.toml))
    assert done.stdout.splitlines()[-1] == "nothing is wrong"
    assert done.stderr == ""
    assert Path(archive.state / "fsck-progress.json").exists() is False
