"""An archive as a service of a real systemd: installed from the wheel, killed, hung, stopped."""

import json
import re
import time
from collections.abc import Iterator

import pytest

from .machine import CommandFailed, Machine, wait_for
from .museum import CREDENTIALS, Museum

pytestmark = pytest.mark.slow

WHOLE_LIMIT_S = 5.0
"""A daemon that has died is restarted, mounted, and everything is there."""

INTERRUPTION_LIMIT_S = 5.0

ORIGINAL = "/usr/lib/python3.11/json"

EXPOSURE_MAX = {
    "artstorefs@museum.service": 1.6,
    "artstorefs-mount@museum.service": 4.5,
    "artstorefs-root@museum.service": 4.5,
    "artstorefs-fsck@museum.service": 3.5,
    "artstorefs-backup@museum.service": 3.5,
}
"""By `systemd-analyze security`, 0 to 10. Whoever mounts cannot have a view of its own."""


def test_wheel_is_what_runs(museum: Museum) -> None:
    assert museum.machine.run("readlink", "-f", "/sbin/mount.artstorefs").startswith("/opt/")
    command = "import artstorefs; print(artstorefs.__file__)"
    assert museum.machine.run("/opt/artstorefs/bin/python", "-c", command).startswith("/opt/")


def test_account_directories_and_prune_list_are_there(museum: Museum) -> None:
    machine = museum.machine
    assert ":/usr/sbin/nologin" in machine.run("getent", "passwd", "artstorefs")
    described = machine.run("stat", "-c", "%n %a %U", "/etc/artstorefs", "/var/lib/artstorefs")
    assert described.splitlines() == ["/etc/artstorefs 755 root", "/var/lib/artstorefs 711 root"]
    state, cache = "/var/lib/artstorefs/museum", "/var/cache/artstorefs/museum"
    own = machine.run("stat", "-c", "%a %U", state, f"{state}/spool", cache)
    assert own.splitlines() == ["700 artstorefs"] * 3
    assert machine.run("stat", "-c", "%U", museum.element) == "artstorefs\n"
    assert "fuse.artstorefs" in machine.run("cat", "/etc/updatedb.conf")


def test_daemon_has_no_rights_and_its_mount_is_seen_by_all(museum: Museum) -> None:
    machine = museum.machine
    told = machine.run("cat", f"/proc/{museum.pid}/status").splitlines()
    status = {key: value.split() for key, _, value in (line.partition(":") for line in told)}
    uid = machine.run("id", "-u", "artstorefs").strip()
    assert status["Uid"] == [uid] * 4
    assert status["NoNewPrivs"] == ["1"]
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind][0], 16) == 0
    assert museum.is_mounted()
    other = machine.run("stat", "-L", "-c", "%i", "/proc/1/ns/mnt", f"/proc/{museum.pid}/ns/mnt")
    assert len({*other.split()}) == 2, "it has a view of the system of its own"


@pytest.fixture(params=["artstorefs", "artstorefs-root"])
def quick(booted: Machine, request: pytest.FixtureRequest) -> Iterator[Museum]:
    """Its daemon, once restarted, goes before whatever else the processors have to do: limits are
    those of a machine of its own, and here other tests run beside."""
    is_roots = request.param == "artstorefs-root"
    museum = Museum(booted, "vault" if is_roots else "museum", is_roots=is_roots).serve()
    drop_in = "[Service]\nCPUSchedulingPolicy=rr\nCPUSchedulingPriority=1\n"
    with museum.dropped_in("quick", drop_in):
        yield museum
    if is_roots:
        booted.run("systemctl", "disable", "--now", museum.unit)


def test_killed_daemon_is_back_and_whole(quick: Museum) -> None:
    museum = quick
    directory = museum.new_directory("killed")
    museum.machine.run("cp", "-r", ORIGINAL, directory)
    before = museum.pid
    begun = time.monotonic()
    museum.kill("KILL")
    museum.wait_for_other_daemon(before)
    assert museum.is_whole(f"{directory}/json", ORIGINAL)
    took_s = time.monotonic() - begun
    print(f"kill -9 of {museum.unit}: mounted and whole after {took_s:.1f} s")
    assert took_s <= WHOLE_LIMIT_S
    # Services with a view of their own have the new mount in it too, and the dead one no more.
    found = f"grep -sc ' {museum.mount} ' /proc/[1-9]*/mountinfo"
    counts = museum.machine.run("sh", "-c", found, check=False).split()
    assert {count.rpartition(":")[2] for count in counts} == {"1"}, counts


