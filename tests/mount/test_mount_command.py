"""mount(8), umount(8) and an ordinary user: as with a filesystem of the kernel."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import MountedArchive
from .private_mounts import PrivateMounts
from .users import ALICE

pytestmark = [pytest.mark.slow, pytest.mark.time_limit(120), pytest.mark.usefixtures("root")]

OPTIONS_OF_FSTAB = "noatime,nofail,_netdev,x-systemd.mount-timeout=60,comment=a=b"


@pytest.fixture(scope="module")
def system() -> Iterator[PrivateMounts]:
    base = Path(tempfile.mkdtemp(prefix="asfs-"))
    base.chmod(0o755)
    system = PrivateMounts(base)
    yield system
    system.close()
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def museum(system: PrivateMounts) -> MountedArchive:
    """An archive of root's, which each test mounts in there."""
    return MountedArchive(system.base / "museum")


@pytest.fixture(scope="module")
def photos(system: PrivateMounts) -> Path:
    """An archive of the ordinary user's, in their home; the path of its configuration."""
    made = system.run(
        *("artstorefs", "init", "photos", "--json"),
        *("--element", "main=local:objects", "--mountpoint", "photos"),
        user=ALICE,
    )
    assert json.loads(made)["archive"] == "photos"
    system.run("mkdir", "photos", user=ALICE)
    return system.home / ".config/artstorefs/photos.toml"


@pytest.fixture(autouse=True)
def _all_is_unmounted(system: PrivateMounts) -> Iterator[None]:
    yield
    for mountpoint in system.table():
        system.run("umount", "--lazy", mountpoint)


# ------------------------------------------------------------------------------ an ordinary user


def test_ordinary_user_mounts_uses_and_unmounts_an_archive_in_their_home(
    system: PrivateMounts, photos: Path
) -> None:
    """With no step of root's but the installation of the package."""
    home = system.home
    system.run("artstorefs", "mount", "photos", user=ALICE)
    assert system.table() == [str(home / "photos")]
    system.run("cp", "/etc/services", "photos/a file", user=ALICE)
    system.run("setfattr", "-n", "user.artist", "-v", "Rembrandt", "photos/a file", user=ALICE)
    assert 'user.artist="Rembrandt"' in system.run("getfattr", "-d", "photos/a file", user=ALICE)
    assert "artist=Rembrandt" in system.run("artstorefs", "attr", "photos/a file", user=ALICE)
    system.run("artstorefs", "flush", "photos", user=ALICE)
    status = json.loads(system.run("artstorefs", "status", "photos", "--json", user=ALICE))
    assert (status["mounted"], status["pending"]["intents"]) == (True, 0)
    (copy,) = home.glob("objects/2*/**/a_file_*.attr.json")
    assert json.loads(copy.read_text())["custom_attributes"] == {"artist": "Rembrandt"}
    system.run("artstorefs", "umount", "photos", user=ALICE)
    assert system.table() == []


def test_ordinary_user_who_may_not_mount_is_told_where_to_look(
    system: PrivateMounts, photos: Path
) -> None:
    device = system.base / "devices/fuse"
    system.run("chmod", "0600", device)
    try:
        told = system.refusal("artstorefs", "mount", "photos", user=ALICE, code=32)
        assert told.endswith("artstorefs doctor says what is missing\n")
        found = system.attempt("artstorefs", "doctor", "photos", user=ALICE)
        assert found.returncode == 1
        assert "wrong    /dev/fuse: cannot be opened: Permission denied; chmod 666" in found.stdout
    finally:
        system.run("chmod", "0666", device)


def test_ordinary_user_installs_for_themselves_and_takes_it_away(system: PrivateMounts) -> None:
    command = ("artstorefs", "install-units", "--user", "--json")
    installed = json.loads(system.run(*command, user=ALICE))["installed"]
    assert all(path.startswith(f"{system.home}/.") for path in installed)
    names = {Path(path).name for path in installed}
    assert {"artstorefs@.service", "artstorefs", "artstorefs.1", "artstorefs.toml.5"} <= names
    page = system.run("man", "-M", system.home / ".local/share/man", "-w", "artstorefs")
    assert page.strip() in installed
    assert json.loads(system.run(*command, "--remove", user=ALICE)) == {"removed": installed}
    assert not any(Path(path).exists() for path in installed)


def test_ordinary_user_mounts_and_unmounts_a_line_of_fstab(
    system: PrivateMounts, photos: Path
) -> None:
    """With the option user mount(8) drops its rights before it runs the helper."""
    mountpoint = system.home / "photos"
    system.fstab.write_text(f"{photos} {mountpoint} artstorefs noauto,user,_netdev,noatime 0 0\n")
    system.run("mount", mountpoint, user=ALICE)
    assert system.table() == [str(mountpoint)]
    shown = system.run("findmnt", "-no", "SOURCE,FSTYPE,OPTIONS", mountpoint, user=ALICE)
    source, kind, options = shown.split()
    assert (source, kind) == ("photos", "fuse.artstorefs")
    assert {"rw", "noexec", "nosuid", "nodev", f"user_id={ALICE.uid}"} <= set(options.split(","))
    system.run("cp", "/etc/services", mountpoint, user=ALICE)
    told = system.refusal("mount", "-o", "remount,ro", mountpoint, user=ALICE, code=32)
    assert "only root may remount; unmount it" in told
    system.run("umount", mountpoint, user=ALICE)
    assert system.table() == []


