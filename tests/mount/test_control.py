"""The control socket of a real mount: every method, users and groups, jobs, reload, log levels."""

import grp
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs_daemon.control.methods import METHODS
from artstorefs_daemon.control.models import Discovery
from artstorefs_tools.control_client import ControlClient, ControlRefused

from ..harness import MountedArchive, children, wait_for_end, wait_until
from .conftest import LogWatch, make_archive, remove_archive
from .users import User, run_as

GROUP = next(group for group in grp.getgrall() if group.gr_gid)
STRANGER = User(65_001, 65_001)


def client(archive: MountedArchive) -> ControlClient:
    return ControlClient(archive.base / "runtime", "test", timeout_s=30)


def edit(archive: MountedArchive, old: str, new: str) -> None:
    text = archive.toml.read_text()
    assert old in text
    archive.toml.write_text(text.replace(old, new))


@pytest.fixture
def moving_archive() -> Iterator[MountedArchive]:
    """Of two elements, the first of which is in mode rw and may have a medium."""
    archive = make_archive(element_arguments=",mode=rw", further=",priority=2")
    archive.stop()
    (archive.base / "medium").mkdir()
    edit(archive, 'mode = "rw"', f'mode = "rw"\noffline_path = "{archive.base}/medium"')
    yield archive.start()
    remove_archive(archive)


@pytest.mark.slow
def test_every_method_answers_as_its_model_says(moving_archive: MountedArchive) -> None:
    archive = moving_archive
    (archive.mount / "f").write_bytes(b"x" * 100)
    ino = (archive.mount / "f").stat().st_ino
    told: list[dict[str, Any]] = []
    orders = ("cache_warm", "cache_pin", "cache_unpin", "cache_drop")
    there = {"source": "main", "target": "second"}
    params: dict[str, Any] = {
        **{order: {"ino": ino} for order in orders},
        "fsck": {"deep": True, "rate": 1 << 30},
        "mode_change": {"element": "main", "mode": "ro", "wait": False},
        "mode_cancel": {"element": "main"},
        "migrate_plan": there,
        "migrate": {**there, "wait": False},
        "migration_change": {"step": "cancel"},
        "medium_prepare": {"element": "main"},
        "recall": {"inos": [ino], "estimate": True},
        "recall_release": {"inos": [ino]},
    }
    archive.flush()
    held = os.open(archive.mount / "f", os.O_WRONLY)  # or there would be nothing to cancel
    with client(archive) as control:
        assert control.call("flush", {"detach": True}) == {"job": 1}
        params |= {"job": {"job": 1}, "job_cancel": {"job": 1}}
        for name, method in METHODS.items():
            if name != "shutdown":
                result = control.call_with_progress(name, told.append, params.get(name))
                if method.result is not Discovery:
                    assert method.written(result), name
        os.close(held)
        assert control.call("shutdown") == {}
    assert {"objects": 1, "bytes": 100, "objects_total": 1, "bytes_total": 100} in told


@pytest.mark.slow
def test_check_reads_a_mounted_archive_and_tells_how_far_it_is(
    fresh_archive: MountedArchive,
) -> None:
    for number in range(20):
        (fresh_archive.mount / f"f{number}").write_bytes(b"x" * 1000)
    fresh_archive.flush()
    damaged = fresh_archive.objects()[0]
    content = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(b"y" * len(content))
    told: list[dict[str, Any]] = []
    with client(fresh_archive) as control:
        report = control.call_with_progress("fsck", told.append, {"deep": True})
    assert (report["mounted"], report["deep"], report["hashed_objects"]) == (True, True, 20)
    assert (report["left"], sum(report["counts"].values())) == (1, 1)
    assert report["findings"][0]["key"].endswith(damaged.name.removesuffix(".attr.json"))
    assert told[0]["objects_total"] == 20


@pytest.mark.slow
def test_check_that_is_cancelled_ends_its_process(fresh_archive: MountedArchive) -> None:
    (fresh_archive.mount / "f").write_bytes(os.urandom(20 << 20))
    fresh_archive.flush()
    before = children(fresh_archive.pid)
    with client(fresh_archive) as control:
        assert control.call("fsck", {"detach": True, "deep": True, "rate": 1 << 20}) == {"job": 1}
        wait_until(lambda: len(children(fresh_archive.pid)) > len(before))
        with pytest.raises(ControlRefused, match="a check is under way already"):
            control.call("fsck")
        assert control.call_with_progress("job_cancel", lambda _: None, {"job": 1})["state"] == (
            "cancelled"
        )
        assert children(fresh_archive.pid) == before


# ------------------------------------------------------------------------------ users and groups


@pytest.mark.slow
@pytest.mark.usefixtures("root")
def test_members_of_the_configured_groups_may_change_and_others_read(
    fresh_archive: MountedArchive,
) -> None:
    fresh_archive.stop()
    edit(fresh_archive, "[[element]]", f'control_change_group = "{GROUP.gr_name}"\n[[element]]')
    fresh_archive.start()

    def ask(method: str) -> Callable[[], Any]:
        def call() -> Any:
            try:
                with ControlClient(Path(), "test") as control:
                    return control.call(method)
            except ControlRefused as exc:
                return exc.code

        return call

    runtime = fresh_archive.base / "runtime"
    member = User(STRANGER.uid, STRANGER.gid, groups=(65_100, GROUP.gr_gid))
    assert run_as(STRANGER, runtime, ask("status"))["archive"] == "test"
    assert run_as(STRANGER, runtime, ask("flush")) == -32001
    assert run_as(member, runtime, ask("flush"))["pending"] == 0
    assert run_as(member, runtime, ask("shutdown")) == -32001
    edit(fresh_archive, "control_change_group", "control_admin_group")
    assert run_as(member, runtime, ask("reload")) == -32001
    assert fresh_archive.ask("reload")["changed"] == [
        "control_change_group",
        "control_admin_group",
    ]
    assert run_as(member, runtime, ask("reload")) == {"changed": []}


