"""The server of `tools/quickstart --s3`: it starts, keeps what it has, and is found again."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from ..harness import wait_for_end, wait_until
from .servers import remove_sockets

ROOT = Path(__file__).parents[2]
START = f"""
set -euo pipefail
. {ROOT}/tools/environment.sh
. {ROOT}/tools/s3_trial.sh
venv={Path(sys.executable).parents[1]}
start_s3_trial "$1" >&2
echo "$s3_endpoint" "$s3_credentials" "$s3_pid_file"
"""


class Trial:
    """`start` is a run of quickstart, as far as the server goes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self) -> None:
        done = subprocess.run(
            ["bash", "-c", START, "quickstart", str(self.directory)],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        self.url, credentials, pid_file = done.stdout.split()
        self.credentials, self.pid = Path(credentials), int(Path(pid_file).read_text())

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        wait_for_end(self.pid)
        remove_sockets(*map(int, (self.directory / "ports").read_text().split()))


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    made = Trial(tmp_path / "server")
    made.start()
    yield made
    made.end()


@pytest.mark.slow
def test_trial_server_keeps_what_it_has_and_its_credentials_to_itself(trial: Trial) -> None:
    for name in ("credentials", "s3.json"):
        assert stat.S_IMODE((trial.directory / name).stat().st_mode) == 0o600
    lines = dict(line.split(" = ") for line in trial.credentials.read_text().splitlines()[1:])
    client = boto3.client("s3", endpoint_url=trial.url, region_name="us-east-1", **lines)
    client.put_object(Bucket="archive", Key="key", Body=b"kept")
    first = trial.url, trial.pid
    trial.start()
    assert (trial.url, trial.pid) == first, "a second run finds the server of the first"
    trial.end()
    trial.start()
    assert trial.url == first[0]
    wait_until(lambda: content(client) == b"kept")


def content(client: Any) -> bytes | None:
    """None while the parts of the server have not found each other."""
    try:
        found: bytes = client.get_object(Bucket="archive", Key="key")["Body"].read()
    except ClientError:
        return None
    return found
