"""The read cache on a mount: what reading costs at the server, and what it does in trouble."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..harness import MountedArchive, children, wait_for_end, wait_until
from ..limits.disks import Disk
from .proxy import Hang, Proxy, Request, Spoil

pytestmark = pytest.mark.slow

BLOCK = 4 << 20
BLOCKS = 7
SIZE = 6 * BLOCK + 12_345
DATA = random.Random(7).randbytes(SIZE)


def is_content(request: Request) -> bool:
    """A GET of an object, or of a part of one."""
    is_other = request.path.endswith((".json", ".blocks"))
    return request.method == "GET" and "/20" in request.path and not is_other


def content_hangs(bucket_proxy: Proxy) -> threading.Event:
    """No content is answered from now on; set once some has been asked for."""
    asked = threading.Event()

    def hang(request: Request) -> Hang | None:
        if not is_content(request):
            return None
        asked.set()
        return Hang()

    bucket_proxy.rule = hang
    return asked


def blocks_of(proxy: Proxy) -> Counter[int]:
    """How often each block was asked for, of whatever object."""
    ranges = [one.headers["range"] for one in proxy.requests if is_content(one)]
    starts = [int(one.removeprefix("bytes=").partition("-")[0]) for one in ranges]
    assert all(start % BLOCK == 0 for start in starts)
    return Counter(start // BLOCK for start in starts)


def store(archive: MountedArchive, name: str = "large", data: bytes = DATA) -> Path:
    """A file that only the server has."""
    path = archive.mount / name
    path.write_bytes(data)
    archive.flush()
    archive.remount()
    return path


def forget(archive: MountedArchive, proxy: Proxy) -> None:
    """Mount again, so that the kernel has nothing."""
    archive.remount()
    proxy.requests.clear()


def pread(path: Path, offset: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(file.fileno(), length, offset)


def cached(archive: MountedArchive) -> list[Path]:
    return [path for path in (archive.base / "cache").rglob("*") if path.is_file()]


def disk_bytes(archive: MountedArchive) -> int:
    by_inode = {path.stat().st_ino: path.stat() for path in cached(archive)}
    return sum(status.st_blocks * 512 for status in by_inode.values())


def set_limit(archive: MountedArchive, limit: str) -> None:
    text = archive.toml.read_text()
    archive.toml.write_text(f'cache_max = "{limit}"\n{text}')


def test_range_costs_its_blocks_and_reading_again_costs_nothing(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-14, ELEM-15"""
    path = store(archive)
    bucket_proxy.requests.clear()
    assert pread(path, 3 * BLOCK + 100, 50) == DATA[3 * BLOCK + 100 :][:50]
    assert blocks_of(bucket_proxy) == {3: 1}
    lists = [one for one in bucket_proxy.requests if one.path.endswith(".blocks")]
    assert len(lists) == 1
    bucket_proxy.requests.clear()
    assert pread(path, 3 * BLOCK + 500_000, 50) == DATA[3 * BLOCK + 500_000 :][:50]
    forget(archive, bucket_proxy)
    assert pread(path, 3 * BLOCK + 100, 50) == DATA[3 * BLOCK + 100 :][:50]
    reads = [one for one in bucket_proxy.requests if is_content(one) or ".blocks" in one.path]
    assert reads == []
    assert path.read_bytes() == DATA
    assert blocks_of(bucket_proxy) == {block: 1 for block in range(BLOCKS) if block != 3}
    forget(archive, bucket_proxy)
    assert path.read_bytes() == DATA
    assert not blocks_of(bucket_proxy)