def test_configuration_with_an_unknown_group_is_refused(fresh_archive: MountedArchive) -> None:
    edit(fresh_archive, "[[element]]", 'control_admin_group = "no such"\n[[element]]')
    done = fresh_archive.run("config", str(fresh_archive.toml), "--check", check=False)
    assert done.returncode == 2
    assert 'control_admin_group: there is no group "no such" on this machine' in done.stderr
    done = fresh_archive.run("reload", str(fresh_archive.toml), check=False)
    assert (done.returncode, 'no group "no such"' in done.stderr) == (1, True)


# --------------------------------------------------------------------------------------- reload


@pytest.mark.slow
def test_reload_by_command_and_by_signal(
    fresh_archive: MountedArchive, log_watch: LogWatch
) -> None:
    def reload() -> subprocess.CompletedProcess[str]:
        return fresh_archive.run("reload", str(fresh_archive.toml), check=False)

    assert reload().stdout == "nothing has changed\n"
    edit(fresh_archive, "settle_s = 0.2", 'settle_s = 3000\nspool_max = "1GiB"')
    assert reload().stdout == "changed: settle_s, spool_max\n"
    assert fresh_archive.ask("status")["spool"]["limit_bytes"] == 1 << 30
    (fresh_archive.mount / "f").write_bytes(b"x")
    time.sleep(0.5)
    assert fresh_archive.ask("status")["pending"]["intents"], "it rests for an hour now"

    edit(fresh_archive, "settle_s = 3000", 'settle_s = 0.1\ndurability = "element"')
    done = reload()
    assert done.returncode == 1
    assert 'durability: "log" → "element": this needs a restart' in done.stderr
    log_watch.allow("not reloaded: durability")
    os.kill(fresh_archive.pid, signal.SIGHUP)
    wait_until(lambda: "not reloaded: durability" in fresh_archive.log())
    assert fresh_archive.ask("status")["pending"]["intents"]

    edit(fresh_archive, 'durability = "element"', "")
    os.kill(fresh_archive.pid, signal.SIGHUP)
    wait_until(lambda: "reloaded: settle_s" in fresh_archive.log())
    wait_until(lambda: fresh_archive.ask("status")["pending"]["intents"] == 0, limit_s=10)


@pytest.mark.slow
def test_transfer_process_that_follows_has_the_configuration_of_now(
    fresh_archive: MountedArchive,
) -> None:
    edit(fresh_archive, "settle_s = 0.2", "settle_s = 0.125")
    assert fresh_archive.ask("reload") == {"changed": ["settle_s"]}
    before = fresh_archive.ask("status")["transfer_pid"]
    os.kill(before, signal.SIGKILL)
    wait_for_end(before)
    wait_until(lambda: fresh_archive.ask("status")["transfer_pid"] not in (0, before))
    pid = fresh_archive.ask("status")["transfer_pid"]
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert any(word.startswith(b"{") and json.loads(word)["settle_s"] == 0.125 for word in words)


# ---------------------------------------------------------------------------------- log levels


@pytest.mark.slow
def test_log_level_reaches_the_transfer_process_and_the_one_after_it(
    fresh_archive: MountedArchive,
) -> None:
    def carried() -> int:
        return len(re.findall(r" DEBUG transfer\S* .*: batch ", fresh_archive.log()))

    def write_and_flush(name: str) -> None:
        (fresh_archive.mount / name).write_bytes(b"x")
        fresh_archive.ask("flush")

    write_and_flush("a")
    assert carried() == 0
    done = fresh_archive.run("log", str(fresh_archive.toml), "artstorefs.transfer", "debug")
    assert done.stdout.split() == ["root", "info", "artstorefs.transfer", "debug"]
    write_and_flush("b")
    wait_until(lambda: carried() > 0)
    before = fresh_archive.ask("status")["transfer_pid"]
    os.kill(before, signal.SIGKILL)
    wait_for_end(before)
    seen = carried()
    write_and_flush("c")
    wait_until(lambda: carried() > seen)
    fresh_archive.run("log", str(fresh_archive.toml), "artstorefs.transfer", "default")
    seen = carried()
    write_and_flush("d")
    assert carried() == seen


# ----------------------------------------------------------------------------------------- jobs


@pytest.mark.slow
def test_job_survives_the_client_that_has_started_it(fresh_archive: MountedArchive) -> None:
    program = (
        "import sys; from pathlib import Path; "
        "from artstorefs_tools.control_client import ControlClient\n"
        "with ControlClient(Path(sys.argv[1]), 'test') as control:\n"
        "    print(control.call('fsck', {'detach': True})['job'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(fresh_archive.base / "runtime")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "1\n"
    (job,) = json.loads(fresh_archive.run("jobs", str(fresh_archive.toml), "--json").stdout)["jobs"]
    assert job["state"] in ("running", "done")
    assert job["by"]["uid"] == os.getuid()
    done = fresh_archive.run("jobs", str(fresh_archive.toml), "--wait", "1")
    assert "fsck" in done.stdout
    assert "done" in done.stdout
