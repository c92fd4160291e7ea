"""A daemon that makes way for its successor, as UPGRADE.md has it: programs do not notice."""

import errno
import fcntl
import json
import mmap
import operator
import os
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artstorefs_daemon.mount_table import find_mount
from artstorefs_daemon.service_manager import ServiceManager

from ..harness import MountedArchive, wait_until
from .keeper import LIMIT_S, Keeper, keeper_of_new_archive

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with keeper_of_new_archive() as keeper:
        yield keeper.start()


def beside(action: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """What an action of another thread returns, or raises."""
    seen: list[Any] = []

    def run() -> None:
        try:
            seen.append(action())
        except OSError as exc:
            seen.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, seen


def finish(archive: MountedArchive) -> None:
    """Everything is on the element, and right."""
    archive.flush()
    archive.stop()
    archive.run("fsck", str(archive.toml), "--deep")


def test_files_that_are_open_for_reading_and_for_writing_go_on(keeper: Keeper) -> None:
    archive = keeper.archive
    stored, waiting = archive.mount / "stored", archive.mount / "waiting"
    content = os.urandom(3 << 20)
    stored.write_bytes(content)
    archive.flush()
    waiting.write_bytes(content)
    device = archive.mount.stat().st_dev
    with (
        stored.open("rb", buffering=0) as of_element,
        waiting.open("rb", buffering=0) as of_spool,
        (archive.mount / "new").open("xb", buffering=0) as new,
        (archive.mount / "log").open("ab", buffering=0) as log,
        stored.open("r+b", buffering=0) as unchanged,
    ):
        new.write(b"before ")
        log.write(b"one\n")
        for number in range(2):
            keeper.end()
            keeper.start()
            new.write(b"after ")
            os.fsync(new.fileno())
            log.write(b"%d\n" % number)
            assert os.pread(of_element.fileno(), 1 << 20, 1 << 20) == content[1 << 20 : 2 << 20]
            assert os.pread(of_spool.fileno(), 1 << 20, 2 << 20) == content[2 << 20 :]
        unchanged.write(b"changed")  # what has to be copied before it is written
        whole = b"before after after "
        assert os.fstat(new.fileno()).st_size == len(whole)
    assert archive.mount.stat().st_dev == device
    assert (archive.mount / "new").read_bytes() == whole
    assert (archive.mount / "log").read_bytes() == b"one\n0\n1\n"
    assert stored.read_bytes() == b"changed" + content[7:]
    finish(archive)


def test_nothing_fails_meanwhile_it_only_waits(keeper: Keeper) -> None:
    archive = keeper.archive
    (archive.mount / "d").mkdir()
    (archive.mount / "f").write_bytes(b"content")
    inside = os.open(archive.mount / "d", os.O_RDONLY | os.O_DIRECTORY)
    keeper.end()

    def make() -> str:
        file = os.open("made", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=inside)
        os.write(file, b"made meanwhile")
        os.close(file)
        return "made"

    maker, made = beside(make)
    lister, listed = beside(lambda: sorted(os.listdir(archive.mount)))
    asker, asked = beside(lambda: os.statvfs(archive.mount).f_namemax)
    time.sleep(0.5)
    assert not made
    assert not asked
    keeper.start()
    for thread in (maker, lister, asker):
        thread.join(LIMIT_S)
    assert (made, listed, asked) == (["made"], [["d", "f"]], [255])
    assert os.listdir(inside) == ["made"]  # the directory itself has stayed open
    os.close(inside)
    assert (archive.mount / "d" / "made").read_bytes() == b"made meanwhile"
    assert not (archive.state / "handover.json").exists()
    assert not keeper.stored
    finish(archive)


def test_no_request_is_lost_of_many_under_way(keeper: Keeper) -> None:
    """One that was read as the loop ended was dropped: its program waited for ever."""
    archive = keeper.archive
    counts = [0] * 16
    is_done = threading.Event()

    def ask(number: int) -> None:
        while not is_done.is_set():
            os.statvfs(archive.mount)
            counts[number] += 1

    threads = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(len(counts))]
    for thread in threads:
        thread.start()
    for _ in range(3):
        keeper.end()
        before = list(counts)
        keeper.start()
        wait_until(lambda old=before: all(map(operator.gt, counts, old)))  # type: ignore[misc]
    is_done.set()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