@pytest.mark.parametrize("way", ["kill -KILL", "systemctl restart"])
def test_stub_is_followed_by_another_and_who_uses_the_mount_does_not_notice(
    museum: Museum, way: str
) -> None:
    machine, directory = museum.machine, museum.new_directory("stub")
    before, told = museum.pid, "another stub has taken over"
    followed = museum.journal().count(told)
    stub = museum.show("MainPID", museum.stub) if way.startswith("kill") else museum.stub
    machine.run(*way.split(), stub)
    machine.run("cp", "-r", ORIGINAL, directory)
    wait_for(lambda: museum.journal().count(told) > followed, 30)
    assert museum.is_whole(f"{directory}/json", ORIGINAL)
    assert museum.pid == before


def test_stop_under_load_loses_nothing(museum: Museum) -> None:
    directory = museum.new_directory("load")
    journal = "/root/load-journal"
    museum.machine.run("rm", "-f", journal)
    writer = museum.machine.start("python3", "/root/load.py", "write", directory, journal)
    written = museum.machine.path(journal)
    wait_for(lambda: written.exists() and written.read_text().count("\n") > 200, 60)
    begun = time.monotonic()
    museum.machine.run("systemctl", "stop", museum.unit)
    took_s = time.monotonic() - begun
    said = writer.communicate(timeout=60)[0].decode()
    assert "Transport endpoint is not connected" in said or "abort" in said, said
    assert museum.show("Result") == "success"
    assert not museum.is_mounted()
    assert not list(museum.machine.path(museum.mount).iterdir())
    wait_for(lambda: museum.show("ActiveState", museum.stub) == "inactive", 10)
    museum.machine.run("systemctl", "start", museum.unit)
    count = int(museum.load("check", directory, journal))
    print(f"stopped in {took_s:.1f} s while a program wrote; {count} files are whole")
    museum.machine.run("artstorefs", "flush", museum.name)


def test_hung_loop_is_restarted_by_the_watchdog(museum: Museum) -> None:
    drop_in = "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n"
    with museum.dropped_in("watchdog", drop_in):
        museum.machine.run("systemctl", "restart", museum.unit)
        before = museum.pid
        begun = time.monotonic()
        museum.kill("STOP")
        museum.wait_for_other_daemon(before)
        print(f"hung: mounted again after {time.monotonic() - begun:.1f} s")
        assert "Watchdog timeout" in museum.journal()
    museum.machine.run("systemctl", "restart", museum.unit)


def test_restart_for_an_upgrade_is_noticed_by_nobody_who_uses_the_mount(quick: Museum) -> None:
    """But for a pause. UPGRADE.md has what it is about."""
    museum = quick
    directory, machine = museum.new_directory("upgrade"), museum.machine
    end = "/root/watched"
    machine.run("rm", "-f", end)
    machine.run("sh", "-c", f"head -c 1M /dev/urandom > {directory}/read")
    machine.run("artstorefs", "flush", museum.name)
    watcher = machine.start("python3", "/root/load.py", "watch", directory, end)
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == b"watching\n"
    begun = time.monotonic()
    machine.run("systemctl", "restart", museum.unit)
    took_s = time.monotonic() - begun
    machine.write(end, "")
    seen = json.loads(watcher.communicate(timeout=60)[0])
    print(f"systemctl restart {museum.unit} took {took_s:.1f} s: {seen}")
    for kind in ("names", "reads", "writes"):
        assert seen[kind]["failed_s"] == {}, kind
        assert seen[kind]["longest_s"] <= INTERRUPTION_LIMIT_S, kind
    machine.run("artstorefs", "flush", museum.name)
    assert museum.load("check-written", directory, str(seen["rounds"])) == "whole"


@pytest.mark.parametrize("unit", EXPOSURE_MAX)
def test_exposure_of_a_unit(museum: Museum, unit: str) -> None:
    told = museum.machine.run("systemd-analyze", "security", "--no-pager", unit, check=False)
    found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([0-9.]+)", told)
    assert found, told
    print(f"{unit}: {found[1]}")
    assert float(found[1]) <= EXPOSURE_MAX[unit]


