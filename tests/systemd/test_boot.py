"""What a boot mounts: an enabled service, and lines of fstab with and without automount."""

from collections.abc import Iterator

import pytest

from .machine import Machine, wait_for
from .museum import Museum

pytestmark = pytest.mark.slow

FSTAB = """\
cellar /srv/cellar artstorefs _netdev,nofail 0 0
attic /srv/attic artstorefs _netdev,nofail,x-systemd.automount,x-systemd.mount-timeout=60 0 0
"""


@pytest.fixture(scope="module")
def rebooted(booted: Machine) -> Iterator[Machine]:
    """The machine, booted again with those."""
    museum = Museum(booted).serve()
    booted.run("cp", "/etc/hostname", museum.mount)
    for name in ("cellar", "attic"):
        Museum(booted, name)
    booted.write("/etc/fstab", FSTAB)
    print(f"rebooted in {booted.reboot():.1f} s")
    yield booted
    booted.write("/etc/fstab", "")
    booted.run("systemctl", "daemon-reload")


def kind(machine: Machine, place: str) -> str:
    """The type of what is mounted there, the topmost last; nothing is asked of it."""
    return machine.run("findmnt", "-n", "-o", "FSTYPE", "--mountpoint", place, check=False)


def test_enabled_service_is_mounted_after_a_reboot(rebooted: Machine) -> None:
    assert kind(rebooted, "/srv/museum") == "fuse.artstorefs\n"
    assert rebooted.run("cat", "/srv/museum/hostname") == "machine\n"


def test_line_of_fstab_is_mounted_at_boot(rebooted: Machine) -> None:
    assert kind(rebooted, "/srv/cellar") == "fuse.artstorefs\n"
    rebooted.run("cp", "/etc/hostname", "/srv/cellar")
    assert rebooted.run("cat", "/srv/cellar/hostname") == "machine\n"


def test_first_access_mounts_what_fstab_automounts(rebooted: Machine) -> None:
    assert kind(rebooted, "/srv/attic") == "autofs\n"
    rebooted.run("cp", "/etc/hostname", "/srv/attic", limit_s=60)
    assert kind(rebooted, "/srv/attic").split() == ["autofs", "fuse.artstorefs"]
    rebooted.run("umount", "/srv/attic")
    wait_for(lambda: kind(rebooted, "/srv/attic") == "autofs\n", 30)
    assert rebooted.run("cat", "/srv/attic/hostname", limit_s=60) == "machine\n"