@pytest.mark.slow
def test_programs_at_work_do_not_notice(keeper: Keeper, tmp_path: Path) -> None:
    """rsync makes, renames and reads, and one program after the other is started on the mount."""
    archive = keeper.archive
    library = Path(sysconfig.get_path("stdlib"))
    copy = archive.mount / "library"
    words = ["rsync", "-aHAX", "--exclude=*-packages", f"{library}/"]
    with subprocess.Popen([*words, str(copy)], stderr=subprocess.PIPE) as to_mount:
        for _ in range(2):
            time.sleep(0.3)
            assert to_mount.poll() is None, "it was over before"
            keeper.end()
            keeper.start()
        assert to_mount.communicate(timeout=LIMIT_S)[1] == b""
    words[-1] = f"{copy}/"
    with subprocess.Popen([*words, str(tmp_path)], stderr=subprocess.PIPE) as from_mount:
        keeper.end()
        keeper.start()
        assert from_mount.communicate(timeout=LIMIT_S)[1] == b""
    exclude = ("--exclude=*-packages", "--no-dereference")
    subprocess.run(["diff", "-r", *exclude, library, tmp_path], check=True)
    subprocess.run(["diff", "-r", *exclude, library, copy], check=True)
    finish(archive)


def test_file_without_a_name_stays_as_long_as_it_is_open(keeper: Keeper) -> None:
    archive = keeper.archive
    path = archive.mount / "temporary"
    with path.open("x+b", buffering=0) as file:
        file.write(b"one ")
        path.unlink()
        keeper.end()
        keeper.start()
        file.write(b"two")
        assert os.pread(file.fileno(), 100, 0) == b"one two"
        status = os.fstat(file.fileno())
        assert (status.st_size, status.st_nlink) == (7, 0)
        os.ftruncate(file.fileno(), 3)
        assert os.pread(file.fileno(), 100, 0) == b"one"
    wait_until(lambda: not any((archive.state / "spool").glob("[0-9]*")))
    assert not path.exists()
    finish(archive)


def test_stored_file_without_a_name_stays_as_long_as_it_is_open(keeper: Keeper) -> None:
    archive = keeper.archive
    path, content = archive.mount / "stored", os.urandom(300_000)
    path.write_bytes(content)
    archive.flush()
    assert archive.objects()
    with path.open("r+b", buffering=0) as file:
        path.unlink()
        for _ in range(2):
            keeper.end()
            keeper.start()
        assert os.pread(file.fileno(), len(content), 0) == content
        os.pwrite(file.fileno(), b"changed", 0)
        assert os.pread(file.fileno(), len(content), 0) == b"changed" + content[7:]
    archive.flush()
    assert not archive.objects()
    assert not any((archive.state / "spool").glob("[0-9]*"))
    finish(archive)