@pytest.mark.parametrize(
    ("folder", "options", "count"),
    [("/etc/systemd/system", [], 8), ("/root/.config/systemd/user", ["--user"], 5)],
)
def test_units_verify(museum: Museum, folder: str, options: list[str], count: int) -> None:
    museum.machine.run("artstorefs", "install-units", *options)
    files = [path.name for path in museum.machine.path(folder).iterdir() if path.is_file()]
    units = [f"{folder}/{name.replace('@', '@museum')}" for name in files if "artstorefs" in name]
    assert len(units) >= count
    command = ("systemd-analyze", *options, "verify", *units)
    assert museum.machine.run(*command, environment={"XDG_RUNTIME_DIR": "/run"}) == ""


def test_reload_takes_over_what_can_change_and_fails_for_the_rest(museum: Museum) -> None:
    """With the daemon and its mount as they were."""
    machine, before = museum.machine, museum.pid
    file = f"/etc/artstorefs/{museum.name}.toml"
    configured = machine.path(file).read_text()
    try:
        machine.write(file, f'cache_max = "7 GiB"\n{configured}')
        machine.run("systemctl", "reload", museum.unit)
        status = json.loads(machine.run("artstorefs", "status", museum.name, "--json"))
        assert status["cache"]["limit_bytes"] == 7 << 30
        machine.write(file, f'durability = "element"\n{configured}')
        with pytest.raises(CommandFailed):
            machine.run("systemctl", "reload", museum.unit)
        assert re.search("durability.*restart", museum.journal())
    finally:
        machine.write(file, configured)
        machine.run("systemctl", "reload", museum.unit)
    assert museum.show("ActiveState") == "active"
    assert museum.pid == before
    assert museum.is_mounted()


def test_credential_of_the_service_manager_reaches_the_daemon(museum: Museum) -> None:
    """As a file that is the daemon's alone, which fsck finds too, as the same user."""
    seen = f"/run/credentials/{museum.unit}/s3"
    as_artstorefs = ("setpriv", "--reuid=artstorefs", "--regid=artstorefs", "--clear-groups")
    assert museum.machine.run(*as_artstorefs, "cat", seen) == CREDENTIALS
    seen = f"/proc/{museum.pid}/root{seen}"
    assert museum.machine.run("cat", seen) == CREDENTIALS
    why = "from artstorefs.elements.secrets import why_no_secret as why; import sys, os"
    command = f"{why}; print(why(sys.argv[1], int(sys.argv[2]), {{}}))"
    uid = museum.machine.run("id", "-u", "artstorefs").strip()
    python = "/opt/artstorefs/bin/python"
    assert museum.machine.run(python, "-c", command, seen, uid) == "None\n"


def test_monthly_check_reads_every_object_and_waits_for_everybody(museum: Museum) -> None:
    machine = museum.machine
    machine.run("cp", ORIGINAL + "/decoder.py", museum.mount)
    machine.run("artstorefs", "flush", museum.name)
    machine.run("systemctl", "enable", "--now", "artstorefs-fsck@museum.timer")
    assert "artstorefs-fsck@museum.timer" in machine.run("systemctl", "list-timers")
    machine.run("systemctl", "start", "artstorefs-fsck@museum.service")
    told = machine.run("journalctl", "--no-pager", "-u", "artstorefs-fsck@museum.service")
    assert re.search(r"[1-9]\d* hashed", told), told
    show = machine.run("systemctl", "show", "artstorefs-fsck@museum.service")
    assert {"Nice=19", "IOSchedulingClass=3", "Result=success"} <= set(show.splitlines())