# --------------------------------------------------------------------------------------- of root


@pytest.mark.parametrize("kind", ["artstorefs", "fuse.artstorefs"])
def test_mount_is_like_one_of_the_kernel(
    system: PrivateMounts, museum: MountedArchive, kind: str
) -> None:
    point = str(museum.mount)
    system.run("mount", "-t", kind, "-o", OPTIONS_OF_FSTAB, museum.toml, point)
    assert system.run("findmnt", "-no", "SOURCE,FSTYPE", point).split() == [
        "test",
        "fuse.artstorefs",
    ]
    assert point in system.run("findmnt", "-t", "fuse.artstorefs", "-no", "TARGET").split()
    line = system.run("df", "--output=source,fstype,target", point).splitlines()[1]
    assert line.split() == ["test", "fuse.artstorefs", point]
    assert f"test on {point} type fuse.artstorefs (rw," in system.run("mount")
    system.run("mountpoint", "-q", point)
    system.run("umount", point)
    assert system.attempt("mountpoint", "-q", point).returncode != 0
    assert point not in system.run("mount")


def test_remount_read_only_and_back(system: PrivateMounts, museum: MountedArchive) -> None:
    point = museum.mount
    system.run("mount", "-t", "artstorefs", museum.toml, point)
    system.run("cp", "/etc/services", point)
    system.run("mount", "-o", "remount,ro", point)
    assert "Read-only file system" in system.refusal("touch", point / "new", code=1)
    assert system.run("cmp", "/etc/services", point / "services") == ""
    system.run("artstorefs", "flush", museum.toml)  # the daemon is not stopped by that
    system.run("mount", "-o", "remount,rw,noexec", point)
    options = system.run("findmnt", "-no", "OPTIONS", point).strip().split(",")
    assert {"rw", "noexec", "default_permissions", "allow_other"} <= set(options)
    system.run("touch", point / "new")
    told = system.refusal("mount", "-o", "remount,alow_other", point, code=1)
    assert "did you mean allow_other?" in told
    system.run("umount", point)
    told = system.refusal("artstorefs", "mount", museum.toml, point, "-o", "remount,ro", code=3)
    assert "nothing is mounted at" in told


def test_remount_that_cannot_be_is_one_line(system: PrivateMounts, museum: MountedArchive) -> None:
    point = museum.mount
    system.run("mount", "-t", "artstorefs", "-o", "ro,allow_other", museum.toml, point)
    told = system.refusal("mount", "-o", "remount,rw", point, code=1)
    assert "served for reading only; unmount it, and mount it with rw" in told


def test_mount_that_cannot_be_is_one_line_with_the_code_of_mount(
    system: PrivateMounts, museum: MountedArchive
) -> None:
    helper = ("mount", "-t", "artstorefs")
    told = system.refusal(*helper, "-o", "rox", museum.toml, museum.mount, code=1)
    assert "-o: rox: is not a mount option; did you mean ro?" in told
    system.run(*helper, "-f", museum.toml, museum.mount)
    assert system.table() == []
    system.run(*helper, "-s", "-o", "rox", museum.toml, museum.mount)
    assert system.table() == [str(museum.mount)]
    told = system.refusal(*helper, museum.toml, f"{museum.mount}", code=32)
    assert "is in use by process" in told or "already mounted" in told


class Writer:
    """A shell in there that has a file open for writing and works in the mount; its process id."""

    def __init__(self, system: PrivateMounts, path: Path) -> None:
        self._command = system.command(
            "sh", "-c", f"cd {path.parent}; exec 3>{path}; echo; read end"
        )

    def __enter__(self) -> int:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.read(1) == b"\n"
        return self._process.pid

    def __exit__(self, *details: object) -> None:
        self._process.communicate(b"\n", timeout=30)


def test_busy_mount_says_who_holds_it_and_goes_lazily(
    system: PrivateMounts, museum: MountedArchive
) -> None:
    point = museum.mount
    system.run("mount", "-t", "artstorefs", museum.toml, point)
    with Writer(system, point / "open") as writer:
        assert "target is busy" in system.refusal("umount", point, code=32)
        told = system.refusal("mount", "-o", "remount,ro", point, code=32)
        assert f"it is written to: sh (process {writer}) writes {point}/open (end" in told
        told = system.refusal("artstorefs", "umount", point, code=1)
        assert f"is busy: sh (process {writer}) works in {point}" in told
        assert "end that first, or use --lazy" in told
        system.run("artstorefs", "umount", "--lazy", point)
        assert system.table() == []
    told = system.refusal("artstorefs", "umount", point, code=3)
    assert "nothing is mounted at" in told


def test_busy_mount_of_an_ordinary_user(system: PrivateMounts, photos: Path) -> None:
    system.run("artstorefs", "mount", "photos", user=ALICE)
    script = (
        "exec 3>photos/held; artstorefs umount photos; echo $?; artstorefs umount --lazy photos"
    )
    done = system.attempt("sh", "-c", script, user=ALICE)
    assert done.stdout == "1\n"
    assert "photos is busy: sh (process" in done.stderr
    assert system.table() == []
