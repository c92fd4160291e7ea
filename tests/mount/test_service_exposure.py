"""What `systemd-analyze` says of the units: nothing wrong, and how much an attacker could do."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMITS = {
    "artstorefs@.service": 1.6,
    "artstorefs-mount@.service": 4.5,
    "artstorefs-root@.service": 4.5,
    "artstorefs-fsck@.service": 3.5,
    "artstorefs-backup@.service": 3.5,
}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the system's units, installed somewhere, each for the archive museum."""
    root = tmp_path_factory.mktemp("root")
    command = [sys.executable, "-m", "artstorefs_tools.command_line", "install-units"]
    subprocess.run([*command, "--root", str(root)], check=True, stdout=subprocess.DEVNULL)
    folder = root / "etc/systemd/system"
    for name in LIMITS:
        (folder / name.replace("@.", "@museum.")).write_bytes((folder / name).read_bytes())
    return folder


@pytest.mark.parametrize("name", LIMITS)
def test_exposure_is_limited(units: Path, name: str) -> None:
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--no-pager"),
            *(f"--threshold={LIMITS[name] * 10:.0f}", f"./{name.replace('@.', '@museum.')}"),
        ],
        cwd=units,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_units_are_in_order(units: Path) -> None:
    names = [str(units / name.replace("@.", "@museum.")) for name in LIMITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False
    )
    assert "artstorefs" not in done.stderr
    assert done.returncode == 0


def settings(units: Path, name: str) -> dict[str, str]:
    lines = (units / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_daemon_has_neither_user_nor_capabilities_of_roots(units: Path) -> None:
    daemon = settings(units, "artstorefs@.service")
    assert daemon["User"] == "artstorefs"
    assert daemon["CapabilityBoundingSet"] == daemon["AmbientCapabilities"] == ""
    assert daemon["NoNewPrivileges"] == "yes"


@pytest.mark.parametrize("name", ["artstorefs-mount@.service", "artstorefs-root@.service"])
def test_mount_of_the_unit_is_seen_by_all(units: Path, name: str) -> None:
    """systemd.exec(5): each of these would give it a mount namespace of its own."""
    hiding = {
        *("PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateIPC", "PrivateNetwork"),
        *("PrivateUsers", "ProtectSystem", "ProtectHome", "ProtectKernelTunables"),
        *("ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc"),
        *("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths", "DynamicUser"),
        *("TemporaryFileSystem", "NoExecPaths", "ExecPaths", "MountFlags", "RootDirectory"),
    }
    assert not hiding & settings(units, name).keys()


def test_one_archive_has_one_service(units: Path) -> None:
    """And no two for a moment: systemd gives the directories of one to the other (systemd.unit(5):
    of two that are ordered in any way one ends before the other begins)."""
    assert settings(units, "artstorefs@.service")["Conflicts"] == "artstorefs-root@%i.service"
    assert "After=artstorefs@%i.service" in (units / "artstorefs-root@.service").read_text()
    assert settings(units, "artstorefs-root@.service")["Conflicts"] == "artstorefs@%i.service"
