"""Who may do what, and what becomes of mode bits. Oracle: the local filesystem."""

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from .errnos import refused
from .users import ALICE, BOB, ROOT, TEAM, User, run_as

pytestmark = pytest.mark.usefixtures("root")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def home(place: Path) -> Path:
    """A directory that belongs to Alice, in which everybody may look around."""
    (place / "home").mkdir()
    os.chown(place / "home", ALICE.uid, ALICE.gid)
    return place / "home"


def test_owner_and_group_of_the_maker(home: Path) -> None:
    run_as(ALICE, home, lambda: Path("f").write_text("x"))
    run_as(ALICE, home, lambda: os.mkdir("d"))
    run_as(ALICE, home, lambda: os.symlink("t", "s"))
    for name in "fds":
        found = os.lstat(home / name)
        assert (found.st_uid, found.st_gid) == (ALICE.uid, ALICE.gid)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_umask_takes_bits_away(home: Path, mask: int) -> None:
    user = ALICE._replace(umask=mask)

    def make() -> None:
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir("d", 0o777)
        os.mkfifo("p", 0o666)

    run_as(user, home, make)
    assert mode_of(home / "f") == 0o666 & ~mask
    assert mode_of(home / "d") == 0o777 & ~mask
    assert mode_of(home / "p") == 0o666 & ~mask


def test_file_made_read_only_can_be_written_by_its_maker(home: Path) -> None:
    def make() -> None:
        descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o000)
        os.write(descriptor, b"content")

    run_as(ALICE, home, make)
    assert (home / "f").read_bytes() == b"content"
    with refused(errno.EACCES):
        run_as(ALICE, home, lambda: Path("f").read_bytes())


@pytest.mark.parametrize("mode", range(8))
def test_permission_bits_of_others_decide(home: Path, mode: int) -> None:
    run_as(ALICE, home, lambda: Path("f").write_text("x"))
    os.chmod(home / "f", 0o700 | mode)
    for bit, flags in ((4, os.O_RDONLY), (2, os.O_WRONLY), (6, os.O_RDWR)):
        if mode & bit == bit:
            run_as(BOB, home, lambda flags=flags: os.close(os.open("f", flags)))  # type: ignore[misc]
        else:
            with refused(errno.EACCES):
                run_as(BOB, home, lambda flags=flags: os.close(os.open("f", flags)))  # type: ignore[misc]
    assert run_as(BOB, home, lambda: os.access("f", os.X_OK)) == bool(mode & 1)


def test_owner_without_rights_is_refused_although_others_have_them(home: Path) -> None:
    run_as(ALICE, home, lambda: Path("f").write_text("x"))
    os.chmod(home / "f", 0o077)
    with refused(errno.EACCES):
        run_as(ALICE, home, lambda: Path("f").read_text())
    assert run_as(BOB, home, lambda: Path("f").read_text()) == "x"


def test_directory_needs_write_for_names_and_search_for_a_way_through(home: Path) -> None:
    (home / "f").write_text("x")
    for make in (lambda: os.mkdir("d"), lambda: os.unlink("f"), lambda: os.rename("f", "g")):
        with refused(errno.EACCES):
            run_as(BOB, home, make)
    (home / "d" / "e").mkdir(parents=True)
    os.chmod(home / "d", 0o744)
    assert run_as(BOB, home, lambda: os.listdir("d")) == ["e"]
    with refused(errno.EACCES):
        run_as(BOB, home, lambda: os.stat("d/e"))
    os.chmod(home / "d", 0o711)
    run_as(BOB, home, lambda: os.stat("d/e"))
    with refused(errno.EACCES):
        run_as(BOB, home, lambda: os.listdir("d"))


def test_supplementary_group_opens_and_creates(home: Path) -> None:
    (home / "team").mkdir()
    os.chown(home / "team", 0, TEAM)
    os.chmod(home / "team", 0o070)
    member = User(BOB.uid, BOB.gid, (1, TEAM))
    run_as(member, home, lambda: Path("team/f").write_text("x"))
    with refused(errno.EACCES):
        run_as(BOB, home, lambda: Path("team/f").read_text())