def test_locks_mappings_and_synchronous_writers_go_on(keeper: Keeper) -> None:
    archive = keeper.archive
    locked = os.open(archive.mount / "locked", os.O_CREAT | os.O_RDWR)
    fcntl.flock(locked, fcntl.LOCK_EX)
    (archive.mount / "mapped").write_bytes(bytes(8192))
    with (archive.mount / "mapped").open("r+b") as file:
        file.write(b"x")
        file.flush()
        mapping = mmap.mmap(file.fileno(), 8192)
    mapping[0:6] = b"before"
    synchronous = os.open(archive.mount / "sync", os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(synchronous, b"one ")
    keeper.end()
    keeper.start()
    mapping[4096:4101] = b"after"
    mapping.flush()
    mapping.close()
    assert os.write(synchronous, b"two") == 3
    os.close(synchronous)
    other = os.open(archive.mount / "locked", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(locked)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
    expected = b"before".ljust(4096, b"\0") + b"after".ljust(4096, b"\0")
    assert (archive.mount / "mapped").read_bytes() == expected
    assert (archive.mount / "sync").read_bytes() == b"one two"
    finish(archive)
    archive.start()
    assert (archive.mount / "mapped").read_bytes() == expected


def test_file_that_was_handed_over_may_be_opened_and_cut_by_others(keeper: Keeper) -> None:
    """The kernel binds a file to one spool file at a time: the one that it is bound to."""
    path = keeper.archive.mount / "f"
    with path.open("xb", buffering=0) as file:
        file.write(b"first ")
        keeper.end()
        keeper.start()
        with path.open("r+b", buffering=0) as other:
            assert other.read() == b"first "
            other.write(b"second ")
        file.write(b"third")  # at its own position
        assert path.read_bytes() == b"first thirdd "
        os.truncate(path, 5)
        assert path.stat().st_size == 5
        path.write_bytes(b"anew")
    assert path.read_bytes() == b"anew"
    finish(keeper.archive)


def test_spool_counts_what_was_handed_over_once(keeper: Keeper) -> None:
    archive = keeper.archive
    with (archive.mount / "large").open("xb", buffering=0) as file:
        file.write(bytes(8 << 20))
        keeper.end()
        keeper.start()
        file.write(bytes(8 << 20))
    archive.flush()
    wait_until(lambda: archive.status()["spool"]["bytes"] == 0)


def test_who_comes_after_a_kill_mounts_anew(keeper: Keeper) -> None:
    archive = keeper.archive
    (archive.mount / "f").write_bytes(b"content")
    keeper.end()
    keeper.start()
    with (archive.mount / "f").open("rb", buffering=0) as file:
        keeper.kill()
        with pytest.raises(OSError, match="connect"):
            os.statvfs(archive.mount)
        keeper.start()
        with pytest.raises(OSError, match="connect"):
            file.read()
    assert (archive.mount / "f").read_bytes() == b"content"


def test_successor_that_does_not_come_is_not_waited_for_for_ever(keeper: Keeper) -> None:
    archive = keeper.archive
    keeper.end()
    thread, seen = beside(lambda: os.statvfs(archive.mount))
    time.sleep(0.2)
    assert not seen
    keeper.forget()  # as systemd does with a unit that has failed
    thread.join(LIMIT_S)
    assert seen[0].errno in (errno.ENOTCONN, errno.ECONNABORTED)
    keeper.start()
    assert os.listdir(archive.mount) == []


@pytest.mark.parametrize("what", ["index", "options", "unmounted", "damaged", "unknown"])
def test_what_does_not_fit_is_mounted_anew(keeper: Keeper, what: str) -> None:
    archive = keeper.archive
    (archive.mount / "f").write_bytes(b"content")
    archive.flush()
    device = archive.mount.stat().st_dev
    file = os.open(archive.mount / "f", os.O_RDONLY)
    keeper.end()
    described = archive.state / "handover.json"
    if what == "index":
        archive.run("rebuild", str(archive.toml))
    elif what == "options":
        text = archive.toml.read_text()
        archive.toml.write_text(f'durability = "element"\n{text}')
    elif what == "unmounted":
        subprocess.run(["umount", "-l", archive.mount], check=True)
    elif what == "damaged":
        described.write_bytes(described.read_bytes()[:-20])
    else:
        described.write_text(json.dumps({**json.loads(described.read_text()), "format": 2}))
    keeper.start()
    with pytest.raises(OSError, match="connect"):
        os.pread(file, 7, 0)
    os.close(file)
    assert archive.mount.stat().st_dev != device
    assert (archive.mount / "f").read_bytes() == b"content"
    assert Path("/proc/self/mountinfo").read_text().count(f" {archive.mount} ") == 1
    assert find_mount(str(archive.mount)) is not None
    assert not keeper.stored
    assert not described.exists()


def test_manager_that_does_not_keep_descriptors_is_found_out() -> None:
    assert not ServiceManager(None).store("fuse", 0)
    assert not ServiceManager("/nowhere").store("fuse", 0)
