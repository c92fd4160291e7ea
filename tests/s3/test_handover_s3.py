"""A daemon makes way for its successor while somebody waits for the server."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ..harness import MountedArchive, wait_until
from ..mount.keeper import Keeper
from .proxy import Hang, Proxy, Request
from .test_read_cache_mount import is_content

pytestmark = pytest.mark.slow

CONTENT = os.urandom(100_000)
DELAY_S = 3.0


@pytest.fixture
def keeper(archive: MountedArchive) -> Iterator[Keeper]:
    (archive.mount / "f").write_bytes(CONTENT)
    archive.flush()
    archive.stop()
    keeper = Keeper(archive).start()
    yield keeper
    keeper.close()


class Reader:
    """Reads the file in a thread, and is seen by the server's proxy."""

    def __init__(self, archive: MountedArchive) -> None:
        self._file = os.open(archive.mount / "f", os.O_RDONLY)
        self.seen: list[object] = []
        self.is_asked = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def begin(self) -> None:
        self._thread.start()
        assert self.is_asked.wait(30)

    def _read(self) -> None:
        try:
            self.seen.append(os.pread(self._file, len(CONTENT), 0))
        except OSError as exc:
            self.seen.append(exc.errno)

    def end(self) -> list[object]:
        self._thread.join(60)
        with suppress(OSError):  # of a mount that is dead
            os.close(self._file)
        return self.seen


def test_reader_of_a_slow_server_gets_its_answer_before(
    keeper: Keeper, bucket_proxy: Proxy
) -> None:
    archive, reader = keeper.archive, Reader(keeper.archive)
    device = archive.mount.stat().st_dev

    def answer_late(request: Request) -> None:
        if is_content(request):
            reader.is_asked.set()
            time.sleep(DELAY_S)

    bucket_proxy.rule = answer_late
    reader.begin()
    keeper.end()
    keeper.start()
    assert reader.end() == [CONTENT]
    assert archive.mount.stat().st_dev == device


def test_reader_of_a_server_that_hangs_does_not_hold_up_the_successor(
    keeper: Keeper, bucket_proxy: Proxy
) -> None:
    archive, reader = keeper.archive, Reader(keeper.archive)
    device = archive.mount.stat().st_dev

    def hang(request: Request) -> Hang | None:
        if is_content(request):
            reader.is_asked.set()
            return Hang()
        return None

    bucket_proxy.rule = hang
    reader.begin()
    began = time.monotonic()
    keeper.end()
    assert time.monotonic() - began < 20
    assert not keeper.stored
    bucket_proxy.rule = None
    keeper.start()
    assert archive.mount.stat().st_dev != device
    (answer,) = reader.end()
    assert isinstance(answer, int), "an errno"
    wait_until(lambda: (archive.mount / "f").read_bytes() == CONTENT)