def test_chmod_and_chown_and_utime_belong_to_the_owner(home: Path) -> None:
    run_as(ALICE, home, lambda: Path("f").write_text("x"))
    os.chmod(home / "f", 0o666)
    for change in (
        lambda: os.chmod("f", 0o600),
        lambda: os.chown("f", BOB.uid, BOB.gid),
        lambda: os.utime("f", ns=(1, 1)),
    ):
        with refused(errno.EPERM):
            run_as(BOB, home, change)
    run_as(BOB, home, lambda: os.utime("f"))  # to now: whoever may write
    with refused(errno.EPERM):
        run_as(ALICE, home, lambda: os.chown("f", BOB.uid, -1))
    with refused(errno.EPERM):
        run_as(ALICE, home, lambda: os.chown("f", -1, TEAM))
    run_as(ALICE._replace(groups=(TEAM,)), home, lambda: os.chown("f", -1, TEAM))
    assert os.stat(home / "f").st_gid == TEAM


def test_sticky_directory_keeps_what_belongs_to_others(home: Path) -> None:
    os.chmod(home, 0o1777)
    run_as(ALICE, home, lambda: Path("alice").write_text("x"))
    run_as(ALICE, home, lambda: os.mkdir("alices"))
    run_as(BOB, home, lambda: Path("bob").write_text("x"))
    for change in (
        lambda: os.unlink("alice"),
        lambda: os.rmdir("alices"),
        lambda: os.rename("alice", "b"),
        lambda: os.rename("bob", "alice"),
    ):
        with refused(errno.EPERM):
            run_as(BOB, home, change)
    run_as(ALICE, home, lambda: os.unlink("bob"))  # the directory is hers
    run_as(ROOT, home, lambda: os.unlink("alice"))


def test_set_group_id_directory_hands_its_group_down(home: Path) -> None:
    os.chown(home, ALICE.uid, TEAM)
    os.chmod(home, 0o2777)
    run_as(BOB, home, lambda: Path("f").write_text("x"))
    run_as(BOB, home, lambda: os.mkdir("d", 0o755))
    run_as(BOB, home, lambda: os.mkfifo("p"))
    run_as(BOB, home, lambda: os.symlink("t", "s"))
    assert [os.lstat(home / name).st_gid for name in "fdps"] == [TEAM] * 4
    assert mode_of(home / "d") == 0o2755
    assert mode_of(home / "f") == 0o644


@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o6755, 0o6777, 0o2745, 0o6644], ids=oct)
@pytest.mark.parametrize("change", ["write", "truncate", "ftruncate", "open", "chown"])
def test_set_id_bits_fall_when_an_ordinary_user_changes_the_file(
    directory: Path, local: Path, bits: int, change: str
) -> None:
    def alter() -> None:
        if change == "truncate":
            os.truncate("f", 1)
        elif change == "open":
            os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
        elif change == "chown":
            os.chown("f", -1, TEAM)
        else:
            descriptor = os.open("f", os.O_RDWR)
            os.write(descriptor, b"y") if change == "write" else os.ftruncate(descriptor, 1)

    results = []
    for place in (directory, local):
        os.chown(place, ALICE.uid, ALICE.gid)
        (place / "f").write_text("content")
        os.chown(place / "f", ALICE.uid, ALICE.gid)
        os.chmod(place / "f", bits)
        run_as(ALICE._replace(groups=(TEAM,)), place, alter)
        results.append(oct(mode_of(place / "f")))
    assert results[0] == results[1]


@pytest.mark.parametrize("change", ["write", "truncate"])
def test_set_id_bits_stay_when_root_changes_the_file(place: Path, change: str) -> None:
    path = place / "f"
    path.write_text("content")
    path.chmod(0o6755)
    if change == "write":
        with open(path, "r+b") as file:
            file.write(b"x")
    else:
        os.truncate(path, 2)
    assert mode_of(path) == 0o6755


def test_set_group_id_falls_when_chmod_by_one_outside_of_the_group(home: Path) -> None:
    run_as(ALICE, home, lambda: Path("f").write_text("x"))
    os.chown(home / "f", ALICE.uid, TEAM)
    run_as(ALICE, home, lambda: os.chmod("f", 0o2755))
    assert mode_of(home / "f") == 0o755
    run_as(ALICE._replace(groups=(TEAM,)), home, lambda: os.chmod("f", 0o2755))
    assert mode_of(home / "f") == 0o2755


