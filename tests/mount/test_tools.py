"""The programs that people use, on a mount: what acceptance 2 and 4 of the first issue ask for."""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..harness import MountedArchive
from .awkward_tree import make_awkward_tree
from .conftest import make_archive, remove_archive
from .programs import differences, run


def stats(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything that stat and getfattr know of a tree, by relative name."""
    found: dict[str, tuple[object, ...]] = {}
    inside = [Path(d) / name for d, *names in os.walk(top) for part in names for name in part]
    for path in [top, *sorted(inside)]:
        s = path.lstat()
        names = sorted(os.listxattr(path, follow_symlinks=False))
        found[str(path.relative_to(top))] = (
            *(oct(s.st_mode), s.st_uid, s.st_gid, s.st_rdev, s.st_mtime_ns),
            None if stat.S_ISDIR(s.st_mode) else (s.st_nlink, s.st_size),
            [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names],
        )
    return found


def lose_what_may_be_lost(archive: MountedArchive) -> None:
    """With everything on the element, the cache may go; so does the spool, which is empty."""
    archive.flush()
    archive.stop()
    shutil.rmtree(archive.base / "cache")
    left = [path for path in (archive.state / "spool").rglob("*") if path.is_file()]
    assert left == []
    archive.start()


def lose_the_state_directory(archive: MountedArchive) -> None:
    """With everything on the element, index, log and spool may go as well."""
    archive.flush()
    archive.stop()
    shutil.rmtree(archive.state)
    archive.start()


@pytest.fixture(scope="module")
def awkward() -> Iterator[Path]:
    """The awkward tree on the local filesystem."""
    base = Path(tempfile.mkdtemp(prefix="asfs-local-"))
    make_awkward_tree(base)
    yield base
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    """The Python standard library without what would only take time."""
    base = Path(tempfile.mkdtemp(prefix="asfs-local-"))
    leave_out = ("site-packages", "__pycache__", "test", "tests", "idlelib", "config-*")
    excludes = [f"--exclude={name}" for name in leave_out]
    run("rsync", "-a", *excludes, f"{sysconfig.get_path('stdlib')}/", f"{base}/")
    assert sum(1 for _ in base.rglob("*")) > 300
    yield base
    shutil.rmtree(base)


# -------------------------------------------------------------------------------- whole trees

COPIES = {
    "cp": ("cp", "-a", "{source}/.", "{target}/"),
    "rsync": ("rsync", "-aHAX", "--delete", "{source}/", "{target}/"),
    "tar": (
        *("bash", "-ec"),
        "tar -C {source} --format=posix --xattrs --xattrs-include='*' --acls -cf - . |"
        " tar -C {target} --xattrs --xattrs-include='*' --acls --numeric-owner -xpf -",
    ),
}


@pytest.mark.slow
@pytest.mark.time_limit(120)
@pytest.mark.parametrize("program", COPIES)
@pytest.mark.parametrize("tree", ["awkward", "library"])
@pytest.mark.usefixtures("root")
def test_copy_of_a_tree_is_the_tree_after_remount_and_loss_of_cache_and_index(
    request: pytest.FixtureRequest, fresh_archive: MountedArchive, tree: str, program: str
) -> None:
    """SEMANTICS: ELEM-1, ELEM-6"""
    source: Path = request.getfixturevalue(tree)
    target = fresh_archive.mount / "copy"
    target.mkdir()
    run(*(word.format(source=source, target=target) for word in COPIES[program]))
    expected = stats(source)
    if program == "tar":
        expected.pop("special/socket", None)  # tar leaves sockets out
    assert stats(target) == expected
    if program == "rsync":
        command = COPIES[program][:-2]
        assert run(*command, "--itemize-changes", f"{source}/", f"{target}/") == ""
    fresh_archive.remount()
    assert stats(target) == expected
    lose_what_may_be_lost(fresh_archive)
    assert stats(target) == expected
    if program != "tar":
        assert differences(source, target) == ""
    lose_the_state_directory(fresh_archive)
    assert stats(target) == expected
    if program != "tar":
        assert differences(source, target) == ""


@pytest.mark.slow
@pytest.mark.usefixtures("root")
def test_tree_copied_within_the_mount_and_back_is_the_tree(
    directory: Path, local: Path, awkward: Path
) -> None:
    run("cp", "-a", f"{awkward}/.", directory / "first")
    run("cp", "-a", directory / "first", directory / "second")
    run("rsync", "-aHAX", f"{directory}/second/", f"{local}/back/")
    assert differences(directory / "first", directory / "second") == ""
    assert differences(awkward, local / "back") == ""
    shutil.rmtree(directory / "first")
    assert os.listdir(directory) == ["second"]


@pytest.mark.slow
def test_lesson_16_rsync_again_changes_nothing_and_delete_removes_the_rest(
    directory: Path, local: Path
) -> None:
    for number in range(20):
        (local / f"d{number % 3}").mkdir(exist_ok=True)
        (local / f"d{number % 3}" / f"f{number}").write_text(str(number))
    command = ("rsync", "-aHAX", "--delete", "--itemize-changes", f"{local}/", f"{directory}/")
    run(*command)
    shutil.rmtree(local / "d1")
    (local / "d0" / "f3").write_text("changed")
    changes = run(*command).splitlines()
    assert sum(line.startswith("*deleting") for line in changes) == 8
    assert sum(line.startswith(">f") for line in changes) == 1
    assert run(*command) == ""
    assert differences(local, directory) == ""


@pytest.mark.slow
def test_lesson_16_rsync_of_one_file_costs_one_object_and_one_attr_json(local: Path) -> None:
    (local / "painting.jpg").write_bytes(os.urandom(100_000))
    archive = make_archive("settle_s = 1.0")  # the default
    try:
        for number in range(3):
            before = set(archive.objects())
            (local / "painting.jpg").rename(local / f"painting{number}.jpg")
            run("rsync", "-aHAX", local / f"painting{number}.jpg", archive.mount)
            archive.flush()
            new = {path.name for path in set(archive.objects()) - before}
            assert len(new) == 2, new
            assert all(name.startswith(f"painting{number}_") for name in new), new
            assert sorted(name.endswith(".jpg.attr.json") for name in new) == [False, True]
            os.link(local / f"painting{number}.jpg", local / "painting.jpg")
        assert archive.attributes("painting0.jpg")["file_size"] == 100_000
        assert archive.status()["pending"]["intents"] == 0
    finally:
        remove_archive(archive)


@pytest.mark.slow
def test_rsync_of_many_files_costs_two_files_each_and_no_temporary_names(local: Path) -> None:
    for number in range(150):
        (local / f"painting{number:03}.jpg").write_bytes(os.urandom(3000))
    archive = make_archive("settle_s = 1.0")
    try:
        run("rsync", "-aHAX", "--delete", f"{local}/", f"{archive.mount}/")
        archive.flush()
        names = [path.name for path in archive.objects()]
        assert len(names) == 300
        assert all(re.fullmatch(r"painting\d{3}_[^.]*\.jpg(\.attr\.json)?", n) for n in names)
    finally:
        remove_archive(archive)


@pytest.mark.slow
def test_mv_across_directories_and_filesystems_keeps_everything(
    directory: Path, local: Path
) -> None:
    (local / "tree" / "d").mkdir(parents=True)
    (local / "tree" / "d" / "f").write_text("content")
    os.setxattr(local / "tree" / "d" / "f", "user.k", b"v")
    os.utime(local / "tree" / "d" / "f", ns=(5, 123_456_789))
    expected = stats(local / "tree")
    run("mv", local / "tree", directory)
    assert stats(directory / "tree") == expected
    (directory / "other").mkdir()
    run("mv", directory / "tree", directory / "other" / "renamed")
    assert stats(directory / "other" / "renamed") == expected
    run("mv", directory / "other" / "renamed", local / "back")
    assert stats(local / "back") == expected
    assert os.listdir(directory / "other") == []


# ----------------------------------------------------------------------------------- programs


@pytest.mark.slow
def test_git_commits_packs_checks_and_clones(directory: Path) -> None:
    repository = directory / "repository"
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "gc.auto=0")
    run(*git, "init", "-q", "-b", "main", repository)
    for number in range(5):
        (repository / "sub").mkdir(exist_ok=True)
        (repository / "sub" / f"f{number}").write_text("line\n" * number)
        run(*git, "add", "-A", cwd=repository)
        run(*git, "commit", "-q", "-m", f"number {number}", cwd=repository)
    run(*git, "gc", "-q", "--prune=now", cwd=repository)
    run(*git, "fsck", "--strict", cwd=repository)
    run(*git, "clone", "-q", repository, directory / "clone")
    assert run(*git, "status", "--porcelain", cwd=directory / "clone") == ""
    assert len(run(*git, "log", "--oneline", cwd=directory / "clone").splitlines()) == 5
    run(*git, "checkout", "-q", "HEAD~2", cwd=directory / "clone")
    assert sorted(os.listdir(directory / "clone" / "sub")) == ["f0", "f1", "f2"]


@pytest.mark.slow
@pytest.mark.parametrize("journal", ["wal", "delete", "truncate", "persist"])
def test_lesson_21_sqlite_keeps_its_promises(
    archive: MountedArchive, directory: Path, journal: str
) -> None:
    path = directory / "test.db"
    database = sqlite3.connect(path, isolation_level=None)
    assert database.execute(f"PRAGMA journal_mode = {journal}").fetchone() == (journal,)
    database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    for start in range(0, 1000, 100):
        database.execute("BEGIN")
        rows = [(number, os.urandom(100)) for number in range(start, start + 100)]
        database.executemany("INSERT INTO t VALUES (?, ?)", rows)
        database.execute("ROLLBACK" if start == 500 else "COMMIT")
    other = run("sqlite3", path, "SELECT count(*) FROM t; PRAGMA integrity_check;")
    assert other.split() == ["900", "ok"]
    database.execute("VACUUM")
    database.close()
    archive.remount()
    other = run("sqlite3", path, "SELECT count(*) FROM t; PRAGMA integrity_check;")
    assert other.split() == ["900", "ok"]


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "set backupcopy=yes", "set backup", "set nowritebackup"])
def test_editor_saves_as_editors_do(archive: MountedArchive, directory: Path, options: str) -> None:
    path = directory / "text.txt"
    path.write_text("one\ntwo\n")
    path.chmod(0o640)
    os.setxattr(path, "user.artist", b"Rembrandt")
    archive.flush()
    commands = ["-c", options] if options else []
    run("vim.tiny", "-es", "-u", "NONE", *commands, "-c", "%s/two/three/", "-c", "wq", path)
    assert path.read_text() == "one\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o640
    archive.remount()
    assert path.read_text() == "one\nthree\n"


@pytest.mark.slow
def test_make_builds_a_program_and_then_has_nothing_to_do(directory: Path) -> None:
    (directory / "main.c").write_text(
        '#include <stdio.h>\n#include "hello.h"\nint main(void) { puts(hello()); return 0; }\n'
    )
    (directory / "hello.c").write_text('const char *hello(void) { return "hello"; }\n')
    (directory / "hello.h").write_text("const char *hello(void);\n")
    (directory / "Makefile").write_text(
        "hello: main.o libhello.a\n\t$(CC) -o $@ $^\n"
        "main.o: hello.h\nlibhello.a: hello.o\n\tar rcs $@ $^\n"
    )
    run("make", "-j2", cwd=directory)
    assert run(directory / "hello") == "hello\n"
    assert "up to date" in run("make", cwd=directory)
    (directory / "hello.c").write_text('const char *hello(void) { return "again"; }\n')
    run("make", cwd=directory)
    assert run(directory / "hello") == "again\n"


def test_dd_with_every_sync_flag(directory: Path, local: Path) -> None:
    (local / "source").write_bytes(os.urandom(300_000))
    for flags in ("conv=fsync", "conv=fdatasync", "oflag=sync", "oflag=dsync", "oflag=append"):
        target = directory / flags
        run("dd", f"if={local}/source", f"of={target}", "bs=64k", flags)
        assert target.read_bytes() == (local / "source").read_bytes()
    run("dd", f"if={local}/source", f"of={directory}/part", "bs=1000", "count=3", "seek=5")
    assert (directory / "part").read_bytes()[5000:] == (local / "source").read_bytes()[:3000]
    run("dd", "if=/dev/zero", f"of={directory}/direct", "bs=64k", "count=4", "oflag=direct")
    assert (directory / "direct").stat().st_size == 4 << 16


def test_coreutils_answer_as_on_a_local_filesystem(directory: Path, local: Path) -> None:
    outputs = []
    for base in (directory, local):
        run("mkdir", "-p", base / "a" / "b" / "c", base / "a" / "x")
        run("mkdir", "-p", base / "a" / "b" / "c")
        run("touch", "-d", "1999-12-31 23:59:59.123456789 UTC", base / "a" / "b" / "f")
        run("touch", "-d", "@-5", base / "a" / "b" / "f2")
        run("ln", "-s", "../f", base / "a" / "b" / "c" / "s")
        run("install", "-m", "0751", "/bin/true", base / "a" / "true")
        run("truncate", "-s", "10000", base / "a" / "t")
        run("split", "-b", "4000", base / "a" / "t", base / "a" / "t.")
        run("cp", "--preserve=all", "--reflink=auto", base / "a" / "t", base / "a" / "x" / "t")
        outputs.append(
            [
                sorted(run("find", "a", "-printf", "%p %y %m %n %l\n", cwd=base).splitlines()),
                sorted(run("find", "a", "-type", "f", "-newermt", "2000-01-01", cwd=base).split()),
                run("du", "-b", "--apparent-size", "a/x/t", cwd=base),
                run("stat", "-c", "%n %y %A %s", "a/b/f", "a/b/f2", cwd=base),
                run("ls", "-1R", "a", cwd=base),
            ]
        )
    assert outputs[0] == outputs[1]


def test_du_and_df_show_what_is_there(archive: MountedArchive, directory: Path) -> None:
    (directory / "f").write_bytes(b"x" * 1_000_000)
    assert 976 <= int(run("du", "-sk", directory / "f").split()[0]) <= 984
    line = run("df", "--output=fstype,target", directory).splitlines()[1]
    assert line.split() == ["fuse.artstorefs", str(archive.mount)]
    assert run("df", "-i", directory)


def test_shell_redirections_and_here_documents(directory: Path) -> None:
    script = (
        "set -e; echo one > f; echo two >> f; cat f f > g; sed -i s/one/three/ f;"
        " sort -o f f; cat < f | tee h > /dev/null; exec 3<>g; echo X >&3; exec 3>&-;"
        " mktemp -p . > /dev/null; mkdir d; mv f d; (cd d; pwd -P)"
    )
    assert run("bash", "-c", script, cwd=directory).strip() == str(directory / "d")
    assert (directory / "h").read_text() == "three\ntwo\n"
    assert (directory / "g").read_text() == "X\ne\ntwo\none\ntwo\n"


def test_mount_right_after_umount_waits_for_the_daemon_before(
    fresh_archive: MountedArchive,
) -> None:
    """umount(8) returns while that drains the log; "in use, unmount it there first" was no help."""
    for number in range(500):
        (fresh_archive.mount / f"f{number}").write_bytes(b"content")
    subprocess.run(["umount", str(fresh_archive.mount)], check=True)
    fresh_archive.start()
    assert len(list(fresh_archive.mount.iterdir())) == 500


def test_umount_of_what_a_container_has_too_says_who_it_is(
    container: Callable[[Path], None],
) -> None:
    archive = make_archive()
    try:
        container(archive.mount)
        done = archive.run("umount", str(archive.mount), check=False)
        assert done.returncode == 1
        assert re.search(r"unmounted here.*\(process \d+\) has it in a mount namesp", done.stderr)
        assert not archive.mount.is_mount()
    finally:
        archive.kill()
        remove_archive(archive)
