"""A mixed load on an archive in a bucket, while a server that fails in every way from a seed is
between: in the end the server has everything that was acknowledged, and nothing else.

`ASFS_TROUBLE_S` is how long (6 s; 3600), `ASFS_TROUBLE_SEED` repeats the troubles of a run.
"""

import contextlib
import errno
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from ..crash.comparison import check_element, replay, settle
from ..crash.load import Model, Writer, start_writer, wait_for_status
from ..filesystem.element_tree import read_element
from ..harness import MountedArchive, wait_until
from .proxy import Answer, Drop, Fault, Hang, Proxy, Request, Spoil
from .servers import Server
from .test_s3_mount import download

pytestmark = pytest.mark.slow

TROUBLE_S = float(os.environ.get("ASFS_TROUBLE_S", "6"))
SEED = int(os.environ.get("ASFS_TROUBLE_SEED", "0")) or random.randrange(1, 2**32)
FLUSH_LIMIT_S = 180
READ_LIMIT_S = 150
"""A call that needs content of the server waits a minute and a half for it at most."""
WRITERS = 2
PHASE_S = 1.0
ENOUGH = 10
"""Faults that were met: with fewer nothing is shown."""

FAULTS: dict[str, Fault] = {
    "500": Answer(500, "InternalError"),
    "503": Answer(503, "SlowDown", headers={"Retry-After": "1"}),
    "403": Answer(403, "AccessDenied"),
    "wrong key": Answer(403, "SignatureDoesNotMatch"),
    "clock": Answer(403, "RequestTimeTooSkewed"),
    "no bucket": Answer(404, "NoSuchBucket"),
    "409": Answer(409, "OperationAborted"),
    "412": Answer(412, "PreconditionFailed"),
    "wrong region": Answer(301, "PermanentRedirect"),
    "no XML": Answer(502, body="<html>Bad Gateway</html>"),
    "reset": Drop(),
    "lost reply": Drop(forwarded=True),
    "truncated": Spoil(keep_bytes=3),
    "flipped": Spoil(),
    "black hole": Hang(),
}
RARE = {"black hole"}
"""Each takes a client's patience of many seconds."""


class Trouble:
    """What `Proxy.rule` is: phases of a few kinds of fault, more or less of them, and of none."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._kinds: list[str] = []
        self._share = 0.0
        self._until_s = 0.0
        self.met: Counter[str] = Counter()

    def __call__(self, request: Request) -> Fault | None:
        with self._lock:
            now = time.monotonic()
            if now >= self._until_s:
                self._until_s = now + PHASE_S * self._random.uniform(0.5, 1.5)
                self._kinds = self._random.sample(sorted(FAULTS), 3)
                self._share = self._random.choice((0.0, 0.05, 0.2, 0.5, 1.0))
            kind = self._random.choice(self._kinds)
            share = self._share / 50 if kind in RARE else self._share
            if self._random.random() >= share or (kind == "flipped" and request.method != "GET"):
                return None
            self.met[kind] += 1
            return FAULTS[kind]


def work_until(enough: Path, writer: Writer) -> None:
    """A call for which content would have to come from the server may be EIO, and then nothing has
    happened."""
    while not enough.exists():
        try:
            writer.run(5)
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            if writer.descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(writer.descriptor)
                writer.descriptor = -1
        time.sleep(0.02)


@pytest.mark.long
def test_everything_acknowledged_is_there_after_the_trouble(
    archive: MountedArchive,
    bucket_proxy: Proxy,
    seaweedfs_server: Server,
    prefix: str,
    tmp_path: Path,
) -> None:
    """SEMANTICS: ELEM-13, ELEM-19"""
    print(f"seed {SEED}, {TROUBLE_S:.0f} s")
    models = {f"writer{number}": Model() for number in range(WRITERS)}
    enough, journals = tmp_path / "enough", {}
    for directory in models:
        (archive.mount / directory).mkdir()
        journals[directory] = tmp_path / f"{directory}.journal"
    bucket_proxy.rule = trouble = Trouble(SEED)
    writers = {
        start_writer(
            str(archive.mount / directory),
            *(model, str(journals[directory])),
            lambda writer: work_until(enough, writer),
            SEED,
        ): journals[directory]
        for directory, model in models.items()
    }
    try:
        time.sleep(TROUBLE_S)
        # an element that has failed is left alone for a while: then little is asked, and met
        wait_until(lambda: trouble.met.total() >= ENOUGH, FLUSH_LIMIT_S)
    finally:
        enough.touch()
        bucket_proxy.rule = None
    for writer, journal in writers.items():
        status = wait_for_status(writer, READ_LIMIT_S)
        assert status == 0, f"{status}: {journal.read_text()[-1000:]}"
    calls = 0
    for directory, model in models.items():
        acknowledged, _ = replay(model, journals[directory])
        calls += len(acknowledged)
    wait_until(
        lambda: archive.run("flush", str(archive.toml), check=False).returncode == 0, FLUSH_LIMIT_S
    )
    for directory, model in models.items():
        models[directory], _ = settle(model, None, archive.mount / directory)
    print(f"{calls} calls, {len(bucket_proxy.requests)} requests, {dict(trouble.met)}")
    archive.remount()
    for directory, model in models.items():
        settle(model, None, archive.mount / directory)
    archive.stop()
    checked = archive.run("fsck", str(archive.toml), "--deep", check=False)
    assert checked.returncode == 0, checked.stdout
    download(seaweedfs_server, prefix, tmp_path / "synced")
    check_element(models, read_element(tmp_path / "synced"))
    assert "Traceback" not in archive.log(), archive.log()[-4000:]