def test_set_user_id_program_runs_as_its_owner(place: Path) -> None:
    (place / "id").write_bytes(Path("/usr/bin/id").read_bytes())
    os.chown(place / "id", BOB.uid, BOB.gid)
    os.chmod(place / "id", 0o4755)

    def effective_user() -> str:
        return subprocess.run(["./id", "-u"], capture_output=True, text=True).stdout.strip()

    assert run_as(ALICE, place, effective_user) == str(BOB.uid)


def test_script_is_executed_only_with_its_bit(place: Path) -> None:
    (place / "script").write_text("#!/bin/sh\necho ran\n")
    with refused(errno.EACCES):
        subprocess.run([place / "script"], check=False)
    (place / "script").chmod(0o755)
    done = subprocess.run([place / "script"], check=False, capture_output=True, text=True)
    assert done.stdout == "ran\n"


def test_running_program_is_not_written(place: Path) -> None:
    (place / "sleep").write_bytes(Path("/usr/bin/sleep").read_bytes())
    (place / "sleep").chmod(0o755)
    with subprocess.Popen([place / "sleep", "30"]) as process:
        with refused(errno.ETXTBSY):
            os.open(place / "sleep", os.O_WRONLY)
        process.kill()


# ---------------------------------------------------------------------------- access lists


def setfacl(*arguments: str | Path) -> None:
    subprocess.run(["setfacl", *arguments], check=True, timeout=20)


def getfacl(path: Path) -> list[str]:
    command = ["getfacl", "--numeric", "--omit-header", "--absolute-names", str(path)]
    done = subprocess.run(command, check=True, timeout=20, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if line]


def test_access_list_grants_and_denies(home: Path) -> None:
    run_as(ALICE, home, lambda: Path("f").write_text("x"))
    os.chmod(home / "f", 0o600)
    setfacl("-m", f"u:{BOB.uid}:r", home / "f")
    assert run_as(BOB, home, lambda: Path("f").read_text()) == "x"
    with refused(errno.EACCES):
        run_as(BOB, home, lambda: Path("f").write_text("y"))
    assert mode_of(home / "f") == 0o640
    os.chmod(home / "f", 0o600)  # takes the mask away
    with refused(errno.EACCES):
        run_as(BOB, home, lambda: Path("f").read_text())
    setfacl("-b", home / "f")
    assert getfacl(home / "f") == ["user::rw-", "group::---", "other::---"]


def test_default_access_list_is_handed_down(directory: Path, local: Path) -> None:
    found = []
    for base in (directory, local):
        top = base / "top"
        top.mkdir(mode=0o755)
        setfacl("-d", "-m", f"u:{BOB.uid}:rwx,g:{TEAM}:rx,m:rwx,o::---", top)
        old = os.umask(0o077)  # has no say here
        try:
            (top / "d" / "e").mkdir(parents=True)
            (top / "f").write_text("x")
            os.close(os.open(top / "narrow", os.O_CREAT | os.O_WRONLY, 0o640))
            os.mkfifo(top / "p", 0o666)
        finally:
            os.umask(old)
        found.append(
            [(n, mode_of(top / n), getfacl(top / n)) for n in ("d", "d/e", "f", "narrow", "p")]
        )
    assert found[0] == found[1]


def test_access_list_that_is_damaged_or_misplaced_is_refused(place: Path) -> None:
    (place / "f").touch()
    for value in (b"x", b"\x02\0\0\0\x01\0\x07\0\0\0\0", b"\x03\0\0\0" + b"\0" * 8):
        with refused(errno.EINVAL, errno.EOPNOTSUPP):
            os.setxattr(place / "f", "system.posix_acl_access", value)
    os.mkdir(place / "d")
    setfacl("-d", "-m", f"u:{BOB.uid}:rwx", place / "d")
    value = os.getxattr(place / "d", "system.posix_acl_default")
    with refused(errno.EACCES):  # only directories have one
        os.setxattr(place / "f", "system.posix_acl_default", value)


def test_access_lists_belong_to_the_owner(home: Path) -> None:
    (home / "f").write_text("x")
    os.chmod(home / "f", 0o666)
    setfacl("-m", f"u:{ALICE.uid}:rw", home / "f")
    value = os.getxattr(home / "f", "system.posix_acl_access")
    with refused(errno.EPERM):
        run_as(BOB, home, lambda: os.setxattr("f", "system.posix_acl_access", value))