def test_daily_copy_of_the_index_is_where_the_disk_of_the_index_is_not(museum: Museum) -> None:
    """Of an archive that is another user's, mounted and not; for root alone to read."""
    machine, place = museum.machine, "/var/backups/artstorefs"
    assert machine.run("stat", "-c", "%a %U", place) == "700 root\n"
    machine.run("systemctl", "enable", "--now", "artstorefs-backup@museum.timer")
    assert "artstorefs-backup@museum.timer" in machine.run("systemctl", "list-timers")
    machine.run("sh", "-c", f"rm -f {place}/*")

    def copies() -> list[str]:
        machine.run("systemctl", "start", "artstorefs-backup@museum.service")
        return machine.run("sh", "-c", f"stat -c '%a %U %n' {place}/*").splitlines()

    machine.run("cp", ORIGINAL + "/decoder.py", f"{museum.mount}/backed-up")
    machine.run("artstorefs", "flush", museum.name)
    (copy,) = copies()
    assert re.fullmatch(rf"600 root {place}/index-\d{{8}}T\d{{6}}Z-museum.db", copy)
    assert copies() == [copy], "nothing has changed"
    machine.run("systemctl", "stop", museum.unit)
    newest = copies()[-1]
    assert newest >= copy
    assert copies()[-1] == newest
    state = "/var/lib/artstorefs/museum"
    owners = machine.run("sh", "-c", f"stat -c %U {state}/* {state}/backup/*").split()
    assert {*owners} == {"artstorefs"}
    # What it is for, as the README says it.
    machine.run("mv", state, "/var/lib/artstorefs/lost")
    owner = "-o artstorefs -g artstorefs"
    machine.run("sh", "-c", f"install -d {owner} -m 700 {state} {state}/backup")
    machine.run("sh", "-c", f"install {owner} -m 600 -t {state}/backup {newest.split()[2]}")
    machine.run("systemctl", "start", museum.unit)
    assert "-museum.db was taken and brought up to date" in museum.journal()
    machine.run("cmp", ORIGINAL + "/decoder.py", f"{museum.mount}/backed-up")


@pytest.fixture
def anna(booted: Machine) -> list[str]:
    """The command that runs one as anna, an ordinary user whose service manager is running."""
    if booted.run("getent", "passwd", "anna", check=False) == "":
        booted.run("useradd", "--create-home", "anna")
        booted.run("loginctl", "enable-linger", "anna")
    uid = booted.run("id", "-u", "anna").strip()
    runtime = f"/run/user/{uid}"
    wait_for(booted.path(f"{runtime}/systemd/private").exists, 30)
    as_anna = ["setpriv", "--reuid", "anna", "--regid", "anna", "--init-groups", "env"]
    return [*as_anna, "HOME=/home/anna", f"XDG_RUNTIME_DIR={runtime}"]


def test_service_of_an_ordinary_user(booted: Machine, anna: list[str]) -> None:
    """No step of root but the installation of the package."""

    def run(*command: str) -> str:
        return booted.run(*anna, *command)

    run("mkdir", "-p", "/home/anna/mine")
    element = "main=local:/home/anna/objects"
    run("artstorefs", "init", "mine", "--element", element, "--mountpoint", "/home/anna/mine")
    run("artstorefs", "install-units", "--user")
    run("systemctl", "--user", "daemon-reload")
    run("systemctl", "--user", "enable", "--now", "artstorefs@mine")
    assert run("stat", "-f", "-c", "%T", "/home/anna/mine") == "fuseblk\n"
    run("cp", "-r", ORIGINAL, "/home/anna/mine")
    before = run("systemctl", "--user", "show", "-P", "MainPID", "artstorefs@mine").strip()
    run("kill", "-KILL", before)

    def is_back() -> bool:
        now = run("systemctl", "--user", "show", "-P", "MainPID", "artstorefs@mine").strip()
        active = booted.run(
            *anna, "systemctl", "--user", "is-active", "artstorefs@mine", check=False
        )
        return now not in ("0", before) and active == "active\n"

    print(f"kill -9 of a user's: active again after {wait_for(is_back, 60):.1f} s")
    run("diff", "-r", ORIGINAL, "/home/anna/mine/json")
    device = run("stat", "-c", "%d", "/home/anna/mine")
    run("systemctl", "--user", "restart", "artstorefs@mine")
    assert run("stat", "-c", "%d", "/home/anna/mine") == device, "it was mounted anew"
    run("systemctl", "--user", "start", "artstorefs-backup@mine.service")
    assert "-mine.db" in run("ls", "/home/anna/.local/share/artstorefs/backups")
    run("systemctl", "--user", "disable", "--now", "artstorefs@mine")
    assert run("ls", "/home/anna/mine") == ""