def test_flipped_bit_in_the_cache_is_fetched_again(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-15"""
    path = store(archive)
    assert path.read_bytes() == DATA
    archive.stop()
    (block,) = [one for one in cached(archive) if one.name == "2"]
    with block.open("r+b") as file:
        file.seek(99)
        byte = file.read(1)[0]
        file.seek(99)
        file.write(bytes([byte ^ 4]))
    bucket_proxy.requests.clear()
    archive.start()
    assert path.read_bytes() == DATA
    assert blocks_of(bucket_proxy) == {2: 1}
    assert archive.status()["damaged"] == []


def test_flipped_bit_of_the_server_in_a_range_is_never_served(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-14"""
    path = store(archive)

    def flip_block(request: Request) -> Spoil | None:
        wanted = f"bytes={BLOCK}-"
        return (
            Spoil() if is_content(request) and request.headers["range"].startswith(wanted) else None
        )

    bucket_proxy.fail_once(lambda request: flip_block(request) is not None, Spoil())
    assert path.read_bytes() == DATA, "another try is right"
    shutil.rmtree(archive.base / "cache")
    archive.remount()
    bucket_proxy.rule = flip_block
    assert pread(path, 5, 10) == DATA[5:15]
    with pytest.raises(OSError, match="Input/output error"):
        pread(path, BLOCK + 5, 10)
    (damaged,) = archive.status()["damaged"]
    assert "block 2 of 7: does not have its SHA-256" in damaged["error"]
    bucket_proxy.rule = None
    assert pread(path, BLOCK + 5, 10) == DATA[BLOCK + 5 : BLOCK + 15]


def test_many_readers_of_one_block_cause_one_request(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    path = store(archive)
    bucket_proxy.requests.clear()
    with ThreadPoolExecutor(32) as pool:
        offsets = [4 * BLOCK + 1000 * number for number in range(32)]
        parts = list(pool.map(lambda offset: pread(path, offset, 100), offsets))
    assert parts == [DATA[offset : offset + 100] for offset in offsets]
    assert blocks_of(bucket_proxy) == {4: 1}


def test_read_ahead_grows_on_reading_in_order_only(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    path = store(archive)
    bucket_proxy.requests.clear()
    for block in (5, 1, 3):
        pread(path, block * BLOCK + 1000, 100)
    time.sleep(0.3)
    assert blocks_of(bucket_proxy) == {5: 1, 1: 1, 3: 1}
    shutil.rmtree(archive.base / "cache")
    forget(archive, bucket_proxy)
    with open(path, "rb", buffering=0) as file:
        got = b"".join(file.read(1 << 20) for _ in range(9))  # into the third block
        assert got == DATA[: 9 << 20]
        wait_until(lambda: len(blocks_of(bucket_proxy)) >= 5, 10)
    assert path.read_bytes() == DATA
    assert set(blocks_of(bucket_proxy).values()) == {1}


def test_cached_content_is_read_while_the_server_is_away(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-3, ELEM-15"""
    path = store(archive)
    other = store(archive, "other", DATA[::-1])
    assert path.read_bytes() == DATA
    forget(archive, bucket_proxy)
    bucket_proxy.switch_off()
    assert path.read_bytes() == DATA
    started = time.monotonic()
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output error"):
            pread(other, 0, 100)
    assert time.monotonic() - started < 60
    lines = [line for line in archive.log().splitlines() if "reading from it fails" in line]
    assert len(lines) == 1
    bucket_proxy.rule = None
    wait_until(lambda: _reads(other), 30)
    assert other.read_bytes() == DATA[::-1]


def _reads(path: Path) -> bool:
    try:
        return pread(path, 0, 100) == DATA[::-1][:100]
    except OSError:
        return False


def test_limit_of_the_cache_is_kept_and_files_larger_than_it_are_read(
    archive: MountedArchive,
) -> None:
    """SEMANTICS: ELEM-15"""
    path = store(archive)
    archive.stop()
    set_limit(archive, "10MiB")
    archive.start()
    highest = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            try:
                highest[0] = max(highest[0], disk_bytes(archive))
            except FileNotFoundError:
                continue

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        assert path.read_bytes() == DATA
        with ThreadPoolExecutor(4) as pool:
            offsets = [random.randrange(SIZE - 100) for _ in range(60)]
            parts = list(pool.map(lambda offset: pread(path, offset, 100), offsets))
    finally:
        ended.set()
        watching.join()
    assert parts == [DATA[offset : offset + 100] for offset in offsets]
    assert 0 < highest[0] <= 10 << 20


def test_cache_that_is_deleted_while_mounted(archive: MountedArchive, bucket_proxy: Proxy) -> None:
    """SEMANTICS: FULL-5, ELEM-15"""
    path = store(archive)
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(file.fileno(), 100, 0) == DATA[:100]
        shutil.rmtree(archive.base / "cache")
        assert os.pread(file.fileno(), 100, 2 * BLOCK) == DATA[2 * BLOCK :][:100]
        shutil.rmtree(archive.base / "cache")
        (archive.base / "cache").write_text("a file in its place")
        assert os.pread(file.fileno(), 100, 4 * BLOCK) == DATA[4 * BLOCK :][:100]
        (archive.base / "cache").unlink()
    assert path.read_bytes() == DATA
    assert cached(archive)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_full_disk_of_the_cache_does_not_fail_reads(
    archive: MountedArchive, bucket_proxy: Proxy, kind: str
) -> None:
    """SEMANTICS: FULL-5, ELEM-15"""
    path = store(archive)
    archive.stop()
    disk = Disk(kind, archive.base / "cache", archive.base / "cache.image", 40)
    try:
        archive.start()
        assert path.read_bytes() == DATA
        assert disk_bytes(archive) > SIZE
        shutil.rmtree(archive.base / "cache" / "objects")
        disk.fill()
        forget(archive, bucket_proxy)
        assert path.read_bytes() == DATA
        assert pread(path, 5 * BLOCK, 100) == DATA[5 * BLOCK :][:100]
        disk.empty()
        forget(archive, bucket_proxy)
        assert path.read_bytes() == DATA
        bucket_proxy.requests.clear()
        archive.remount()
        assert path.read_bytes() == DATA
        assert not blocks_of(bucket_proxy), "it is kept again"
        archive.stop()
    finally:
        disk.clean_up()


def test_daemon_killed_in_the_middle_of_fetching(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    """SEMANTICS: ELEM-15"""
    path = store(archive)
    seen = threading.Event()

    def hang_later_blocks(request: Request) -> Hang | None:
        if is_content(request) and not request.headers["range"].startswith("bytes=0-"):
            seen.set()
            return Hang()
        return None

    bucket_proxy.rule = hang_later_blocks
    reader = subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert seen.wait(30)
    transfer = children(archive.pid)
    archive.kill()
    for pid in transfer:
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
    reader.wait(30)
    incoming = archive.base / "cache" / "incoming"
    (incoming / "0123456789abcdef").write_bytes(b"half of a block")
    bucket_proxy.rule = None
    archive.start()
    assert path.read_bytes() == DATA
    assert list(incoming.iterdir()) == []
    for block in cached(archive):
        if block.name.isdecimal() and len(block.name) < 10:
            index = int(block.name)
            expected = DATA[index * BLOCK : (index + 1) * BLOCK]
            assert hashlib.sha256(block.read_bytes()).digest() == hashlib.sha256(expected).digest()


def test_transfer_process_killed_in_the_middle_of_fetching(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    path = store(archive)
    seen = content_hangs(bucket_proxy)
    reader = subprocess.Popen(["sha256sum", path], stdout=subprocess.PIPE)
    assert seen.wait(30)
    (transfer,) = children(archive.pid)
    bucket_proxy.rule = None
    os.kill(transfer, signal.SIGKILL)
    output, _ = reader.communicate(timeout=60)
    assert output.split()[0].decode() == hashlib.sha256(DATA).hexdigest()


def test_uploads_do_not_hold_up_a_reader(archive: MountedArchive, bucket_proxy: Proxy) -> None:
    path = store(archive)

    def hang(request: Request) -> Hang | None:
        return Hang() if request.method == "PUT" else None

    bucket_proxy.rule = hang
    for number in range(6):
        (archive.mount / f"new{number}").write_bytes(os.urandom(100_000))
    wait_until(lambda: any(one.method == "PUT" for one in bucket_proxy.requests))
    started = time.monotonic()
    assert path.read_bytes() == DATA
    assert time.monotonic() - started < 10
    bucket_proxy.rule = None


def test_content_is_changed_by_way_of_the_cache(
    archive: MountedArchive, bucket_proxy: Proxy
) -> None:
    path = store(archive)
    bucket_proxy.requests.clear()
    with path.open("r+b") as file:
        file.seek(BLOCK - 3)
        file.write(b"CHANGED")
    expected = DATA[: BLOCK - 3] + b"CHANGED" + DATA[BLOCK + 4 :]
    assert blocks_of(bucket_proxy) == dict.fromkeys(range(BLOCKS), 1)
    archive.flush()
    archive.remount()
    assert path.read_bytes() == expected


def test_interrupted_reader_ends_at_once(archive: MountedArchive, bucket_proxy: Proxy) -> None:
    path = store(archive)
    seen = content_hangs(bucket_proxy)
    reader = subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL)
    assert seen.wait(30)
    started = time.monotonic()
    reader.kill()
    reader.wait(10)
    assert time.monotonic() - started < 5
    bucket_proxy.rule = None
    assert path.read_bytes() == DATA


@pytest.mark.long
def test_reads_that_hang_hold_up_nobody_else(archive: MountedArchive, bucket_proxy: Proxy) -> None:
    """Names, attributes, what is cached, and what waits in the spool. More of them than pyfuse3
    has workers, unless it is told otherwise."""
    hanging = 120
    for number in range(hanging):
        (archive.mount / f"hang{number}").write_bytes(os.urandom(5000))
    path = store(archive)
    assert path.read_bytes() == DATA
    forget(archive, bucket_proxy)
    bucket_proxy.rule = lambda request: Hang() if "/hang" in request.path else None
    readers = [
        subprocess.Popen(["cat", archive.mount / f"hang{number}"], stderr=subprocess.DEVNULL)
        for number in range(hanging)
    ]
    wait_until(lambda: any("/hang" in one.path for one in bucket_proxy.requests))
    time.sleep(1)
    try:
        check_others(archive, path, hanging)
        assert all(reader.poll() is None for reader in readers), "they did not hang"
    finally:
        bucket_proxy.rule = None
        for reader in readers:
            reader.kill()
            reader.wait(60)


def check_others(archive: MountedArchive, path: Path, hanging: int) -> None:
    started = time.monotonic()
    assert path.read_bytes() == DATA
    (archive.mount / "new").write_bytes(b"content")
    assert (archive.mount / "new").read_bytes() == b"content"
    assert len(os.listdir(archive.mount)) == hanging + 2
    assert all(os.stat(archive.mount / f"hang{number}").st_size for number in range(hanging))
    assert time.monotonic() - started < 14, "they waited for the first attempts to end"
